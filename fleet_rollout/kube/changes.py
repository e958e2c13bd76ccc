"""What became of an object, in Flux's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleet_rollout.decide.inventory import Ref, entry_of

Action = Literal["created", "configured", "unchanged", "skipped", "deleted"]


@dataclass(frozen=True)
class Change:
    """`id` and `version` as in an inventory; as text `Deployment/apps/web configured`."""

    id: str
    version: str
    subject: str
    action: Action

    @classmethod
    def of(cls, ref: Ref, action: Action) -> Change:
        return cls(entry_of(ref).id, ref.version, ref.subject, action)

    def __str__(self) -> str:
        return f"{self.subject} {self.action}"
