"""Which Fleet governs each member: looked up once for as long as the Fleets stay as they are.

Every member asks at every check and every tick, and a Fleet may name a thousand of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from operator import is_

from pydantic import ValidationError

from fleet_rollout.control.store import Store
from fleet_rollout.control.world import FLEETS
from fleet_rollout.decide.engines import Member, fleets_by_member
from fleet_rollout_api.cluster_sync import ClusterReference
from fleet_rollout_api.fleet import Fleet


class Governors:
    """Answers from the store; needs no notice of changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, tuple[list[Fleet], dict[Member, Fleet]]] = {}

    def of(self, namespace: str, cluster: ClusterReference) -> Fleet | None:
        """The Fleet that says what runs the canaries of a member; None where no Fleet names it."""
        fleets = list(self._readable(namespace))
        known, members = self._found.get(namespace, ([], {}))
        if len(known) != len(fleets) or not all(map(is_, known, fleets)):
            members = {member: named[0] for member, named in fleets_by_member(fleets).items()}
            self._found[namespace] = (fleets, members)
        return members.get((cluster.kind, cluster.name))

    def _readable(self, namespace: str) -> Iterator[Fleet]:
        """An odd Fleet governs nobody, and holds nobody up; Applications that name it say what is wrong with it."""
        for obj in self._store.all(FLEETS.plural, namespace):
            with contextlib.suppress(ValidationError):
                yield self._store.model(FLEETS.plural, obj, Fleet)
