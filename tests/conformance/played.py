"""Workload status as the controllers of a cluster would write it, played: no Pod runs."""

from __future__ import annotations

import datetime
from typing import Any

from tests.conformance.scenario import BASE, Object, Ready

SCALED_TO_ZERO = "flagger.app/scale-to-zero"
# For how long a minimum is unavailable at least, so that the Canary's own deadline is past.
TOO_LONG = datetime.timedelta(seconds=int(BASE["progressDeadlineSeconds"]) + 1)


def status(workload: Object, ready: Ready, now: datetime.datetime) -> Object:
    """The status of a Deployment or a DaemonSet."""
    generation = workload["metadata"]["generation"]
    if workload["kind"] == "DaemonSet":
        selector = workload["spec"]["template"]["spec"].get("nodeSelector") or {}
        return {"observedGeneration": generation, **_daemons(0 if SCALED_TO_ZERO in selector else 2, ready)}
    replicas = workload["spec"].get("replicas", 1)
    available = replicas if ready is Ready.READY else 0
    return {
        "observedGeneration": generation,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": available,
        "availableReplicas": available,
        "unavailableReplicas": replicas - available,
        "conditions": _conditions(ready, now),
    }


def _daemons(wanted: int, ready: Ready) -> Object:
    available = wanted if ready is Ready.READY else 0
    return {
        "desiredNumberScheduled": wanted,
        "currentNumberScheduled": wanted,
        "updatedNumberScheduled": wanted,
        "numberMisscheduled": 0,
        "numberReady": available,
        "numberAvailable": available,
        "numberUnavailable": wanted - available,
    }


def _conditions(ready: Ready, now: datetime.datetime) -> list[dict[str, Any]]:
    since = now - TOO_LONG if ready is Ready.UNAVAILABLE else now
    available = (
        ("True", "MinimumReplicasAvailable") if ready is Ready.READY else ("False", "MinimumReplicasUnavailable")
    )
    progressing = {
        Ready.READY: ("True", "NewReplicaSetAvailable"),
        Ready.STUCK: ("False", "ProgressDeadlineExceeded"),
    }.get(ready, ("True", "ReplicaSetUpdated"))
    return [_condition("Available", *available, since), _condition("Progressing", *progressing, since)]


def _condition(type_: str, verdict: str, reason: str, since: datetime.datetime) -> dict[str, Any]:
    time = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": type_,
        "status": verdict,
        "reason": reason,
        "message": "played",
        "lastUpdateTime": time,
        "lastTransitionTime": time,
    }
