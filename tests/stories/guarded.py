"""A lab of its own with audit logs, for stories about who may do what: the service as the accounts of config/."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fnmatch
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import Lab, LabCluster

Object = dict[str, Any]
NAME = f"rbac-{os.environ.get('PYTEST_XDIST_TESTRUNUID', secrets.token_hex(8))[:12]}"
CONFIG = Path(__file__).parents[2] / "config"
VERSION = "v1alpha1"
GROUPS = {
    "applications": "apps.kurator.dev",
    "clustersyncs": "apps.kurator.dev",
    "fleets": "fleet.kurator.dev",
    "attachedclusters": "cluster.kurator.dev",
}


class Use(NamedTuple):
    """A right that was used: what an RBAC rule names."""

    group: str
    resource: str
    verb: str


NOTHING = Use("", "", "")


def path(namespace: str, plural: str, name: str = "") -> str:
    group = f"/apis/{GROUPS[plural]}/{VERSION}" if plural in GROUPS else "/api/v1"
    return "/".join(filter(None, (group, "namespaces", namespace, plural, name)))


async def apply(cluster: LabCluster, folder: str) -> None:
    """`kubectl apply -k config/…`, as the README says."""
    await cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(CONFIG / folder))


@contextlib.asynccontextmanager
async def installed(name: str) -> AsyncIterator[tuple[Lab, LabCluster]]:
    """A hub of one's own with the install of config/, in the lab that has audit logs."""
    async with Lab(["m1"], name=NAME, audit=True) as lab:
        hub = await lab.add(name)
        for folder in ("crd", "default"):
            await apply(hub, folder)
        await hub.crds_established()
        yield lab, hub


async def ensure_namespace(cluster: LabCluster, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await cluster.api.apply(f"/api/v1/namespaces/{name}", body)


async def attach(hub: LabCluster, namespace: str, name: str, kubeconfig: bytes, **engine: Any) -> None:
    """An AttachedCluster with this kubeconfig, in a Fleet of its own; nobody runs canaries there unless it is said."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{name}-kubeconfig", "namespace": namespace},
        "data": {"value": base64.b64encode(kubeconfig).decode()},
    }
    cluster = {
        "apiVersion": "cluster.kurator.dev/v1alpha1",
        "kind": "AttachedCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"kubeconfig": {"name": f"{name}-kubeconfig", "key": "value"}},
    }
    fleet = {
        "apiVersion": "fleet.kurator.dev/v1alpha1",
        "kind": "Fleet",
        "metadata": {"name": "fleet", "namespace": namespace},
        "spec": {
            "clusters": [{"kind": "AttachedCluster", "name": name}],
            "rolloutEngine": {"mode": "Flagger", **engine},
        },
    }
    for plural, obj in (("secrets", secret), ("attachedclusters", cluster), ("fleets", fleet)):
        await hub.api.apply(path(namespace, plural, obj["metadata"]["name"]), obj, manager="story")


def application(namespace: str, url: str, **policy: Any) -> Object:
    """An Application of one policy."""
    kustomization = {"interval": "1h", "path": "./", "prune": True, **policy.pop("kustomization", {})}
    git = {"url": url, "interval": "1h", "ref": {"branch": "main"}}
    return {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "source": {"gitRepository": git},
            "syncPolicies": [{"kustomization": kustomization, **policy}],
            "destination": {"fleet": "fleet"},
        },
    }


def cluster_sync(namespace: str) -> Object:
    """A ClusterSync of the Application `web` for the member m1, as the controller would write it."""
    return {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "ClusterSync",
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {
            "application": "web",
            "policy": "web-0",
            "cluster": {"kind": "AttachedCluster", "name": "m1"},
            "kustomization": {"interval": "1h", "path": "./", "prune": True},
        },
    }


async def curtailed(cluster: LabCluster, home: str, taken: Use, account: str, *folders: str) -> bytes:
    """The kubeconfig of an account with the rights of config/ in the namespace `home`, without one of them."""
    documents: list[Object] = []
    for folder in folders:
        built = yaml.safe_load_all(await cluster.kubectl("kustomize", str(CONFIG / folder)))
        documents += [obj for obj in built if "Role" in obj["kind"] or obj["kind"] in ("Namespace", "ServiceAccount")]
    for obj in documents:
        if obj["kind"].startswith("Cluster"):
            obj["metadata"]["name"] = f"{home}-{obj['metadata']['name']}"
        for place in (obj["metadata"], *obj.get("subjects", [])):
            place["namespace"] = home
        if obj["kind"] == "Namespace":
            obj["metadata"]["name"] = home
        if obj["kind"] == "ClusterRoleBinding":
            obj["roleRef"]["name"] = f"{home}-{obj['roleRef']['name']}"
        for rule in obj.get("rules", []):
            if taken.group in rule["apiGroups"] and taken.resource in rule["resources"]:
                rule["verbs"] = [verb for verb in rule["verbs"] if verb != taken.verb] or ["get"]
    await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(documents))
    return await cluster.service_account_kubeconfig(home, account)


async def enforced(cluster: LabCluster, method: str, where: str, body: Object, **more: Any) -> None:
    """Returns when the policy is in force that denies this: API servers notice after a moment."""
    async with asyncio.timeout(60):
        while True:
            try:
                await cluster.api.request(method, where, body, params={"dryRun": "All"}, **more)
            except ApiAnswer as answer:
                if answer.status == 403:
                    return
                raise
            await asyncio.sleep(0.1)


def audited(cluster: LabCluster, account: str) -> Iterator[Object]:
    """What a service account (`namespace:name`, either may be `*`) asked of the cluster, itself or as somebody else."""
    user = f"system:serviceaccount:{account}"
    for line in cluster.audit_log.read_text().splitlines():
        event = json.loads(line)
        if fnmatch.fnmatchcase(event["user"].get("username", ""), user) and event["stage"] == "ResponseComplete":
            yield event


def refusals(events: list[Object]) -> list[str]:
    """Requests that were answered with 403 (or 401) for want of a right.

    A namespace that ends answers 403 too, to whoever has every right: another test deletes its own meanwhile.
    """
    refused = [e for e in events if e["responseStatus"]["code"] in (401, 403)]
    said = [f"{e['verb']} {e['requestURI']}: {e['responseStatus'].get('message')}" for e in refused]
    return [line for line in said if "because it is being terminated" not in line]


def uses(events: list[Object]) -> set[Use]:
    """The rights that the account itself used; what it did as somebody else is that one's."""
    found = set()
    for event in events:
        about = event.get("objectRef") or {}
        if "resource" not in about or "impersonatedUser" in event:
            continue
        part = f"/{about['subresource']}" if about.get("subresource") else ""
        found.add(Use(about.get("apiGroup", ""), about["resource"] + part, event["verb"]))
    return found


def granted(*objects: Object) -> set[Use]:
    """The rights that Roles and ClusterRoles grant."""
    return {
        Use(group, resource, verb)
        for obj in objects
        for rule in obj["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
