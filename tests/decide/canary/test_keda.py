"""Reference 3.6 and Q20: KEDA's ScaledObject."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import keda, scalers
from fleet_rollout.decide.canary.objects import StepFailed
from tests.decide.canary.workloads import OWNER, Member, deployment, live_object, names, put, subject

PAUSED = "autoscaling.keda.sh/paused-replicas"


def trigger(query="rate(requests{app='podinfo'}[1m])", **fields):
    return {"type": "prometheus", "metadata": {"serverAddress": "http://p:9090", "query": query}, **fields}


def scaled_object(name="podinfo", *, metadata=None, **spec):
    defaults = {"scaleTargetRef": {"name": "podinfo"}, "triggers": [trigger()]}
    return live_object("keda.sh/v1alpha1", "ScaledObject", name, metadata=metadata, spec={**defaults, **spec})


def about(**reference):
    named = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "podinfo", **reference}
    return subject(autoscalerRef=named)


def member(*objects):
    return Member(deployment(), *objects)


def created(source, **reference):
    who = about(**reference)
    return put(scalers.create_scaler(who, member(source).live(who)), "ScaledObject", "podinfo-primary")


def synced(source, copied, **reference):
    who = about(**reference)
    return scalers.sync_scaler(who, member(source, copied).live(who))


def test_a_copy_for_the_primary():
    labels = {"a": "b", "kustomize.toolkit.fluxcd.io/name": "x", "scaledobject.keda.sh/name": "podinfo"}
    annotations = {"scaledobject.keda.sh/transfer-hpa-ownership": "true", PAUSED: "0", "helm.toolkit.fluxcd.io/x": "y"}
    source = scaled_object(
        metadata={"labels": labels, "annotations": annotations},
        scaleTargetRef={
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "podinfo",
            "envSourceContainerName": "c",
        },
        pollingInterval=10,
        cooldownPeriod=20,
        minReplicaCount=1,
        maxReplicaCount=3,
        idleReplicaCount=0,
        fallback={"failureThreshold": 3, "replicas": 1},
    )
    primary = created(source)
    assert primary["apiVersion"] == "keda.sh/v1alpha1"
    assert primary["metadata"] == {
        "name": "podinfo-primary",
        "namespace": "test",
        "labels": {"a": "b"},
        "annotations": {"scaledobject.keda.sh/transfer-hpa-ownership": "true"},
        "ownerReferences": [OWNER],
    }
    assert primary["spec"] == {
        **source["spec"],
        "scaleTargetRef": {**source["spec"]["scaleTargetRef"], "name": "podinfo-primary"},
        "triggers": [trigger("rate(requests{app='podinfo-primary'}[1m])")],
    }


def test_a_pause_of_the_target_is_not_the_primarys():
    """Q20: in Flagger a primary that is made during a pause stays at zero."""
    primary = created(scaled_object(metadata={"annotations": {PAUSED: "0"}}))
    assert "annotations" not in primary["metadata"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a{p='podinfo'}", "a{p='podinfo-primary'}"),
        ("a{p='podinfo-canary'}", "a{p='podinfo-primary'}"),
        ("podinfo-canary / podinfo / other", "podinfo-primary / podinfo-primary / other"),
        ("podinfo-primary", "podinfo-primary-primary"),
        ("podinfo-canary-x", "podinfo-primary-x"),
        ("none", "none"),
        ("", ""),
    ],
)
def test_queries_ask_for_the_primary(query, expected):
    assert created(scaled_object(triggers=[trigger(query)]))["spec"]["triggers"] == [trigger(expected)]


@pytest.mark.parametrize(
    ("queries", "expected"),
    [
        ({"mine": "up"}, ["up", "podinfo", "podinfo"]),
        ({"mine": "up", "other": "down"}, ["up", "down", "podinfo"]),
        ({}, ["podinfo", "podinfo", "podinfo"]),
        (None, ["podinfo-primary"] * 3),
    ],
)
def test_given_queries_replace_those_of_their_triggers(queries, expected):
    triggers = [trigger("podinfo", name="mine"), trigger("podinfo", name="other"), trigger("podinfo")]
    primary = created(scaled_object(triggers=triggers), primaryScalerQueries=queries)
    assert [each["metadata"]["query"] for each in primary["spec"]["triggers"]] == expected


@pytest.mark.parametrize("given", [{"type": "cpu", "metadata": {"value": "50"}}, {"type": "kafka"}])
def test_triggers_without_a_query_are_copied(given):
    assert created(scaled_object(triggers=[given]))["spec"]["triggers"] == [given]
    assert created(scaled_object(triggers=None))["spec"]["triggers"] == []


def test_a_query_may_be_given_to_a_trigger_that_has_none():
    primary = created(scaled_object(triggers=[{"type": "x", "name": "n"}]), primaryScalerQueries={"n": "up"})
    assert primary["spec"]["triggers"] == [{"type": "x", "name": "n", "metadata": {"query": "up"}}]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"minReplicas": 2, "maxReplicas": 8}, {"minReplicaCount": 2, "maxReplicaCount": 8}),
        ({"maxReplicas": 8}, {"minReplicaCount": 1, "maxReplicaCount": 8}),
        (None, {"minReplicaCount": 1}),
    ],
)
def test_the_canary_may_say_other_limits(override, expected):
    spec = created(scaled_object(minReplicaCount=1), primaryScalerReplicas=override)["spec"]
    assert {key: value for key, value in spec.items() if "ReplicaCount" in key} == expected


@pytest.mark.parametrize(
    ("advanced", "expected"),
    [
        (
            {"restoreToOriginalReplicaCount": True, "horizontalPodAutoscalerConfig": {"name": "mine", "behavior": {}}},
            {
                "restoreToOriginalReplicaCount": True,
                "horizontalPodAutoscalerConfig": {"name": "mine-primary", "behavior": {}},
            },
        ),
        ({"horizontalPodAutoscalerConfig": {"behavior": {}}}, {"horizontalPodAutoscalerConfig": {"behavior": {}}}),
        ({}, {}),
        (None, None),
    ],
)
def test_the_primary_has_an_hpa_of_its_own(advanced, expected):
    assert created(scaled_object(advanced=advanced))["spec"]["advanced"] == expected


def test_one_that_exists_waits_for_a_promotion():
    who, there = about(), member(scaled_object())
    there.carry_out(scalers.create_scaler(who, there.live(who)))
    assert scalers.create_scaler(who, there.live(who)) == []
    assert scalers.sync_scaler(who, there.live(who)) == []
    source = scalers.reads(who)[0]
    there.objects[source]["spec"]["maxReplicaCount"] = 9
    assert scalers.create_scaler(who, there.live(who)) == []
    writes = scalers.sync_scaler(who, there.live(who))
    assert put(writes, "ScaledObject", "podinfo-primary")["spec"]["maxReplicaCount"] == 9
    there.carry_out(writes)
    assert scalers.sync_scaler(who, there.live(who)) == []


def test_a_promotion_ends_a_pause_that_was_copied_and_keeps_other_metadata():
    copied = created(scaled_object())
    metadata = {**copied["metadata"], "uid": "u", "resourceVersion": "9", "annotations": {PAUSED: "0", "x": "y"}}
    written = put(synced(scaled_object(), {**copied, "metadata": metadata}), "ScaledObject", "podinfo-primary")
    assert written["metadata"] == {**metadata, "annotations": {"x": "y"}}


def paused(who, there):
    return there.objects[scalers.reads(who)[0]]["metadata"].get("annotations", {}).get(PAUSED)


@given(st.dictionaries(st.sampled_from(["x", PAUSED]), st.sampled_from("012")))
def test_pausing_and_resuming_change_the_one_annotation(annotations):
    who, there = about(), member(scaled_object(metadata={"annotations": annotations} if annotations else {}))
    for verb, expected in ((scalers.pause_scaler, "0"), (scalers.resume_scaler, None)):
        there.carry_out(verb(who, there.live(who)))
        assert verb(who, there.live(who)) == []
        assert paused(who, there) == expected
    left = there.objects[scalers.reads(who)[0]]["metadata"].get("annotations", {})
    assert left == {key: value for key, value in annotations.items() if key != PAUSED}


def test_a_missing_source_cannot_be_paused_and_need_not_be_resumed():
    live = member().live(about())
    with pytest.raises(StepFailed, match=r"^scaledobject podinfo\.test does not exist$"):
        scalers.pause_scaler(about(), live)
    assert scalers.resume_scaler(about(), live) == []


def test_an_untouched_scaler_is_not_written():
    assert keda.resumed(scaled_object()) == []
    assert names(keda.paused(scaled_object())) == ["Put ScaledObject podinfo"]
