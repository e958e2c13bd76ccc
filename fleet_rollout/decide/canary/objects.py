"""What the engine looks at in a member and what it writes there, as values: decided here, carried out by control.

Every replacement carries the resourceVersion it was made from, so that no write of ours undoes another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Object = dict[str, Any]


class Ref(NamedTuple):
    """One object of the member; `namespace` is empty for kinds that have none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


# What was found; None for an object that is not there. A missing key means that nobody looked.
Live = Mapping[Ref, Object | None]


@dataclass(frozen=True)
class Put:
    """Create `obj`, or replace it where its metadata holds the resourceVersion of what it was made from."""

    obj: Object

    @property
    def ref(self) -> Ref:
        return ref_of(self.obj)


@dataclass(frozen=True)
class Remove:
    """Delete an object, but only the very one that was looked at."""

    ref: Ref
    uid: str
    resource_version: str


Write = Put | Remove


class Routes(NamedTuple):
    """Shares of traffic in percent, and whether the canary gets copies of the primary's requests."""

    primary: int
    canary: int
    mirrored: bool = False


class StepFailed(Exception):
    """A step of a tick cannot be done; the text is what users read in the event.

    `retriable` is False where waiting longer will not help (a progress deadline is exceeded).
    """

    def __init__(self, message: str, *, retriable: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.retriable = retriable


class Unasked(StepFailed):
    """The API server could not be asked, or did not do it, or a question had no turn: nothing is known of the step."""


def ref_of(obj: Mapping[str, Any]) -> Ref:
    """Where an object is."""
    metadata = obj["metadata"]
    return Ref(obj["apiVersion"], obj["kind"], metadata.get("namespace", ""), metadata["name"])
