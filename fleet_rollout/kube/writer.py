"""One object: what a dry run says about it, and how it is then written.

Planning only reads and dry-runs. Writing is safe to stop at any line: whatever was done is found by the next plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from fleet_rollout.decide import fields
from fleet_rollout.decide.drift import has_drifted
from fleet_rollout.decide.inventory import Ref, ref_of
from fleet_rollout.decide.metadata import (
    Owner,
    is_created_only,
    is_ignored,
    is_merged,
    is_recreated,
    ownership_conflict,
)
from fleet_rollout.decide.names import MANAGER_SCALE, MANAGER_SYNC, short_hash
from fleet_rollout.errors import Transient
from fleet_rollout.kube import refusals
from fleet_rollout.kube.changes import Action
from fleet_rollout.kube.client import ApiError, Cluster, Unreachable
from fleet_rollout.kube.live import Object, Reader, poll

REPLICAS = ("spec", "replicas")
# How often a write is tried again on a fresh object when somebody else wrote in between.
ATTEMPTS = 3
# A workload whose Pods are starting is written by its controller every moment: this one waits, longer each time (s).
FRESH_ATTEMPTS, FRESH_PAUSE = 7, 0.02
# Kinds whose validity does not depend on their name: under another name, an immutable field is told from a mistake.
PROBED = frozenset({"ConfigMap", "Secret", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"})

Deed = Literal["skip", "keep", "write", "recreate", "take over first"]


@dataclass(frozen=True)
class ReplicaRule:
    """The workload whose `spec.replicas` is not Git's once it exists, because a rollout scales it."""

    kind: str
    namespace: str
    name: str

    def covers(self, ref: Ref) -> bool:
        return (self.kind, self.namespace, self.name) == (ref.kind, ref.namespace, ref.name)


@dataclass(frozen=True)
class Step:
    """What is to happen to one object. `live` is None where it does not exist."""

    ref: Ref
    desired: Object
    live: Object | None
    do: Deed

    @property
    def is_write(self) -> bool:
        return self.do not in ("skip", "keep")


