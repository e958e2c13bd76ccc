"""The ports of the generated Services: the Canary's own, and those that containers declare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Object
from fleet_rollout.decide.canary.subject import Subject

# Their ports belong to the mesh.
SIDECARS = frozenset({"istio-proxy", "envoy"})


def discovered(service: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]) -> tuple[Object, ...]:
    """The containers' ports as Service ports, without the one that `spec.service` names already.

    A port without a name is called after its container and its place there; of two with one name the later stays.
    """
    ports: dict[str, Object] = {}
    for container in containers:
        if container["name"] in SIDECARS:
            continue
        for index, port in enumerate(container.get("ports") or ()):
            if not _is_main(port, service):
                name = port.get("name") or f"tcp-{container['name']}-{index}"
                ports[name] = _tcp(name, port["containerPort"], port["containerPort"])
    return tuple(ports.values())


def service_ports(subject: Subject) -> list[Object]:
    """Every port of a generated Service, the main one first."""
    service = subject.service
    main = _tcp(service.get("portName") or "http", subject.port, target_port(service) or subject.port)
    if service.get("appProtocol"):
        main["appProtocol"] = service["appProtocol"]
    return [main, *(dict(port) for port in subject.ports)]


def target_port(service: Mapping[str, Any]) -> int | str | None:
    """The container port (number or name) that `spec.service` names; None where it leaves that to `port`."""
    named: int | str | None = service.get("targetPort")
    return None if named in (None, "", 0, "0") else named


def _is_main(port: Mapping[str, Any], service: Mapping[str, Any]) -> bool:
    named = target_port(service)
    if isinstance(named, str):
        return bool(port.get("name") == named)
    return bool(port["containerPort"] == (named or service.get("port")))


def _tcp(name: str, port: int, target: int | str) -> Object:
    return {"name": name, "protocol": "TCP", "port": port, "targetPort": target}
