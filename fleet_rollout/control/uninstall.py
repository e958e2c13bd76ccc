"""Takes every Application off a hub: by deleting them, or by letting go of what they brought.

Letting go is done from outside the controller, which would prune; so it refuses while a leader holds the Lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fleet_rollout.control.connecting import connect
from fleet_rollout.control.world import APPLICATIONS, CLUSTER_SYNCS
from fleet_rollout.decide.intervals import parse_time
from fleet_rollout.decide.names import FINALIZER, MANAGER_HUB
from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.kube.client import Cluster, Resource
from fleet_rollout.kube.errors import ApiError, kube_errors
from fleet_rollout.settings import Settings

LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases", True)
POLICY_BINDINGS = Resource(
    "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False
)
POLICY = "fleet-rollout-clustersyncs"
POLL = 0.5
ATTEMPTS = 40


class Uninstall:
    """`say` prints a line for the person at the keyboard."""

    def __init__(self, settings: Settings, say: Callable[[str], Any]) -> None:
        self._settings = settings
        self._say = say
        self._hub = Cluster(connect(settings), settings)

    async def run(self, *, keep_workloads: bool, timeout: float, controller_gone: bool = False) -> None:
        """Raises Terminal where it must not begin, Transient where it did not end in time.

        `controller_gone`: a Lease that is not there was deleted, and is not looked for in the wrong place.
        """
        try:
            with kube_errors("UninstallFailed", "the hub"):
                if keep_workloads:
                    await self._refuse_leader(controller_gone)
                    await self._let_go()
                    # An Application waits for the collector, too, which takes its name off its ClusterSyncs.
                    for resource in (APPLICATIONS, CLUSTER_SYNCS):
                        await self._wait_gone(resource, timeout, "the hub's garbage collector has to run")
                    self._say("done: nothing in the members was touched")
                else:
                    await self._delete(timeout)
                    self._say("done: every Application and what it had brought is gone")
        finally:
            await self._hub.close()

    async def _let_go(self) -> None:
        """Applications first: without one nothing makes its ClusterSyncs anew."""
        await self._lift_policy()
        for resource in (APPLICATIONS, CLUSTER_SYNCS):
            for obj in await self._all(resource):
                await self._release(resource, obj)

    async def _release(self, resource: Resource, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        left = [finalizer for finalizer in metadata.get("finalizers", []) if finalizer != FINALIZER]
        patch = {"metadata": {"finalizers": left}}
        try:
            await self._patched(resource, name, namespace, patch)
            # ClusterSyncs are let go of one by one, not collected with their finalizers on.
            propagation = "Orphan" if resource is APPLICATIONS else "Background"
            await self._hub.delete(resource, name, namespace, uid=metadata["uid"], propagation=propagation)
        except ApiError as error:
            if not error.is_not_found:
                raise
        self._say(f"{resource.kind}/{namespace}/{name} let go")

    async def _lift_policy(self) -> None:
        """The admission policy lets only the controller write ClusterSyncs; it goes with the service."""
        found = await self._hub.get(POLICY_BINDINGS, POLICY)
        if found is not None and await self._hub.delete(POLICY_BINDINGS, POLICY, uid=found["metadata"]["uid"]):
            self._say(f"ValidatingAdmissionPolicyBinding/{POLICY} deleted")

    async def _patched(self, resource: Resource, name: str, namespace: str, patch: dict[str, Any]) -> None:
        """API servers notice after a moment that a policy is lifted."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._hub.patch(resource, name, namespace, patch, kind="merge", manager=MANAGER_HUB)
            except ApiError as error:
                if attempt == ATTEMPTS or not (error.is_forbidden or error.is_invalid):
                    raise
                await asyncio.sleep(POLL)
            else:
                return

    async def _delete(self, timeout: float) -> None:
        for obj in await self._all(APPLICATIONS):
            metadata = obj["metadata"]
            await self._hub.delete(APPLICATIONS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
            self._say(f"Application/{metadata['namespace']}/{metadata['name']} is being deleted")
        await self._wait_gone(
            APPLICATIONS, timeout, "see their status; the controller has to run, and members to answer"
        )

    async def _wait_gone(self, resource: Resource, timeout: float, fix: str) -> None:
        left: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(timeout):
                while left := await self._all(resource):  # noqa: ASYNC110 -- nobody announces that all are gone
                    await asyncio.sleep(POLL)
        except TimeoutError:
            names = ", ".join(f"{obj['metadata']['namespace']}/{obj['metadata']['name']}" for obj in left)
            raise Transient("UninstallFailed", f"still there after {timeout:g}s: {names}; {fix}") from None

    async def _all(self, resource: Resource) -> list[dict[str, Any]]:
        objects, _ = await self._hub.list(resource, self._settings.namespace)
        return objects

    async def _refuse_leader(self, is_gone: bool) -> None:
        name, namespace = self._settings.lease_name, self._settings.own_namespace
        lease = await self._hub.get(LEASES, name, namespace)
        if lease is None and not is_gone:
            raise Terminal(
                "LeaseNotFound",
                f"there is no Lease {name} in namespace {namespace}, which says whether a controller leads; name the "
                "service's own with --own-namespace and --lease-name, or add --controller-gone where it was deleted",
            )
        spec = (lease or {}).get("spec") or {}
        if not spec.get("holderIdentity") or not spec.get("renewTime"):
            return
        age = (datetime.now(UTC) - parse_time(spec["renewTime"].replace("Z", "+00:00"))).total_seconds()
        if age < float(spec.get("leaseDurationSeconds", 0)):
            raise Terminal(
                "ControllerRuns",
                f"a controller leads ({spec['holderIdentity']}) and would prune; stop it first: "
                f"kubectl -n {namespace} scale deployment fleet-rollout-controller --replicas 0",
            )
