"""Reference 3.4, last paragraph, Q17 and scenario S57: a target that is a Service."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary import service_target
from fleet_rollout.decide.canary.objects import Object, StepFailed
from tests.decide.canary.workloads import OWNER, Member, live_object, names, put, subject

PORTS = [
    {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http", "nodePort": 30080},
    {"protocol": "UDP", "port": 53, "targetPort": 53},
]
BARE = [{key: value for key, value in port.items() if key != "nodePort"} for port in PORTS]
FIXED = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "healthCheckNodePort": 30999}
ABOUT = subject("Service", api_version="v1")


def target(**spec) -> Object:
    metadata = {
        "labels": {"team": "blue", "kustomize.toolkit.fluxcd.io/name": "web"},
        "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "ownerReferences": [{**OWNER, "kind": "Widget"}],
    }
    defaults = {"type": "NodePort", "selector": {"app": "podinfo"}, "ports": PORTS, **FIXED}
    return live_object("v1", "Service", "podinfo", metadata=metadata, spec={**defaults, **spec})


def create(member, about=ABOUT):
    return service_target.create_primary(about, member.live(about))


def promote(member, about=ABOUT):
    return service_target.promote(about, member.live(about))


def initialised(*objects) -> Member:
    member = Member(*(objects or [target()]))
    member.carry_out(create(member))
    return member


@pytest.mark.parametrize("name", ["podinfo-primary", "podinfo-canary"])
def test_both_versions_get_a_copy_without_what_the_api_server_gave_out(name):
    writes = create(Member(target()))
    assert names(writes) == ["Put Service podinfo-canary", "Put Service podinfo-primary"]
    assert put(writes, "Service", name) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": "test",
            "labels": {"team": "blue"},
            "annotations": {"a": "b"},
            "ownerReferences": [OWNER],
        },
        "spec": {"type": "NodePort", "selector": {"app": "podinfo"}, "ports": BARE},
    }


def test_a_headless_target_has_headless_copies():
    writes = create(Member(target(type="ClusterIP", clusterIP="None", clusterIPs=["None"])))
    assert {write.obj["spec"]["clusterIP"] for write in writes} == {"None"}


def test_a_target_may_have_no_ports():
    spec = {"type": "ExternalName", "externalName": "example.org"}
    writes = create(Member(live_object("v1", "Service", "podinfo", spec=spec)))
    assert [write.obj["spec"] for write in writes] == [spec, spec]


def test_traffic_distribution_is_the_canarys_to_say():
    about = subject("Service", api_version="v1", service={"trafficDistribution": "PreferClose"})
    assert {write.obj["spec"]["trafficDistribution"] for write in create(Member(target()), about)} == {"PreferClose"}


def test_the_canarys_copy_follows_always_and_the_primarys_only_promotions():
    member = initialised()
    assert create(member) == []
    member.objects[service_target.target_ref(ABOUT)]["spec"]["selector"] = {"app": "podinfo", "version": "2"}
    writes = create(member)
    assert names(writes) == ["Put Service podinfo-canary"]
    member.carry_out(writes)
    assert create(member) == []
    assert member.objects[service_target.primary_ref(ABOUT)]["spec"]["selector"] == {"app": "podinfo"}


def test_a_promoted_copy_has_the_targets_spec_and_stays_ours():
    """Q17, S57: in Flagger it loses owner, labels and annotations."""
    member = initialised()
    before = member.objects[service_target.primary_ref(ABOUT)]
    member.objects[service_target.target_ref(ABOUT)]["spec"]["selector"] = {"version": "2"}
    writes = promote(member)
    written = put(writes, "Service", "podinfo-primary")
    assert written["metadata"] == before["metadata"]
    assert written["spec"] == {**before["spec"], "selector": {"version": "2"}}
    member.carry_out(writes)
    assert promote(member) == []


def test_what_the_api_server_gave_the_copy_stays():
    given = {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "healthCheckNodePort": 31999}
    ports = [{**PORTS[0], "nodePort": 31080}, {**PORTS[1], "nodePort": 31053}, {"port": 1, "nodePort": 31001}]
    copied = live_object("v1", "Service", "podinfo-primary", spec={"type": "NodePort", "ports": ports, **given})
    written = put(promote(Member(target(), copied)), "Service", "podinfo-primary")
    assert {key: written["spec"][key] for key in given} == given
    assert written["spec"]["ports"] == ports[:2]


@pytest.mark.parametrize(
    ("verb", "objects", "missing"),
    [
        (service_target.create_primary, [], "podinfo"),
        (service_target.promote, [target()], "podinfo-primary"),
    ],
)
def test_what_is_missing_is_named(verb, objects, missing):
    live = {service_target.primary_ref(ABOUT): None, **Member(*objects).live(ABOUT)}
    with pytest.raises(StepFailed, match=f"^service {missing}.test does not exist$"):
        verb(ABOUT, live)
