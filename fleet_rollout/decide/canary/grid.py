"""When a Canary ticks: on a grid from its creation on, so that restarts add no ticks and missed ones collapse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True)
class Grid:
    """Ticks at `anchor + n * interval`. Seconds of a clock that never goes back."""

    anchor: float
    interval: float

    def due_from(self, now: float) -> float:
        """The first tick at or after `now`."""
        steps = math.ceil((now - self.anchor) / self.interval)
        return self.anchor + max(0, steps) * self.interval

    def after(self, tick: float, now: float) -> float:
        """The tick that follows `tick`; those that were missed meanwhile are one."""
        following = tick + self.interval
        return following if following > now else self.due_from(now)

    def edited(self, interval: float, now: float) -> Grid:
        """The grid of another interval, which begins now."""
        return self if interval == self.interval else Grid(now, interval)


def moment(uid: str) -> float:
    """Where within its second an object was created, as its UID has it, for the timestamp does not say.

    Otherwise all that a commit creates within one second would tick together for ever.
    """
    return crc32(uid.encode()) / 2**32
