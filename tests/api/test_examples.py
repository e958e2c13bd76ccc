"""Every manifest of the examples is taken by the API server without a field left over."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLLOUT = Path(__file__).parents[2] / "examples" / "rollout"
MANIFESTS = sorted([*ROLLOUT.glob("*/application.yaml"), *ROLLOUT.glob("*/fleet.yaml")])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_an_example_is_accepted_strictly(path, dry_run):
    assert (await dry_run(yaml.safe_load(path.read_text("utf-8"))))["spec"]


def test_every_example_has_an_application():
    assert {path.parent for path in MANIFESTS if path.stem == "application"} == set(ROLLOUT.iterdir())
