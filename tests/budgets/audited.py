"""What an API server's audit log says that one user has asked of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# A watch is asked for once and told of twice; a Lease belongs to the process, whatever it drives.
STAGE = "ResponseComplete"
NOT_COUNTED = frozenset({"leases"})


def now() -> datetime:
    return datetime.now(UTC)


def asked(log: Path, user: str, since: datetime, until: datetime) -> Counter[str]:
    """Requests by verb and resource (`update canaries/status`), those that only keep a watch or a Lease left out."""
    found: Counter[str] = Counter()
    for event in _events(log):
        reference = event.get("objectRef") or {}
        if event["user"]["username"] != user or event["stage"] != STAGE or event["verb"] == "watch":
            continue
        if reference.get("resource") in NOT_COUNTED:
            continue
        if since <= datetime.fromisoformat(event["requestReceivedTimestamp"]) <= until:
            names = [reference.get("resource") or event["requestURI"], reference.get("subresource")]
            found[f"{event['verb']} {'/'.join(name for name in names if name)}"] += 1
    return found


def _events(log: Path) -> Iterator[dict[str, Any]]:
    with log.open() as lines:
        for line in lines:
            if line.endswith("\n"):  # the last one may be half written
                yield json.loads(line)
