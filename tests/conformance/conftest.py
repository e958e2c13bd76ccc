"""Real Flagger in the member m1, and the stories' service to translate for it."""

from __future__ import annotations

from tests.stories.conftest import crds, mesh, story

__all__ = ["crds", "mesh", "story"]
