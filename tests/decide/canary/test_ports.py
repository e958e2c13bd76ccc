"""Reference 3.4: the ports of the generated Services."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.ports import discovered, service_ports
from fleet_rollout.decide.canary.subject import Subject
from tests.decide.canary.workloads import canary


def tcp(name, port, target=None, **fields):
    return {"name": name, "protocol": "TCP", "port": port, "targetPort": target or port, **fields}


def container(name, *ports):
    return {"name": name, "ports": [{"containerPort": port, "protocol": "TCP", **more} for port, more in ports]}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([container("web", (8080, {}))], [tcp("tcp-web-0", 8080)]),
        ([container("web", (9898, {}), (9797, {}))], [tcp("tcp-web-1", 9797)]),
        ([container("web", (9999, {"name": "grpc"}))], [tcp("grpc", 9999)]),
        ([container("web", (5353, {"protocol": "UDP"}))], [tcp("tcp-web-0", 5353)]),
        ([container("istio-proxy", (15090, {})), container("envoy", (9901, {}))], []),
        ([container("a", (1, {})), container("b", (2, {}))], [tcp("tcp-a-0", 1), tcp("tcp-b-0", 2)]),
        ([container("a", (1, {"name": "x"})), container("b", (2, {"name": "x"}))], [tcp("x", 2)]),
        ([{"name": "web"}], []),
    ],
)
def test_every_container_port_but_the_main_one_and_the_meshs(containers, expected):
    assert discovered({"port": 9898}, containers) == tuple(expected)


@pytest.mark.parametrize(
    ("service", "left_out"),
    [
        ({"port": 80}, 80),
        ({"port": 80, "targetPort": 0}, 80),
        ({"port": 80, "targetPort": "0"}, 80),
        ({"port": 80, "targetPort": ""}, 80),
        ({"port": 80, "targetPort": 8080}, 8080),
        ({"port": 80, "targetPort": "web"}, 9090),
    ],
)
def test_the_main_port_is_found_by_number_or_name(service, left_out):
    containers = [container("c", (80, {}), (8080, {}), (9090, {"name": "web"}))]
    assert {80, 8080, 9090} - {port["port"] for port in discovered(service, containers)} == {left_out}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({}, tcp("http", 9898)),
        ({"portName": "grpc", "targetPort": "web"}, tcp("grpc", 9898, "web")),
        ({"targetPort": 8080, "appProtocol": "h2c"}, tcp("http", 9898, 8080, appProtocol="h2c")),
        ({"targetPort": 0, "portName": "", "appProtocol": ""}, tcp("http", 9898)),
    ],
)
def test_the_main_port_comes_first(service, expected):
    more = tcp("admin", 9797)
    found = service_ports(Subject(canary(service=service), ports=(more,)))
    assert found == [expected, more]
    assert found[1] is not more
