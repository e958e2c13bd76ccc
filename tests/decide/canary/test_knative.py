"""A target that is a Knative Service."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary import knative, targets
from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import EngineOptions
from tests.decide.canary.workloads import Member, live_object, put, subject

API = "serving.knative.dev/v1"
ANNOTATION = "flagger.app/primary-revision"


def about(phase=""):
    return subject("Service", api_version=API, provider="knative", status={"phase": phase})


NEVER_SCALED = "Canary podinfo.test has spec.autoscalerRef, but Knative scales its Services itself"
ELSEWHERE = "Canary podinfo.test has provider knative, which routes Services of serving.knative.dev/v1 alone, and not"
OTHER = "write another spec.provider, or name a Knative Service in spec.targetRef"
SCALER = {"kind": "HorizontalPodAutoscaler", "name": "podinfo"}


def unroutable(provider):
    return (
        f"Canary podinfo.test names a Knative Service in spec.targetRef, to which provider {provider} cannot route; "
        "write spec.provider: knative"
    )


@pytest.mark.parametrize(
    ("who", "told"),
    [
        (about(), None),
        (subject("Service", api_version=API, options=EngineOptions(mesh_provider="knative")), None),
        (subject("Service", api_version="v1"), None),
        (subject("Service", api_version="v1", autoscalerRef=SCALER), None),
        (subject(), None),
        (subject("Service", api_version=API), unroutable("istio")),
        (subject("Service", api_version=API, provider="kubernetes"), unroutable("kubernetes")),
        (subject("Service", api_version=API, autoscalerRef=SCALER), unroutable("istio")),
        (subject(provider="knative"), f"{ELSEWHERE} deployment podinfo.test; {OTHER}"),
        (subject("DaemonSet", provider="knative"), f"{ELSEWHERE} daemonset podinfo.test; {OTHER}"),
        (subject("Service", api_version="v1", provider="knative"), f"{ELSEWHERE} service podinfo.test; {OTHER}"),
        (subject(options=EngineOptions(mesh_provider="knative")), f"{ELSEWHERE} deployment podinfo.test; {OTHER}"),
        (
            subject("Service", api_version=API, provider="knative", autoscalerRef=SCALER),
            f"{NEVER_SCALED}; take spec.autoscalerRef out",
        ),
    ],
)
def test_target_and_provider_have_to_go_together(who, told):
    assert knative.complaint(who) == told


def service(latest="podinfo-00002", promoted=None, **metadata):
    annotations = {"mine": "1", **({ANNOTATION: promoted} if promoted else {})}
    status = {"latestCreatedRevisionName": latest} if latest else {}
    return live_object(
        API,
        "Service",
        "podinfo",
        metadata={"annotations": annotations, **metadata},
        spec={"template": {}},
        status=status,
    )


def revision(name, *conditions):
    status = {"conditions": [{"type": type_, "status": value} for type_, value in conditions]}
    return live_object(API, "Revision", name, status=status)


def test_the_newest_revision_starts_with_all_the_traffic():
    member = Member(service())
    writes = knative.create_primary(about(), member.live(about()))
    written = put(writes, "Service", "podinfo")
    assert written["metadata"]["annotations"] == {"mine": "1", ANNOTATION: "podinfo-00002"}
    assert written["spec"] == {
        "template": {},
        "traffic": [{"latestRevision": True, "percent": 0}, {"revisionName": "podinfo-00002", "percent": 100}],
    }
    member.carry_out(writes)
    assert knative.create_primary(about("Initializing"), member.live(about())) == []


LATEST, NAMED = {"latestRevision": True, "percent": 0}, {"revisionName": "podinfo-00002", "percent": 100}
TAG = {"revisionName": "podinfo-00001", "tag": "old"}
DEFAULTED = {**NAMED, "latestRevision": False}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([LATEST, DEFAULTED], None),
        ([{"latestRevision": True, "percent": 100, "tag": "new"}], [{**LATEST, "tag": "new"}, NAMED]),
        ([TAG, LATEST, DEFAULTED], [LATEST, DEFAULTED, TAG]),
        ([{**LATEST, "percent": 20}, {"revisionName": "podinfo-00001", "percent": 80}], [LATEST, NAMED]),
        ([LATEST, {**DEFAULTED, "percent": 3}], [LATEST, DEFAULTED]),
        ([LATEST, DEFAULTED, {**TAG, "percent": 0}], None),
    ],
)
def test_tags_of_others_and_what_knative_adds_stay(before, after):
    target = service(promoted="podinfo-00002")
    target["spec"]["traffic"] = before
    writes = knative.create_primary(about(), Member(target).live(about()))
    assert [write.obj["spec"]["traffic"] for write in writes] == ([] if after is None else [after])


@pytest.mark.parametrize("phase", ["Initialized", "Progressing", "Failed"])
def test_later_the_router_alone_moves_traffic(phase):
    assert knative.create_primary(about(phase), Member(service()).live(about())) == []


def test_a_promotion_names_the_newest_revision():
    member = Member(service(promoted="podinfo-00001"))
    writes = knative.promote(about(), member.live(about()))
    assert put(writes, "Service", "podinfo")["metadata"]["annotations"][ANNOTATION] == "podinfo-00002"
    assert put(writes, "Service", "podinfo")["spec"] == {"template": {}}
    member.carry_out(writes)
    assert knative.promote(about(), member.live(about())) == []


@pytest.mark.parametrize(
    ("latest", "promoted", "expected"),
    [("b", "a", ["b", "a"]), ("b", "b", ["b"]), ("b", None, ["b"]), (None, "a", ["a"]), (None, None, [])],
)
def test_revisions_are_read_by_name(latest, promoted, expected):
    read = knative.reads(about(), service(latest, promoted))
    assert [(ref.kind, ref.name) for ref in read] == [("Revision", name) for name in expected]


READY, NOT_READY = ("Ready", "True"), ("Ready", "Unknown")


@pytest.mark.parametrize("verb", [knative.require_canary, knative.require_primary])
def test_a_ready_revision(verb):
    member = Member(service("r", "r"), revision("r", ("Active", "True"), READY))
    verb(about(), member.live(about()))


@pytest.mark.parametrize(
    ("verb", "objects", "message"),
    [
        (knative.require_canary, [service("r"), revision("r", NOT_READY)], "revision r.test is not ready"),
        (knative.require_canary, [service("r"), live_object(API, "Revision", "r")], "revision r.test is not ready"),
        (knative.require_canary, [service("r")], "revision r.test does not exist"),
        (knative.require_canary, [service(None)], "service podinfo.test has no revision yet"),
        (knative.promote, [service(None)], "service podinfo.test has no revision yet"),
        (knative.create_primary, [service(None)], "service podinfo.test has no revision yet"),
        (knative.create_primary, [], "service podinfo.test does not exist"),
        (knative.require_primary, [service("r", "q"), revision("q", NOT_READY)], "revision q.test is not ready"),
        (knative.require_primary, [service("r")], f"service podinfo.test has no annotation {ANNOTATION}"),
    ],
)
def test_what_is_not_ready_is_waited_for(verb, objects, message):
    with pytest.raises(StepFailed) as caught:
        verb(about(), Member(*objects).live(about()))
    assert caught.value.message == message
    assert caught.value.retriable


def test_the_target_is_found_by_its_api():
    assert targets.target_ref(about()) == (API, "Service", "test", "podinfo")
