"""The page of each kind: its example runs, and it names every field that a user can set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout_api.crd import hub_crds, member_crds

PAGES = Path(__file__).parents[2] / "docs" / "kinds"
CRDS = {crd["spec"]["names"]["singular"]: crd for crd in (*hub_crds(), *member_crds())}
SECTIONS = ("In the above example", "## Fields", "## Status", "## Failures")
# Fields below these are another page's, or are described together.
FOLDED = {
    "application": {"helm", "helmRepository", "ociRepository", "retries", "headers", "corsPolicy", "match"}
    | {"patches", "images", "healthChecks", "healthCheckExprs", "commonMetadata", "primary", "preview", "secretRef"}
    | {"include", "verify", "accessFrom", "sessionAffinity", "customMetric", "thresholdRange", "dependsOn"},
    "clustersync": {"kustomization", "rollout", "artifact", "cluster"},
    "canary": {"spec"},
    "fleet": {"plugin"},
}


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text("utf-8")


def fields(schema: dict[str, Any], folded: set[str]) -> set[str]:
    """Names of all fields below a node, without what lies below a folded one."""
    found: set[str] = set()
    for name, child in schema.get("properties", {}).items():
        found |= {name} | (set() if name in folded else fields(child, folded))
    return found | (fields(schema["items"], folded) if "items" in schema else set())


def test_every_kind_has_its_page():
    assert {path.stem for path in PAGES.glob("*.md")} == set(CRDS)


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_a_page_has_its_parts_in_order(kind):
    text = page(kind)
    places = [text.find(section) for section in SECTIONS]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("kind", sorted(CRDS))
async def test_the_example_is_accepted_strictly(kind, dry_run):
    found = re.search(r"```yaml\n(.*?)```", page(kind), re.DOTALL)
    assert found
    example = yaml.safe_load(found[1])
    assert example["kind"] == CRDS[kind]["spec"]["names"]["kind"]
    assert (await dry_run(example))["spec"]


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_the_page_names_every_field(kind):
    spec = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    folded = FOLDED.get(kind, set())
    wanted = set() if "spec" in folded else fields(spec, folded)
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", page(kind))))) | set(
        re.findall(r"^ *(?:- )?(\w+):", page(kind), re.MULTILINE)
    )
    assert wanted - named == set()


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_links_between_pages_lead_somewhere(kind):
    targets = re.findall(r"\]\((\w+\.md)\)", page(kind))
    assert all((PAGES / target).is_file() for target in targets)
