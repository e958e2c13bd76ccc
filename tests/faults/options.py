"""How many cases are played, which, and their summary: hooks of pytest, for tests/conftest.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.plan import Case, sample, table

RESULTS = "fault cases"


@dataclass(frozen=True)
class Choice:
    """What was asked for on the command line."""

    seed: int
    all: bool
    named: str

    def of(self, cases: list[Case], share: int) -> list[Case]:
        """The cases to play; `share` of them where nothing else was asked for."""
        if self.named:
            return [case for case in cases if case.name == self.named]
        return cases if self.all else sample(cases, share, self.seed)

    def replay(self, case: Case) -> str:
        """The command that plays one case again."""
        return f"make faults SEED={self.seed} ARGS=\"-k '[{case.story}]' --faults-case='{case.name}'\""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults-all", action="store_true", help="play every case, not a sample")
    group.addoption("--faults-seed", type=int, default=1, help="which sample, and which write stands for its group")
    group.addoption("--faults-case", default="", help="play the case of this name")


def choice(config: pytest.Config) -> Choice:
    given = config.getoption
    return Choice(int(given("--faults-seed")), bool(given("--faults-all")), str(given("--faults-case")))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of all cases, by story and fault, where they were asked for."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    found = [json.loads(value) for report in reports for name, value in report.user_properties if name == RESULTS]
    if not found or not choice(config).all:
        return
    results = {(story, fault): (cases, failed) for each in found for story, fault, cases, failed in each}
    terminalreporter.section(f"fault cases of seed {choice(config).seed}")
    terminalreporter.write_line(table(results))
