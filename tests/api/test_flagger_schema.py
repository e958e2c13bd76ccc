"""Our CRDs of flagger.app accept what those of Flagger 1.44 accept: each of its fields and values exists in ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout_api.crd import member_crds
from fleet_rollout_api.flagger import Canary

ROOT = Path(__file__).parents[2]
# Flagger's own file, without descriptions; the lab installs it where Flagger itself runs.
THEIRS = {
    item["metadata"]["name"]: item
    for item in yaml.safe_load_all((ROOT / "fleet_rollout/lab/assets/flagger-crds.yaml").read_text("utf-8"))
}
OURS = {item["metadata"]["name"]: item for item in member_crds()}
GOLDENS = ROOT / "tests" / "goldens" / "kurator" / "then"
LOWER_LIMITS = ("minimum", "minLength", "minItems", "minProperties")
UPPER_LIMITS = ("maximum", "maxLength", "maxItems", "maxProperties")


def schema(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def narrower(theirs: dict[str, Any], ours: dict[str, Any], path: str) -> Iterator[str]:
    """Where ours accepts less than theirs."""
    if ours.get("x-kubernetes-preserve-unknown-fields") and "type" not in ours:
        return
    if theirs.get("type") != ours.get("type") and (theirs.get("type"), ours.get("type")) != ("integer", "number"):
        yield f"{path}: type {ours.get('type')} instead of {theirs.get('type')}"
    if theirs.get("x-kubernetes-int-or-string") != ours.get("x-kubernetes-int-or-string"):
        yield f"{path}: int-or-string"
    if missing := set(theirs.get("enum", ours.get("enum", []))) - set(ours.get("enum", theirs.get("enum", []))):
        yield f"{path}: lacks the values {sorted(missing)}"
    if "enum" in ours and "enum" not in theirs:
        yield f"{path}: limits the values"
    if extra := set(ours.get("required", [])) - set(theirs.get("required", [])):
        yield f"{path}: requires {sorted(extra)}"
    if "pattern" in ours and ours["pattern"] != theirs.get("pattern"):
        yield f"{path}: pattern {ours['pattern']}"
    if any(key in ours and ours[key] > theirs.get(key, float("-inf")) for key in LOWER_LIMITS):
        yield f"{path}: a lower limit"
    if any(key in ours and ours[key] < theirs.get(key, float("inf")) for key in UPPER_LIMITS):
        yield f"{path}: an upper limit"
    if "default" in theirs and theirs["default"] != ours.get("default"):
        yield f"{path}: default {ours.get('default')!r} instead of {theirs['default']!r}"
    for name, child in theirs.get("properties", {}).items():
        if name in ours.get("properties", {}):
            yield from narrower(child, ours["properties"][name], f"{path}.{name}")
        else:
            yield f"{path}.{name}: missing"
    for key in ("items", "additionalProperties"):
        if key in theirs:
            yield from narrower(theirs[key], ours.get(key, {}), f"{path}[]")


@pytest.mark.parametrize("name", THEIRS)
def test_ours_accepts_every_field_and_value_of_flaggers(name):
    assert list(narrower(schema(THEIRS[name]), schema(OURS[name]), "")) == []


@pytest.mark.parametrize("name", THEIRS)
def test_ours_is_called_and_shown_like_flaggers(name):
    theirs, ours = THEIRS[name]["spec"], OURS[name]["spec"]
    assert ours["names"] == theirs["names"]
    assert (ours["group"], ours["scope"]) == (theirs["group"], theirs["scope"])
    their_version, our_version = theirs["versions"][0], ours["versions"][0]
    assert our_version["name"] == their_version["name"]
    assert our_version["subresources"] == their_version["subresources"]
    assert our_version["additionalPrinterColumns"] == their_version["additionalPrinterColumns"]


def test_an_analysis_says_one_way_to_advance_as_flaggers_does():
    theirs = schema(THEIRS["canaries.flagger.app"])["properties"]["spec"]["properties"]["analysis"]["oneOf"]
    ours = schema(OURS["canaries.flagger.app"])["properties"]["spec"]["properties"]["analysis"]["oneOf"]
    assert ours == theirs


def goldens() -> list[Any]:
    items = []
    for path in sorted(GOLDENS.glob("*.yaml")):
        for item in yaml.safe_load_all(path.read_text("utf-8")):
            if item and item["apiVersion"] == "flagger.app/v1beta1":
                items.append(pytest.param(item, id=f"{path.stem}-{item['kind']}"))
    return items


@pytest.mark.parametrize("given", goldens())
async def test_what_kurator_writes_is_accepted_strictly(given, dry_run):
    stored = await dry_run({**given, "metadata": {"name": given["metadata"]["name"]}})
    defaulted = stored["spec"]
    affinity = defaulted.get("analysis", {}).get("sessionAffinity")
    if affinity and "maxAge" not in given["spec"]["analysis"]["sessionAffinity"]:
        assert affinity.pop("maxAge") == 86400
    assert defaulted == given["spec"]


@pytest.mark.parametrize("given", [item for item in goldens() if item.id.endswith("Canary")])
def test_the_model_reads_a_canary_without_loss(given):
    assert Canary.model_validate(given).spec.dump() == given["spec"]


# The Canary of Flagger's older guide (SMI and Istio), word for word but for its name.
OLD_GUIDE: dict[str, Any] = {
    "apiVersion": "flagger.app/v1alpha3",
    "kind": "Canary",
    "metadata": {"name": "old-guide"},
    "spec": {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
        "progressDeadlineSeconds": 60,
        "autoscalerRef": {"apiVersion": "autoscaling/v2beta1", "kind": "HorizontalPodAutoscaler", "name": "podinfo"},
        "service": {
            "port": 9898,
            "gateways": ["public-gateway.istio-system.svc.cluster.local"],
            "hosts": ["app.example.com"],
        },
        "canaryAnalysis": {
            "interval": "10s",
            "threshold": 5,
            "maxWeight": 50,
            "stepWeight": 10,
            "metrics": [
                {"name": "request-success-rate", "threshold": 99, "interval": "1m"},
                {"name": "request-duration", "threshold": 500, "interval": "30s"},
            ],
            "webhooks": [
                {
                    "name": "load-test",
                    "url": "http://flagger-loadtester.test/",
                    "timeout": "5s",
                    "metadata": {"cmd": "hey -z 1m -q 10 -c 2 http://podinfo.test:9898/"},
                }
            ],
        },
    },
}


def test_both_versions_of_a_canary_have_one_schema_so_that_the_api_server_converts_by_name():
    new, old = OURS["canaries.flagger.app"]["spec"]["versions"]
    assert (new["name"], new["storage"], old["name"], old["storage"]) == ("v1beta1", True, "v1alpha3", False)
    assert {**new, "name": "", "storage": None} == {**old, "name": "", "storage": None}


async def test_the_canary_of_the_old_guide_is_taken_at_its_word_and_read_back_in_both_versions(api_hub, namespace):
    where = await namespace("api", on=[api_hub])
    path = f"/apis/flagger.app/{{}}/namespaces/{where}/canaries"
    strict = {"fieldValidation": "Strict"}
    await api_hub.api.request("POST", path.format("v1alpha3"), OLD_GUIDE, params=strict)
    for version in ("v1beta1", "v1alpha3"):
        stored = await api_hub.api.get(f"{path.format(version)}/old-guide")
        assert stored["apiVersion"] == f"flagger.app/{version}"
        assert stored["spec"] == OLD_GUIDE["spec"]
        assert Canary.model_validate(stored).spec.dump() == OLD_GUIDE["spec"]


async def test_a_canary_says_how_it_is_judged_under_either_name(dry_run, refusal):
    analysis = OLD_GUIDE["spec"]["canaryAnalysis"]
    bare = {name: value for name, value in OLD_GUIDE["spec"].items() if name != "canaryAnalysis"}
    for version in ("v1beta1", "v1alpha3"):
        canary = {**OLD_GUIDE, "apiVersion": f"flagger.app/{version}"}
        for name in ("analysis", "canaryAnalysis"):
            spec = {**bare, name: analysis}
            assert (await dry_run({**canary, "spec": spec}))["spec"] == spec
        causes = await refusal({**canary, "spec": bare})
        assert [(field, "set analysis: how a new version" in text) for field, text in causes] == [
            ("spec.analysis", True)
        ]
