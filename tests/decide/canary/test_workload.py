"""Reference 3.2: the primary of a Deployment or DaemonSet."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import workload
from fleet_rollout.decide.canary.objects import Object, StepFailed
from fleet_rollout.decide.canary.subject import EngineOptions
from tests.decide.canary.workloads import (
    FLAGGER_ID,
    OWNER,
    Member,
    config_map,
    daemon_set,
    deployment,
    names,
    pod_template,
    put,
    subject,
)
from tests.decide.canary.workloads import workload as make

SECOND_ID = "22222222-2222-4222-8222-222222222222"
KINDS = ("Deployment", "DaemonSet")
FROM_FLUX = {"kustomize.toolkit.fluxcd.io/name": "web"}


def created(target: Object, *others: Object, **about) -> Object:
    """The primary that is made of a target."""
    who = subject(target["kind"], **about)
    member = Member(target, *others)
    return put(workload.create_primary(who, member.live(who), FLAGGER_ID), target["kind"], "podinfo-primary")


def promoted(target: Object, primary: Object, *others: Object, **about) -> Object:
    who = subject(target["kind"], **about)
    member = Member(target, primary, *others)
    return put(workload.promote(who, member.live(who), SECOND_ID), target["kind"], "podinfo-primary")


# Creation


def test_a_deployments_primary():
    target = deployment(minReadySeconds=3, paused=False, template=pod_template(labels={"tier": "web"}))
    assert created(target) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "podinfo-primary",
            "namespace": "test",
            "labels": {"app": "podinfo-primary"},
            "ownerReferences": [OWNER],
        },
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 600,
            "minReadySeconds": 3,
            "revisionHistoryLimit": 10,
            "strategy": target["spec"]["strategy"],
            "selector": {"matchLabels": {"app": "podinfo-primary"}},
            "template": {
                "metadata": {
                    "labels": {"app": "podinfo-primary", "tier": "web"},
                    "annotations": {"flagger-id": FLAGGER_ID},
                },
                "spec": target["spec"]["template"]["spec"],
            },
        },
    }


def test_a_daemon_sets_primary():
    target = daemon_set(minReadySeconds=3)
    primary = created(target)
    assert primary["metadata"]["labels"] == {"app": "podinfo-primary"}
    assert {name: value for name, value in primary["spec"].items() if name != "template"} == {
        "minReadySeconds": 3,
        "revisionHistoryLimit": 10,
        "updateStrategy": target["spec"]["updateStrategy"],
        "selector": {"matchLabels": {"app": "podinfo-primary"}},
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "traits",
    [
        {"metadata": {"ownerReferences": [OWNER]}},
        {"template": pod_template(labels={"app": "podinfo-primary"})},
    ],
)
def test_what_exists_is_left_alone(kind, traits):
    """Also what somebody else has made, where the users' Service finds its Pods: Flagger takes it over as well."""
    who = subject(kind)
    member = Member(make(kind), make(kind, "podinfo-primary", **traits))
    assert workload.create_primary(who, member.live(who), FLAGGER_ID) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_that_would_leave_the_service_without_pods_is_refused(kind):
    who = subject(kind)
    member = Member(make(kind), make(kind, "podinfo-primary"))
    with pytest.raises(StepFailed) as caught:
        workload.create_primary(who, member.live(who), FLAGGER_ID)
    assert caught.value.message == (
        f"{kind.lower()} podinfo-primary.test was made by somebody else, and its Pods have no label "
        f"app: podinfo-primary; delete it, or give another name to {kind.lower()} podinfo.test"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_target_is_named(kind):
    who = subject(kind)
    with pytest.raises(StepFailed, match=f"^{kind.lower()} podinfo.test does not exist$"):
        workload.create_primary(who, {workload.target_ref(who): None}, FLAGGER_ID)


@pytest.mark.parametrize(("replicas", "expected"), [(3, 3), (0, 1), (None, 1)])
def test_the_primary_is_never_made_with_nothing(replicas, expected):
    assert created(deployment(replicas=replicas))["spec"]["replicas"] == expected


@pytest.mark.parametrize("strategy", [{"type": "RollingUpdate"}, {"type": ""}, {}, None])
def test_daemon_sets_must_roll_by_themselves(strategy):
    assert created(daemon_set(updateStrategy=strategy))
    with pytest.raises(StepFailed, match=r"^daemonset podinfo.test must use the RollingUpdate strategy, not OnDelete$"):
        created(daemon_set(updateStrategy={"type": "OnDelete"}), daemon_set("podinfo-primary"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [((), {}), (("*",), {"team": "blue", "tier": "web"}), (("te",), {"team": "blue"})],
)
def test_labels_are_included_by_prefix_and_annotations_are_all_copied(kind, prefixes, expected):
    annotations = {"a": "1", "deployment.kubernetes.io/revision": "4", **FROM_FLUX}
    metadata = {"labels": {"app": "x", "team": "blue", "tier": "web", **FROM_FLUX}, "annotations": annotations}
    options = EngineOptions(include_label_prefix=prefixes)
    primary = created(make(kind, metadata=metadata), options=options)
    assert primary["metadata"]["labels"] == {**expected, "app": "podinfo-primary"}
    assert primary["metadata"]["annotations"] == {"a": "1"}


def test_another_label_may_select():
    target = deployment(selector={"matchLabels": {"name": "podinfo"}})
    member = Member(target)
    who = subject()
    who = type(who)(who.raw, who.options, "name", "podinfo")
    primary = put(workload.create_primary(who, member.live(who), FLAGGER_ID), "Deployment", "podinfo-primary")
    assert primary["spec"]["selector"] == {"matchLabels": {"name": "podinfo-primary"}}
    assert primary["spec"]["template"]["metadata"]["labels"] == {"app": "podinfo", "name": "podinfo-primary"}


@pytest.mark.parametrize("kind", KINDS)
def test_configs_come_before_the_workload_that_uses_them(kind):
    template = pod_template(volumes=[{"name": "v", "configMap": {"name": "a"}}])
    who = subject(kind)
    member = Member(make(kind, template=template), config_map("a", {"k": "v"}))
    writes = workload.create_primary(who, member.live(who), FLAGGER_ID)
    assert names(writes) == ["Put ConfigMap a-primary", f"Put {kind} podinfo-primary"]
    (volume,) = put(writes, kind, "podinfo-primary")["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == "a-primary"


def test_without_tracking_configs_are_shared():
    template = pod_template(volumes=[{"name": "v", "configMap": {"name": "a"}}])
    primary = created(deployment(template=template), options=EngineOptions(config_tracking=False))
    assert primary["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == "a"


# Promotion


@pytest.mark.parametrize("kind", KINDS)
def test_a_promotion_needs_a_primary(kind):
    who = subject(kind)
    with pytest.raises(StepFailed, match=f"^{kind.lower()} podinfo-primary.test does not exist$"):
        workload.promote(who, Member(make(kind)).live(who), SECOND_ID)


def test_a_promotion_copies_the_target_and_keeps_what_is_the_primarys():
    target = deployment(replicas=3, minReadySeconds=5, template=pod_template(annotations={"v": "2"}, hostNetwork=True))
    del target["spec"]["revisionHistoryLimit"]
    primary = deployment(
        "podinfo-primary",
        replicas=2,
        paused=True,
        metadata={
            "labels": {"app": "podinfo-primary", "old": "x"},
            "annotations": {"old": "x", "deployment.kubernetes.io/revision": "4"},
            "ownerReferences": [OWNER],
            "finalizers": ["keep"],
        },
        template={"metadata": {"creationTimestamp": None, "labels": {"x": "y"}}, "spec": {"containers": []}},
        status={"replicas": 2},
    )
    written = promoted(target, primary)
    assert written["metadata"] == {
        "name": "podinfo-primary",
        "namespace": "test",
        "uid": "uid-of-podinfo-primary",
        "resourceVersion": "7",
        "labels": {"app": "podinfo-primary"},
        "annotations": {"deployment.kubernetes.io/revision": "4"},
        "ownerReferences": [OWNER],
        "finalizers": ["keep"],
    }
    assert written["spec"] == {
        "replicas": 3,
        "paused": True,
        "progressDeadlineSeconds": 600,
        "minReadySeconds": 5,
        "strategy": target["spec"]["strategy"],
        "selector": primary["spec"]["selector"],
        "template": {
            "metadata": {
                "creationTimestamp": None,
                "labels": {"app": "podinfo-primary"},
                "annotations": {"v": "2", "flagger-id": SECOND_ID},
            },
            "spec": target["spec"]["template"]["spec"],
        },
    }
    assert written["status"] == {"replicas": 2}


@pytest.mark.parametrize(
    ("reference", "replicas", "expected"),
    [(None, 3, 3), (None, 0, 0), ({"kind": "HorizontalPodAutoscaler", "name": "podinfo"}, 3, 5)],
)
def test_replicas_are_promoted_where_nobody_scales(reference, replicas, expected):
    spec = {"autoscalerRef": reference} if reference else {}
    primary = deployment("podinfo-primary", replicas=5)
    assert promoted(deployment(replicas=replicas), primary, **spec)["spec"]["replicas"] == expected


def test_replicas_that_the_target_does_not_name_are_one():
    target = deployment()
    del target["spec"]["replicas"]
    assert promoted(target, deployment("podinfo-primary"))["spec"]["replicas"] == 1


def test_a_daemon_sets_promotion():
    target = daemon_set(minReadySeconds=4, updateStrategy={"type": "RollingUpdate"})
    written = promoted(target, daemon_set("podinfo-primary"))
    assert written["spec"]["minReadySeconds"] == 4
    assert written["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
    assert "replicas" not in written["spec"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_objects_own_metadata_is_replaced_by_what_is_included(kind):
    target = make(kind, metadata={"labels": {"team": "blue"}, "annotations": {"team": "b", "x": "y", **FROM_FLUX}})
    primary = make(kind, "podinfo-primary", metadata={"labels": {"old": "1"}, "annotations": {"old": "1"}})
    metadata = promoted(target, primary, options=EngineOptions(include_label_prefix=("te",)))["metadata"]
    assert metadata["labels"] == {"team": "blue", "app": "podinfo-primary"}
    assert metadata["annotations"] == {"team": "b"}
    assert "annotations" not in promoted(target, primary)["metadata"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_id_makes_even_an_equal_primary_roll(kind):
    who = subject(kind)
    member = Member(make(kind))
    member.carry_out(workload.create_primary(who, member.live(who), FLAGGER_ID))
    writes = workload.promote(who, member.live(who), SECOND_ID)
    assert names(writes) == [f"Put {kind} podinfo-primary"]
    member.carry_out(writes)
    assert workload.promote(who, member.live(who), SECOND_ID) == []


def test_a_promotion_brings_the_configs_up_to_date_first():
    template = pod_template(volumes=[{"name": "v", "configMap": {"name": "a"}}])
    who = subject()
    member = Member(deployment(template=template), config_map("a", {"k": "v"}))
    member.carry_out(workload.create_primary(who, member.live(who), FLAGGER_ID))
    member.objects.update(Member(config_map("a", {"k": "w"})).objects)
    writes = workload.promote(who, member.live(who), SECOND_ID)
    assert names(writes) == ["Put ConfigMap a-primary", "Put Deployment podinfo-primary"]
    assert put(writes, "ConfigMap", "a-primary")["data"] == {"k": "w"}


# Invariants

ENTRIES = st.dictionaries(st.sampled_from(["app", "team", "x", *FROM_FLUX]), st.sampled_from("ab"))
TARGETS = st.builds(
    lambda kind, labels, annotations, pods, extra: make(
        kind,
        metadata={"labels": labels, "annotations": annotations},
        template=pod_template(labels=pods, annotations=annotations, **extra),
    ),
    st.sampled_from(KINDS),
    ENTRIES,
    ENTRIES,
    ENTRIES,
    st.sampled_from([{}, {"nodeSelector": {"disk": "ssd"}}, {"hostNetwork": True}]),
)


@given(TARGETS, TARGETS, st.lists(st.sampled_from(["*", "te", "x"])))
def test_the_primary_follows_the_target_and_nothing_else_changes(first, second, prefixes):
    second = {**second, "kind": first["kind"], "spec": {**first["spec"], "template": second["spec"]["template"]}}
    who = subject(first["kind"], options=EngineOptions(include_label_prefix=tuple(prefixes)))
    member = Member(first)
    member.carry_out(workload.create_primary(who, member.live(who), FLAGGER_ID))
    assert workload.create_primary(who, member.live(who), SECOND_ID) == []
    member.objects.update(Member(second).objects)
    before = copy.deepcopy(member.objects)
    member.carry_out(workload.promote(who, member.live(who), SECOND_ID))
    assert workload.promote(who, member.live(who), SECOND_ID) == []
    after = dict(member.objects)
    primary = after.pop(workload.primary_ref(who))
    assert before.pop(workload.primary_ref(who))["spec"]["selector"] == primary["spec"]["selector"]
    assert after == before, "the target is only read"
    pods = primary["spec"]["template"]["metadata"]
    assert pods["labels"]["app"] == "podinfo-primary"
    assert pods["annotations"]["flagger-id"] == SECOND_ID
    assert not any("toolkit" in key for key in (*pods["labels"], *pods["annotations"], *primary["metadata"]["labels"]))
