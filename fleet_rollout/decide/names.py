"""Names the service writes into clusters: labels, annotations, finalizers, field managers, child names.

Each is a promise to clusters that already carry it: changing one orphans objects or fields.
"""

from __future__ import annotations

import hashlib

GROUP = "apps.kurator.dev"

# Kurator's names, kept so that an Application moves between Kurator and this service without edits.
FINALIZER = "apps.kurator.dev"
APP_LABEL = "apps.kurator.dev/app-name"
ROLLOUT_ANNOTATION = "kurator.dev/rollout"

# Ours.
ENGINE_ANNOTATION = "apps.kurator.dev/engine"
POLICY_LABEL = "apps.kurator.dev/policy"
CLUSTER_LABEL = "apps.kurator.dev/cluster"
HUB_LABEL = "apps.kurator.dev/hub"  # UID of the hub's kube-system namespace, on every member object
ARTIFACTS_ANNOTATION = "apps.kurator.dev/artifacts"  # on the Lease: where its holder serves artifacts, host:port
ORPHANS_LABEL = "apps.kurator.dev/orphans-of"  # on records of what a lost member still has: a hash of the cluster
CRD_LABEL = "apps.kurator.dev/installed-by"  # on flagger.app CRDs that we put into a member

# Flux's owner labels and control metadata, which users of kubectl and of Flux know.
FLUX_PREFIX = "kustomize.toolkit.fluxcd.io"
OWNER_NAME_LABEL = f"{FLUX_PREFIX}/name"
OWNER_NAMESPACE_LABEL = f"{FLUX_PREFIX}/namespace"
RECONCILE_KEY = f"{FLUX_PREFIX}/reconcile"
SSA_KEY = f"{FLUX_PREFIX}/ssa"
FORCE_KEY = f"{FLUX_PREFIX}/force"
PRUNE_KEY = f"{FLUX_PREFIX}/prune"
REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"

# Field managers. One writer, one name (docs/decisions/0002).
MANAGER_SYNC = "fleet-rollout"
MANAGER_ROLLOUT = "fleet-rollout-rollout"
MANAGER_SCALE = "fleet-rollout-scale"
MANAGER_HUB = "fleet-rollout-hub"  # what the service writes on the hub: ClusterSyncs, status, finalizers

NAME_LIMIT = 63
HASH_LENGTH = 8


def policy_name(application: str, index: int, name: str | None) -> str:
    """Kurator's name of policy `index` (from 0): its own, else `<application>-<index>`."""
    return name or f"{application}-{index}"


def child_name(policy: str, cluster_kind: str, cluster: str) -> str:
    """Kurator's name of what one policy makes for one cluster, at most 63 characters.

    Kurator cuts longer names, so that two may collide or end in `-` (its defect 12); ours get a hash.
    """
    full = f"{policy}-{cluster_kind}-{cluster}".lower()
    if len(full) <= NAME_LIMIT:
        return full
    return f"{full[: NAME_LIMIT - HASH_LENGTH - 1].rstrip('-.')}-{short_hash(full)}"


def taken_name(name: str, application_uid: str) -> str:
    """The name to use where another Application already has `name`: with 5 hex of the Application's UID."""
    suffix = "-" + application_uid.replace("-", "")[:5]
    return name[: NAME_LIMIT - len(suffix)].rstrip("-.") + suffix


def short_hash(text: str) -> str:
    """8 hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
