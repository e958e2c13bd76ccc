"""Reference 2.12: what a deleted Canary with `revertOnDeletion` gives back."""

from __future__ import annotations

import json

import pytest

from fleet_rollout.decide.canary import reverting, services
from fleet_rollout.decide.canary.objects import StepFailed
from tests.decide.canary.workloads import (
    OWNER,
    Member,
    canary,
    daemon_set,
    deployment,
    live_object,
    pod_template,
    put,
    subject,
)

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
FINALIZER = "finalizer.flagger.app"


# The finalizer


@pytest.mark.parametrize(
    ("wanted", "found", "after"),
    [
        (True, None, [FINALIZER]),
        (True, ["x"], ["x", FINALIZER]),
        (True, [FINALIZER], "no write"),
        (False, None, "no write"),
        (False, ["x"], "no write"),
        (False, [FINALIZER], None),
        (False, ["x", FINALIZER], ["x"]),
    ],
)
def test_the_finalizer_follows_the_spec(wanted, found, after):
    raw = canary(revertOnDeletion=wanted, metadata={"resourceVersion": "9", **({"finalizers": found} if found else {})})
    writes = reverting.hold(raw)
    if after == "no write":
        assert writes == []
        return
    metadata = put(writes, "Canary", "podinfo")["metadata"]
    assert metadata.get("finalizers") == after
    assert metadata["resourceVersion"] == "9"


def test_a_canary_that_goes_gets_no_finalizer():
    raw = canary(revertOnDeletion=True, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]})
    assert reverting.hold(raw) == []


def test_release_takes_only_our_finalizer():
    raw = canary(metadata={"finalizers": ["x", FINALIZER]})
    assert put(reverting.release(raw), "Canary", "podinfo")["metadata"]["finalizers"] == ["x"]
    assert reverting.release(canary()) == []


# The target


def target(*objects, **about):
    who = subject(objects[0]["kind"] if objects else "Deployment", **about)
    return reverting.revert_target(who, Member(*objects).live(who, reverting.primary_ref(who)))


@pytest.mark.parametrize(
    ("before", "primary", "after"),
    [(0, 3, 3), (1, 3, 3), (5, 3, 3), (2, 0, 0), (0, None, 1), (0, "unsaid", 1)],
)
def test_a_deployment_gets_the_primarys_replicas(before, primary, after):
    objects = [deployment(replicas=before)]
    if primary is not None:
        objects.append(deployment("podinfo-primary", replicas=primary))
    if primary == "unsaid":
        del objects[1]["spec"]["replicas"]
    assert put(target(*objects), "Deployment", "podinfo")["spec"]["replicas"] == after


def test_nothing_is_written_where_nothing_differs():
    assert target(deployment(replicas=3), deployment("podinfo-primary", replicas=3)) == []
    assert target(deployment(replicas=3)) == []
    assert target(daemon_set(), daemon_set("podinfo-primary")) == []


def test_a_daemon_set_is_scaled_up():
    zero = daemon_set(template=pod_template(nodeSelector={"flagger.app/scale-to-zero": "true"}))
    written = put(target(zero, daemon_set("podinfo-primary")), "DaemonSet", "podinfo")
    assert "nodeSelector" not in written["spec"]["template"]["spec"]


def test_a_target_that_is_gone_holds_nothing_up():
    assert target() == []


# The apex


def apex(*, selector=None, applied=None, owners=()):
    metadata = {"annotations": {"x": "y"}}
    if applied is not None:
        metadata["annotations"][LAST_APPLIED] = applied if isinstance(applied, str) else json.dumps(applied)
    if owners:
        metadata["ownerReferences"] = list(owners)
    chosen = {"app": "podinfo-primary"} if selector is None else selector
    return live_object(
        "v1", "Service", "podinfo", metadata=metadata, spec={"selector": chosen, "clusterIP": "10.0.0.1"}
    )


def reverted(service, about=None):
    who = about or subject()
    return reverting.revert_apex(who, {services.apex_ref(who): service})


@pytest.mark.parametrize(
    ("applied", "selector"),
    [
        (None, {"app": "podinfo"}),
        ({"spec": {"selector": {"app": "podinfo", "tier": "web"}}}, {"app": "podinfo", "tier": "web"}),
        ({"spec": {}}, None),
    ],
)
def test_a_users_service_selects_the_target_again(applied, selector):
    service = apex(applied=applied)
    written = put(reverted(service), "Service", "podinfo")
    assert written["spec"] == {"clusterIP": "10.0.0.1", **({"selector": selector} if selector else {})}
    assert written["metadata"] == service["metadata"]


@pytest.mark.parametrize("owner", [OWNER, {**OWNER, "name": "backend"}])
def test_what_goes_with_a_canary_is_left(owner):
    assert reverted(apex(owners=[owner])) == []


@pytest.mark.parametrize("owner", [{**OWNER, "kind": "Widget"}, {**OWNER, "controller": False}])
def test_other_owners_are_as_good_as_none(owner):
    assert reverted(apex(owners=[owner])) != []


@pytest.mark.parametrize("service", [None, apex(selector={"app": "podinfo", "tier": "web"}), apex(selector={})])
def test_a_service_that_does_not_select_the_primary_is_left(service):
    assert reverted(service) == []


def test_a_target_that_is_a_service_was_never_changed():
    assert reverting.revert_apex(subject("Service", api_version="v1"), {}) == []


@pytest.mark.parametrize("applied", ["{", "[]", "{}", '{"spec": null}', '{"spec": 7}'])
def test_an_annotation_that_cannot_be_read_is_named(applied):
    with pytest.raises(
        StepFailed, match=rf"^service podinfo\.test cannot be given back: {LAST_APPLIED} is no Service$"
    ):
        reverted(apex(applied=applied))
