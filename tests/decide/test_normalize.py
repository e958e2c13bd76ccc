"""A manifest is sent as the API server will store it, and stays as Git has it."""

from __future__ import annotations

import base64
import copy

import pytest

from fleet_rollout.decide.normalize import normalize


def manifest(api_version, kind, **rest):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "apps"}, **rest}


def unchanged(obj):
    before = copy.deepcopy(obj)
    result = normalize(obj)
    assert obj == before, "the manifest is shared by every cluster"
    return result == before


PORTS = [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]
EXPECTED_PORTS = [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]


def at(path, value):
    for name in reversed(path):
        value = {name: value}
    return value


@pytest.mark.parametrize(
    ("api_version", "kind", "path"),
    [
        ("v1", "Pod", ["spec"]),
        ("v1", "ReplicationController", ["spec", "template", "spec"]),
        ("apps/v1", "Deployment", ["spec", "template", "spec"]),
        ("apps/v1", "StatefulSet", ["spec", "template", "spec"]),
        ("apps/v1", "DaemonSet", ["spec", "template", "spec"]),
        ("apps/v1", "ReplicaSet", ["spec", "template", "spec"]),
        ("batch/v1", "Job", ["spec", "template", "spec"]),
        ("batch/v1", "CronJob", ["spec", "jobTemplate", "spec", "template", "spec"]),
    ],
)
def test_container_ports_are_tcp_unless_they_say_otherwise_and_init_containers_are_left(api_version, kind, path):
    def pod(ports):
        container = {"name": "c", "ports": ports}
        return at(path, {"containers": [container, {"name": "d"}], "initContainers": [{"name": "i", "ports": PORTS}]})

    obj = manifest(api_version, kind, **pod(PORTS))
    assert normalize(obj) == manifest(api_version, kind, **pod(EXPECTED_PORTS))
    assert obj == manifest(api_version, kind, **pod(PORTS))


def test_service_ports_are_tcp_unless_they_say_otherwise():
    obj = manifest("v1", "Service", spec={"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]})
    assert normalize(obj)["spec"]["ports"] == [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]


@pytest.mark.parametrize(
    "obj",
    [
        manifest("v1", "Service", spec={"ports": "80"}),
        manifest("v1", "Service", spec={"ports": [80]}),
        manifest("v1", "Service", spec={"ports": None}),
        manifest("v1", "Service", spec="x"),
        manifest("v1", "Service"),
        manifest("apps/v1", "Deployment", spec={"template": None}),
        manifest("v1", "Pod", spec={"containers": "x"}),
        manifest("v1", "Pod", spec={"containers": ["x", {"ports": None}]}),
        manifest("v1", "Secret", stringData="x"),
        manifest("v1", "Secret", stringData={"port": 80}),
        manifest("v1", "Secret", data={"a": "Yg=="}),
        manifest("example.org/v1", "Service", spec={"ports": [{"port": 80}]}),
        manifest("v1", "ConfigMap", data={"a": "b"}),
    ],
)
def test_what_is_odd_or_needs_nothing_is_left_for_the_api_server_to_judge(obj):
    assert unchanged(obj)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"stringData": {"a": "1"}}, {"data": {"a": "MQ=="}}),
        ({"stringData": {"a": "1"}, "data": {"a": "Mg==", "b": "Mw=="}}, {"data": {"a": "MQ==", "b": "Mw=="}}),
        ({"stringData": {"a": "1"}, "data": None}, {"data": {"a": "MQ=="}}),
        ({"stringData": {}, "data": {"b": "Mw=="}}, {"data": {"b": "Mw=="}}),
        ({"stringData": {}}, {}),
        ({"stringData": None}, {"stringData": None}),
    ],
)
def test_string_data_is_merged_into_data_and_wins(given, expected):
    assert normalize(manifest("v1", "Secret", **given)) == manifest("v1", "Secret", **expected)


def test_status_is_dropped_but_for_crds():
    status = {"storedVersions": ["v1"]}
    crd = manifest("apiextensions.k8s.io/v1", "CustomResourceDefinition", status=status, spec={})
    assert normalize(crd) == crd
    assert normalize(manifest("apps/v1", "Deployment", status={"replicas": 1})) == manifest("apps/v1", "Deployment")


@pytest.mark.parametrize("value", [None, "2026-01-01T00:00:00Z"])
def test_the_creation_timestamp_is_dropped(value):
    obj = manifest("v1", "ConfigMap")
    obj["metadata"]["creationTimestamp"] = value
    assert normalize(obj) == manifest("v1", "ConfigMap")


def crd(config):
    spec = at(["conversion", "webhook", "clientConfig"], config)
    return manifest("apiextensions.k8s.io/v1", "CustomResourceDefinition", spec=spec)


CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n").decode()


@pytest.mark.parametrize("bundle", ["Cg==", "not base64!", "é", "", None, 7])
def test_a_placeholder_for_a_ca_bundle_is_removed(bundle):
    assert normalize(crd({"caBundle": bundle, "url": "https://x"})) == crd({"url": "https://x"})


@pytest.mark.parametrize("config", [{"caBundle": CERTIFICATE}, {"url": "https://x"}, "odd", None])
def test_a_real_ca_bundle_and_what_is_odd_stay(config):
    assert unchanged(crd(config))
