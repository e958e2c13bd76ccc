"""Takes a bomb with the default caps and prints, as JSON, how it was refused and how much memory that took.

    python -m tests.rooms.sources.bombs archive <file> <folder>
    python -m tests.rooms.sources.bombs repository <url> <folder>
    python -m tests.rooms.sources.bombs references <url> <folder>

A process of its own: the peak of its memory is nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.settings import Settings
from fleet_rollout.sources import Sources
from fleet_rollout.sources.archive import unpack
from fleet_rollout.sources.checkout import Caps
from fleet_rollout_api.application import GitRepositorySpec


def archive(what: str, folder: Path) -> None:
    settings = Settings()
    with open(what, "rb") as file:
        unpack(file, folder, Caps(settings.artifact_max_bytes, settings.artifact_max_files))


async def repository(what: str, folder: Path, ref: dict[str, str]) -> None:
    sources = Sources(Settings(data_dir=folder, allow_loopback_sources=True, artifact_address="127.0.0.1:0"))
    spec = GitRepositorySpec.model_validate({"url": what, "interval": "1m", "ref": ref})
    try:
        await sources.reconcile("apps", "web", spec, None, None)
    finally:
        await sources.close()


def peak() -> int:
    """MB of resident memory: of this process since it started this program, or of its largest child."""
    status = Path("/proc/self/status").read_text().splitlines()
    (own,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024


def main(kind: str, what: str, folder: Path) -> None:
    before, reason = peak(), "accepted"
    try:
        if kind == "archive":
            archive(what, folder)
        else:
            ref = {"semver": "*"} if kind == "references" else {"branch": "main"}
            asyncio.run(repository(what, folder, ref))
    except FleetRolloutError as error:
        reason = error.reason
    print(json.dumps({"reason": reason, "growth": peak() - before}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
