"""Which sources a push wakes."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.announcements import concerns
from fleet_rollout_api.application import GitRef


@pytest.mark.parametrize(
    ("wanted", "pushed", "expected"),
    [
        (None, "refs/heads/master", True),
        (None, "refs/heads/main", False),
        (GitRef(branch="main"), "refs/heads/main", True),
        (GitRef(branch="main"), "main", True),
        (GitRef(branch="main"), "refs/heads/dev", False),
        (GitRef(branch="main"), "refs/tags/main", False),
        (GitRef(tag="v1"), "refs/tags/v1", True),
        (GitRef(tag="v1"), "refs/heads/v1", False),
        (GitRef(semver="1.x"), "refs/tags/v1.2.0", True),
        (GitRef(semver="1.x"), "refs/heads/main", False),
        (GitRef(name="refs/pull/1/head"), "refs/pull/1/head", True),
        (GitRef(name="refs/tags/v1^{}"), "refs/tags/v1", True),
        (GitRef(name="refs/pull/1/head"), "refs/heads/main", False),
        (GitRef(name="refs/heads/x"), "x", True),
        (GitRef(commit="0" * 40), "refs/heads/main", False),
    ],
)
def test_a_push_wakes_only_sources_it_may_change(wanted: GitRef | None, pushed: str, expected: bool) -> None:
    assert concerns(wanted, pushed) is expected
