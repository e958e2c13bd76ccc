"""The time by which deadlines are judged: the wall clock, but for steps forward that nobody has waited through.

Times of a member's objects can only be compared with a wall clock, and a wall clock is set now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

# What a clock may gain on the other between two looks without having been set, in seconds.
TOLERANCE = 5.0
# Nobody is patient for longer, in seconds.
REMEMBERED = 30 * 86_400.0


@dataclass(frozen=True)
class _Step:
    """When the wall clock was seen to have been set forward, and what it was ahead of the other before."""

    seen: float
    ahead: float


class SteadyTime:
    """`clock` never goes back, in seconds; `wall` is what people read."""

    def __init__(self, wall: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._wall = wall
        self._clock = clock
        self._start, self._begun = wall(), clock()
        self._ahead = 0.0
        self._steps: list[_Step] = []

    def now(self, patience: float) -> datetime:
        """After a step forward the time goes on as before; the new one is believed when it has stood for `patience`.

        Who waits for so many seconds waits them all, whenever the clock was set. A step back is believed at once: it
        makes deadlines later, which undoes nothing.
        """
        wall, clock = self._wall(), self._clock()
        ahead = (wall - self._start).total_seconds() - (clock - self._begun)
        if ahead > self._ahead + TOLERANCE:
            self._steps.append(_Step(clock, self._ahead))
        self._ahead = ahead
        self._steps = [
            step for step in self._steps if step.ahead + TOLERANCE < ahead and clock - step.seen < REMEMBERED
        ]
        gained = max((ahead - step.ahead for step in self._steps if clock - step.seen < patience), default=0.0)
        return wall - timedelta(seconds=gained)
