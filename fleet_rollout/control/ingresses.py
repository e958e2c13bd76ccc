"""Sends the Ingress that rollouts of one namespace share: the whole object, as it was looked at and no other."""

from __future__ import annotations

from fleet_rollout.decide.names import MANAGER_ROLLOUT
from fleet_rollout.decide.translate_ingress import IngressWrite
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import ApiError, Cluster, Resource

INGRESSES = Resource("networking.k8s.io", "v1", "Ingress", "ingresses", True)


async def write_ingress(cluster: Cluster, write: IngressWrite) -> None:
    """Send the shared Ingress; somebody else's write in between is found by the next pass."""
    obj = write.object
    metadata = obj["metadata"]
    try:
        if write.action == "create":
            await cluster.create(INGRESSES, obj, manager=MANAGER_ROLLOUT)
        elif write.action == "replace":
            await cluster.replace(INGRESSES, obj, manager=MANAGER_ROLLOUT)
        else:
            uid, version = metadata["uid"], metadata["resourceVersion"]
            name, namespace = metadata["name"], metadata["namespace"]
            await cluster.delete(INGRESSES, name, namespace, uid=uid, resource_version=version)
    except ApiError as error:
        if error.is_conflict or error.is_already_exists:
            raise Transient("IngressChanged", "the Ingress nginx was changed meanwhile", retry_after=0.2) from error
        raise
