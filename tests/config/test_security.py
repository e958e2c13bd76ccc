"""docs/security.md: every row of it is there, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+\.py)::(test_\w+)(\*?)`", PAGE)))
ROWS = {int(row): line for line in PAGE.splitlines() for row in re.findall(r"^\| (\d+) \|", line)}
# About what the service does not have; the page says so.
WITHOUT = {23, 33, 34, 36, 41, 46, 47}


def test_every_row_has_a_promise_and_a_test() -> None:
    assert ROWS.keys() == set(range(1, 48)) - WITHOUT
    assert all("`tests/" in line for line in ROWS.values())


@pytest.mark.parametrize(("file", "name", "more"), NAMED)
def test_every_test_that_is_named_exists(file: str, name: str, more: str) -> None:
    end = r"\w*\(" if more else r"\("
    assert re.search(rf"^(?:async )?def {name}{end}", (ROOT / file).read_text("utf-8"), re.MULTILINE)
