"""What an artifact is: the content of one revision, named by digest, and what is written down about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_rollout.decide.gitrefs import commit_of, current_format
from fleet_rollout.errors import Transient

IDENTITY_KEY = "apps.kurator.dev/identity"


@dataclass(frozen=True)
class Artifact:
    """What status and ClusterSyncs know of stored content. `digest` is the served file's, `identity` the tar's."""

    revision: str
    digest: str
    size: int
    path: str
    url: str
    last_update_time: str
    identity: str = ""

    def status(self) -> dict[str, Any]:
        """As Flux's status shows it."""
        shown = {
            "digest": self.digest,
            "lastUpdateTime": self.last_update_time,
            "path": self.path,
            "revision": self.revision,
            "size": self.size,
            "url": self.url,
        }
        return shown | ({"metadata": {IDENTITY_KEY: self.identity}} if self.identity else {})

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Artifact:
        """Read back from a status, also from one that Flux or an older version wrote."""
        return cls(
            revision=current_format(str(status.get("revision", ""))),
            digest=str(status.get("digest", "")),
            size=int(status.get("size") or 0),
            path=str(status.get("path", "")),
            url=str(status.get("url", "")),
            last_update_time=str(status.get("lastUpdateTime", "")),
            identity=str((status.get("metadata") or {}).get(IDENTITY_KEY, "")),
        )

    @property
    def commit(self) -> str:
        return commit_of(self.revision) or ""


@dataclass(frozen=True)
class Record:
    """A stored artifact, what it was made from, and since when another one took its place (seconds since 1970)."""

    artifact: Artifact
    subject: str
    config: str
    superseded_at: float | None = None


def unavailable(revision: str, fact: str) -> Transient:
    """Pinned content that cannot be had: nothing is applied and nothing pruned."""
    return Transient("ArtifactUnavailable", f"content of revision '{revision}' is not available: {fact}")


def read_records(file: Path) -> list[Record]:
    """None where the file is missing or unreadable: the source is then fetched again."""
    try:
        found = json.loads(file.read_text())
        return [Record(**(item | {"artifact": Artifact(**item["artifact"])})) for item in found]
    except (OSError, ValueError, TypeError, KeyError):
        return []
