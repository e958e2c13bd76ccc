"""From a member's Services, Pods and VirtualServices to Envoy's resources, as plain values.

Answers who gets a request for a host. Pure: what is read from the API server comes in, what Envoy
is to be told comes out. One Envoy stands for gateway and sidecars alike, so every VirtualService
holds for every request, whatever its `gateways` say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.lab.pods import LOCAL_PORTS
from fleet_rollout.lab.traffic_routes import Backend, Destinations, routes_of

Object = dict[str, Any]
Key = tuple[str, str]

# Istio calls a destination without endpoints that; Flagger's queries then count it for no workload.
UNKNOWN = "unknown/unknown"


@dataclass(frozen=True)
class Snapshot:
    """What one member holds, by (namespace, name)."""

    services: Mapping[Key, Object] = field(default_factory=dict)
    pods: Mapping[Key, Object] = field(default_factory=dict)
    virtual_services: Mapping[Key, Object] = field(default_factory=dict)


@dataclass(frozen=True)
class Mesh:
    """What Envoy is told: virtual hosts in its own JSON, and for every workload the loopback ports of its Pods."""

    hosts: list[Object]
    endpoints: dict[str, tuple[int, ...]]


def mesh_of(snapshot: Snapshot) -> Mesh:
    """The routes and endpoints that the member's objects ask for."""
    endpoints: dict[str, set[int]] = {}
    for service in snapshot.services.values():
        for workload, ports in workloads_of(service, snapshot.pods).items():
            endpoints.setdefault(workload, set()).update(ports)
    return Mesh(_virtual_hosts(snapshot), {name: tuple(sorted(found)) for name, found in endpoints.items()})


def workloads_of(service: Object, pods: Mapping[Key, Object], port: int = 0) -> dict[str, list[int]]:
    """The workloads behind a Service: ready Pods, else those that still serve while they terminate.

    The second half is what kube-proxy does, and keeps the last requests of a workload that is on
    its way out alive until the routes have followed.
    """
    selector = service.get("spec", {}).get("selector")
    ports = service.get("spec", {}).get("ports") or []
    if not selector or not ports:
        return {}
    wanted = next((p for p in ports if p["port"] == port), ports[0])
    selected = [pod for pod in _pods_in(_key(service)[0], pods) if _matches(selector, pod)]
    serving = [pod for pod in selected if _is_ready(pod) and not _is_terminating(pod)]
    found: dict[str, list[int]] = {}
    for pod in serving or [pod for pod in selected if _is_terminating(pod)]:
        local = _local_port(_target_port(wanted, pod), pod)
        if local is not None:
            found.setdefault(workload_of(pod), []).append(local)
    return found


def workload_of(pod: Object) -> str:
    """`<namespace>/<workload>`: the Deployment behind a Pod's ReplicaSet, else its owner, else itself."""
    metadata = pod["metadata"]
    owner = next((o for o in metadata.get("ownerReferences", []) if o.get("controller")), None)
    name = str(owner["name"] if owner else metadata["name"])
    if owner and owner["kind"] == "ReplicaSet":
        name = name.removesuffix("-" + metadata.get("labels", {}).get("pod-template-hash", ""))
    return f"{metadata['namespace']}/{name}"


def _virtual_hosts(snapshot: Snapshot) -> list[Object]:
    """VirtualServices, the oldest first, then plain Services; a domain belongs to the first who names it."""
    hosts: list[Object] = []
    taken: set[str] = set()
    for name, domains, routes in [*_routed_hosts(snapshot), *_service_hosts(snapshot)]:
        free = [domain for domain in dict.fromkeys(domains) if domain not in taken]
        taken.update(free)
        if free:
            hosts.append({"name": name, "domains": free, "routes": routes})
    return hosts


def _routed_hosts(snapshot: Snapshot) -> Iterator[tuple[str, list[str], list[Object]]]:
    def age(item: Object) -> tuple[str, Key]:
        return item["metadata"].get("creationTimestamp", ""), _key(item)

    namespaces = {namespace for namespace, _ in snapshot.services}
    for item in sorted(snapshot.virtual_services.values(), key=age):
        namespace, name = _key(item)
        spec = item.get("spec", {})
        domains = [d for host in spec.get("hosts", []) for d in _domains(host, namespace, namespaces)]
        routes = routes_of(spec.get("http", []), _resolver(snapshot, namespace))
        yield f"virtualservice/{namespace}/{name}", domains, routes


def _service_hosts(snapshot: Snapshot) -> Iterator[tuple[str, list[str], list[Object]]]:
    for namespace, name in sorted(snapshot.services):
        rule = {"route": [{"destination": {"host": name}}]}
        routes = routes_of([rule], _resolver(snapshot, namespace))
        yield f"service/{namespace}/{name}", _domains(name, namespace, {namespace}), routes


def _resolver(snapshot: Snapshot, namespace: str) -> Destinations:
    """How a route in `namespace` finds the workloads of a destination, with their share of its Pods."""

    def resolve(host: str, port: int) -> list[Backend]:
        key = _service_key(host, namespace, snapshot.services)
        found = workloads_of(snapshot.services[key], snapshot.pods, port) if key else {}
        return [Backend(name, len(ports)) for name, ports in sorted(found.items())] or [Backend(UNKNOWN, 1)]

    return resolve


def _service_key(host: str, namespace: str, services: Mapping[Key, Object]) -> Key | None:
    name, _, rest = host.partition(".")
    key = (rest.partition(".")[0] or namespace, name)
    return key if key in services else None


def _domains(host: str, namespace: str, namespaces: set[str]) -> list[str]:
    """The names under which clients ask for `host`: a Service's short, qualified and full ones."""
    name, _, rest = host.partition(".")
    if "*" in host or (rest and rest.partition(".")[0] not in namespaces):
        return [host]
    qualified = f"{name}.{rest.partition('.')[0] or namespace}"
    return [host, qualified, f"{qualified}.svc", f"{qualified}.svc.cluster.local"]


def _pods_in(namespace: str, pods: Mapping[Key, Object]) -> Iterator[Object]:
    for (home, _), pod in sorted(pods.items()):
        if home == namespace and pod.get("status", {}).get("podIP"):
            yield pod


def _matches(selector: Mapping[str, str], pod: Object) -> bool:
    labels = pod["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in selector.items())


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _is_terminating(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _target_port(port: Object, pod: Object) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    named = (p for c in pod["spec"]["containers"] for p in c.get("ports", []) if p.get("name") == target)
    return next((int(p["containerPort"]) for p in named), None)


def _local_port(number: int | None, pod: Object) -> int | None:
    """Where the process behind a Pod's port listens; the player of Pods writes it on the Pod."""
    ports: dict[str, int] = json.loads(pod["metadata"].get("annotations", {}).get(LOCAL_PORTS, "{}"))
    return ports.get(str(number))


def _key(item: Object) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]
