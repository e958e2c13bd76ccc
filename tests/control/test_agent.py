"""The engine as a process of its own: no object of its cluster may end it."""

from __future__ import annotations

import pytest

from fleet_rollout.control.agent import _unharmed
from fleet_rollout.kube.client import Event


def test_one_canary_s_trouble_does_not_end_the_watch_of_all_others(caplog: pytest.LogCaptureFixture) -> None:
    told = []

    def tell(event: Event) -> None:
        told.append(event.type)
        raise KeyError("a mistake of ours")

    for kind in ("ADDED", "MODIFIED"):
        _unharmed(tell)(Event(kind, {}))
    assert told == ["ADDED", "MODIFIED"]
    assert "an event of the Canaries" in caplog.text
