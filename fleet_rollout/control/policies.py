"""Looks whether the admission policies of config/policies are in force on the hub, and says where they are not.

Without them whoever may write ClusterSyncs writes to members. The service works all the same: it is not the one who is
held back by them.
"""

from __future__ import annotations

import logging
from typing import Protocol

from fleet_rollout import measures
from fleet_rollout.decide.policies import FIX, Object, complaint
from fleet_rollout.kube.client import Resource
from fleet_rollout.kube.errors import ApiError, Unreachable

log = logging.getLogger(__name__)

GROUP = ("admissionregistration.k8s.io", "v1")
POLICIES = Resource(*GROUP, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False)
BINDINGS = Resource(*GROUP, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False)
NAMES = (
    "fleet-rollout-applications",
    "fleet-rollout-clustersyncs",
    "fleet-rollout-inventories",
    "fleet-rollout-records",
)


class Hub(Protocol):
    """What is asked of the hub."""

    async def get(self, resource: Resource, name: str) -> Object | None: ...


async def look(hub: Hub) -> list[str]:
    """What is wrong, policy by policy; told in the log and by a metric. A hub that does not answer says nothing."""
    found = []
    for name in NAMES:
        try:
            wrong = complaint(name, await hub.get(POLICIES, name), await hub.get(BINDINGS, name))
        except ApiError as error:
            fact = f"whether ValidatingAdmissionPolicy {name} is bound cannot be read: {error.message}"
            wrong = f"{fact}; {FIX} and config/rbac"
        except Unreachable:
            continue
        measures.POLICY_BOUND.labels(policy=name).set(wrong is None)
        if wrong is not None:
            log.warning(wrong)
            found.append(wrong)
    return found
