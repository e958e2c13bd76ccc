"""What came back from a load, and the summary of it that hey prints: people and scripts read it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

# Enough for half an hour at 500 requests a second; what comes later is only counted.
MOST_SAMPLES = 1_000_000
MOST_ERRORS = 20
OTHER_ERRORS = "other errors"
BARS, BAR_WIDTH = 10, 40
PERCENTILES = (10, 25, 50, 75, 90, 95, 99)


class Report:
    """Counts answers and failures."""

    def __init__(self) -> None:
        self._seconds = array("d")
        self._bytes = 0
        self._statuses: Counter[int] = Counter()
        self._errors: Counter[str] = Counter()

    @property
    def answers(self) -> int:
        return self._statuses.total()

    def answered(self, status: int, seconds: float, size: int) -> None:
        """One answer, whatever its status."""
        self._statuses[status] += 1
        self._bytes += size
        if len(self._seconds) < MOST_SAMPLES:
            self._seconds.append(seconds)

    def failed(self, error: str) -> None:
        """No answer."""
        known = error in self._errors or len(self._errors) < MOST_ERRORS
        self._errors[error if known else OTHER_ERRORS] += 1

    def text(self, total: float) -> str:
        """The summary, after `total` seconds."""
        return "\n".join(self._lines(total)) + "\n"

    def _lines(self, total: float) -> Iterator[str]:
        if self._seconds:
            samples = sorted(self._seconds)
            yield from self._summary(samples, total)
            yield from _histogram(samples)
            yield from _percentiles(samples)
            yield from ("", "Status code distribution:")
            yield from (f"  [{status}]\t{count} responses" for status, count in sorted(self._statuses.items()))
        if self._errors:
            yield from ("", "Error distribution:")
            yield from (f"  [{count}]\t{error}" for error, count in self._errors.most_common())

    def _summary(self, samples: list[float], total: float) -> Iterator[str]:
        yield "Summary:"
        yield f"  Total:\t{total:.4f} secs"
        yield f"  Slowest:\t{samples[-1]:.4f} secs"
        yield f"  Fastest:\t{samples[0]:.4f} secs"
        yield f"  Average:\t{sum(samples) / len(samples):.4f} secs"
        yield f"  Requests/sec:\t{self.answers / total:.4f}"
        if self._bytes:
            yield f"  Total data:\t{self._bytes} bytes"
            yield f"  Size/request:\t{self._bytes // self.answers} bytes"


def _histogram(samples: list[float]) -> Iterator[str]:
    fastest, width = samples[0], (samples[-1] - samples[0]) / BARS
    counts = Counter(
        min(BARS, int((each - fastest) / width + 1)) if width and each > fastest else 0 for each in samples
    )
    highest = max(counts.values())
    yield from ("", "Response time histogram:")
    for bar in range(BARS + 1):
        count = counts[bar]
        yield f"  {fastest + width * bar:.3f} [{count}]\t|{'■' * round(count * BAR_WIDTH / highest)}"


def _percentiles(samples: list[float]) -> Iterator[str]:
    yield from ("", "Latency distribution:")
    for percent in PERCENTILES:
        yield f"  {percent}% in {samples[min(len(samples) - 1, len(samples) * percent // 100)]:.4f} secs"
