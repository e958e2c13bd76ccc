"""`python -m tests.budgets [names]`: measures, prints the table, writes build/budgets.json, exits 1 past a limit."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import traceback
from collections.abc import Coroutine
from pathlib import Path

from tests.budgets import analysis, fleet, hang, latency, real, rollouts
from tests.budgets.figures import RESULTS, Figure, table, write

MEASUREMENTS = {
    "real": real.measure,
    "fleet": fleet.measure,
    "fleet-rollouts": fleet.measure_rollouts,
    "hang": hang.measure,
    "misbehaving": hang.measure_misbehaving,
    "latency": latency.measure,
    "rollouts": rollouts.measure,
    "analysis": analysis.measure,
}


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.budgets", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASUREMENTS], help="what to measure; all of it by default")
    parser.add_argument("--keep", type=Path, help="a folder for the logs, which is kept")
    options = parser.parse_args()
    figures: list[Figure] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="budgets-") as temporary:
        for name in options.names or MEASUREMENTS:
            folder = (options.keep or Path(temporary)) / name
            print(f"measuring {name}", flush=True)
            try:
                figures += asyncio.run(_stoppable(MEASUREMENTS[name](folder)))
            except Exception:  # one that fails must not hide the figures of the others
                traceback.print_exc()
                print_end(folder / "controller.log")
                failed = True
    write(figures, RESULTS)
    print(table(figures))
    for figure in figures:
        print(f"{figure.name}: {figure.how}")
    return 1 if failed or any(figure.is_passed for figure in figures) else 0


async def _stoppable(measurement: Coroutine[None, None, list[Figure]]) -> list[Figure]:
    """SIGTERM ends what was started, as Ctrl-C does."""
    task = asyncio.ensure_future(measurement)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def print_end(log: Path, lines: int = 20) -> None:
    if log.exists():
        print("\n".join(log.read_text().splitlines()[-lines:]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
