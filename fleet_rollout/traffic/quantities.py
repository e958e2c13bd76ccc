"""Kubernetes quantities, as SMI's first version writes weights: `"20"`, `"500m"`, `"1k"`, `"1e2"`, `"1Ki"`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

_FORM = re.compile(
    r"([+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}))(?:[eE]([+-]?[0-9]{1,2})|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]))?"
)
_THOUSANDS = {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def amount(value: Any) -> Fraction | None:
    """The number that a quantity stands for; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _FORM.fullmatch(str(value))
    if not found:
        return None
    number, exponent, suffix = found.groups()
    if suffix and suffix.endswith("i"):
        return Fraction(number) * Fraction(1024) ** _THOUSANDS[{"K": "k"}.get(suffix[0], suffix[0])]
    power = 3 * _THOUSANDS[suffix] if suffix else int(exponent or 0)
    return Fraction(number) * Fraction(10) ** power
