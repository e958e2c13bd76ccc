"""What a decision found wrong: a value that becomes a condition, never an exception.

One problem belongs to one policy on one cluster at most, so that the others go on.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet_rollout_api.cluster_sync import ClusterReference


@dataclass(frozen=True)
class Problem:
    """`reason` is a condition reason; `message` names the object or field, the fact, then the fix.

    `terminal`: only an edit helps. Otherwise the world may change by itself, and the decision is taken again.
    `of_member`: it is about one entry of a Fleet that leads to no cluster; all others go on.
    """

    reason: str
    message: str
    terminal: bool = False
    policy: str = ""
    cluster: ClusterReference | None = None
    of_member: bool = False

    @property
    def spares_others(self) -> bool:
        """Whether it is about one member alone."""
        return self.of_member or self.cluster is not None
