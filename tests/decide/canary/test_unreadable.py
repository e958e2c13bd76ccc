"""Which Canaries say too little to be driven, and what their users read."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.decide.canary.unreadable import unreadable

TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
NO_SPEC = "Canary web.shop has no spec; write spec.targetRef, spec.service and spec.analysis"
NO_TARGET = "Canary web.shop has no spec.targetRef with kind and name; write those of its workload"


def canary(metadata: dict[str, Any] | None = None, **content: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop", **(metadata or {})}, **content}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, NO_SPEC),
        ({"spec": None}, NO_SPEC),
        ({"spec": []}, NO_SPEC),
        ({"spec": {}}, NO_TARGET),
        ({"spec": {"targetRef": "web"}}, NO_TARGET),
        ({"spec": {"targetRef": {**TARGET, "name": ""}}}, NO_TARGET),
        ({"spec": {"targetRef": TARGET}}, None),
    ],
)
def test_what_is_missing_is_named(content: dict[str, Any], told: str | None) -> None:
    assert unreadable(canary(**content)) == told


def test_one_that_waits_to_give_back_is_told_how_it_can_go() -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert unreadable(canary({**deleted, "finalizers": ["finalizer.flagger.app"]})) == (
        f"{NO_SPEC}, or take finalizer finalizer.flagger.app away: then it goes, and gives nothing back"
    )
    assert unreadable(canary({**deleted, "finalizers": ["other"]})) == NO_SPEC
    assert unreadable(canary({"finalizers": ["finalizer.flagger.app"]})) == NO_SPEC
