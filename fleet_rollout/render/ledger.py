"""What one build has read so far: how many values, for how long, and whether a Secret is among them.

Text from Git is parsed in the process that serves every tenant, and a value takes some 150 times the memory of the
two bytes that it may be written in: bytes alone are no measure.

The largest build that is accepted takes, beside what the process has, 160 MiB before kustomize and 250 to 790 MiB
after it (with 64 MiB of text in four bytes a character), once for each of the `render_workers`:
`pytest -rP -k bounded_memory tests/rooms/render/test_width.py` measures it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from fleet_rollout.errors import Terminal, Transient

# CRDs hold up to 12,000 values, a list of a thousand Deployments 121,000. While a document is read, each of its values
# takes up to 600 bytes.
DOCUMENT_VALUES = 250_000
# CRDs hold 12,000 to 80,000 values a megabyte (135,000 where aliases stand for many), 5,000 Deployments 605,000.
BUILD_VALUES = 1_000_000
# A longer text counts as several values, so that the number of values bounds the text, too.
TEXT = 128
SECRET = re.compile(r"\bSecret(?:Generator)?\b")


class Ledger:
    """Raises BuildLimit where the build has had its share. `seconds` run from now, and are looked at by `tick`."""

    def __init__(self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self.values = 0
        self.holds_secrets = False
        self.files: set[str] = set()  # whose values are counted
        self._seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def count(self, values: int, where: str) -> None:
        """Add what a document holds; `where` is the file."""
        self.values += values
        if self.values > BUILD_VALUES:
            raise Terminal(
                "BuildLimit",
                f"kustomize build failed: {where}: with it the build holds more than {BUILD_VALUES} values: "
                "split the policy",
            )

    def tick(self) -> None:
        """Between two steps: a thread cannot be ended from outside."""
        if self._clock() > self._end:
            raise overdue(self._seconds)


def overdue(seconds: float) -> Transient:
    """The error of a build that takes too long, in kustomize or before or after it."""
    fact = f"did not finish within {seconds:g}s: split the policy, or raise --render-timeout"
    return Transient("BuildLimit", f"kustomize build failed: {fact}")
