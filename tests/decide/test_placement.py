from __future__ import annotations

import pytest

from fleet_rollout.decide.placement import HOST, Complete, resolve
from fleet_rollout_api.application import Application
from fleet_rollout_api.cluster_sync import ClusterReference
from fleet_rollout_api.fleet import Fleet


def application(destination=None, policy_destination=None):
    policy = {"kustomization": {"interval": "1m", "prune": True}}
    if policy_destination is not None:
        policy["destination"] = policy_destination
    spec = {"source": {"gitRepository": {"url": "https://git/x", "interval": "1m"}}, "syncPolicies": [policy]}
    if destination is not None:
        spec["destination"] = destination
    return Application.model_validate({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})


def fleet(*members, **metadata):
    return Fleet.model_validate(
        {"metadata": {"name": "shop", "namespace": "ns", **metadata}, "spec": {"clusters": list(members)}}
    )


def attached(name):
    return ClusterReference(kind="AttachedCluster", name=name)


def member(name, kind="AttachedCluster"):
    return {"kind": kind, "name": name}


M1, M2, M3 = attached("m1"), attached("m2"), attached("m3")
FLEET = fleet(member("m1"), member("m2"), member("m3"))
LABELS = {
    ("AttachedCluster", "m1"): {"env": "dev"},
    ("AttachedCluster", "m2"): {"env": "prod"},
    ("AttachedCluster", "m3"): {},
}


def place(app, fleets=None, clusters=None):
    return resolve(
        app,
        app.spec.sync_policies[0],
        fleets={"shop": FLEET} if fleets is None else fleets,
        clusters=LABELS if clusters is None else clusters,
    )


def selector(env):
    return {"matchLabels": {"env": env}}


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (application(), (HOST,)),
        (application({"fleet": ""}), (HOST,)),
        (application({"fleet": "shop"}), (M1, M2, M3)),
        (application(None, {"fleet": "shop"}), (M1, M2, M3)),
        (application({"fleet": "shop", "clusterSelector": selector("dev")}), (M1,)),
        # The policy's destination replaces the selector too, and inherits only an empty fleet name.
        (application({"fleet": "shop", "clusterSelector": selector("dev")}, {"fleet": "shop"}), (M1, M2, M3)),
        (application({"fleet": "shop"}, {"fleet": "", "clusterSelector": selector("prod")}), (M2,)),
        (application(None, {"fleet": "", "clusterSelector": selector("prod")}), (HOST,)),
    ],
)
def test_destination_is_resolved_as_kurator_does(app, expected):
    placement = place(app)
    assert placement.clusters == expected
    assert not placement.problems


def test_order_is_the_fleets_and_a_cluster_named_twice_counts_once():
    shop = fleet(member("m3"), member("m1"), member("m3"))
    assert place(application({"fleet": "shop"}), {"shop": shop}).clusters == (M3, M1)


def test_a_missing_fleet_is_a_problem_with_a_fix():
    [problem] = place(application({"fleet": "shop"}), {"shop": None}).problems
    assert (problem.reason, problem.message.split(";")[0]) == ("FleetNotFound", "Fleet/ns/shop not found")
    assert "destination.fleet" in problem.message


def test_a_fleet_that_is_being_deleted_has_no_members():
    leaving = fleet(member("m1"), deletionTimestamp="2026-01-01T00:00:00Z")
    placement = place(application({"fleet": "shop"}), {"shop": leaving})
    assert placement.clusters == ()
    assert "is being deleted" in placement.problems[0].message


def test_a_fleet_not_read_yet_decides_nothing():
    placement = place(application({"fleet": "shop"}), {})
    assert placement.everything_unknown
    assert placement.problems == ()


def test_a_missing_cluster_leaves_the_others_alone():
    placement = place(application({"fleet": "shop"}), clusters=LABELS | {("AttachedCluster", "m2"): None})
    assert placement.clusters == (M1, M3)
    [problem] = placement.problems
    assert (problem.reason, problem.cluster) == ("ClusterNotFound", M2)
    assert (
        problem.message == "AttachedCluster/ns/m2 not found; create it, or remove it from Fleet/ns/shop spec.clusters"
    )


def test_a_cluster_not_read_yet_is_unknown():
    shop = fleet(member("m1"), member("m9"), member("m9"))
    placement = place(application({"fleet": "shop"}), {"shop": shop})
    assert placement.clusters == (M1,)
    assert placement.unknown == (attached("m9"),)


def test_an_empty_kind_means_cluster_and_says_so_when_there_is_none():
    shop = fleet({"name": "prod"})
    known = place(application({"fleet": "shop"}), {"shop": shop}, {("Cluster", "prod"): {}})
    assert known.clusters == (ClusterReference(kind="Cluster", name="prod"),)
    [problem] = place(application({"fleet": "shop"}), {"shop": shop}, {("Cluster", "prod"): None}).problems
    assert "Cluster/ns/prod not found; set its kind to AttachedCluster" in problem.message


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (member("m1", "Machine"), "spec.clusters[0]: m1 has kind Machine; use AttachedCluster or Cluster"),
        ({"kind": "AttachedCluster"}, "spec.clusters[0]: name is missing; set it"),
    ],
)
def test_a_reference_to_something_else_is_named(entry, text):
    placement = place(application({"fleet": "shop"}), {"shop": fleet(entry, member("m2"))})
    assert placement.clusters == (M2,)
    [problem] = placement.problems
    assert problem.message == f"Fleet/ns/shop {text}"
    assert problem.terminal


def test_what_a_complete_reading_does_not_hold_is_known_to_be_gone():
    placement = place(
        application({"fleet": "shop"}), Complete({"shop": FLEET}), Complete({("AttachedCluster", "m1"): {}})
    )
    assert placement.clusters == (M1,)
    assert [problem.cluster for problem in placement.problems] == [M2, M3]
    assert place(application({"fleet": "shop"}), Complete({})).problems[0].reason == "FleetNotFound"
    assert list(Complete({"a": 1})) == ["a"]
    assert len(Complete({"a": 1})) == 1
