"""Reference 3.3 and scenario S56: the target at zero and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import scaling
from fleet_rollout.decide.canary.objects import StepFailed
from tests.decide.canary.workloads import (
    Member,
    daemon_set,
    deployment,
    live_object,
    pod_template,
    put,
    subject,
    workload,
)

ZERO = "flagger.app/scale-to-zero"
HPA = {"kind": "HorizontalPodAutoscaler", "name": "podinfo"}
KEDA = {"kind": "ScaledObject", "name": "podinfo"}


def hpa(**spec):
    return live_object("autoscaling/v2", "HorizontalPodAutoscaler", "podinfo", spec=spec)


def scaled_object(**spec):
    return live_object("keda.sh/v1alpha1", "ScaledObject", "podinfo", spec=spec)


def up(*objects, **about):
    who = subject(objects[0]["kind"], **about)
    return scaling.scale_up(who, Member(*objects).live(who))


def down(*objects):
    who = subject(objects[0]["kind"])
    return scaling.scale_down(who, Member(*objects).live(who))


def replicas(*objects, **about):
    return put(up(*objects, **about), "Deployment", "podinfo")["spec"]["replicas"]


def nodes(target):
    return target["spec"]["template"]["spec"].get("nodeSelector")


def at_zero(**selector):
    return daemon_set(template=pod_template(nodeSelector={ZERO: "true", **selector}))


def test_a_deployment_at_zero():
    written = put(down(deployment(replicas=3)), "Deployment", "podinfo")
    assert written["spec"]["replicas"] == 0
    assert written["metadata"]["resourceVersion"] == "7"
    assert down(deployment(replicas=0)) == []


def test_a_daemon_set_at_zero():
    written = put(down(daemon_set(template=pod_template(nodeSelector={"disk": "ssd"}))), "DaemonSet", "podinfo")
    assert nodes(written) == {"disk": "ssd", ZERO: "true"}
    assert nodes(put(down(daemon_set()), "DaemonSet", "podinfo")) == {ZERO: "true"}
    assert down(at_zero()) == []


@pytest.mark.parametrize(
    ("primary", "expected"),
    [(deployment("podinfo-primary", replicas=4), 4), (deployment("podinfo-primary", replicas=0), 1), (None, 1)],
)
def test_without_an_autoscaler_as_many_as_the_primary(primary, expected):
    assert replicas(deployment(replicas=0), *([primary] if primary else [])) == expected


@pytest.mark.parametrize(
    ("reference", "scaler", "expected"),
    [
        (HPA, hpa(minReplicas=3), 3),
        (HPA, hpa(minReplicas=1), 1),
        (HPA, hpa(minReplicas=0), 1),
        (HPA, hpa(), 1),
        (HPA, None, 1),
        (KEDA, scaled_object(minReplicaCount=5), 5),
        (KEDA, scaled_object(minReplicaCount=0), 1),
        (KEDA, scaled_object(), 1),
        (KEDA, None, 1),
        ({"kind": "Widget", "name": "podinfo"}, None, 1),
    ],
)
def test_with_an_autoscaler_its_least(reference, scaler, expected):
    objects = [deployment(replicas=0), deployment("podinfo-primary", replicas=9), *([scaler] if scaler else [])]
    assert replicas(*objects, autoscalerRef=reference) == expected


def test_replicas_that_somebody_has_set_stay():
    """S56: GitOps has set 3 between two rollouts."""
    assert up(deployment(replicas=3), deployment("podinfo-primary", replicas=1)) == []
    assert up(deployment(replicas=3), hpa(minReplicas=5), autoscalerRef=HPA) == []


def test_a_daemon_set_from_zero():
    assert nodes(put(up(at_zero(disk="ssd")), "DaemonSet", "podinfo")) == {"disk": "ssd"}
    assert nodes(put(up(at_zero()), "DaemonSet", "podinfo")) is None
    assert up(daemon_set(template=pod_template(nodeSelector={"disk": "ssd"}))) == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (deployment(replicas=0), True),
        (deployment(replicas=1), False),
        (deployment(replicas=None), False),
        (at_zero(), True),
        (daemon_set(), False),
    ],
)
def test_whether_the_target_is_at_zero(target, expected):
    assert scaling.is_scaled_down(subject(target["kind"]), target) is expected


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
@pytest.mark.parametrize("verb", [scaling.scale_down, scaling.scale_up])
def test_a_missing_target_is_named(kind, verb):
    who = subject(kind)
    with pytest.raises(StepFailed, match=f"^{kind.lower()} podinfo.test does not exist$"):
        verb(who, Member().live(who))


@given(
    st.sampled_from(["Deployment", "DaemonSet"]),
    st.integers(0, 5),
    st.dictionaries(st.sampled_from("ab"), st.just("x")),
)
def test_down_and_up_again_ends_where_it_began(kind, replicas, selector):
    spec = {"replicas": replicas} if kind == "Deployment" else {}
    template = pod_template(**({"nodeSelector": selector} if selector else {}))
    who, member = (
        subject(kind),
        Member(workload(kind, template=template, **spec), workload(kind, "podinfo-primary", **spec)),
    )
    before = member.live(who)[scaling.target_ref(who)]
    for verb, is_down in ((scaling.scale_down, True), (scaling.scale_up, False)):
        member.carry_out(verb(who, member.live(who)))
        assert verb(who, member.live(who)) == []
        assert scaling.is_scaled_down(who, member.objects[scaling.target_ref(who)]) is is_down
    after = member.objects[scaling.target_ref(who)]
    expected = {**before["spec"], "replicas": max(1, replicas)} if kind == "Deployment" else before["spec"]
    assert after["spec"] == expected