@dataclass(frozen=True)
class Writer:
    """Plans and writes single objects of one ClusterSync."""

    cluster: Cluster
    reader: Reader
    owner: Owner
    force: bool
    replicas: ReplicaRule | None
    patience: float
    manager: str = MANAGER_SYNC

    async def plan(self, desired: Object, live: Object | None) -> Step:
        """What to do about one object, by a dry run; `live` where it was found by the owner's labels."""
        ref = ref_of(desired)
        for attempt in range(1, ATTEMPTS + 1):
            if decided := self.without_dry_run(ref, desired, live):
                return decided
            try:
                answer, created = await self._apply(ref, self.sent(ref, desired, live), dry_run=True)
            except ApiError as error:
                return await self._plan_refused(ref, desired, live or await self._existing(ref, error), error)
            if created:
                live = None  # it has gone since it was seen
                break
            if live is None:
                # It exists without our labels, so it differs in any case.
                live = await self.reader.get(ref)
                return self.without_dry_run(ref, desired, live) or Step(ref, desired, live, "write")
            if live is None or attempt == ATTEMPTS or not self._is_outdated(live, answer):
                break
            live = await self.reader.get(ref)
        return Step(ref, desired, live, "write" if self._is_needed(ref, desired, live, answer) else "keep")

    def _is_needed(self, ref: Ref, desired: Object, live: Object | None, answer: Object) -> bool:
        if live is None or has_drifted(live, answer):
            return True
        return bool(self._takeover(desired, live)) or self._scales(ref, live)

    def _is_outdated(self, live: Object, answer: Object) -> bool:
        """The difference may be what a controller wrote between our reading and the dry run: no reason to write."""
        is_same = live["metadata"]["resourceVersion"] == answer["metadata"].get("resourceVersion")
        return not is_same and has_drifted(live, answer)

    async def plan_again(self, step: Step) -> Step:
        """Take over the fields that stand in the way of a dry run, then plan anew. Writes only who owns what."""
        live = await self._on_fresh(step.ref, step.live, lambda obj: self._take_over(step.ref, step.desired, obj))
        planned = await self.plan(step.desired, live)
        return replace(planned, do="write") if planned.do == "keep" else planned

    async def write(self, step: Step) -> tuple[Action, Object]:
        """Carry out a step that is a write; what became of the object, and how it is now."""
        ref, live = step.ref, step.live
        if live is not None and step.do == "recreate":
            await self._delete_and_wait(ref, live)
            live = None
        live = await self._prepared(ref, step.desired, live)
        with refusals.answers(ref, "apply"):
            answer, created = await self._carried_out(step, live)
        if created:
            return "created", answer
        is_changed = step.live is None or has_drifted(step.live, answer)
        return "configured" if is_changed else "unchanged", answer

    async def _prepared(self, ref: Ref, desired: Object, live: Object | None) -> Object | None:
        """The live object, of which nobody but us owns what is ours, nor we what a rollout scales."""
        if live is None:
            return None
        live = await self._on_fresh(ref, live, lambda obj: self._take_over(ref, desired, obj))
        return await self._on_fresh(ref, live, lambda obj: self._hand_over_replicas(ref, obj))

    async def _carried_out(self, step: Step, live: Object | None) -> tuple[Object, bool]:
        """The object as applied, and whether it is new. An outcome that was lost is read, and what is missing sent.

        So is what has gone since it was planned: a write that comes late must not bring back what was pruned.
        """
        ref, desired = step.ref, step.desired
        try:
            return await self._apply_to(ref, desired, live)
        except (ApiError, Unreachable) as error:
            if not error.is_lost and not (live is not None and _has_gone(error)):
                raise
            found = await self.plan(desired, await self.reader.get(ref))
            if not found.is_write and found.live is not None:
                return found.live, live is None
            if found.do != "write":
                raise
        now = await self._prepared(ref, desired, found.live)
        answer, created = await self._apply_to(ref, desired, now)
        return answer, created or live is None

    async def _apply_to(self, ref: Ref, desired: Object, live: Object | None) -> tuple[Object, bool]:
        """To this object and no other of its name; the UID makes the API server refuse it where that has gone."""
        sent = self.sent(ref, desired, live)
        if live is not None:
            sent = {**sent, "metadata": {**sent["metadata"], "uid": live["metadata"]["uid"]}}
        return await self._apply(ref, sent)

    def without_dry_run(self, ref: Ref, desired: Object, live: Object | None) -> Step | None:
        """The step that is clear from the manifest and the live object alone."""
        if is_ignored(desired, live) or (live is not None and is_created_only(desired)):
            return Step(ref, desired, live, "skip")
        if live is not None and (conflict := ownership_conflict(live, self.owner)):
            raise Transient(refusals.CONFLICT, conflict)
        return None

    async def _existing(self, ref: Ref, error: ApiError) -> Object | None:
        """The live object behind a refused dry run. What is not there, or may not be seen, cannot be the cause."""
        if error.is_not_found or error.is_forbidden:
            return None
        return await self.reader.get(ref)

    async def _plan_refused(self, ref: Ref, desired: Object, live: Object | None, error: ApiError) -> Step:
        if decided := self.without_dry_run(ref, desired, live):
            return decided
        if live is not None and _is_immutable(error):
            if self._takeover(desired, live):
                return Step(ref, desired, live, "take over first")
            if (self.force or is_recreated(desired, live)) and await self._is_valid_anew(ref, desired):
                return Step(ref, desired, live, "recreate")
        with refusals.answers(ref, "dry-run"):
            raise error

    async def _is_valid_anew(self, ref: Ref, desired: Object) -> bool:
        """False where the manifest is refused under a new name too: deleting the object would bring nothing back."""
        if ref.kind not in PROBED:
            return True
        probe = {**desired, "metadata": {**desired["metadata"], "name": f"{ref.name[:40]}-{short_hash(ref.name)}"}}
        try:
            await self._apply(ref, probe, dry_run=True)
        except ApiError as error:
            return not error.is_invalid
        return True

    def _takeover(self, desired: Object, live: Object) -> list[Object]:
        return [] if is_merged(desired, live) else fields.takeover(live, self.manager)

    async def _take_over(self, ref: Ref, desired: Object, live: Object) -> Object:
        patch = self._takeover(desired, live)
        if not patch:
            return live
        resource, impersonate = await self.reader.resource(ref), self.reader.impersonate
        return await self.cluster.patch(
            resource, ref.name, ref.namespace, patch, kind="json", manager=self.manager, impersonate=impersonate
        )

    def _scales(self, ref: Ref, live: Object) -> bool:
        """The rollout scales this workload, but we still own its replicas."""
        return self._is_under_rollout(ref) and fields.owns(live, REPLICAS, self.manager)

    def _is_under_rollout(self, ref: Ref) -> bool:
        return self.replicas is not None and self.replicas.covers(ref)

    async def _hand_over_replicas(self, ref: Ref, live: Object) -> Object:
        """Give the live number of replicas another owner of ours, or leaving it out would reset it to 1.

        Who was stopped between this and the apply that leaves it out has an owner already.
        """
        if not self._scales(ref, live) or fields.owns(live, REPLICAS, MANAGER_SCALE):
            return live
        metadata = {"name": ref.name, "namespace": ref.namespace}
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        kept = {"replicas": (live.get("spec") or {}).get("replicas", 1)}
        scale = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "spec": kept}
        answer, _ = await self._apply(ref, scale, manager=MANAGER_SCALE)
        return answer

    def sent(self, ref: Ref, desired: Object, live: Object | None) -> Object:
        """The manifest as it is sent: without replicas where a rollout scales a workload that exists.

        With the UID, so that a workload deleted in between is not created with one replica.
        """
        if live is None or not self._is_under_rollout(ref):
            return desired
        spec = {key: value for key, value in (desired.get("spec") or {}).items() if key != "replicas"}
        return {**desired, "metadata": {**desired["metadata"], "uid": live["metadata"]["uid"]}, "spec": spec}

    async def _on_fresh(self, ref: Ref, live: Object | None, write: Callable[[Object], Awaitable[Object]]) -> Object:
        """Carry out a write that names the resourceVersion, on a newer object where another writer was faster."""
        for attempt in range(1, FRESH_ATTEMPTS + 1):
            assert live is not None
            try:
                return await write(live)
            except ApiError as error:
                newer = None
                if error.is_conflict and attempt < FRESH_ATTEMPTS:
                    await asyncio.sleep(FRESH_PAUSE * 2 ** (attempt - 1))
                    newer = await self.reader.get(ref)
                if newer is None:
                    with refusals.answers(ref, "metadata.managedFields cleanup"):
                        raise error
                live = newer
        raise AssertionError("the last attempt returns or raises")

    async def _delete_and_wait(self, ref: Ref, live: Object) -> None:
        resource, uid = await self.reader.resource(ref), live["metadata"]["uid"]
        with refusals.answers(ref, "delete"):
            await self.cluster.delete(resource, ref.name, ref.namespace, uid=uid, impersonate=self.reader.impersonate)

        async def is_gone() -> bool:
            found = await self.reader.get(ref)
            return found is None or found["metadata"]["uid"] != uid

        if not await poll(is_gone, self.patience):
            fact = f"not gone after {self.patience:g}s; look at its finalizers"
            raise Transient(refusals.FAILED, f"{ref.subject} delete failed: {fact}")

    async def _apply(
        self, ref: Ref, obj: Object, *, dry_run: bool = False, manager: str | None = None
    ) -> tuple[Object, bool]:
        resource = await self.reader.resource(ref)
        if resource.namespaced and not ref.namespace:
            raise refusals.no_namespace(ref)
        return await self.cluster.apply(
            resource, obj, manager=manager or self.manager, dry_run=dry_run, impersonate=self.reader.impersonate
        )


def _has_gone(error: ApiError | Unreachable) -> bool:
    """Whether the object of that UID may be gone. 409 is answered where nothing has its name, 422 where another has."""
    return isinstance(error, ApiError) and (error.is_conflict or error.is_of_another)


def _is_immutable(error: ApiError) -> bool:
    """A refusal that a fresh object might not meet. Webhooks answer with any status, hence the words.

    A conflict is none: a quota that changed meanwhile answers with it, and nothing may be deleted for that.
    """
    return error.is_invalid or "is immutable" in error.message or "immutable field" in error.message
