"""Every error the service raises on purpose, each with the condition reason it becomes.

    FleetRolloutError
    ├── Transient      retry with back-off; the object stays Reconciling
    │   └── Waiting    not an error: something else has to happen first; retry after `retry_after`
    ├── Terminal       the object is Stalled until its spec (or what it refers to) changes
    └── Bug            our own mistake: this key is set aside and reported, the process goes on

Messages name the object, then the fact, then the fix. They reach users through conditions, so they
never hold a secret, a traceback or a path of the hub's machine.
"""

from __future__ import annotations


class FleetRolloutError(Exception):
    """`reason` is a CamelCase condition reason; `message` is the condition's message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Transient(FleetRolloutError):
    """May succeed when tried again. `retry_after` (seconds) overrides the back-off where known."""

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class Waiting(Transient):
    """Nothing failed; a dependency, a health check or another worker has to finish first."""


class Terminal(FleetRolloutError):
    """Will fail in the same way until the user changes something."""


class Bug(FleetRolloutError):
    """An invariant of ours does not hold."""
