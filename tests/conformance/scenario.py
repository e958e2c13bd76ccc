"""What a scenario is: a Canary, what is set before each tick, and what is to be seen after it.

The scenarios themselves are in scenarios.py. One script serves three players: real Flagger and our engine on a real
API server (harness.py), and the state machine alone in memory (tests/decide/canary/player.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

from tests.conformance.manifests import target
from tests.conformance.notation import Step, steps

Object = dict[str, Any]

# The tick before which the image changes in most scenarios: the two before it create and initialise the primary.
FIRST = 3
PROMOTED, CHANGED = "1", "2"


class Http(NamedTuple):
    """An answer of the metrics server that is an error."""

    status: int


# One value, the values of several series, or an error.
Sample = float | tuple[float, ...] | Http


class Ready(Enum):
    """What the status of a played workload says. UNAVAILABLE: for longer than the Canary's own deadline."""

    READY = "ready"
    UNREADY = "not ready yet"
    STUCK = "past its own progress deadline"
    UNAVAILABLE = "without its minimum of Pods for too long"


@dataclass(frozen=True)
class Inputs:
    """What is set before a tick; what is None stays as it was. `spec` is merged into the Canary's."""

    metric: Sample | None = None
    hooks: Mapping[str, int] = field(default_factory=dict)
    revision: str | None = None
    config: str | None = None
    replicas: int | None = None
    primary: Ready | None = None
    canary: Ready | None = None
    routes: tuple[int, int] | None = None
    spec: Mapping[str, Any] | None = None
    label: str | None = None  # put on the routing object by somebody else


@dataclass(frozen=True)
class Scenario:
    """`expected` is Flagger's trace from tick `first` on, `own` ours where a quirk is fixed.

    `events`, `alerts` and `hooks` (`name:Phase of the payload`) are, for some ticks, all that Flagger brings forth,
    each named by a part of its text.
    """

    name: str
    says: str
    expected: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[int, Inputs] = field(default_factory=dict)
    events: Mapping[int, Sequence[str]] = field(default_factory=dict)
    alerts: Mapping[int, Sequence[str]] = field(default_factory=dict)
    hooks: Mapping[int, Sequence[str]] = field(default_factory=dict)
    own: str = ""
    quirks: tuple[str, ...] = ()
    first: int = FIRST
    is_idle: bool = False  # the image does not change by itself before tick 3
    has_config: bool = False  # the target reads a ConfigMap
    has_cluster_ip: bool = False  # the target, a Service, leads to Pods and not to a name
    objects: tuple[Object, ...] = ()  # there beside the target before the Canary
    is_real: bool = True  # False: the API server refuses the Canary
    is_pure: bool = True  # False: it is about generated objects, of which the state machine knows nothing

    @cached_property
    def expected_steps(self) -> list[Step]:
        return steps(self.expected)

    @cached_property
    def own_steps(self) -> list[Step]:
        """Our engine's trace: Flagger's unless a quirk is fixed."""
        return steps(self.own or self.expected)

    @property
    def last(self) -> int:
        """The number of the last tick."""
        return self.first + max(len(self.expected_steps), len(self.own_steps)) - 1

    @property
    def provider(self) -> str:
        return str(self.canary_spec["provider"])

    @property
    def has_routes(self) -> bool:
        return self.provider != "kubernetes"

    @property
    def target_kind(self) -> str:
        return str(self.canary_spec["targetRef"]["kind"])

    @cached_property
    def canary_spec(self) -> Object:
        """The base object's spec with this scenario's delta."""
        return merged(BASE, self.spec)

    def target(self, revision: str) -> Object:
        """The workload, or the Service, that is rolled out."""
        return target(self.target_kind, revision, has_config=self.has_config, has_cluster_ip=self.has_cluster_ip)

    def before(self, tick: int) -> Inputs:
        """What is set before that tick; the script's own change of the image included."""
        found = self.inputs.get(tick, Inputs())
        if tick == FIRST and not self.is_idle and found.revision is None and found.config is None:
            return replace(found, revision=CHANGED)
        return found


BASE: Object = {
    "provider": "istio",
    "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
    "progressDeadlineSeconds": 60,
    "service": {"port": 9898},
    "analysis": {
        "interval": "10s",
        "threshold": 2,
        "stepWeight": 20,
        "maxWeight": 60,
        "metrics": [{"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}}],
    },
}


def merged(base: Mapping[str, Any], delta: Mapping[str, Any]) -> Object:
    """A JSON merge patch: None removes a field, lists are replaced."""
    result = copy.deepcopy(dict(base))
    for name, value in delta.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result
