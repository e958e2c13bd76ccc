"""Metrics with a series or more for each Canary: what is counted is kept as plain numbers.

A series of prometheus_client's own is an object with locks and names of its own: 0.8 KB, and 4.5 KB where it is a
histogram. A thousand Canaries in analysis have ten each.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Key = tuple[str, ...]  # values of the labels, in their order
T = TypeVar("T")

# Those of Go's client, and so Flagger's, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = [*map(str, BUCKETS), "+Inf"]


class _Series(Collector, Generic[T]):
    """What all have in common: names, and the ways of the client's own to add and remove a series."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self.names = tuple(labels)
        self._kept: dict[Key, T] = {}
        registry.register(self)

    def _key(self, values: Sequence[str], named: Mapping[str, str]) -> Key:
        key = tuple(map(str, values or (named[name] for name in self.names)))
        if len(key) != len(self.names):
            raise ValueError(f"{self._name} has the labels {self.names}")
        return key

    def remove(self, *values: str) -> None:
        """Drop this series, if it is there."""
        self._kept.pop(values, None)

    def remove_by_labels(self, named: Mapping[str, str]) -> None:
        """Drop all series that have these labels."""
        if len(named) == len(self.names):
            self.remove(*self._key((), named))
            return
        wanted = [(self.names.index(name), value) for name, value in named.items()]
        for key in [key for key in self._kept if all(key[at] == value for at, value in wanted)]:
            del self._kept[key]

    def _snapshot(self) -> Iterable[tuple[Key, T]]:
        """Pages are written by another thread."""
        return self._kept.copy().items()


class _Value(NamedTuple):
    kept: dict[Key, float]
    key: Key

    def set(self, value: float) -> None:
        self.kept[self.key] = value


class Values(_Series[float]):
    """A gauge."""

    def labels(self, *values: str, **named: str) -> _Value:
        """The series with these labels."""
        return _Value(self._kept, self._key(values, named))

    def collect(self) -> Iterable[Metric]:
        """What a page shows."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self.names)
        for key, value in self._snapshot():
            family.add_metric(key, value)
        return [family]


class _Timed(NamedTuple):
    kept: dict[Key, array[float]]
    key: Key

    def observe(self, seconds: float) -> None:
        counts = self.kept.get(self.key)
        if counts is None:
            counts = self.kept[self.key] = array("d", bytes(8 * (len(_BOUNDS) + 1)))
        counts[bisect_left(BUCKETS, seconds)] += 1
        counts[-1] += seconds


class Durations(_Series["array[float]"]):
    """A histogram of seconds; of each series the counts by bucket, and last the sum."""

    def labels(self, *values: str, **named: str) -> _Timed:
        """The series with these labels."""
        return _Timed(self._kept, self._key(values, named))

    def collect(self) -> Iterable[Metric]:
        """What a page shows."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self.names)
        for key, counts in self._snapshot():
            *by_bucket, total = counts
            family.add_metric(key, list(zip(_BOUNDS, accumulate(by_bucket), strict=True)), total)
        return [family]
