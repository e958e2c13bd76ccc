"""`python -m tests.budgets.plots`: what `make budgets` has left in build/, as docs/performance.md shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from tests.budgets.analysis import RESULTS as WINDOWS
from tests.budgets.figures import RESULTS, Figure, shown

matplotlib.use("svg")
from matplotlib import pyplot

PAGE = Path("docs") / "performance.md"
README = Path("README.md")
PICTURES = Path("docs") / "performance"
PART = re.compile(r"(<!-- figures -->\n).*(<!-- end of figures -->)", re.DOTALL)
# The engine's figures whose names do not say so.
ENGINE = frozenset(
    (
        "tick lateness beside metrics that hang",
        "requests of a rollout, against Flagger",
        "CPU of a rollout, against Flagger",
    )
)
# The same figures make the same bytes.
STEADY = {"svg.hashsalt": "fleet-rollout", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
SIZE = (5.5, 3.2)


def main() -> None:
    """Both pictures, the engine's table on its page, and every figure in the README."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    windows = json.loads(WINDOWS.read_text())
    with pyplot.rc_context(STEADY):
        _lateness(windows)
        _cpu(windows)
    figures = [Figure(**row) for row in json.loads(RESULTS.read_text())]
    _fill(PAGE, _table([each for each in figures if "Canar" in each.name or each.name in ENGINE]))
    _fill(README, _summary(figures))


def _fill(page: Path, text: str) -> None:
    page.write_text(PART.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page.read_text()))


def _lateness(windows: Sequence[dict[str, Any]]) -> None:
    """Which share of the ticks was late by at most so much."""
    picture, axes = pyplot.subplots(figsize=SIZE)
    for number, window in enumerate(windows):
        late, name = window["lateness"], f"{window['canaries']:,} Canaries"
        shares = [100 * count / late["counts"][-1] for count in late["counts"][:-1]]
        is_last = number == len(windows) - 1
        label = f"{name}, {window['hanging']:,} with metrics that hang" if is_last else name
        axes.plot(late["bounds"], shares, marker=".", linestyle="--" if is_last else "-", label=label)
    axes.axhline(99, color="grey", linewidth=0.5)
    axes.axvline(1, color="grey", linewidth=0.5)
    axes.set(xscale="log", xlabel="late by at most, seconds", ylabel="ticks, %", xlim=(0.004, 12), ylim=(0, 102))
    axes.legend(loc="lower right")
    _save(picture, "lateness")


def _cpu(windows: Sequence[dict[str, Any]]) -> None:
    """What so many Canaries in analysis cost the hub."""
    picture, axes = pyplot.subplots(figsize=SIZE)
    grown = windows[:-1]
    axes.plot([window["canaries"] for window in grown], [window["cpu"] for window in grown], marker="o")
    axes.set(xscale="log", xlabel="Canaries in analysis", ylabel="CPU, % of a core", ylim=(0, 105))
    axes.axhline(100, color="grey", linewidth=0.5)
    _save(picture, "cpu")


def _save(picture: Any, name: str) -> None:
    picture.tight_layout()
    picture.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})
    pyplot.close(picture)


def _summary(figures: Sequence[Figure]) -> str:
    rows = [
        f"| {each.name} | {shown(each.value, each.unit)} | {shown(each.limit, each.unit)}"
        f"{' **exceeded**' if each.is_passed else ''} | {each.how} |"
        for each in figures
    ]
    return "\n".join(["| what | figure | limit | conditions |", "|---|---|---|---|", *rows])


def _table(figures: Sequence[Figure]) -> str:
    rows = [f"| {each.name} | {shown(each.value, each.unit)} | {shown(each.limit, each.unit)} |" for each in figures]
    conditions = [f"- {each.name}: {each.how}" for each in figures]
    return "\n".join(
        ["| what | figure | limit |", "|---|---|---|", *rows, "", "How each was measured:", "", *conditions]
    )


if __name__ == "__main__":
    main()
