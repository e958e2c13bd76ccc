"""Corners of the state machine that no conformance scenario reaches: suspension, deletion, hooks that fail late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet_rollout.decide.canary.alerts import named, secret_of
from fleet_rollout.decide.canary.change import is_new_revision, spec_changed
from fleet_rollout.decide.canary.effects import CallHook, Do, Emit, Fingerprint, Notify, SetRoutes, WriteStatus
from fleet_rollout.decide.canary.machine import terminate, tick
from fleet_rollout.decide.canary.objects import Ref, Routes, StepFailed, Unasked
from fleet_rollout.decide.canary.subject import EngineOptions, Subject

NOW = "2026-01-01T00:00:00Z"
Answer = Callable[[Any], Any]


def canary(status: dict[str, Any] | None = None, analysis: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": "flagger.app/v1beta1",
        "metadata": {"name": "web", "namespace": "shop", "uid": "1"},
        "spec": {
            "targetRef": target,
            "service": {"port": 80},
            "analysis": {"threshold": 1, **(analysis or {})},
            **spec,
        },
        "status": {"conditions": [{"type": "Promoted", "status": "True", "reason": "Initialized"}], **(status or {})},
    }


def drive(steps: Any, answer: Answer = lambda _: None) -> list[Any]:
    """Every effect of a tick; `answer` gives what comes back, or raises StepFailed."""
    effects: list[Any] = []
    value: Any = None
    failure: StepFailed | None = None
    while True:
        try:
            effect = steps.throw(failure) if failure is not None else steps.send(value)
        except StopIteration:
            return effects
        effects.append(effect)
        value = failure = None
        try:
            value = answer(effect)
        except StepFailed as error:
            failure = error


def said(effects: list[Any]) -> list[str]:
    return [effect.message for effect in effects if isinstance(effect, Emit)]


def world(raw: dict[str, Any], routes: Routes, **answers: Any) -> Answer:
    """A target whose revision is the one that is analysed; hooks answer by name."""

    def answer(effect: Any) -> Any:
        if isinstance(effect, CallHook):
            return answers.get(effect.hook["name"])
        return (
            {
                Do.INSPECT: Subject(raw, label_value="web"),
                Do.FINGERPRINT: Fingerprint("new"),
                Do.READ_ROUTES: routes,
            }.get(effect)
            if isinstance(effect, Do)
            else None
        )

    return answer


def test_a_suspended_canary_is_left_as_it_is() -> None:
    effects = drive(tick(canary(suspend=True), EngineOptions(), NOW))
    assert effects == [Do.HOLD, Emit("Normal", "skipping canary run as object is suspended")]


def test_without_traffic_shifting_a_match_is_passed_over() -> None:
    raw = canary(
        {"phase": "Progressing", "iterations": 1, "lastAppliedSpec": "new"},
        {"iterations": 3, "match": [{"headers": {"x": {"exact": "y"}}}]},
        provider="kubernetes",
    )
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(0, 100)))
    assert "A/B testing is not supported when using the kubernetes provider" in said(effects)
    assert "Advance web.shop canary iteration 2/3" in said(effects)


def test_a_post_rollout_hook_that_fails_skips_the_others() -> None:
    hooks = [{"name": name, "type": "post-rollout", "url": "http://h.shop/"} for name in ("first", "second")]
    raw = canary({"phase": "Finalising", "lastAppliedSpec": "new"}, {"webhooks": hooks})
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(100, 0), first="no"))
    assert "Post-rollout hook first failed no" in said(effects)
    assert [effect.hook["name"] for effect in effects if isinstance(effect, CallHook)] == ["first"]
    assert "Promotion completed! Scaling down web.shop" in said(effects)


def test_a_member_that_goes_away_at_the_end_takes_no_news_with_it() -> None:
    hooks = [{"name": "report", "type": "post-rollout", "url": "http://h.shop/"}]
    raw = canary({"phase": "Finalising", "lastAppliedSpec": "new"}, {"webhooks": hooks})
    there = world(raw, Routes(100, 0))

    def away(effect: Any) -> Any:
        if isinstance(effect, CallHook):
            raise Unasked("m1: no answer within 10 s")
        return there(effect)

    effects = drive(tick(raw, EngineOptions(), NOW), away)
    assert said(effects)[-2:] == [
        "Post-rollout hook report failed m1: no answer within 10 s",
        "Promotion completed! Scaling down web.shop",
    ]
    assert [effect.message for effect in effects if isinstance(effect, Notify)] != []


@pytest.mark.parametrize(("muted", "alerts"), [(True, 0), (False, 1)])
def test_a_gate_may_be_mute(muted: bool, alerts: int) -> None:
    gate = {"name": "gate", "type": "confirm-traffic-increase", "url": "http://h.shop/", "muteAlert": muted}
    raw = canary({"phase": "Progressing", "lastAppliedSpec": "new"}, {"stepWeight": 10, "webhooks": [gate]})
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(100, 0), gate="no"))
    assert sum(isinstance(effect, Notify) for effect in effects) == alerts


def test_deletion_gives_everything_back_in_order() -> None:
    raw = canary({"phase": "Succeeded"}, revertOnDeletion=True)
    effects = drive(terminate(raw, EngineOptions(), NOW), world(raw, Routes(100, 0)))
    assert [effect for effect in effects if isinstance(effect, Do)] == [
        Do.INSPECT,
        Do.RESUME_SCALER,
        Do.REVERT_TARGET,
        Do.CANARY_READY,
        Do.REVERT_APEX,
        Do.REVERT_ROUTES,
        Do.RELEASE,
    ]
    assert said(effects) == ["Terminating canary web.shop", "Terminated canary web.shop"]
    assert any(isinstance(effect, WriteStatus) and effect.changes["phase"] == "Terminating" for effect in effects)


KNATIVE = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "web"}


@pytest.mark.parametrize(
    "spec",
    [
        {"targetRef": KNATIVE},
        {"provider": "knative"},
        {"targetRef": KNATIVE, "provider": "knative", "autoscalerRef": {"kind": "ScaledObject", "name": "web"}},
    ],
)
def test_a_target_that_its_provider_cannot_route_is_left_as_it_is_and_let_go(spec: dict[str, Any]) -> None:
    raw = canary(revertOnDeletion=True, **spec)
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(100, 0)))
    assert [effect for effect in effects if not isinstance(effect, Emit)] == [Do.HOLD]
    assert len(said(effects)) == 1
    assert Do.RELEASE in drive(terminate(raw, EngineOptions(), NOW), world(raw, Routes(100, 0)))


def test_a_knative_service_that_is_not_ready_holds_up_no_deletion() -> None:
    raw = canary({"phase": "Terminating"}, targetRef=KNATIVE, provider="knative")
    assert Do.RELEASE in drive(terminate(raw, EngineOptions(), NOW), failing(raw, Do.CANARY_READY))


def failing(raw: dict[str, Any], step: Do) -> Answer:
    usual = world(raw, Routes(100, 0))

    def answer(effect: Any) -> Any:
        if effect is step:
            raise StepFailed("deployment web.shop is not there")
        return usual(effect)

    return answer


def test_a_target_that_is_gone_does_not_hold_the_canary() -> None:
    raw = canary({"phase": "Terminating"})
    effects = drive(terminate(raw, EngineOptions(), NOW), failing(raw, Do.INSPECT))
    assert Do.RELEASE in effects
    assert said(effects) == ["deployment web.shop is not there", "Terminated canary web.shop"]


def test_a_target_that_is_not_ready_yet_is_waited_for() -> None:
    raw = canary({"phase": "Terminating"})
    effects = drive(terminate(raw, EngineOptions(), NOW), failing(raw, Do.CANARY_READY))
    assert Do.RELEASE not in effects
    assert said(effects) == ["deployment web.shop is not there"]


def test_a_status_without_a_revision_is_a_new_one() -> None:
    assert spec_changed({}, "a")
    assert is_new_revision({"lastAppliedSpec": "a", "trackedConfigs": {"configmap/x": "1"}}, Fingerprint("b", None))
    assert not is_new_revision({"lastAppliedSpec": "a", "trackedConfigs": {"configmap/x": "1"}}, Fingerprint("a", None))


def test_metrics_backends_that_are_missing_are_told_at_the_start() -> None:
    raw = canary({"phase": "Initializing"})
    usual = world(raw, Routes(100, 0))
    answer: Answer = lambda effect: "no route" if effect is Do.PROBE_METRICS else usual(effect)  # noqa: E731
    assert "Error checking metric providers: no route" in said(drive(tick(raw, EngineOptions(), NOW), answer))


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [("30s", 30.0), ("1m30s", 90.0), ("2s", 10.0), ("", 60.0), ("soon", 60.0)],
)
def test_intervals_have_a_floor_and_a_default(interval: str, seconds: float) -> None:
    assert Subject(canary(analysis={"interval": interval})).interval == seconds


def test_objects_are_named_with_their_namespace_where_they_have_one() -> None:
    assert str(Ref("v1", "Service", "shop", "web")) == "Service shop/web"
    assert str(Ref("kuma.io/v1alpha1", "TrafficRoute", "", "web")) == "TrafficRoute web"


def test_a_provider_without_secret_needs_none() -> None:
    subject = Subject(canary())
    ref = Ref("flagger.app/v1beta1", "AlertProvider", "shop", "chat")
    assert secret_of(subject, ref, {"spec": {"type": "slack", "address": "https://chat.example.com/x"}}) is None
    assert named(ref) == "alert provider chat.shop"


def test_a_broken_primary_delays_what_waits_for_its_start() -> None:
    """Q2: no analysis is under way that could fail."""
    raw = canary({"phase": "Waiting", "lastAppliedSpec": "old", "lastPromotedSpec": "old"})
    usual = world(raw, Routes(100, 0))

    def broken(effect: Any) -> Any:
        if effect is Do.PRIMARY_READY:
            raise StepFailed("web-primary.shop exceeded its progress deadline", retriable=False)
        return usual(effect)

    effects = drive(tick(raw, EngineOptions(), NOW), broken)
    assert said(effects) == ["web-primary.shop exceeded its progress deadline"]
    assert not any(isinstance(effect, WriteStatus) for effect in effects)


GATES = [("confirm-promotion", "WaitingPromotion", 60), ("confirm-traffic-increase", "Progressing", 20)]


@pytest.mark.parametrize(("gate", "phase", "weight"), GATES)
@pytest.mark.parametrize(
    ("kind", "since", "written"),
    [
        ("DaemonSet", "2025-12-31T23:55:00Z", True),
        ("DaemonSet", "2025-12-31T23:55:01Z", False),
        ("DaemonSet", None, False),
        ("Deployment", "2025-12-31T23:55:00Z", False),
    ],
)
def test_a_closed_gate_does_not_use_up_the_deadline_of_a_daemon_set(
    gate: str, phase: str, weight: int, kind: str, since: str | None, written: bool
) -> None:
    """It counts from the last write of the status: a Pod that is away for a moment later must not fail it."""
    status = {"phase": phase, "lastAppliedSpec": "new", "iterations": -1, "lastTransitionTime": since}
    analysis = {
        "stepWeight": 20,
        "maxWeight": 60,
        "webhooks": [{"name": "gate", "type": gate, "url": "http://h.shop/"}],
    }
    target = {"apiVersion": "apps/v1", "kind": kind, "name": "web"}
    raw = canary(status, analysis, targetRef=target, progressDeadlineSeconds=600)
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(100 - weight, weight), gate="no"))
    writes = [effect for effect in effects if isinstance(effect, WriteStatus)]
    assert writes == ([WriteStatus({"lastTransitionTime": NOW})] if written else [])


def test_a_gate_that_counts_an_iteration_back_has_written_already() -> None:
    gate = {"name": "gate", "type": "confirm-promotion", "url": "http://h.shop/"}
    status = {"phase": "WaitingPromotion", "iterations": 3, "lastTransitionTime": "2025-12-31T00:00:00Z"}
    target = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web"}
    raw = canary({**status, "lastAppliedSpec": "new"}, {"iterations": 3, "webhooks": [gate]}, targetRef=target)
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(0, 100), gate="no"))
    writes = [effect for effect in effects if isinstance(effect, WriteStatus)]
    assert writes == [WriteStatus({"iterations": 2, "lastTransitionTime": NOW})]


@pytest.mark.parametrize(
    ("configs", "is_back"), [({"configmap/a": "1"}, True), ({"configmap/a": "2"}, True), ({}, False), (None, True)]
)
def test_a_config_that_is_gone_is_not_taken_for_the_promoted_revision(
    configs: dict[str, str] | None, is_back: bool
) -> None:
    """The primary still has a copy of it, which nobody would take away any more.

    What a config holds says the primary's copy; where nothing is tracked any more, nothing can be said.
    """
    gate = {"name": "gate", "type": "confirm-rollout", "url": "http://h.shop/"}
    status = {"phase": "Waiting", "lastAppliedSpec": "old", "lastPromotedSpec": "old"}
    raw = canary({**status, "trackedConfigs": {"configmap/a": "1"}}, {"webhooks": [gate]})
    usual = world(raw, Routes(100, 0), gate="no")

    def answer(effect: Any) -> Any:
        if effect is Do.FINGERPRINT:
            return Fingerprint("old", configs)
        return effect is Do.IS_PROMOTED or usual(effect)

    effects = drive(tick(raw, EngineOptions(), NOW), answer)
    assert any("Promoted revision is back!" in text for text in said(effects)) is is_back


@pytest.mark.parametrize("is_back", [True, False])
def test_the_names_of_configs_of_a_failed_revision_say_nothing_of_the_promoted_one(is_back: bool) -> None:
    """Generated names change with what a config holds: going back to the promoted revision ends the wait all the same.

    Where one of its configs was changed, the primary's copy tells.
    """
    gate = {"name": "gate", "type": "confirm-rollout", "url": "http://h.shop/"}
    status = {"phase": "Waiting", "lastAppliedSpec": "failed", "lastPromotedSpec": "old"}
    raw = canary({**status, "trackedConfigs": {"configmap/app-b": "2"}}, {"webhooks": [gate]})
    usual = world(raw, Routes(100, 0), gate="no")

    def answer(effect: Any) -> Any:
        if effect is Do.FINGERPRINT:
            return Fingerprint("old", {"configmap/app-a": "1"})
        return is_back if effect is Do.IS_PROMOTED else usual(effect)

    effects = drive(tick(raw, EngineOptions(), NOW), answer)
    assert any("Promoted revision is back!" in text for text in said(effects)) is is_back


@pytest.mark.parametrize(("skip", "is_promoted"), [(True, True), (False, False)])
def test_weights_that_do_not_rise_matter_only_where_there_is_an_analysis(skip: bool, is_promoted: bool) -> None:
    raw = canary({"phase": "Succeeded", "lastAppliedSpec": "old"}, {"stepWeights": [10, 60, 30]}, skipAnalysis=skip)
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(100, 0)))
    assert any("must rise" in text for text in said(effects)) is not is_promoted
    assert (Do.SCALE_UP in effects) is is_promoted


@pytest.mark.parametrize(("most", "counts"), [(110, 100), (100, 100), (60, 60), (0, 100), (-1, 100)])
def test_a_weight_beyond_all_traffic_is_all_traffic(most: int, counts: int) -> None:
    """Flagger never promotes it: no canary has more than all traffic."""
    assert Subject(canary(analysis={"stepWeight": 20, "maxWeight": most})).max_weight == counts


@pytest.mark.parametrize(("steps", "counts"), [([20, 150], 100), ([20, 60], 60), ([20, 0], 100), ([-5], 100)])
def test_a_last_step_without_traffic_promotes_nothing(steps: list[int], counts: int) -> None:
    assert Subject(canary(analysis={"stepWeights": steps})).max_weight == counts


def test_a_negative_step_back_is_none() -> None:
    raw = canary({"phase": "Promoting", "lastAppliedSpec": "new"}, {"stepWeightPromotion": -40})
    effects = drive(tick(raw, EngineOptions(), NOW), world(raw, Routes(0, 100)))
    assert [effect.routes for effect in effects if isinstance(effect, SetRoutes)] == [Routes(100, 0)]
