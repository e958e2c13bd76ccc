"""The time by which deadlines are judged: the wall clock, but for steps forward that nobody has waited through.

Times of a member's objects can only be compared with a wall clock, and a wall clock is set now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

# What a clock may gain on the other between two looks without having been set, in seconds.
TOLERANCE = 5.0


class SteadyTime:
    """`clock` never goes back, in seconds; `wall` is what people read."""

    def __init__(self, wall: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._wall = wall
        self._clock = clock
        self._known, self._at = wall(), clock()
        self._stepped: float | None = None  # when a step forward was first seen

    def now(self, patience: float) -> datetime:
        """After a step forward the time goes on as before; the new one is believed when it has stood for `patience`.

        A step back is believed at once: it makes deadlines later, which undoes nothing.
        """
        wall, clock = self._wall(), self._clock()
        expected = self._known + timedelta(seconds=clock - self._at)
        if wall <= expected + timedelta(seconds=TOLERANCE):
            self._anchor(wall, clock)
            return wall
        if self._stepped is None:
            self._stepped = clock
        if clock - self._stepped >= patience:
            self._anchor(wall, clock)
            return wall
        return expected

    def _anchor(self, wall: datetime, clock: float) -> None:
        self._known, self._at, self._stepped = wall, clock, None
