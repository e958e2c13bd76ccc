"""Class 8 of trust.md 2 for the source and the destination: there and back is as fresh, also after a bad spec."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml

from tests.stories.conftest import config_map
from tests.stories.scenario import GENERATIONS, VOLATILE, differences, without

Object = dict[str, Any]
DEADLINE = 180.0
SCHEMA = Path(__file__).parents[2] / "config" / "crd" / "apps.kurator.dev_applications.yaml"
BAD = {"ref": {"branch": "nowhere"}}
GOLD = {"matchLabels": {"tier": "gold"}}
# Two values of each field of a Git source, None to leave it out; None alone where another test has the field.
SOURCE: dict[str, tuple[Any, Any] | None] = {
    "url": ("FIRST", "OTHER"),
    "interval": ("1h", "2h"),
    "timeout": ("60s", "30s"),
    "ref": ({"branch": "main"}, {"commit": "COMMIT"}),
    "secretRef": (None, {"name": "login"}),
    "ignore": (None, "two.yaml\n"),
    "suspend": (False, True),
    "gitImplementation": ("go-git", "libgit2"),
    "accessFrom": (None, {"namespaceSelectors": [GOLD]}),
    "include": None,  # not supported: tests/rooms/sources/test_reconcile.py
    "recurseSubmodules": None,
    "verify": None,
}
DESTINATION = {
    "fleet": ("fleet", "gold"),
    "clusterSelector": (None, GOLD),
}
# Fields that say how and when something is fetched, or who may: what was fetched stays the same.
UNSEEN = {"interval", "timeout", "secretRef", "gitImplementation", "accessFrom", "suspend"}


def properties(*path: str) -> set[str]:
    """The fields below a path of the Application's spec, from the CRD."""
    (version,) = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"]
    found = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for name in path:
        found = found["properties"][name]
    return set(found["properties"])


def test_class_8_every_field_of_the_crd_has_a_transition() -> None:
    assert properties("source", "gitRepository") == SOURCE.keys()
    assert properties("destination") == DESTINATION.keys()


async def test_class_8_there_and_back_is_as_fresh(story: Any) -> None:
    """S1 -> S2 -> bad -> S1 = S1, in two members, for source, destination, and the name of a policy."""
    repository = await story.git_repo({"one.yaml": config_map("one", step="1")})
    before = await repository.commit_of()
    await repository.commit({"two.yaml": config_map("two", step="2")})
    other = await story.git_repo({"one.yaml": config_map("one", step="other")})
    login = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}}
    await story.apply({**login, "stringData": {"username": "u", "password": "p"}})
    await story.fleet("m2", "m3", labels={"m3": {"tier": "gold"}})
    await story.set_fleet(["m3"], name="gold")
    await story.start(status_interval=0.1)
    places = {"FIRST": repository.url, "OTHER": other.url, "COMMIT": before}

    def application(name: str, changes: Object) -> Object:
        git = {"url": repository.url, "interval": "1h", "ref": {"branch": "main"}}
        policy = changes.pop("policy", "one")
        kustomization = {"interval": "1h", "path": "./", "prune": True}
        kustomization |= {"targetNamespace": story.namespace, "namePrefix": f"{name}-"}
        destination = {"fleet": "fleet", **changes.pop("destination", {})}
        return {
            "apiVersion": "apps.kurator.dev/v1alpha1",
            "kind": "Application",
            "metadata": {"name": name, "namespace": story.namespace},
            "spec": {
                "source": {"gitRepository": present(placed({**git, **changes}, places))},
                "syncPolicies": [{"name": f"{name}-{policy}", "kustomization": kustomization}],
                "destination": present(destination),
            },
        }

    async def one(name: str, first: Object, second: Object) -> str | None:
        pictures = []
        for changes, ready in ((first, "True"), (second, "True"), (BAD, "False"), (first, "True")):
            await story.hub.api.apply(
                story.path("applications", name), application(name, dict(changes)), manager="story"
            )
            await story.condition("Ready", ready, name=name, timeout=DEADLINE)
            pictures.append(await seen(story, name))
        if pictures[0] == pictures[1] and not second.keys() <= UNSEEN:
            return f"{first} -> {second} changes nothing"
        left = differences(pictures[0], pictures[-1])
        return f"{first} -> {second}: {left}" if left else None

    pairs = [({field: pair[0]}, {field: pair[1]}) for field, pair in SOURCE.items() if pair is not None]
    pairs += [({"destination": {field: a}}, {"destination": {field: b}}) for field, (a, b) in DESTINATION.items()]
    pairs += [({"policy": "one"}, {"policy": "two"})]
    found = await asyncio.gather(*(one(f"t{number}", *pair) for number, pair in enumerate(pairs)))
    assert not any(found), "\n".join(filter(None, found))


def placed(values: Object, places: dict[str, str]) -> Object:
    """The values with what only a run knows."""
    text = yaml.safe_dump(values)
    for name, stands_for in places.items():
        text = text.replace(name, stands_for)
    found: Object = yaml.safe_load(text)
    return found


def present(values: Object) -> Object:
    return {field: value for field, value in values.items() if value is not None}


async def seen(story: Any, name: str) -> Object:
    """What an Application has in the members, its ClusterSyncs, and its status, without what differs each time."""
    found: Object = {}
    for member in ("m2", "m3"):
        for obj in await story.members[member].api.items(f"/api/v1/namespaces/{story.namespace}/configmaps"):
            if obj["metadata"].get("labels", {}).get("apps.kurator.dev/app-name") == name:
                found[f"{member} {obj['metadata']['name']}"] = without(obj, VOLATILE | GENERATIONS)
    for sync in await story.hub.api.items(story.path("clustersyncs")):
        if sync["spec"]["application"] == name:
            said = {"spec": sync["spec"], "inventory": sync["status"]["inventory"]}
            found[sync["metadata"]["name"]] = without(said, VOLATILE)
    status = (await story.read(name))["status"]
    return found | {"status": without(status, VOLATILE | GENERATIONS)}
