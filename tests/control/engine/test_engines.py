"""What a Fleet says about its engine: heard at once, and forgotten when it is not said any more.

What cannot be meant is told to the Fleet's reader; the rest of it counts.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from fleet_rollout.control.engine.engines import Engines
from fleet_rollout.decide.engines import engine_of
from fleet_rollout.decide.placement import HOST
from fleet_rollout.settings import Settings
from fleet_rollout_api.cluster_sync import ClusterReference
from fleet_rollout_api.fleet import Fleet

SCOPE = ("apps", ClusterReference(kind="AttachedCluster", name="m2"))


class Recorded:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def warning(self, obj: dict[str, Any], reason: str, message: str) -> None:
        self.told.append((f"{obj['kind']} {obj['metadata']['namespace']}/{obj['metadata']['name']}", reason, message))


class OneFleet:
    """A hub that knows of one Fleet."""

    def __init__(self, *allowed: str, generation: int = 1) -> None:
        self.is_gone = False
        self.say({"allowedAddresses": list(allowed)}, generation)

    def say(self, engine: dict[str, Any], generation: int = 1) -> None:
        """The Fleet is edited."""
        metadata = {"name": "fleet", "namespace": "apps", "uid": "1", "generation": generation}
        clusters = [{"kind": "AttachedCluster", "name": "m2"}]
        self.fleet = Fleet.model_validate(
            {"metadata": metadata, "spec": {"clusters": clusters, "rolloutEngine": engine}}
        )

    def all(self, *_: str) -> list[Any]:
        return [] if self.is_gone else [self.fleet]

    def model(self, _: str, obj: Any, __: type) -> Any:
        return obj


async def test_an_allowed_address_that_cannot_be_read_is_told_once_on_the_fleet() -> None:
    recorder, store = Recorded(), OneFleet("vault.secrets:8200", "0x7f.1", "monitoring")
    engines = Engines(SimpleNamespace(settings=Settings(), store=store, recorder=recorder))  # type: ignore[arg-type]
    for _ in range(2):
        reach = engines._of(SCOPE).reach
        assert reach.names_service("vault", "secrets", 8200)
        assert reach.namespaces == {"monitoring"}
    message = (
        "spec.rolloutEngine: allowed address '0x7f.1': host 0x7f.1 is a number that is no plain IPv4 address; "
        "write four decimal parts; write a namespace, service.namespace, an address, a range or a host"
    )
    assert recorder.told == [("Fleet apps/fleet", "AddressInvalid", message)]
    store.fleet = OneFleet("0x7f.1", generation=2).fleet
    engines._of(SCOPE)
    assert len(recorder.told) == 2


SCHEMA = Path(__file__).parents[3] / "config" / "crd" / "fleet.kurator.dev_fleets.yaml"
# What each field of a Fleet's engine may say; its default is what is said before and afterwards.
SAID: dict[str, Any] = {
    "mode": "Agent",
    "meshProvider": "linkerd",
    "metricsServer": "http://prometheus.monitoring:9090",
    "eventWebhook": "http://events.example.com/",
    "alerts": {"type": "slack", "address": "https://chat.example.com/x"},
    "selectorLabels": ["run"],
    "includeLabelPrefix": ["team/"],
    "ingressClass": "contour",
    "clusterName": "paris",
    "plainCanaries": "Adopt",
    "allowedAddresses": ["monitoring"],
    "smiAdapter": True,
}


def test_class_8_every_field_of_an_engine_has_a_transition() -> None:
    (version,) = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["rolloutEngine"]["properties"].keys() == SAID.keys()


def heard(engines: Engines) -> tuple[Any, ...]:
    """All that the engine of the member takes from its Fleet."""
    said, default = engines._of(SCOPE), engines._default(SCOPE)
    alerts = default and default.severity
    adapts = said.settings.smi_adapter
    return engine_of(said.fleet), said.options, said.reach, engines.adopts_plain(SCOPE), adapts, alerts


@pytest.mark.parametrize("field", SAID)
def test_class_8_what_a_fleet_says_of_its_engine_is_heard_and_forgotten(field: str) -> None:
    """S1 -> S2 -> bad -> S1 = S1 for each field."""
    store = OneFleet()
    world = SimpleNamespace(settings=Settings(), store=store, recorder=Recorded(), hub=None)
    engines = Engines(world)  # type: ignore[arg-type]
    found = []
    for engine in ({}, {field: SAID[field]}, {field: SAID[field], "allowedAddresses": ["0x7f.1"]}, {}):
        store.say(engine)
        found.append(heard(engines))
    assert found[1] != found[0], "it says nothing"
    assert found[3] == found[0], "something is left of it"


@pytest.mark.parametrize("field", sorted(SAID.keys() - {"plainCanaries"}))
def test_what_a_fleet_has_said_counts_while_it_is_made_anew(field: str) -> None:
    """An analysis in its midst goes on as it was, until another Fleet says otherwise or nobody looks any more."""
    store = OneFleet()
    world = SimpleNamespace(settings=Settings(), store=store, recorder=Recorded(), hub=None)
    engines = Engines(world)  # type: ignore[arg-type]
    store.say({field: SAID[field]})
    before = heard(engines)
    store.is_gone = True
    assert heard(engines) == before
    store.is_gone = False
    store.say({})
    assert heard(engines) != before
    store.is_gone = True
    engines.leave(SCOPE)
    assert engines._of(SCOPE).fleet is None


def test_plain_canaries_are_not_taken_up_for_a_fleet_that_is_gone() -> None:
    """Or those of a member that has left its Fleet would be driven for ever."""
    store = OneFleet()
    store.say({"plainCanaries": "Adopt"})
    world = SimpleNamespace(settings=Settings(), store=store, recorder=Recorded(), hub=None)
    engines = Engines(world)  # type: ignore[arg-type]
    assert engines.adopts_plain(SCOPE)
    store.is_gone = True
    assert not engines.adopts_plain(SCOPE)


def test_defaults_are_meant_on_the_hub_and_by_a_fleet_that_says_nothing() -> None:
    """Not after a restart without the Fleet: what it had said is not known."""
    store = OneFleet()
    world = SimpleNamespace(settings=Settings(), store=store, recorder=Recorded(), hub=None)
    store.is_gone = True
    engines = Engines(world)  # type: ignore[arg-type]
    assert not engines._of(SCOPE).options.are_known
    assert engines._of(("apps", HOST)).options.are_known
    store.is_gone = False
    assert engines._of(SCOPE).options.are_known
    store.is_gone = True
    assert engines._of(SCOPE).options.are_known
