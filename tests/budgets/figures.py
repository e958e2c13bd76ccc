"""A measured figure, its limit and what it is compared with; the table and the file that `make budgets` leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path("build") / "budgets.json"


@dataclass(frozen=True)
class Figure:
    """`raw` is what the same work costs without the service, in the same unit, where there is such a thing."""

    name: str
    value: float
    limit: float
    unit: str
    how: str
    raw: float | None = None

    @property
    def is_passed(self) -> bool:
        return self.value > self.limit


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def write(figures: Sequence[Figure], path: Path) -> None:
    """The list that other programs read; what was measured another time stays in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else []
    rows = {row["name"]: row for row in before}
    for figure in figures:
        rows[figure.name] = {key: value for key, value in asdict(figure).items() if key != "raw"}
    path.write_text(json.dumps(list(rows.values()), indent=1) + "\n")


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table, for people and for the README."""
    rows = [("what", "figure", "limit", "raw limit", "")]
    rows += [
        (
            figure.name,
            shown(figure.value, figure.unit),
            shown(figure.limit, figure.unit),
            shown(figure.raw, figure.unit) if figure.raw is not None else "",
            "PASSED THE LIMIT" if figure.is_passed else "",
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def shown(value: float, unit: str) -> str:
    """A value as people read it."""
    return f"{value:.3g} {unit}" if abs(value) < 100 else f"{value:.0f} {unit}"
