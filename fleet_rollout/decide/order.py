"""In which order objects are applied and deleted: stages, then ranks. Order is data; the tables are Flux's.

https://github.com/fluxcd/pkg/blob/main/ssa/sort.go, https://github.com/fluxcd/pkg/blob/main/ssa/manager_apply.go
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from fleet_rollout.decide.inventory import RBAC_GROUP, Ref, ref_of

CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
# What everything else may need: applied first and waited for.
DEFINITIONS = frozenset(
    {
        CRD,
        ("", "Namespace"),
        (RBAC_GROUP, "ClusterRole"),
    }
)
STAGE_DEFINITIONS, STAGE_CLASSES, STAGE_REST = 0, 1, 2
STAGES = (STAGE_DEFINITIONS, STAGE_CLASSES, STAGE_REST)
# Stages that must be Current before the next one starts.
AWAITED_STAGES = frozenset({STAGE_DEFINITIONS, STAGE_CLASSES})

FIRST = (
    "CustomResourceDefinition",
    "Namespace",
    "ClusterRole",
    "ClusterClass",
    "RuntimeClass",
    "PriorityClass",
    "StorageClass",
    "VolumeSnapshotClass",
    "IngressClass",
    "GatewayClass",
    "ClusterRoleBinding",
    "ResourceQuota",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
    "LimitRange",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
)
# A Canary is judged by templates that have to be there; Flux has no place for it.
# Webhooks come last: one that is up before its own Deployment refuses everything that follows.
LAST = ("Canary", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_MIDDLE_RANK = len(FIRST)
_RANKS = {
    **{kind: rank for rank, kind in enumerate(FIRST)},
    **{kind: _MIDDLE_RANK + 1 + rank for rank, kind in enumerate(LAST)},
}

Rank = tuple[int, int, str, str]


def stage(ref: Ref) -> int:
    """In which of STAGES an object is applied."""
    if (ref.group, ref.kind) in DEFINITIONS:
        return STAGE_DEFINITIONS
    return STAGE_CLASSES if ref.kind.endswith("Class") else STAGE_REST


def rank(ref: Ref) -> Rank:
    """Objects of equal rank are of one kind and need not wait for each other."""
    return stage(ref), _RANKS.get(ref.kind, _MIDDLE_RANK), ref.group, ref.kind


def apply_order(ref: Ref) -> tuple[Rank, str, str]:
    """The sort key: rank, then namespace, then name."""
    return rank(ref), ref.namespace, ref.name


def sort_for_apply(objects: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The manifests in the order in which they are applied."""
    return sorted(objects, key=lambda obj: apply_order(ref_of(obj)))


def in_ranks(refs: Iterable[Ref]) -> list[list[Ref]]:
    """Sorted for apply and cut where the rank changes."""
    return [list(group) for _, group in groupby(sorted(refs, key=apply_order), key=rank)]


def delete_ranks(refs: Sequence[Ref]) -> list[list[Ref]]:
    """The reverse of the order of applying: what was brought last goes first."""
    return [group[::-1] for group in reversed(in_ranks(refs))]
