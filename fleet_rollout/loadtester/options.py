"""What an operator may choose about a load tester; the command line has one flag a field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PORT = 9090
# Programs that send requests and read answers; none of them can write a file where nobody looks, or run another.
ALLOWED = ("hey", "wrk", "ghz", "k6", "grpc_health_probe")
# Task types that act on more than the workload under test; each is off until it is asked for.
EXTRA_TASKS = ("bash", "helm", "kubectl", "concord", "ngrinder")


@dataclass(frozen=True)
class Options:
    """Immutable; made once at start. Seconds and bytes."""

    host: str = ""
    port: int = PORT
    timeout: float = 3600.0
    namespaces: re.Pattern[str] | None = None
    allowed: frozenset[str] = frozenset(ALLOWED)
    allow_shell: bool = False
    extra_tasks: frozenset[str] = frozenset()
    concord_keys: Path | None = None
    proxy: str = ""
    most_tasks: int = 32
    output_cap: int = 1024 * 1024

    def offers(self, extra_task: str) -> bool:
        """Whether a task type of EXTRA_TASKS may be asked for."""
        return extra_task in self.extra_tasks or (extra_task == "bash" and self.allow_shell)
