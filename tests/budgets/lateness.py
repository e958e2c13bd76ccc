"""How late ticks began, as the process tells it: the growth of a histogram is what a window has seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

NAME = "fleet_rollout_tick_lateness_seconds"
_BUCKET = re.compile(rf'{NAME}_bucket{{le="([^"]+)"}} (\S+)')


@dataclass(frozen=True)
class Lateness:
    """`counts[n]` ticks were late by at most `bounds[n]` seconds."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @classmethod
    def read(cls, text: str) -> Lateness:
        """From what Prometheus would be told."""
        found = sorted((float(bound), float(count)) for bound, count in _BUCKET.findall(text))
        return cls(tuple(bound for bound, _ in found), tuple(count for _, count in found))

    def __sub__(self, before: Lateness) -> Lateness:
        counts = zip(self.counts, before.counts or [0.0] * len(self.counts), strict=True)
        return Lateness(self.bounds, tuple(now - then for now, then in counts))

    @property
    def count(self) -> int:
        """How many ticks there were."""
        return int(self.counts[-1]) if self.counts else 0

    def quantile(self, share: float) -> float:
        """As Prometheus computes it: evenly spread within a bucket; the last bound where it lies beyond all of them."""
        wanted = share * self.count
        edges = pairwise(zip((0.0, *self.bounds), (0.0, *self.counts), strict=True))
        for (low, before), (high, after) in edges:
            if after >= wanted and after > before:
                return low if high == float("inf") else low + (high - low) * (wanted - before) / (after - before)
        return 0.0
