"""An admission policy protects only where it is there, bound, denies, and fails closed: row by row."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.decide.policies import complaint

POLICY = {"spec": {"failurePolicy": "Fail"}}
BOUND = {"policyName": "p", "validationActions": ["Deny", "Audit"]}


@pytest.mark.parametrize(
    ("policy", "binding", "said"),
    [
        (POLICY, BOUND, None),
        ({"spec": {}}, BOUND, None),
        (None, BOUND, "ValidatingAdmissionPolicy p is missing"),
        ({"spec": {"failurePolicy": "Ignore"}}, BOUND, "failurePolicy"),
        (POLICY, None, "ValidatingAdmissionPolicyBinding p is missing"),
        (POLICY, {**BOUND, "policyName": "q"}, "binds another policy"),
        (POLICY, {**BOUND, "validationActions": ["Warn"]}, "does not deny"),
        (POLICY, {**BOUND, "matchResources": {"namespaceSelector": {}}}, "leave objects out"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_with_the_fix(
    policy: Any, binding: dict[str, Any] | None, said: str | None
) -> None:
    found = complaint("p", policy, None if binding is None else {"spec": binding})
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert said in found
        assert found.endswith("; apply config/policies")
