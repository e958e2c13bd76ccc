"""Which Pods are behind a Service's port, read from its EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fleet_rollout.decide.canary.addresses import NotReached


class Endpoint(NamedTuple):
    """A Pod of the Service's namespace, and the port that it listens on."""

    pod: str
    port: int


def ready_endpoints(service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]], port: int) -> list[Endpoint]:
    """Those that may get a request to the Service's `port`, in a fixed order; NotReached where there are none."""
    metadata = service["metadata"]
    name = f"Service {metadata['namespace']}/{metadata['name']}"
    ports = [
        found for found in (service.get("spec") or {}).get("ports") or [] if found["port"] == port and _is_tcp(found)
    ]
    if not ports:
        raise NotReached(f"{name} has no port {port}")
    # Both kinds of object leave out the name of an only port.
    called = ports[0].get("name") or ""
    # A Pod with two kinds of addresses is in two slices.
    found = {endpoint for each in slices for endpoint in _of_slice(each, called, metadata["namespace"])}
    if not found:
        raise NotReached(f"{name} has no ready endpoint on port {port}")
    return sorted(found)


def _of_slice(slice_: Mapping[str, Any], called: str, namespace: str) -> Iterator[Endpoint]:
    numbers = [
        found["port"]
        for found in slice_.get("ports") or []
        if (found.get("name") or "") == called and _is_tcp(found) and found.get("port")
    ]
    for endpoint in slice_.get("endpoints") or []:
        target = endpoint.get("targetRef") or {}
        # A Pod of another namespace would be one that the Service cannot select.
        is_ours = target.get("kind") == "Pod" and target.get("namespace") == namespace
        if is_ours and (endpoint.get("conditions") or {}).get("ready") is not False:
            yield from (Endpoint(target["name"], number) for number in numbers)


def _is_tcp(port: Mapping[str, Any]) -> bool:
    return port.get("protocol") in (None, "TCP")
