"""What the log of a fault proxy says, and what must hold of it in every story."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.rules import Asked

Object = dict[str, Any]
SYNCS = "clustersyncs.apps.kurator.dev"
HUB = "hub"
MEMBER = "m1"  # as the hub and the proxies know it


def is_status(asked: Asked) -> bool:
    return (asked.key.resource, asked.key.subresource) == (SYNCS, "status")


def status_of(asked: Asked) -> Object:
    """What a write of a ClusterSync's status says."""
    found: Object = next(op["value"] for op in asked.body if op["path"] == "/status")
    return found


def is_carried_out(asked: Asked) -> bool:
    return asked.status in (200, 201)


def is_guarded(asked: Asked) -> bool:
    """Whether a delete says by UID, and in members by version too, what it is meant for."""
    wanted = {"uid"} if asked.key.cluster == HUB else {"uid", "resourceVersion"}
    return wanted <= (asked.body or {}).get("preconditions", {}).keys()


def is_upon(asked: Asked, before: Asked) -> bool:
    """Whether a later process has written the same object."""
    return asked.epoch > before.epoch and asked.key[2:5] == before.key[2:5] and asked.key.cluster == before.key.cluster


def check_who_wrote(writes: Sequence[Asked], late: Asked | None, *, is_overtaken: bool) -> None:
    """No older leader after a newer one, and no delete of something else.

    `late` was on the wire while its sender was suspended; it came after a newer leader's of the same object, or not.
    """
    epoch = 0
    for asked in writes:
        if asked.key.verb == "delete":
            assert is_guarded(asked), f"{asked.key}: without saying of what"
        elif is_status(asked) and is_carried_out(asked) and asked is not late:
            now = (status_of(asked).get("attempt") or {}).get("epoch", epoch)
            assert now >= epoch, "an older leader wrote after a newer one"
            epoch = now
    if late is not None and is_overtaken and late.key.cluster != MEMBER and "resourceVersion" in json.dumps(late.body):
        assert not is_carried_out(late), f"{late.key}: upon a newer leader's"


def check_weights(routes: Mapping[str, Any], canary: str, most: int) -> None:
    """Of a VirtualService: they make 100 together, and no more than `most` of it goes to the canary."""
    for route in routes["spec"]["http"]:
        weights = {each["destination"]["host"]: each.get("weight", 100) for each in route["route"]}
        assert sum(weights.values()) == 100, f"weights {weights}"
        assert weights.get(canary, 0) <= most, f"weights {weights}"
