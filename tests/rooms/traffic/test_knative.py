"""Knative: the user's Service divides traffic between its latest revision and the promoted one."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.traffic.knative import PRIMARY_REVISION, KnativeRouter
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic.scene import Member, subject

ROUTER = KnativeRouter()
TARGET = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "podinfo"}
CANARY = subject(targetRef=TARGET)


def latest(percent, **more):
    return {"latestRevision": True, "percent": percent, **more}


def revision(name, percent, **more):
    return {"revisionName": name, "percent": percent, **more}


def service(*traffic, created="podinfo-00001", **metadata):
    template = {"spec": {"containers": [{"image": "example.org/podinfo:1"}]}}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "podinfo", "namespace": "test", **metadata},
        "spec": {"template": template, **({"traffic": list(traffic)} if traffic else {})},
        "status": {"latestCreatedRevisionName": created} if created else {},
    }


def started(*traffic):
    member = Member(service(*traffic))
    member.reconcile(ROUTER, CANARY)
    return member


def told(member):
    return member.of_kind("Service", "podinfo")["spec"]["traffic"]


def follow(member, newest="podinfo-00002"):
    """What Knative does: it puts the targets into effect, and says which revision is the latest."""
    status = [
        {**each, "revisionName": newest} if each.get("latestRevision") else {**each, "latestRevision": False}
        for each in told(member)
    ]
    member.edit("Service", "podinfo", status={"traffic": status, "latestCreatedRevisionName": newest})


def test_the_first_revision_is_the_promoted_one_and_gets_everything():
    member = started()
    there = member.of_kind("Service", "podinfo")
    assert there["metadata"]["annotations"] == {PRIMARY_REVISION: "podinfo-00001"}
    assert told(member) == [latest(0), revision("podinfo-00001", 100)]
    assert there["spec"]["template"] == service()["spec"]["template"]


def test_shares_are_read_where_knative_says_what_is_in_effect():
    member = started()
    follow(member)
    member.move(ROUTER, CANARY, 70, 30)
    assert told(member) == [latest(30), revision("podinfo-00001", 70)]
    assert member.routes(ROUTER, CANARY) == Routes(100, 0)
    follow(member)
    assert member.routes(ROUTER, CANARY) == Routes(70, 30)
    assert member.reconcile(ROUTER, CANARY) == []


def test_a_new_revision_does_not_change_what_is_promoted():
    member = started()
    follow(member)
    assert member.reconcile(ROUTER, CANARY) == []
    assert member.of_kind("Service", "podinfo")["metadata"]["annotations"][PRIMARY_REVISION] == "podinfo-00001"


def test_a_revision_that_was_just_promoted_still_has_the_canarys_share():
    member = started()
    follow(member)
    member.move(ROUTER, CANARY, 40, 60)
    follow(member)
    member.edit("Service", "podinfo", metadata={"annotations": {PRIMARY_REVISION: "podinfo-00002"}})
    assert member.reconcile(ROUTER, CANARY) == []
    assert member.routes(ROUTER, CANARY) == Routes(40, 60)
    member.move(ROUTER, CANARY, 100, 0)
    assert told(member) == [latest(0), revision("podinfo-00002", 100)]
    follow(member)
    assert member.routes(ROUTER, CANARY) == Routes(100, 0)


@pytest.mark.parametrize(
    "traffic", [[latest(100)], [revision("podinfo-00000", 100)], [{"tag": "x", "latestRevision": True}]]
)
def test_traffic_that_is_not_divided_goes_to_the_promoted_revision(traffic):
    member = started(*traffic)
    shares = [each["percent"] for each in told(member)[:2]]
    assert shares == [0, 100]
    assert told(member)[1]["revisionName"] == "podinfo-00001"


def test_tags_of_others_and_knatives_defaults_stay():
    tag = {"tag": "old", "revisionName": "podinfo-00000"}
    member = started(latest(100, tag="newest"), tag)
    assert told(member) == [latest(0, tag="newest"), revision("podinfo-00001", 100), tag]
    there = member.of_kind("Service", "podinfo")
    there["spec"]["traffic"][1]["latestRevision"] = False
    there["metadata"]["labels"] = {"x": "y"}
    member.put(there)
    assert member.reconcile(ROUTER, CANARY) == []
    member.move(ROUTER, CANARY, 50, 50)
    assert told(member) == [
        latest(50, tag="newest"),
        revision("podinfo-00001", 50, latestRevision=False),
        tag,
    ]
    follow(member)
    assert member.routes(ROUTER, CANARY) == Routes(50, 50)


@pytest.mark.parametrize(
    ("traffic", "why"),
    [
        (None, "traffic spec invalid"),
        ([revision("podinfo-00001", 100)], "traffic spec invalid"),
        ([latest(100, revisionName="podinfo-00002")], "traffic spec invalid"),
        ([latest(None), revision("podinfo-00001", 1)], "canary revision traffic percent does not exist"),
        ([latest(1), revision("podinfo-00001", None)], "primary revision traffic percent does not exist"),
    ],
)
def test_a_status_that_does_not_say_where_traffic_goes(traffic, why):
    member = started()
    member.edit("Service", "podinfo", status={"traffic": traffic})
    with pytest.raises(StepFailed) as failed:
        member.routes(ROUTER, CANARY)
    assert failed.value.message == f"Knative Service podinfo.test {why}"


def test_what_is_not_there():
    missing = r'^Knative Service podinfo\.test get query error: services\.serving\.knative\.dev "podinfo" not found$'
    with pytest.raises(StepFailed, match=missing):
        Member().reconcile(ROUTER, CANARY)
    with pytest.raises(StepFailed, match=r"^Knative Service podinfo\.test has no revision yet$"):
        Member(service(created=None)).reconcile(ROUTER, CANARY)
    for act in (Member(service()).routes, lambda router, of: Member(service()).move(router, of, 100, 0)):
        with pytest.raises(StepFailed, match=r"^Knative Service podinfo\.test annotation not found$"):
            act(ROUTER, CANARY)


def test_a_service_that_is_not_the_target_stays_as_it_is():
    member = started()
    other = subject(provider="knative")
    assert member.finalize(ROUTER, other) == []


def test_the_annotation_is_removed_in_the_end():
    member = Member(service(annotations={"x": "y"}))
    member.reconcile(ROUTER, CANARY)
    member.finalize(ROUTER, CANARY)
    assert member.of_kind("Service", "podinfo")["metadata"]["annotations"] == {"x": "y"}
    assert member.finalize(ROUTER, CANARY) == []
    assert Member().finalize(ROUTER, CANARY) == []


async def test_on_an_api_server(crds, hands, ns):
    await crds("knative")
    canary = subject(namespace=ns, targetRef=TARGET)
    [ref] = ROUTER.reads(canary)
    created = await hands.create({**service(), "metadata": {"name": "podinfo", "namespace": ns}})
    await hands.replace({**created, "status": {"latestCreatedRevisionName": "podinfo-00001"}}, part="/status")
    assert await hands.reconcile(ROUTER, canary) == []
    await hands.mark(ref)
    for shares in (Routes(100, 0), Routes(80, 20), Routes(0, 100)):
        moved = ROUTER.set_routes(canary, await hands.live(ROUTER, canary), shares, token="abcdefghij")
        await hands.carry_out(moved.writes)
        there = await hands.get(ref)
        newest, promoted = there["spec"]["traffic"]
        there["status"]["traffic"] = [{**newest, "revisionName": "podinfo-00002"}, promoted]
        await hands.replace(there, part="/status")
        assert await hands.routes(ROUTER, canary) == shares
        assert await hands.reconcile(ROUTER, canary) == []
        assert await hands.move(ROUTER, canary, shares) == shares
    assert await hands.is_marked(ref)
