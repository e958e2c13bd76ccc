"""Escapes of a terminal, and characters that turn the direction of text, stay text (trust row 42)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.printable import UNPRINTABLE, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("exe\u202egnp", "exe\\u202egnp"),
        ("\x9b31m \x7f \ufeff\r\n", "\\x9b31m \\x7f \\ufeff\\r\n"),
        ("a\tb\nc: grün", "a\tb\nc: grün"),
    ],
)
def test_t42_what_a_terminal_would_act_on_is_escaped(text, expected):
    assert printable(text) == expected


@given(st.text())
def test_t42_nothing_unprintable_is_left_and_nothing_else_changes(text):
    assert not UNPRINTABLE.search(printable(text))
    assert printable(printable(text)) == printable(text)
