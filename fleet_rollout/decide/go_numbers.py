"""Numbers the way Go prints them, because users and their tools read them in events."""

from __future__ import annotations

import math

from fleet_rollout.decide.intervals import format_duration

# %v and %g use exponents outside of these powers of ten.
SMALLEST_PLAIN, LARGEST_PLAIN = -4, 5
DIGITS = 17  # of which every float64 can be read back


def number(value: float) -> str:
    """Go's `%v` of a float64: the shortest text that reads back as the same number (99, 99.5, 1e+06)."""
    value = float(value)
    if not math.isfinite(value):
        return _special(value)
    texts = (f"{value:.{places}e}" for places in range(DIGITS))
    digits, _, exponent = next(text for text in texts if float(text) == value).partition("e")
    power = int(exponent)
    if value and not SMALLEST_PLAIN <= power <= LARGEST_PLAIN:
        return f"{digits}e{exponent}"
    places = max(0, len(digits.lstrip("-").replace(".", "")) - 1 - power)
    return f"{value:.{places}f}"


def fixed(value: float, places: int = 2) -> str:
    """Go's `%.2f`."""
    return f"{value:.{places}f}" if math.isfinite(value) else _special(value)


def milliseconds(count: int) -> str:
    """Go's `%v` of a duration of whole milliseconds (0s, 501ms, 1.5s, 1m0s)."""
    text = format_duration(abs(count) / 1000)
    return f"-{text}" if count < 0 else text


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"
