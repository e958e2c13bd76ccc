"""Other people's words in what is read on a terminal: escaped, so that they cannot rewrite it (trust row 42)."""

from __future__ import annotations

import re

# C0 but tab and line end, DEL, C1, and what turns or hides the direction of text.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    """`text` with escapes such as `\\x1b` in place of such characters; lines and tabs stay."""
    return UNPRINTABLE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
