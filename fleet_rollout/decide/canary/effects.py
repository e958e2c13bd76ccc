"""What a tick asks of the world, as values: a tick yields one, control carries it out and sends the answer back.

Every effect but Emit, Notify and Count may fail with StepFailed, whose text then becomes the tick's last event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from fleet_rollout.decide.canary.objects import Routes

EventType = Literal["Normal", "Warning"]
Severity = Literal["info", "warn", "error"]


class Do(Enum):
    """Effects without arguments. The comment says what comes back; None where it says nothing."""

    HOLD = "have a finalizer where the Canary reverts on deletion, and none elsewhere"
    INSPECT = "read target, selector label and ports"  # Subject
    RECONCILE_SERVICES = "bring the Services of canary and primary to what is wanted"
    PROBE_METRICS = "ask every metrics backend whether it is there"  # None, or what is wrong
    CREATE_PRIMARY = "create the primary and its tracked configs where they are missing"
    PRIMARY_READY = "is the primary ready?"  # StepFailed where not
    CANARY_READY = "is the target ready?"  # StepFailed where not
    CREATE_SCALER = "create the primary's scaler where it is missing"
    SYNC_SCALER = "bring the primary's scaler to what the target's says"
    PAUSE_SCALER = "keep the target's scaler from scaling it up"
    RESUME_SCALER = "let the target's scaler work"
    RECONCILE_APEX = "bring the Service that users call to select the primary"
    SCALE_DOWN = "scale the target to zero"
    SCALE_UP = "scale the target from zero"
    RECONCILE_ROUTES = "bring the routing objects to what is wanted; weights stay"
    FINGERPRINT = "hash the target's spec and its tracked configs"  # Fingerprint
    IS_PROMOTED = "do the primary's configs hold what the target's hold?"  # bool
    READ_ROUTES = "read the weights from the routing objects"  # Routes
    PROMOTE = "copy the target, as it was inspected, and its configs to the primary"
    REVERT_TARGET = "put the target back to what it was before the Canary"
    REVERT_APEX = "let the Service that users call select the target"
    REVERT_ROUTES = "give the routing objects back"
    RELEASE = "remove the finalizer"


@dataclass(frozen=True)
class Fingerprint:
    """What the target is now. `configs` is None where nothing is tracked.

    `missing`: of a config that the target needs and that does not exist, in the words of an event. Then nothing is
    said of the others.
    """

    spec: str
    configs: Mapping[str, str] | None = None
    is_scaled_down: bool = False
    missing: str | None = None


@dataclass(frozen=True)
class SetRoutes:
    """Move the traffic."""

    routes: Routes


@dataclass(frozen=True)
class CallHook:
    """Call a webhook with this phase in its payload. Answer: None, or why it does not pass."""

    hook: Mapping[str, Any]
    phase: str


@dataclass(frozen=True)
class Measure:
    """Query one metric and judge it. Answer: None where it passes, else the text of the event."""

    metric: Mapping[str, Any]


@dataclass(frozen=True)
class WriteStatus:
    """Replace these top-level fields of the status; a value of None removes its field."""

    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Emit:
    """Record an event about the Canary, and tell the event hooks, with this phase in their payload."""

    type: EventType
    message: str
    phase: str = ""


@dataclass(frozen=True)
class Notify:
    """Send an alert; `with_details` adds the fields that describe the analysis."""

    severity: Severity
    message: str
    with_details: bool = False


@dataclass(frozen=True)
class Count:
    """A rollout has ended: for the counters."""

    succeeded: bool
    skipped: bool = False


Effect = Do | SetRoutes | CallHook | Measure | WriteStatus | Emit | Notify | Count
