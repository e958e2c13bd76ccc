"""What a controller's process holds: resident memory, descriptors, threads, tasks; and whether it grows."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1024**2
LEAST = 8  # samples, without which nothing is known
# A quarter of the samples is for warming up; then the later half may be above the earlier one by this much.
MOST_GROWTH = {"rss": 16 * MIB, "descriptors": 20, "threads": 8, "tasks": 40}


@dataclass(frozen=True)
class Sample:
    """One look at a process."""

    at: float
    rss: int
    descriptors: int
    threads: int
    tasks: int


def look(pid: int, tasks: int) -> Sample | None:
    """`tasks` is what the process itself says. None where it has ended."""
    place = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        rss = int(status["VmRSS"].split()[0]) * 1024
        return Sample(time.monotonic(), rss, len(list((place / "fd").iterdir())), int(status["Threads"]), tasks)
    except (OSError, KeyError):
        return None


@dataclass
class Gauges:
    """The samples of the process that worked last; a restart begins anew."""

    pid: int = 0
    samples: list[Sample] = field(default_factory=list)

    def look(self, pid: int, tasks: int) -> None:
        if pid != self.pid:
            self.pid, self.samples = pid, []
        if (sample := look(pid, tasks)) is not None:
            self.samples.append(sample)

    def growth(self, name: str) -> float:
        """By how much the median of the later half is above that of the earlier one, once it was warm."""
        values = [getattr(sample, name) for sample in self.samples[len(self.samples) // 4 :]]
        if len(values) < 4:
            return 0.0
        middle = len(values) // 2
        return statistics.median(values[middle:]) - statistics.median(values[:middle])

    def rows(self) -> list[tuple[str, str, bool]]:
        """What was measured, in words, and whether it is within its limit."""
        seconds = self.samples[-1].at - self.samples[0].at if self.samples else 0.0
        found = [("samples", str(len(self.samples)), len(self.samples) >= LEAST)]
        for name, most in MOST_GROWTH.items():
            unit, by = ("MiB", MIB) if name == "rss" else ("", 1)
            last = getattr(self.samples[-1], name) / by if self.samples else 0.0
            growth = self.growth(name) / by
            words = (
                f"{last:.0f} {unit}".strip() + f", {growth:+.1f} in the last {seconds:.0f} s (limit {most / by:.0f})"
            )
            found.append((name, words, growth <= most / by))
        return found
