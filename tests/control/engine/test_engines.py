"""What a Fleet says about its engine and cannot be meant: the Fleet's reader is told, the rest of it counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fleet_rollout.control.engine.engines import Engines
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
        self.fleet = Fleet.model_validate(
            {
                "metadata": {"name": "fleet", "namespace": "apps", "uid": "1", "generation": generation},
                "spec": {
                    "clusters": [{"kind": "AttachedCluster", "name": "m2"}],
                    "rolloutEngine": {"allowedAddresses": list(allowed)},
                },
            }
        )

    def all(self, *_: str) -> list[Any]:
        return [self.fleet]

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
