"""Which Pods get a call to a Service's port."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.addresses import NotReached
from fleet_rollout.decide.canary.endpoints import Endpoint, ready_endpoints

SERVICE = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
            {"name": "metrics", "port": 9090},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]
    },
}
PORTS = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 9797}]


def endpoint(name, *, kind="Pod", namespace="shop", **conditions):
    target = {"kind": kind, "name": name, "namespace": namespace}
    return {"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": target}


def slice_of(*endpoints, ports=PORTS):
    return {"ports": ports, "endpoints": list(endpoints)}


def test_the_port_is_found_by_its_name():
    slices = [slice_of(endpoint("web-1", ready=True))]
    assert ready_endpoints(SERVICE, slices, 80) == [Endpoint("web-1", 8080)]
    assert ready_endpoints(SERVICE, slices, 9090) == [Endpoint("web-1", 9797)]


@pytest.mark.parametrize("named", [{}, {"name": ""}, {"name": None}])
def test_the_name_of_an_only_port_may_be_left_out(named):
    service = {"metadata": SERVICE["metadata"], "spec": {"ports": [{"port": 80}]}}
    slices = [slice_of(endpoint("web-1"), ports=[{"port": 8080, **named}])]
    assert ready_endpoints(service, slices, 80) == [Endpoint("web-1", 8080)]


def test_each_version_of_a_pod_template_has_its_own_number():
    old = slice_of(endpoint("old-1"), ports=[{"name": "http", "port": 80}])
    new = slice_of(endpoint("new-1"), ports=[{"name": "http", "port": 8080}])
    assert ready_endpoints(SERVICE, [old, new], 80) == [Endpoint("new-1", 8080), Endpoint("old-1", 80)]


def test_a_pod_with_two_kinds_of_addresses_counts_once():
    assert ready_endpoints(SERVICE, [slice_of(endpoint("web-1"))] * 2, 80) == [Endpoint("web-1", 8080)]


def test_ready_is_what_is_not_said_to_be_unready():
    found = slice_of(endpoint("a", ready=None), endpoint("b", ready=False), endpoint("c"), endpoint("d", ready=True))
    assert [pod for pod, _ in ready_endpoints(SERVICE, [found], 80)] == ["a", "c", "d"]


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [{}],
        [slice_of(endpoint("web-1", ready=False))],
        [slice_of(endpoint("web-1"), ports=[{"name": "other", "port": 8080}])],
        [slice_of(endpoint("web-1"), ports=[{"name": "http", "port": 8080, "protocol": "UDP"}])],
        [slice_of(endpoint("web-1"), ports=[{"name": "http"}])],
        [slice_of(endpoint("web-1", kind="Node"))],
        [slice_of({"addresses": ["10.0.0.1"]})],
    ],
    ids=["none", "empty", "unready", "another port", "UDP", "every port", "no Pod", "no target"],
)
def test_without_a_ready_pod_there_is_no_endpoint(slices):
    with pytest.raises(NotReached, match=r"^Service shop/web has no ready endpoint on port 80$"):
        ready_endpoints(SERVICE, slices, 80)


def test_a_pod_of_another_namespace_is_never_one():
    with pytest.raises(NotReached):
        ready_endpoints(SERVICE, [slice_of(endpoint("web-1", namespace="bank"))], 80)


@pytest.mark.parametrize("service", [SERVICE, {"metadata": SERVICE["metadata"]}])
@pytest.mark.parametrize("port", [53, 81])
def test_a_port_that_the_service_has_not_is_named(service, port):
    with pytest.raises(NotReached, match=rf"^Service shop/web has no port {port}$"):
        ready_endpoints(service, [slice_of(endpoint("web-1"))], port)
