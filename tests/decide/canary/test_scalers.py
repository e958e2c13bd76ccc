"""Reference 3.6 and Q19: the primary's HPA."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import scalers
from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import EngineOptions
from tests.decide.canary.workloads import OWNER, Member, deployment, live_object, names, put, subject

METRICS = [
    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99}}}
]
SPEC = {
    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
    "minReplicas": 2,
    "maxReplicas": 4,
    "metrics": METRICS,
}
FROM_FLUX = {"kustomize.toolkit.fluxcd.io/name": "web"}


def hpa(name="podinfo", *, metadata=None, **spec):
    merged = {key: value for key, value in {**SPEC, **spec}.items() if value is not None}
    return live_object("autoscaling/v2", "HorizontalPodAutoscaler", name, metadata=metadata, spec=merged)


def about(*, options=None, api_version="autoscaling/v2", **reference):
    named = {"apiVersion": api_version, "kind": "HorizontalPodAutoscaler", "name": "podinfo", **reference}
    return subject(options=options, autoscalerRef=named)


def member(*objects):
    return Member(deployment(), *objects)


def written(verb, *objects, who=None):
    who = who or about()
    return put(verb(who, member(*objects).live(who)), "HorizontalPodAutoscaler", "podinfo-primary")


def test_a_copy_for_the_primary():
    source = hpa(behavior={"scaleDown": {}}, metadata={"labels": {"a": "b", **FROM_FLUX}, "annotations": {"x": "y"}})
    assert written(scalers.create_scaler, source) == {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "podinfo-primary", "namespace": "test", "labels": {"a": "b"}, "ownerReferences": [OWNER]},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo-primary"},
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": METRICS,
            "behavior": {"scaleDown": {}},
        },
    }


@pytest.mark.parametrize("version", ["autoscaling/v1", "autoscaling/v2beta1", "autoscaling/v2beta2", "autoscaling/v2"])
def test_every_version_is_read_as_v2(version):
    refs = scalers.reads(about(api_version=version))
    assert [(ref.api_version, ref.name) for ref in refs] == [
        ("autoscaling/v2", "podinfo"),
        ("autoscaling/v2", "podinfo-primary"),
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({}, (2, 4)),
        ({"minReplicas": 3}, (3, 4)),
        ({"maxReplicas": 9}, (2, 9)),
        ({"minReplicas": 5, "maxReplicas": 9}, (5, 9)),
        (None, (2, 4)),
    ],
)
@pytest.mark.parametrize("verb", [scalers.create_scaler, scalers.sync_scaler])
def test_the_canary_may_say_other_limits(override, expected, verb):
    spec = written(verb, hpa(), who=about(primaryScalerReplicas=override))["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == expected


def test_one_that_exists_waits_for_a_promotion():
    objects = [hpa(maxReplicas=9), hpa("podinfo-primary")]
    assert scalers.create_scaler(about(), member(*objects).live(about())) == []
    assert written(scalers.sync_scaler, *objects)["spec"]["maxReplicas"] == 9


@pytest.mark.parametrize("changes", [{"minReplicas": 1}, {"metrics": None}, {"behavior": {"scaleUp": {}}}])
def test_a_promotion_copies_what_has_changed(changes):
    source = hpa(**changes)
    spec = written(scalers.sync_scaler, source, hpa("podinfo-primary", behavior={"scaleDown": {}}))["spec"]
    target = {**source["spec"]["scaleTargetRef"], "name": "podinfo-primary"}
    assert spec == {**source["spec"], "scaleTargetRef": target}


def test_labels_and_annotations_follow_and_then_no_write_is_left():
    """Q19: Flagger writes at every tick of a promotion, and changes nothing."""
    who = about(options=EngineOptions(include_label_prefix=("te",)))
    there = member(hpa(metadata={"labels": {"a": "b"}}))
    there.carry_out(scalers.create_scaler(who, there.live(who)))
    assert scalers.sync_scaler(who, there.live(who)) == []
    source, copied = scalers.reads(who)
    there.objects[source]["metadata"] |= {"labels": {"c": "d"}, "annotations": {"team": "blue", "other": "x"}}
    there.objects[copied]["metadata"]["annotations"] = {"foreign": "kept"}
    writes = scalers.sync_scaler(who, there.live(who))
    metadata = put(writes, "HorizontalPodAutoscaler", "podinfo-primary")["metadata"]
    assert metadata["labels"] == {"c": "d"}
    assert metadata["annotations"] == {"foreign": "kept", "team": "blue"}
    there.carry_out(writes)
    assert scalers.sync_scaler(who, there.live(who)) == []


@pytest.mark.parametrize("verb", [scalers.create_scaler, scalers.sync_scaler])
def test_a_missing_source_is_named(verb):
    with pytest.raises(StepFailed, match=r"^horizontalpodautoscaler podinfo\.test does not exist; create it, or take"):
        verb(about(), member().live(about()))


@pytest.mark.parametrize("who", [subject(), about(kind="Widget"), subject(autoscalerRef={"name": "podinfo"})])
def test_without_an_autoscaler_there_is_nothing_to_do(who):
    live = member().live(who)
    assert scalers.reads(who) == []
    assert scalers.target_scaler(who, live) is None
    verbs = (scalers.create_scaler, scalers.sync_scaler, scalers.pause_scaler, scalers.resume_scaler)
    assert [verb(who, live) for verb in verbs] == [[]] * 4


@pytest.mark.parametrize("verb", [scalers.pause_scaler, scalers.resume_scaler])
@pytest.mark.parametrize("objects", [[], [hpa()]])
def test_an_hpa_needs_no_pause(verb, objects):
    assert verb(about(), member(*objects).live(about())) == []


LABELS = st.dictionaries(st.sampled_from(["a", "b", *FROM_FLUX]), st.sampled_from("xy"))


@given(LABELS, LABELS, st.integers(1, 3), st.booleans())
def test_one_sync_is_enough(first, second, least, has_behavior):
    there = member(hpa(metadata={"labels": first}))
    there.carry_out(scalers.create_scaler(about(), there.live(about())))
    changes = {"behavior": {"scaleUp": {}}} if has_behavior else {}
    there.objects.update(Member(hpa(metadata={"labels": second}, minReplicas=least, **changes)).objects)
    there.carry_out(scalers.sync_scaler(about(), there.live(about())))
    assert scalers.sync_scaler(about(), there.live(about())) == []
    assert names(scalers.create_scaler(about(), there.live(about()))) == []
