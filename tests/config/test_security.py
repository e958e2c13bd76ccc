"""docs/security.md and docs/reliability.md: every row is there, and every test that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
CLASSES = (ROOT / "docs" / "reliability.md").read_text("utf-8").partition("## Classes of bugs")[2].partition("## ")[0]
SHOWN = sorted(set(re.findall(r"`(?:(tests/[\w/]+)/)?(test_\w+\.py)(?:::(test_\w+)(…?))?`", CLASSES)))
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


def test_every_class_has_a_test() -> None:
    rows = dict(re.findall(r"^\| (\d+) \|(.*)$", CLASSES, re.MULTILINE))
    assert rows.keys() == {str(number) for number in range(1, 11)}
    assert all("test_" in row for row in rows.values())


@pytest.mark.parametrize(("folder", "file", "name", "more"), SHOWN)
def test_every_test_of_a_class_exists(folder: str, file: str, name: str, more: str) -> None:
    text = (ROOT / (folder or "tests/stories") / file).read_text("utf-8")
    end = r"\w*\(" if more else r"\("
    assert not name or re.search(rf"^(?:async )?def {name}{end}", text, re.MULTILINE)
