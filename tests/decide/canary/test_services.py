"""Reference 3.4: the Services of apex, primary and canary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import services
from fleet_rollout.decide.canary.objects import StepFailed, ref_of
from tests.decide.canary.workloads import FLUX, OWNER, Member, live_object, names, put, subject

NAMES = {"podinfo": "podinfo-primary", "podinfo-primary": "podinfo-primary", "podinfo-canary": "podinfo"}
PORT = {"name": "http", "protocol": "TCP", "port": 9898, "targetPort": 9898}


def service(name="podinfo", *, ports=(PORT,), selector=None, owners=(), type="ClusterIP", **metadata):
    spec = {"type": type, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "sessionAffinity": "None"}
    spec |= {"ports": [dict(port) for port in ports], "selector": selector or {"app": NAMES[name]}}
    if owners:
        metadata["ownerReferences"] = list(owners)
    return live_object("v1", "Service", name, metadata=metadata, spec=spec)


def member(*objects):
    found = Member(*objects)
    found.live = lambda about: {ref: found.objects.get(ref) for ref in services.reads(about)}
    return found


def all_writes(about, there):
    return [*services.reconcile_versions(about, there.live(about)), *services.reconcile_apex(about, there.live(about))]


def ours(name="podinfo", **fields):
    labels = {"app": name, **fields.pop("labels", {})}
    return service(name, owners=[OWNER], labels=labels, annotations={**FLUX, **fields.pop("annotations", {})}, **fields)


# Creation


def test_three_services_with_their_selectors():
    about, there = subject(), member()
    writes = all_writes(about, there)
    assert names(writes) == ["Put Service podinfo-canary", "Put Service podinfo-primary", "Put Service podinfo"]
    for name, value in NAMES.items():
        assert put(writes, "Service", name) == {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "namespace": "test",
                "labels": {"app": name},
                "annotations": FLUX,
                "ownerReferences": [OWNER],
            },
            "spec": {"type": "ClusterIP", "selector": {"app": value}, "ports": [PORT]},
        }


def test_names_follow_the_service_and_not_the_target():
    about = subject(service={"name": "web"})
    assert [ref.name for ref in services.reads(about)] == ["web", "web-canary", "web-primary"]
    assert names(all_writes(about, member())) == [
        "Put Service web-canary",
        "Put Service web-primary",
        "Put Service web",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"headless": True}, {"clusterIP": "None"}),
        ({"trafficDistribution": "PreferClose"}, {"trafficDistribution": "PreferClose"}),
        ({"headless": False, "trafficDistribution": ""}, {}),
    ],
)
def test_what_is_said_only_at_creation(fields, expected):
    about = subject(service=fields)
    for write in all_writes(about, member()):
        rest = {key: value for key, value in write.obj["spec"].items() if key not in ("type", "selector", "ports")}
        assert rest == expected
    there = member(*(ours(name) for name in NAMES))
    assert all_writes(about, there) == []


@pytest.mark.parametrize(
    ("role", "name"), [("apex", "podinfo"), ("primary", "podinfo-primary"), ("canary", "podinfo-canary")]
)
def test_each_service_has_metadata_of_its_own(role, name):
    given = {"labels": {"tier": "web", "app": "mine"}, "annotations": {"a": "1", next(iter(FLUX)): "enabled"}}
    writes = all_writes(subject(service={role: given}), member())
    metadata = put(writes, "Service", name)["metadata"]
    assert metadata["labels"] == {"tier": "web", "app": name}
    assert metadata["annotations"] == {"a": "1", **FLUX}
    assert given["annotations"] == {"a": "1", next(iter(FLUX)): "enabled"}
    assert sum("a" in write.obj["metadata"]["annotations"] for write in writes) == 1


def test_a_canary_without_a_port_is_told_to_name_one():
    """The API server would say `spec.ports[0].port: Invalid value: 0` of a Service that nobody has written."""
    about = subject(service={"port": None})
    with pytest.raises(StepFailed, match=r"^Canary podinfo\.test has no spec\.service\.port; write the port"):
        services.reconcile_versions(about, member().live(about))


def test_a_target_that_is_a_service_has_none_of_these():
    about = subject("Service", api_version="v1")
    assert services.reads(about) == []
    assert all_writes(about, member()) == []


# What exists


@pytest.mark.parametrize("make", [service, ours])
@pytest.mark.parametrize("name", NAMES)
def test_what_says_so_already_is_left_alone(make, name):
    others = [ours(other) for other in NAMES if other != name]
    assert all_writes(subject(), member(make(name), *others)) == []


OTHER_PORT = {**PORT, "port": 80, "targetPort": 8080}
ADMIN = {"name": "admin", "protocol": "TCP", "port": 9797, "targetPort": 9797}


def reconciled(live, **about):
    who = subject(**about)
    there = member(live)
    writes = services.reconcile_apex(who, there.live(who))
    there.carry_out(writes)
    assert services.reconcile_apex(who, there.live(who)) == []
    return put(writes, "Service", "podinfo")


@pytest.mark.parametrize(
    "live",
    [
        service(ports=[OTHER_PORT]),
        service(ports=[{**PORT, "targetPort": "http"}]),
        service(ports=[{**PORT, "appProtocol": "h2c"}]),
        service(ports=[PORT, ADMIN]),
        service(selector={"app": "podinfo"}),
        service(selector={"app": "podinfo-primary", "tier": "web"}),
    ],
)
def test_ports_and_selector_of_a_users_service_are_taken_over(live):
    live["metadata"].update(labels={"mine": "1"}, annotations={"mine": "2"})
    written = reconciled(live)
    assert written["spec"] == {**live["spec"], "ports": [PORT], "selector": {"app": "podinfo-primary"}}
    assert written["metadata"] == {**live["metadata"], "annotations": {"mine": "2", **FLUX}}


def test_the_order_of_ports_does_not_matter():
    about = type(subject())(subject().raw, ports=(ADMIN,), label_key="app", label_value="podinfo")
    there = member(service(ports=[ADMIN, PORT]))
    assert services.reconcile_apex(about, there.live(about)) == []


def test_node_ports_stay_with_the_name_of_their_port():
    live = service(ports=[{**OTHER_PORT, "nodePort": 30001}, {**ADMIN, "nodePort": 30002}], type="NodePort")
    about = type(subject())(subject().raw, ports=({**ADMIN, "targetPort": 1},), label_key="app", label_value="podinfo")
    there = member(live)
    written = put(services.reconcile_apex(about, there.live(about)), "Service", "podinfo")
    assert written["spec"]["ports"] == [{**PORT, "nodePort": 30001}, {**ADMIN, "targetPort": 1, "nodePort": 30002}]
    assert written["spec"]["type"] == "NodePort"


def test_a_port_without_a_name_keeps_no_node_port():
    unnamed = {key: value for key, value in PORT.items() if key != "name"}
    written = reconciled(service(ports=[{**unnamed, "nodePort": 30001}], type="NodePort"))
    assert written["spec"]["ports"] == [PORT]


def test_a_service_may_have_no_ports_or_selector_yet():
    live = service(type="ExternalName")
    live["spec"] = {"type": "ExternalName", "externalName": "example.org"}
    assert reconciled(live)["spec"]["selector"] == {"app": "podinfo-primary"}


# Metadata of our own Services


def test_metadata_is_enforced_on_our_own():
    live = ours(labels={"foreign": "x"}, annotations={"foreign": "x"})
    metadata = reconciled(live, service={"apex": {"labels": {"tier": "web"}}})["metadata"]
    assert metadata["labels"] == {"app": "podinfo", "tier": "web"}
    assert metadata["annotations"] == FLUX


@pytest.mark.parametrize(
    "owner",
    [{**OWNER, "name": "backend"}, {**OWNER, "kind": "Widget"}, {**OWNER, "controller": False}, None],
)
def test_but_not_on_anybody_elses(owner):
    live = service(labels={"foreign": "x"}, owners=[owner] if owner else [])
    there = member(live)
    assert services.reconcile_apex(subject(), there.live(subject())) == []


KEEP = {"unmanagedMetadata": {"labels": ["mine"], "annotations": ["mine", next(iter(FLUX))]}}


def test_unmanaged_keys_stay_as_they_are_found():
    live = ours(labels={"mine": "1"}, annotations={"mine": "2", next(iter(FLUX)): "enabled"})
    there = member(live)
    about = subject(service={**KEEP, "apex": {"labels": {"mine": "no"}, "annotations": {"mine": "no"}}})
    assert services.reconcile_apex(about, there.live(about)) == []


def test_an_update_switches_flux_off_even_where_the_key_is_unmanaged():
    live = ours(annotations={next(iter(FLUX)): "enabled"}, selector={"app": "x"})
    who, there = subject(service=KEEP), member(live)
    assert put(services.reconcile_apex(who, there.live(who)), "Service", "podinfo")["metadata"]["annotations"] == FLUX


def test_unmanaged_keys_that_are_not_there_are_ours():
    assert reconciled(ours(labels={"x": "y"}), service=KEEP)["metadata"]["labels"] == {"app": "podinfo"}


ENTRIES = st.dictionaries(st.sampled_from(["app", "mine", "x", *FLUX]), st.sampled_from("ab"), max_size=3)
SERVICE = st.fixed_dictionaries(
    {},
    optional={
        "apex": st.fixed_dictionaries({"labels": ENTRIES, "annotations": ENTRIES}),
        "unmanagedMetadata": st.fixed_dictionaries({"labels": st.lists(st.sampled_from(["mine", "app"]))}),
        "targetPort": st.sampled_from([0, 8080, "http"]),
        "appProtocol": st.sampled_from(["", "grpc"]),
    },
)


@given(SERVICE, SERVICE, ENTRIES, ENTRIES, st.booleans())
def test_one_pass_is_enough(first, second, labels, annotations, is_ours):
    there = member(*([service(labels=labels, annotations=annotations)] if is_ours else []))
    for given_service in (first, second):
        about = subject(service=given_service)
        there.carry_out(all_writes(about, there))
        assert all_writes(about, there) == []
        apex = there.objects[services.apex_ref(about)]
        assert apex["spec"]["selector"] == {"app": "podinfo-primary"}
        assert ref_of(apex) in services.reads(about)
