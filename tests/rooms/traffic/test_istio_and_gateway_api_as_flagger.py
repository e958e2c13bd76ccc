"""The same Canaries and moves as Flagger's own routers were given, and the same objects (tests/goldens/flagger)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet_rollout.traffic import gateway_defaults, istio_rules
from fleet_rollout.traffic.factory import router_for
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

PLAYS = json.loads((Path(__file__).parents[2] / "goldens" / "flagger" / "routers.json").read_text())
TOKEN = "abcdefGHIJ"


def equal(provider, one, other):
    """Flagger takes headers of a match in Go's random order."""
    if provider == "istio":
        return istio_rules.says_the_same(one, other)
    for match in (match for spec in (one, other) for rule in spec["rules"] for match in rule["matches"]):
        for part in ("headers", "queryParams"):
            match.get(part, []).sort(key=lambda each: each["name"])
    return gateway_defaults.says_the_same(one, other)


@pytest.mark.parametrize("play", PLAYS, ids=[f"{number}-{play['provider']}" for number, play in enumerate(PLAYS)])
def test_routers_write_what_flagger_s_write(play):
    router, member, status = router_for(play["provider"]), Member(), {"phase": "Progressing"}
    kind = "VirtualService" if play["provider"] == "istio" else "HTTPRoute"

    def of():
        return subject(service=play["service"], analysis=play["analysis"], status=status)

    for move, expected in zip([None, *play["moves"]], play["steps"], strict=True):
        if move is None:
            member.reconcile(router, of())
        else:
            moved = router.set_routes(of(), member.live(router, of()), Routes(*move), token=TOKEN)
            member.carry_out(moved.writes)
            status |= moved.status
        found = member.of_kind(kind, "podinfo")
        assert equal(play["provider"], found["spec"], expected["spec"])
        assert found["metadata"].get("labels", {}) == (expected["labels"] or {})
        assert found["metadata"]["annotations"] == expected["annotations"]
        assert list(member.routes(router, of())) == expected["routes"]
        assert {key: value for key, value in status.items() if value and key != "phase"} == expected["status"]
