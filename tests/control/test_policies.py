"""The look at the admission policies: what it says, what it shows, and that a hub in trouble does not end it."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.control import policies
from fleet_rollout.kube.client import Resource
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.measures import REGISTRY

NAME = "fleet-rollout-clustersyncs"
IN_FORCE = {
    "ValidatingAdmissionPolicy": {"spec": {"failurePolicy": "Fail"}},
    "ValidatingAdmissionPolicyBinding": {"spec": {"policyName": NAME, "validationActions": ["Deny"]}},
}


class Hub:
    """Answers by kind, with an object or an error."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    async def get(self, resource: Resource, name: str) -> Any:
        assert name in policies.NAMES
        answer = self._answers.get(resource.kind)
        if isinstance(answer, Exception):
            raise answer
        return answer


def shown() -> float | None:
    return REGISTRY.get_sample_value("fleet_rollout_policy_bound", {"policy": NAME})


async def test_what_is_in_force_is_shown_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "NAMES", (NAME,))
    assert await policies.look(Hub(IN_FORCE)) == []
    assert shown() == 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, f"ValidatingAdmissionPolicy {NAME} is missing; apply config/policies"),
        (
            IN_FORCE | {"ValidatingAdmissionPolicyBinding": None},
            f"ValidatingAdmissionPolicyBinding {NAME} is missing; apply config/policies",
        ),
        (
            {"ValidatingAdmissionPolicy": ApiError(403, "Forbidden", "not for you")},
            f"whether ValidatingAdmissionPolicy {NAME} is bound cannot be read: not for you; "
            "apply config/policies and config/rbac",
        ),
    ],
    ids=["missing", "not bound", "forbidden"],
)
async def test_what_is_not_in_force_is_said_and_shown(
    answers: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "NAMES", (NAME,))
    assert await policies.look(Hub(answers)) == [said]
    assert [record.getMessage() for record in caplog.records] == [said]
    assert shown() == 0


async def test_a_hub_that_does_not_answer_says_nothing_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "NAMES", (NAME,))
    await policies.look(Hub(IN_FORCE))
    lost = Unreachable("hub", "the connection was cut", maybe_sent=False)
    assert await policies.look(Hub({"ValidatingAdmissionPolicy": lost})) == []
    assert shown() == 1
