"""Real Flagger in the member m1, and the stories' service to translate for it."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.lab import flagger
from tests.stories.conftest import crds, story

__all__ = ["crds", "mesh", "story"]


@pytest.fixture
async def mesh(member: Any) -> Any:
    """A member with gateway, Prometheus and Flagger."""
    await flagger.install(member)
    return member
