"""What is read of a source's Secret."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.control.artifacts import secret_data


@pytest.mark.parametrize("bad", ["%%%", "YWJj!", "YWJ", "\u00e9", None, 7])
def test_a_value_that_is_not_base64_is_left_out_and_the_others_are_read(bad: Any) -> None:
    assert secret_data({"data": {"password": bad, "username": "dXNlcg=="}}) == {"username": b"user"}


@pytest.mark.parametrize("secret", [{}, {"data": None}, {"data": {}}])
def test_a_secret_without_data_has_none(secret: dict[str, Any]) -> None:
    assert secret_data(secret) == {}
