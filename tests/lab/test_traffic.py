"""Who gets a request, by the objects of a member: pure, without Envoy."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.lab.pods import LOCAL_PORTS
from fleet_rollout.lab.traffic import UNKNOWN, Snapshot, mesh_of, workload_of
from fleet_rollout.lab.traffic_routes import Backend, routes_of


def pod(workload, number, *, ready=True, terminating=False, namespace="webapp", label=None):
    metadata = {
        "name": f"{workload}-abc12-{number}",
        "namespace": namespace,
        "labels": {"app": label or workload, "pod-template-hash": "abc12"},
        "annotations": {LOCAL_PORTS: json.dumps({"9898": 20000 + number})},
        "ownerReferences": [{"kind": "ReplicaSet", "name": f"{workload}-abc12", "controller": True}],
    }
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = {"podIP": f"10.1.0.{number}", "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {
        "metadata": metadata,
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 9898}]}]},
        "status": status,
    }


def service(name, app, *, target="http", namespace="webapp"):
    ports = [{"port": 80, "targetPort": target}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"selector": {"app": app}, "ports": ports}}


def virtual_service(name, hosts, http, created="2026-01-01T00:00:00Z"):
    metadata = {"name": name, "namespace": "webapp", "creationTimestamp": created}
    return {"metadata": metadata, "spec": {"hosts": hosts, "http": http}}


def snapshot(*objects):
    kinds = {"services": {}, "pods": {}, "virtual_services": {}}
    for item in objects:
        kind = "pods" if "status" in item else "services" if "selector" in item["spec"] else "virtual_services"
        kinds[kind][item["metadata"]["namespace"], item["metadata"]["name"]] = item
    return Snapshot(**kinds)


def weights(mesh, domain):
    host = next(host for host in mesh.hosts if domain in host["domains"])
    clusters = host["routes"][-1]["route"]["weighted_clusters"]["clusters"]
    return {cluster["name"]: cluster["weight"] for cluster in clusters}


SPLIT = [
    {
        "route": [
            {"destination": {"host": "backend-primary"}, "weight": 90},
            {"destination": {"host": "backend-canary"}, "weight": 10},
        ]
    }
]
SERVICES = [
    service("backend", "backend-primary"),
    service("backend-primary", "backend-primary"),
    service("backend-canary", "backend"),
]


def test_a_service_leads_to_the_workloads_it_selects():
    mesh = mesh_of(snapshot(service("backend", "backend"), pod("backend", 1), pod("backend", 2)))
    assert mesh.endpoints == {"webapp/backend": (20001, 20002)}
    assert set(weights(mesh, "backend.webapp")) == {"webapp/backend"}
    assert set(weights(mesh, "backend.webapp.svc.cluster.local")) == {"webapp/backend"}


def test_a_service_over_two_workloads_is_divided_by_their_pods():
    pods = [pod("old", 1, label="x"), pod("old", 2, label="x"), pod("old", 3, label="x"), pod("new", 4, label="x")]
    found = weights(mesh_of(snapshot(service("s", "x"), *pods)), "s.webapp")
    assert found["webapp/old"] == 3 * found["webapp/new"]


def test_the_weights_of_a_virtual_service_win_over_the_service_of_the_same_name():
    pods = [pod("backend-primary", 1), pod("backend", 2)]
    mesh = mesh_of(snapshot(*SERVICES, *pods, virtual_service("backend", ["app.example.com", "backend"], SPLIT)))
    for domain in ("app.example.com", "backend", "backend.webapp"):
        found = weights(mesh, domain)
        assert found["webapp/backend-primary"] == 9 * found["webapp/backend"]
    assert set(weights(mesh, "backend-canary.webapp")) == {"webapp/backend"}


def test_no_domain_is_given_twice_and_the_oldest_claim_wins():
    younger = virtual_service("younger", ["app.example.com", "b.example.com"], [], created="2026-02-01T00:00:00Z")
    mesh = mesh_of(snapshot(*SERVICES, younger, virtual_service("older", ["app.example.com"], [])))
    domains = [domain for host in mesh.hosts for domain in host["domains"]]
    assert len(domains) == len(set(domains))
    owner = next(host["name"] for host in mesh.hosts if "app.example.com" in host["domains"])
    assert owner == "virtualservice/webapp/older"


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([pod("backend", 1), pod("backend", 2, ready=False)], {1}),
        ([pod("backend", 1), pod("backend", 2, terminating=True)], {1}),
        ([pod("backend", 1, ready=False), pod("backend", 2, terminating=True)], {2}),
        ([pod("backend", 1, terminating=True)], {1}),
        ([pod("backend", 1, ready=False)], set()),
    ],
)
def test_ready_pods_serve_and_terminating_ones_where_there_is_no_other(pods, expected):
    endpoints = mesh_of(snapshot(service("backend", "backend"), *pods)).endpoints.get("webapp/backend", ())
    assert {port - 20000 for port in endpoints} == expected


def test_a_pod_without_a_process_gets_no_request():
    silent = pod("backend", 1)
    del silent["metadata"]["annotations"]
    mesh = mesh_of(snapshot(service("backend", "backend"), silent, pod("backend", 2)))
    assert mesh.endpoints == {"webapp/backend": (20002,)}


def test_a_destination_without_pods_is_unknown_and_not_the_workload():
    mesh = mesh_of(snapshot(*SERVICES, virtual_service("backend", ["backend"], SPLIT)))
    assert set(weights(mesh, "backend.webapp")) == {UNKNOWN}


def test_the_workload_behind_a_pod():
    assert workload_of(pod("backend-primary", 1)) == "webapp/backend-primary"
    daemon = pod("agent", 1)
    daemon["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "agent", "controller": True}]
    assert workload_of(daemon) == "webapp/agent"
    bare = pod("bare", 1)
    del bare["metadata"]["ownerReferences"]
    assert workload_of(bare) == "webapp/bare-abc12-1"


def itself(host, port):
    return [Backend(host, 1)]


def test_a_sole_destination_gets_everything_whatever_its_weight():
    (route,) = routes_of([{"route": [{"destination": {"host": "a"}, "weight": 0}]}], itself)
    (cluster,) = route["route"]["weighted_clusters"]["clusters"]
    assert cluster["weight"] > 0


def test_each_alternative_of_a_match_is_a_route_of_its_own():
    match = [{"headers": {"Cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}}, {"uri": {"prefix": "/v2"}}]
    first, second = routes_of([{"match": match, "route": [{"destination": {"host": "a"}}]}], itself)
    regex = {"safe_regex": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}
    assert first["match"] == {"prefix": "/", "headers": [{"name": "cookie", "string_match": regex}]}
    assert second["match"] == {"prefix": "/v2"}


@pytest.mark.parametrize(("timeout", "expected"), [(None, "0.000s"), ("60s", "60.000s"), ("1m30.5s", "90.500s")])
def test_time_outs_are_those_of_the_rule(timeout, expected):
    rule = {"route": [{"destination": {"host": "a"}}]} | ({"timeout": timeout} if timeout else {})
    assert routes_of([rule], itself)[0]["route"]["timeout"] == expected


def test_errors_are_never_retried_unless_the_rule_says_so():
    rule = {"route": [{"destination": {"host": "a"}}]}
    assert "5xx" not in routes_of([rule], itself)[0]["route"]["retry_policy"]["retry_on"]
    asked = rule | {"retries": {"attempts": 5, "perTryTimeout": "2s", "retryOn": "5xx"}}
    policy = routes_of([asked], itself)[0]["route"]["retry_policy"]
    assert (policy["num_retries"], policy["per_try_timeout"]) == (5, "2.000s")
    assert policy["retry_on"].endswith(",5xx")
