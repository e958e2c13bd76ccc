from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide import names
from fleet_rollout.decide.hand_over import Held, has_taken_over, is_wanted
from fleet_rollout.decide.plan import label_value, own_and_taken, plan_syncs
from fleet_rollout_api.application import Application
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync, WantedArtifact
from fleet_rollout_api.fleet import Fleet

C1 = WantedArtifact(revision="main@sha1:c1", digest="sha256:1")
C2 = WantedArtifact(revision="main@sha1:c2", digest="sha256:2")
NOW = "2026-01-01T00:00:00Z"
KUSTOMIZATION = {"interval": "1m", "prune": True}
M1, M2 = (ClusterReference(kind="AttachedCluster", name=name) for name in ("m1", "m2"))


def policy(name=None, *, depends_on=(), **fields):
    kustomization = (
        KUSTOMIZATION | {"dependsOn": [{"name": each} for each in depends_on]} | fields.pop("kustomization", {})
    )
    return (
        {"kustomization": kustomization, "destination": {"fleet": "shop"}} | ({"name": name} if name else {}) | fields
    )


def application(*policies, name="web", uid="0a1b2c3d-4e5f", source=None):
    spec = {
        "source": source or {"gitRepository": {"url": "https://git/x", "interval": "1m"}},
        "syncPolicies": list(policies) or [policy()],
    }
    return Application.model_validate({"metadata": {"name": name, "namespace": "ns", "uid": uid}, "spec": spec})


def fleet(*clusters):
    members = [{"kind": "AttachedCluster", "name": cluster} for cluster in clusters]
    return {
        "shop": Fleet.model_validate({"metadata": {"name": "shop", "namespace": "ns"}, "spec": {"clusters": members}})
    }


def labels(**clusters):
    return {("AttachedCluster", name): value for name, value in clusters.items()}


def plan(app, existing=(), *, artifact=C1, clusters=("m1", "m2"), fleets=None, known=None, **more):
    fleets = fleet(*clusters) if fleets is None else fleets
    known = labels(**{name: {} for name in clusters}) if known is None else known
    return plan_syncs(app, fleets=fleets, clusters=known, existing=existing, artifact=artifact, **more)


def carried_out(result, existing=(), *, applied=True):
    """The ClusterSyncs after a plan was carried out and, if `applied`, every sync has done its work."""
    specs = {update.name: update.spec for update in result.update}
    kept = [sync for sync in existing if sync.metadata.name not in result.delete]
    kept = [sync.model_copy(update={"spec": specs.get(sync.metadata.name, sync.spec)}) for sync in kept]
    syncs = [*kept, *result.create]
    return [done(sync) for sync in syncs] if applied else syncs


def done(sync, **status):
    status = {
        "observed_generation": sync.metadata.generation,
        "last_applied_digest": sync.spec.artifact.digest,
        "inventory": {"entries": [{"id": f"ns_{sync.metadata.name}__ConfigMap", "v": "v1"}]},
    } | status
    return sync.model_copy(update={"status": sync.status.model_validate(sync.status.model_dump() | status)})


MISSING = {"fleet": "other"}


def with_other(*clusters, other=None):
    return fleet(*clusters) | {"other": other}


def created(result):
    return [sync.metadata.name for sync in result.create]


def test_g30_one_cluster_sync_per_policy_and_cluster():
    app = application(
        policy(destination={"fleet": "shop", "clusterSelector": {"matchLabels": {"env": "dev"}}}), policy("db")
    )
    result = plan(app, known=labels(m1={"env": "dev"}, m2={"env": "prod"}))
    assert created(result) == ["web-0-attachedcluster-m1", "db-attachedcluster-m1", "db-attachedcluster-m2"]
    sync = result.create[0]
    assert sync.metadata.labels == {names.APP_LABEL: "web", names.POLICY_LABEL: "web-0", names.CLUSTER_LABEL: "m1"}
    assert sync.metadata.finalizers == [names.FINALIZER]
    [owner] = sync.metadata.owner_references
    assert owner.dump() == {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "Application",
        "name": "web",
        "uid": "0a1b2c3d-4e5f",
    }
    assert (sync.spec.cluster, sync.spec.artifact, sync.spec.application) == (M1, C1, "web")
    assert [(row.name, row.policy, row.cluster) for row in result.rows] == [
        ("web-0-attachedcluster-m1", "web-0", M1),
        ("db-attachedcluster-m1", "db", M1),
        ("db-attachedcluster-m2", "db", M2),
    ]


def test_g31_without_destination_the_hub_itself():
    bare = policy()
    del bare["destination"]
    assert created(plan(application(bare), fleets={}, known={})) == ["web-0-currentcluster-host"]


def test_g32_long_names_stay_unique_and_valid():
    app = application(policy("p" * 50))
    result = plan(app, clusters=("cluster-number-one-of-x", "cluster-number-one-of-y"))
    assert len(set(created(result))) == 2
    assert all(len(name) <= 63 and name[-1].isalnum() for name in created(result))


def test_a_name_of_another_application_gets_a_suffix_and_the_row_keeps_kurators():
    result = plan(application(), taken={"web-0-attachedcluster-m1"}, clusters=("m1",))
    assert created(result) == ["web-0-attachedcluster-m1-0a1b2"]
    assert result.rows[0].child == "web-0-attachedcluster-m1"
    syncs = carried_out(result)
    assert plan(application(), syncs, clusters=("m1",)).rows[0].name == "web-0-attachedcluster-m1-0a1b2"


def test_policy_and_cluster_that_read_alike_get_different_names():
    app = application(policy("a"), policy("a-attachedcluster"), policy("a.b"))
    clusters = ("attachedcluster-x", "x")
    found = [
        sync.metadata.name
        for sync in plan(app, clusters=clusters, taken={"a-attachedcluster-attachedcluster-x-0a1b2"}).create
    ]
    assert len(set(found)) == len(found) == 6


def test_own_and_taken_go_by_owner():
    mine = carried_out(plan(application()))
    others = carried_out(plan(application(policy("db"), name="other", uid="ff")))
    assert own_and_taken(application(), mine + others) == (mine, frozenset(s.metadata.name for s in others))


def test_a_fleet_that_wants_flagger_is_named_for_its_rollouts():
    app = application(policy("plain"), policy("rolled", rollout=ROLLED), policy("host", destination=None))
    with_plugin = fleet("m1")
    with_plugin["shop"] = with_plugin["shop"].model_copy(
        update={"spec": with_plugin["shop"].spec.model_copy(update={"plugin": {"flagger": {}}})}
    )
    found = plan(app, fleets=with_plugin)
    assert found.uninstalled == {("rolled", M1): "Fleet/ns/shop"}
    assert {sync.spec.cluster.name: sync.spec.engine for sync in found.create} == {"m1": "flagger", "host": "hub"}
    assert plan(app).uninstalled == {}


ROLLED = {
    "trafficRoutingProvider": "istio",
    "workload": {"name": "cart"},
    "serviceName": "cart",
    "port": 80,
    "rolloutPolicy": {"skipTrafficAnalysis": True},
}


def aged(created, mode, *clusters, name="shop"):
    found = fleet(*clusters)["shop"].model_dump(by_alias=True)
    found["metadata"] |= {"name": name, "creationTimestamp": created}
    return {name: Fleet.model_validate(found | {"spec": found["spec"] | {"rolloutEngine": {"mode": mode}}})}


def test_the_older_of_two_fleets_says_what_runs_the_canaries_and_the_other_ones_application_hears_of_it():
    app = application(policy("plain"), policy("rolled", rollout=ROLLED))
    own = aged("2026-02-01T00:00:00Z", "Hub", "m1", "m2")
    older = aged("2026-01-01T00:00:00Z", "Flagger", "m2", name="older")
    found = plan(app, fleets=own | older)
    engines = {(sync.spec.policy, sync.spec.cluster.name): sync.spec.engine for sync in found.create}
    assert {key: engines["rolled", key] for key in ("m1", "m2")} == {"m1": "hub", "m2": "flagger"}
    [conflict] = found.conflicts
    assert (conflict.cluster, conflict.winner.metadata.name, conflict.loser.metadata.name) == (M2, "older", "shop")
    assert plan(app, fleets=own | aged("2026-03-01T00:00:00Z", "Flagger", "m2", name="newer")).conflicts == ()
    assert plan(application(policy("plain")), fleets=own | older).conflicts == ()


def test_another_engine_is_an_update_of_the_same_sync():
    app = application(policy("rolled", rollout=ROLLED))
    syncs = carried_out(plan(app, fleets=aged(NOW, "Hub", "m1")))
    again = plan(app, syncs, fleets=aged(NOW, "Agent", "m1"))
    assert [(update.name, update.spec.engine) for update in again.update] == [("rolled-attachedcluster-m1", "agent")]


def test_nothing_changes_when_nothing_changed():
    syncs = carried_out(plan(application()))
    again = plan(application(), syncs)
    assert (again.create, again.update, again.delete, again.held, again.problems) == ((), (), (), (), ())


def test_a_new_artifact_updates_and_a_source_without_one_keeps_the_last():
    syncs = carried_out(plan(application()))
    assert {update.spec.artifact for update in plan(application(), syncs, artifact=C2).update} == {C2}
    assert plan(application(), syncs, artifact=None).update == ()
    assert plan(application(), artifact=None).create == ()


def test_a_request_reaches_every_sync_once():
    syncs = carried_out(plan(application()))
    asked = plan(application(), syncs, requested_at="x")
    assert {update.spec.requested_at for update in asked.update} == {"x"}
    syncs = carried_out(asked, syncs)
    assert plan(application(), syncs, requested_at="x").update == plan(application(), syncs).update == ()


def test_left_out_fields_of_the_rollout_are_filled_in():
    rollout = {
        "trafficRoutingProvider": "kuma",
        "workload": {"name": "cart"},
        "serviceName": "cart",
        "port": 80,
        "rolloutPolicy": {"skipTrafficAnalysis": True},
    }
    result = plan(application(policy(rollout=rollout, kustomization={"targetNamespace": "shop"})))
    assert result.create[0].spec.rollout.workload.namespace == "shop"


@pytest.mark.parametrize(
    "change",
    [
        {"clusters": ("m1",), "known": labels(m1={}, m2={})},  # left the fleet (G 34)
        {"known": labels(m1={}, m2=None)},  # its object was deleted
    ],
    ids=["left the fleet", "object deleted"],
)
def test_g34_a_cluster_that_goes_is_pruned(change):
    syncs = carried_out(plan(application()))
    result = plan(application(), syncs, **change)
    assert result.delete == ("web-0-attachedcluster-m2",)
    assert [row.cluster for row in result.rows] == [M1]


def test_g34_a_selector_that_no_longer_matches_prunes():
    chosen = policy(destination={"fleet": "shop", "clusterSelector": {"matchLabels": {"env": "dev"}}})
    syncs = carried_out(plan(application(chosen), known=labels(m1={"env": "dev"}, m2={"env": "dev"})))
    result = plan(application(chosen), syncs, known=labels(m1={"env": "dev"}, m2={"env": "prod"}))
    assert result.delete == ("web-0-attachedcluster-m2",)


def test_a_fleet_that_is_gone_or_mistyped_takes_nothing_away():
    """Everything in it stays at what it has, until the Fleet is there, or the Application goes."""
    syncs = carried_out(plan(application()))
    result = plan(application(), syncs, fleets={"shop": None}, artifact=C2)
    assert (result.create, result.update, result.delete, result.held) == ((), (), (), ())
    assert [problem.reason for problem in result.problems] == ["FleetNotFound"]
    assert result.complete


def test_beside_a_fleet_that_is_not_there_another_may_not_have_been_read_yet():
    other = policy("b", destination={"fleet": "unread"})
    result = plan(application(policy("a"), other), fleets={"shop": None})
    assert not result.complete


def test_what_has_not_been_read_yet_is_kept_as_it_is():
    syncs = carried_out(plan(application()))
    assert plan(application(), syncs, fleets={}, artifact=C2) == plan(application(), syncs, fleets={})
    gap = plan(application(), syncs, known=labels(m1={}), artifact=C2)
    assert gap.delete == ()
    assert not gap.complete
    assert [update.name for update in gap.update] == ["web-0-attachedcluster-m1"]


@pytest.mark.parametrize("fleets", [{"shop": None}, {}], ids=["not there", "not read"])
def test_a_policy_that_is_renamed_while_its_fleet_is_not_there_keeps_what_it_has(fleets):
    syncs = carried_out(plan(application(policy("old"))))
    result = plan(application(policy("new")), syncs, fleets=fleets)
    assert (result.create, result.update, result.delete) == ((), (), ())
    assert [each.name for each in result.held] == ["old-attachedcluster-m1", "old-attachedcluster-m2"]
    is_told = tuple(result.unplaced.values())
    for each, member in zip(result.held, ("m1", "m2"), strict=True):
        assert (each.waits_for, each.problems) == ((() if is_told else (f"new-attachedcluster-{member}",)), is_told)
    empty = carried_out(plan(application(policy("old"))), applied=False)
    assert len(plan(application(policy("new")), empty, fleets=fleets).delete) == 2
    back = plan(application(policy("new")), syncs)
    assert len(back.create) == len(back.held) == 2
    assert len(plan(application(policy("new")), carried_out(back, syncs)).delete) == 2


def test_names_by_place_that_shift_while_the_fleet_is_not_there_take_nothing_away():
    """Of two policies without a name the first one goes: the second one now has its name, and not its objects."""
    syncs = carried_out(plan(application(policy(kustomization=at("a")), policy(kustomization=at("b")))))
    result = plan(application(policy(kustomization=at("b"))), syncs, fleets={"shop": None}, clusters=("m1",))
    assert (result.update, result.delete) == ((), ())
    assert result.held[0] == Held("web-1-attachedcluster-m1", problems=(result.unplaced["web-0"],))


AT_A = {"kustomization": {"path": "a"}}


@pytest.mark.parametrize(
    ("of", "artifact", "status", "is_held"),
    [
        (AT_A, C1, {}, False),
        (AT_A, None, {}, False),
        (AT_A | {"depends_on": ["b"]}, C1, {}, False),
        (AT_A, C2, {}, True),
        ({"kustomization": {"path": "b"}}, C1, {}, True),
        ({**AT_A, "rollout": {}}, C1, {}, True),
        (AT_A, C1, {"last_applied_digest": None}, True),
    ],
    ids=["the same", "no artifact", "other dependencies", "a commit", "another path", "a rollout", "not applied"],
)
def test_a_policy_removed_while_the_fleet_is_not_there_waits_for_those_that_may_get_its_objects(
    of, artifact, status, is_held
):
    if "rollout" in of:
        of = of | {"rollout": ROLLED | {"workload": {"name": "cart", "namespace": "shop"}}}
    syncs = carried_out(plan(application(policy("a", **AT_A), policy("b")), clusters=("m1",)))
    syncs = [done(syncs[0], **status), syncs[1]]
    result = plan(application(policy("a", **dict(of))), syncs, artifact=artifact, fleets={"shop": None})
    assert result.update == ()
    assert [each.name for each in result.held] == ["b-attachedcluster-m1"] * is_held
    assert list(result.delete) == ["b-attachedcluster-m1"] * (not is_held)


def test_nothing_on_the_hub_waits_for_a_fleet():
    """A policy is removed there although another one is placed nowhere; one that is to move away stays."""
    bare = policy("a")
    del bare["destination"]
    syncs = carried_out(plan(application(bare)))
    assert plan(application(policy("b")), syncs, fleets={"shop": None}).delete == ("a-currentcluster-host",)
    moved = plan(application(policy("a")), syncs, fleets={"shop": None})
    assert (moved.delete, moved.held) == ((), ())


def test_what_goes_elsewhere_does_not_wait_for_a_cluster_that_was_not_read():
    syncs = carried_out(plan(application(policy("a"), policy("b")), clusters=("m1",)))
    here = policy("a", destination={"fleet": "shop", "clusterSelector": {"matchLabels": {"env": "x"}}})
    result = plan(application(here), syncs, clusters=("m1", "m2"), known=labels(m1={}))
    assert set(result.delete) == {"a-attachedcluster-m1", "b-attachedcluster-m1"}


def test_the_plan_says_of_each_policy_which_fleet_is_not_there():
    """Problems with one message are told once, rows are not."""
    app = application(
        policy("a"),
        policy("b", destination={"fleet": "other"}),
        policy("c"),
        policy("d", destination={"fleet": "unread"}),
    )
    result = plan(app, fleets={"shop": None, "other": None})
    assert {name: each.message.split()[0] for name, each in result.unplaced.items()} == {
        "a": "Fleet/ns/shop",
        "b": "Fleet/ns/other",
        "c": "Fleet/ns/shop",
    }
    assert {each.policy for each in result.unplaced.values()} == {"a", "b", "c"}
    assert len(result.problems) == 2


def test_a_missing_fleet_is_said_once_and_other_policies_go_on():
    bare = policy("host")
    bare["destination"] = {"fleet": ""}
    result = plan(application(policy("a"), policy("b"), bare), fleets={"shop": None})
    assert [problem.reason for problem in result.problems] == ["FleetNotFound"]
    assert created(result) == ["host-currentcluster-host"]


def measured(name, query, *, metric="err", namespace="shop", **fields):
    """A policy with a rollout that has a metric of its own."""
    own = {"name": metric, "customMetric": {"provider": {"type": "prometheus"}, "query": query}}
    analysis = {"checkIntervalSeconds": 10, "checkFailedTimes": 1, "metrics": [own]}
    rollout = ROLLED | {
        "workload": {"name": name, "namespace": namespace} if namespace else {"name": name},
        "rolloutPolicy": {"skipTrafficAnalysis": True, "trafficAnalysis": analysis},
    }
    return policy(name, rollout=rollout, **fields)


def test_metrics_of_two_policies_that_share_a_name_are_refused_for_both():
    """Their MetricTemplates would be one object, and the last writer's query would decide for both."""
    result = plan(application(measured("a", "q1"), measured("b", "q2"), measured("c", "q", metric="own"), policy("d")))
    assert created(result) == [f"{name}-attachedcluster-{member}" for name in ("c", "d") for member in ("m1", "m2")]
    assert [(each.reason, each.policy, each.cluster, each.terminal) for each in result.problems] == [
        ("RolloutInvalid", name, member, True) for member in (M1, M2) for name in ("a", "b")
    ]
    assert {each.message for each in result.problems} == {
        "rollout.rolloutPolicy.trafficAnalysis.metrics: err has different customMetrics in the policies a and b, which "
        "share the namespace shop; give one of them another name"
    }
    assert len(result.rows) == 8


def test_what_runs_stays_as_it_is_while_names_of_metrics_are_refused():
    syncs = carried_out(plan(application(measured("a", "q1"), measured("b", "q1"))))
    result = plan(application(measured("a", "q2"), measured("b", "q1")), syncs, artifact=C2)
    assert (result.create, result.update, result.delete, result.held) == ((), (), (), ())
    assert len(result.problems) == 4
    mended = plan(application(measured("a", "q2", metric="mine"), measured("b", "q1")), syncs, artifact=C2)
    assert (len(mended.update), mended.problems) == (4, ())


def at(path):
    return {"path": path}


REFUSED = ["b-attachedcluster-m1", "c-attachedcluster-m1"]


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_removed_policy_waits_for_one_that_is_to_bring_its_objects_also_where_that_is_refused(is_refused):
    """One edit removes a and lets b's path have a's objects: while b may not change, nobody else brings them."""
    before = [measured("b", "q"), measured("c", "q")]
    syncs = carried_out(plan(application(policy("a", kustomization=at("a")), *before), clusters=("m1",)))
    after = [measured("b", "q2" if is_refused else "q", kustomization=at("all")), measured("c", "q")]
    result = plan(application(*after), syncs, clusters=("m1",))
    assert (result.create, result.delete) == ((), ())
    problems = result.problems[:1] if is_refused else ()
    assert result.held == (Held("a-attachedcluster-m1", () if is_refused else tuple(REFUSED[:1]), problems),)
    mended = application(measured("b", "q2", kustomization=at("all")), measured("c", "q2"))
    result = plan(mended, carried_out(result, syncs), clusters=("m1",))
    assert result.delete == ()
    result = plan(mended, carried_out(result, syncs), clusters=("m1",))
    assert (result.delete, result.held) == (("a-attachedcluster-m1",), ())


def test_a_removed_policy_waits_where_one_beside_it_may_not_begin():
    syncs = carried_out(plan(application(policy("a"), measured("c", "q")), clusters=("m1",)))
    result = plan(application(measured("b", "q2"), measured("c", "q")), syncs, clusters=("m1",))
    assert (result.create, result.delete) == ((), ())
    assert result.held == (Held("a-attachedcluster-m1", problems=result.problems[:1]),)


def holding(sync, *ids, **status):
    """What it has in its inventory."""
    return done(sync, inventory={"entries": [{"id": f"ns_{each}__ConfigMap", "v": "v1"} for each in ids]}, **status)


def record(**fields):
    return {"namespace": "shop", "workload": "cart", "service": "cart", **fields}


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_renamed_policy_goes_when_another_one_has_all_it_has_whoever_else_may_not_change(is_refused):
    """Held for good at an old commit, it would be in the way of the one that has taken over."""
    others = [measured("z1", "q"), measured("z2", "q2")] if is_refused else [policy("z", destination=MISSING)]
    fleets = with_other("m1")
    syncs = plan(application(policy("a")), fleets=fleets, clusters=("m1",)).create
    syncs = [holding(sync, "x", "y") for sync in syncs]
    renamed = application(policy("b"), *others)
    result = plan(renamed, syncs, artifact=C2, fleets=fleets, clusters=("m1",))
    assert created(result) == ["b-attachedcluster-m1"]
    assert [each.name for each in result.held] == ["a-attachedcluster-m1"]
    for ids, gone in ((("x",), ()), (("x", "y", "new"), ("a-attachedcluster-m1",))):
        after = [*syncs, holding(result.create[0], *ids)]
        again = plan(renamed, after, artifact=C2, fleets=fleets, clusters=("m1",))
        assert (again.delete, len(again.held)) == (gone, 1 - len(gone))


PARTS = {"inventory_parts": ["p"]}
ROLLOUT = {"rollout": record()}


@pytest.mark.parametrize(
    ("old", "new", "is_held"),
    [
        ({}, {}, False),
        (PARTS, {}, True),
        ({}, PARTS, False),
        ({}, {"last_applied_digest": None}, True),
        (ROLLOUT, {}, True),
        (ROLLOUT, ROLLOUT, False),
        (ROLLOUT, {"rollout": record(removing=True)}, True),
        (ROLLOUT, {"rollout": record(workload="other")}, True),
    ],
    ids=["all", "parts", "its parts", "not applied", "rollout", "same", "removed", "another"],
)
def test_what_another_one_has_is_told_from_inventory_and_rollout(old, new, is_held):
    fleets = with_other("m1")
    first = plan(application(policy("a"), policy("b")), fleets=fleets, clusters=("m1",)).create
    after = application(policy("b"), policy("z", destination=MISSING))
    syncs = [holding(first[0], "x", **old), holding(first[1], "x", **new)]
    result = plan(after, syncs, fleets=fleets, clusters=("m1",))
    assert [each.name for each in result.held] == ["a-attachedcluster-m1"] * is_held
    assert list(result.delete) == ["a-attachedcluster-m1"] * (not is_held)


def test_those_that_go_themselves_take_nothing_over():
    fleets = with_other("m1")
    first = plan(application(policy("a"), policy("b"), policy("c")), fleets=fleets, clusters=("m1",)).create
    a, b, c = (holding(sync, "x") for sync in first)
    after = application(policy("z", destination=MISSING))
    result = plan(after, [a, b, leaving(c)], fleets=fleets, clusters=("m1",))
    assert [each.name for each in result.held] == ["a-attachedcluster-m1", "b-attachedcluster-m1"]
    kept = application(policy("c"), policy("z", destination=MISSING))
    assert len(plan(kept, [a, b, leaving(c)], fleets=fleets, clusters=("m1",)).held) == 2


@pytest.mark.parametrize("is_there", [True, False])
def test_a_member_that_leaves_a_fleet_waits_for_no_policy_of_another_one_that_is_missing(is_there):
    app = application(policy("a"), policy("z", destination=MISSING))
    syncs = carried_out(plan(app, fleets=with_other("m1", "m2")))
    known = labels(m1={}, m2={} if is_there else None)
    result = plan(app, syncs, fleets=with_other("m1"), known=known)
    assert (result.delete, result.held) == (("a-attachedcluster-m2",), ())


@pytest.mark.parametrize("is_there", [True, False])
def test_it_waits_for_one_that_is_there_and_may_take_something_over(is_there):
    """Until the cluster itself is gone: then nobody does."""
    app = application(policy("a"), policy("z", destination=MISSING))
    other = fleet("m2")["shop"]
    syncs = carried_out(plan(app, fleets=with_other("m1", "m2", other=other)))
    known = labels(m1={}, m2={} if is_there else None)
    result = plan(app, syncs, fleets=with_other("m1"), known=known)
    assert (result.delete, result.held) == (("a-attachedcluster-m2",), ())
    result = plan(app, syncs, fleets=with_other("m1"), known=known, artifact=C2)
    assert result.held == (Held("a-attachedcluster-m2", problems=(result.unplaced["z"],)),) * is_there
    assert result.delete == ("a-attachedcluster-m2",) * (not is_there)


@pytest.mark.parametrize("suspend", [True, False])
@pytest.mark.parametrize("fleets", [{"shop": None}, {}], ids=["not there", "not read"])
def test_suspend_is_heard_while_the_fleet_is_not_there(fleets, suspend):
    """Of the policy and of its rollout, wherever it is already; all else stays as it is."""

    def stopped(suspend, **kustomization):
        found = policy("b", rollout=ROLLED | {"rolloutPolicy": ROLLED["rolloutPolicy"] | {"suspend": suspend}})
        found["kustomization"] = found["kustomization"] | {"suspend": suspend} | kustomization
        return application(found)

    syncs = carried_out(plan(stopped(not suspend)))
    result = plan(stopped(suspend, path="other"), [syncs[0], leaving(syncs[1])], fleets=fleets, artifact=C2)
    [update] = result.update
    assert update.name == "b-attachedcluster-m1"
    assert (update.spec.artifact, update.spec.kustomization.path) == (C1, syncs[0].spec.kustomization.path)
    assert update.spec.kustomization.suspend is update.spec.rollout.rollout_policy.suspend is suspend
    again = plan(stopped(suspend, path="other"), carried_out(result, syncs[:1]), fleets=fleets, artifact=C2)
    assert again.update == ()


@pytest.mark.parametrize("suspend", [True, False])
def test_suspend_is_heard_while_names_of_metrics_are_refused(suspend):
    """In an emergency it stops the policy, or its rollout; all else stays as it is."""

    def stopped(name, query, *, suspend, **fields):
        found = measured(name, query, kustomization={"suspend": suspend}, **fields)
        found["rollout"]["rolloutPolicy"]["suspend"] = suspend
        return found

    first = [stopped("b", "q", suspend=not suspend), policy("c")]
    syncs = carried_out(plan(application(*first), clusters=("m1",)))
    edited = [stopped("b", "q2", suspend=suspend), measured("c", "q", kustomization={"suspend": suspend})]
    result = plan(application(*edited), syncs, clusters=("m1",), artifact=C2)
    assert len(result.problems) == 2
    old = {sync.metadata.name: sync.spec for sync in syncs}
    for update in result.update:
        assert update.spec.kustomization.suspend is suspend
        assert update.spec.artifact == C1
    assert [update.name for update in result.update] == (REFUSED if suspend else REFUSED[:1])
    spec = result.update[0].spec
    assert spec.rollout.rollout_policy.suspend is suspend
    assert (
        spec.rollout.rollout_policy.traffic_analysis
        == old["b-attachedcluster-m1"].rollout.rollout_policy.traffic_analysis
    )
    again = plan(application(*edited), carried_out(result, syncs), clusters=("m1",), artifact=C2)
    assert again.update == ()


@pytest.mark.parametrize(
    "other",
    [
        measured("b", "q1"),
        measured("b", "q2", metric="other"),
        measured("b", "q2", namespace="elsewhere"),
        measured("b", "q2", namespace=None, kustomization={"targetNamespace": "elsewhere"}),
        measured("b", "q2", destination={"fleet": "shop", "clusterSelector": {"matchLabels": {"env": "b"}}}),
    ],
    ids=["the same query", "another name", "another namespace", "another targetNamespace", "another cluster"],
)
def test_metrics_of_policies_that_do_not_meet_are_left_alone(other):
    first = measured("a", "q1", destination={"fleet": "shop", "clusterSelector": {"matchLabels": {"env": "a"}}})
    known = labels(m1={"env": "a"}, m2={"env": "b"})
    assert plan(application(first, other), known=known).problems == ()


def test_only_where_they_meet_names_of_metrics_are_refused():
    first = measured("a", "q1", destination={"fleet": "shop", "clusterSelector": {"matchLabels": {"env": "a"}}})
    second = measured("b", "q2", namespace=None, kustomization={"targetNamespace": "shop"})
    result = plan(application(first, second), known=labels(m1={"env": "a"}, m2={"env": "b"}))
    assert created(result) == ["b-attachedcluster-m2"]
    assert {(each.policy, each.cluster) for each in result.problems} == {("a", M1), ("b", M1)}


def test_a_missing_cluster_is_a_problem_of_each_policy():
    result = plan(application(policy("a"), policy("b")), known=labels(m1={}, m2=None))
    assert [(problem.policy, problem.cluster) for problem in result.problems] == [("a", M2), ("b", M2)]


def test_a_removed_policy_is_pruned_once_the_others_have_settled():
    syncs = carried_out(plan(application(policy("a"), policy("b")), clusters=("m1",)))
    assert plan(application(policy("a")), syncs, clusters=("m1",)).delete == ("b-attachedcluster-m1",)


def test_a_policy_switched_to_helm_is_pruned_and_says_so():
    helm = {"interval": "1m", "chart": {"spec": {"chart": "db"}}}
    switched = {"name": "a", "helm": helm, "destination": {"fleet": "shop"}}
    syncs = carried_out(plan(application(policy("a"))))
    result = plan(application(switched), syncs)
    assert set(result.delete) == {"a-attachedcluster-m1", "a-attachedcluster-m2"}
    [problem] = result.problems
    assert (problem.reason, problem.policy, problem.terminal) == ("NotSupportedYet", "a", True)
    assert problem.message == "spec.syncPolicies[0].helm is accepted but not carried out yet; use kustomization"


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"helmRepository": {"url": "https://x", "interval": "1m"}}, "spec.source.helmRepository"),
        ({"ociRepository": {"url": "oci://x", "interval": "1m"}}, "spec.source.ociRepository"),
    ],
)
def test_another_source_kind_says_so_and_prunes_nothing(source, field):
    syncs = carried_out(plan(application()))
    result = plan(application(source=source), syncs, artifact=None)
    assert (result.delete, result.update) == ((), ())
    assert result.problems[0].message.startswith(f"{field} is accepted but not carried out yet")


def test_source_problems_need_a_source_of_that_kind():
    assert plan(application(source={"gitRepository": {"url": "https://x", "interval": "1m"}})).problems == ()
    assert plan(application(source={"unknown": {}})).problems == ()


def test_policies_that_the_crd_would_refuse_are_named():
    result = plan(application(policy("a"), policy("A"), {"name": "none", "destination": {"fleet": "shop"}}))
    assert [(problem.reason, problem.policy) for problem in result.problems] == [
        ("DuplicatePolicy", "A"),
        ("PolicyEmpty", "none"),
    ]


def test_a_renamed_policy_hands_over_before_the_old_one_goes():
    before = carried_out(plan(application(policy("old")), clusters=("m1",)))
    renamed = application(policy("new"))
    first = plan(renamed, before, clusters=("m1",))
    assert created(first) == ["new-attachedcluster-m1"]
    assert first.delete == ()
    assert first.held == (Held("old-attachedcluster-m1", ("new-attachedcluster-m1",)),)
    under_way = carried_out(first, before, applied=False)
    assert plan(renamed, under_way, clusters=("m1",)).delete == ()
    assert plan(renamed, carried_out(first, before), clusters=("m1",)).delete == ("old-attachedcluster-m1",)


def test_hand_over_waits_only_for_the_same_cluster():
    before = carried_out(plan(application(policy("old"))))
    after = plan(application(policy("new")), before, clusters=("m1",))
    assert after.delete == ("old-attachedcluster-m2",)
    assert [held.name for held in after.held] == ["old-attachedcluster-m1"]


def test_what_never_brought_anything_goes_at_once():
    before = carried_out(plan(application(policy("old")), clusters=("m1",)), applied=False)
    assert plan(application(policy("new")), before, clusters=("m1",)).delete == ("old-attachedcluster-m1",)


def test_an_inventory_in_parts_counts_as_brought():
    [sync] = carried_out(plan(application(policy("old")), clusters=("m1",)), applied=False)
    parted = sync.model_copy(update={"status": sync.status.model_copy(update={"inventory_parts": ["a", "b"]})})
    assert plan(application(policy("new")), [parted], clusters=("m1",)).held[0].name == "old-attachedcluster-m1"


def ready(reason, generation=0):
    return [
        {
            "type": "Ready",
            "status": "False",
            "reason": reason,
            "lastTransitionTime": NOW,
            "observedGeneration": generation,
        }
    ]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, True),
        ({"last_applied_digest": "sha256:0"}, False),
        (
            {
                "last_applied_digest": None,
                "last_attempted_revision": C1.revision,
                "conditions": ready("HealthCheckFailed"),
            },
            True,
        ),
        (
            {"last_applied_digest": None, "last_attempted_revision": C1.revision, "conditions": ready("BuildFailed")},
            False,
        ),
        ({"last_applied_digest": None, "last_attempted_revision": "old", "conditions": ready("PruneFailed")}, False),
    ],
)
def test_taking_over_means_that_the_inventory_is_written(status, expected):
    [sync] = plan(application(), clusters=("m1",)).create
    assert has_taken_over(done(sync, **status)) is expected


def test_taking_over_is_about_the_spec_of_now():
    [sync] = plan(application(), clusters=("m1",)).create
    newer = sync.model_copy(update={"metadata": sync.metadata.model_copy(update={"generation": 2})})
    assert not has_taken_over(done(newer, observed_generation=1))
    assert not has_taken_over(sync.model_copy(update={"spec": sync.spec.model_copy(update={"artifact": None})}))


def test_a_suspended_sync_holds_nobody_up():
    suspended = application(policy("b", kustomization={"suspend": True}))
    syncs = carried_out(plan(application(policy("a"))), applied=True)
    syncs += carried_out(plan(suspended), applied=False)
    assert len(plan(suspended, syncs).delete) == 2


def leaving(sync):
    return sync.model_copy(update={"metadata": sync.metadata.model_copy(update={"deletion_timestamp": NOW})})


def test_one_that_is_being_deleted_is_waited_for():
    syncs = [leaving(sync) for sync in carried_out(plan(application(), clusters=("m1",)))]
    result = plan(application(), syncs, artifact=C2, clusters=("m1",))
    assert (result.create, result.update, result.delete) == ((), (), ())
    assert plan(application(policy("new")), syncs, clusters=("m1",)).delete == ()


def test_nothing_goes_before_one_that_is_being_deleted_is_made_anew():
    """A policy that is renamed, and renamed back while the old one is on its way out with all that it has brought."""
    old = carried_out(plan(application(policy("old")), clusters=("m1",)))
    new = carried_out(plan(application(policy("new")), clusters=("m1",)))
    result = plan(application(policy("old")), [leaving(old[0]), *new], clusters=("m1",))
    assert (result.create, result.delete) == ((), ())
    assert result.held == (Held("new-attachedcluster-m1", ("old-attachedcluster-m1",)),)


def test_a_second_sync_for_the_same_place_goes():
    [sync] = carried_out(plan(application(), clusters=("m1",)))
    copy = sync.model_copy(update={"metadata": sync.metadata.model_copy(update={"name": "zz-copy"})})
    assert plan(application(), [copy, sync], clusters=("m1",)).delete == ("zz-copy",)


def depends(result):
    return {sync.metadata.name: [each.name for each in sync.spec.kustomization.depends_on] for sync in result.create}


def test_depends_on_names_policies_on_the_same_cluster_or_kurators_children():
    app = application(policy("a"), policy("b", depends_on=["a"]), policy("c", depends_on=["a-attachedcluster-m1"]))
    found = depends(plan(app))
    assert found["b-attachedcluster-m1"] == ["a-attachedcluster-m1"]
    assert found["b-attachedcluster-m2"] == ["a-attachedcluster-m2"]
    assert found["c-attachedcluster-m2"] == ["a-attachedcluster-m1"]


def test_an_unknown_dependency_is_a_problem_and_is_not_dropped():
    result = plan(application(policy("b", depends_on=["nobody"])), clusters=("m1",))
    assert depends(result) == {"b-attachedcluster-m1": ["nobody"]}
    [problem] = result.problems
    assert (problem.reason, problem.policy, problem.cluster) == ("DependencyNotFound", "b", M1)
    assert problem.message.startswith(
        "dependency 'ns/nobody' not found: no policy of this name is placed on AttachedCluster/m1"
    )


def test_dependencies_outside_the_application_are_left_as_written():
    other = {"name": "x", "namespace": "elsewhere"}
    app = application(policy("b", kustomization={"dependsOn": [other, {"name": "theirs"}]}))
    result = plan(app, clusters=("m1",), taken={"theirs"})
    assert [each.dump() for each in result.create[0].spec.kustomization.depends_on] == [
        other,
        {"name": "theirs", "namespace": "ns"},
    ]
    assert result.problems == ()


def test_a_circle_of_dependencies_is_named():
    app = application(policy("a", depends_on=["b"]), policy("b", depends_on=["a"]), policy("c", depends_on=["a"]))
    problems = plan(app, clusters=("m1",)).problems
    assert [(problem.reason, problem.policy) for problem in problems] == [
        ("DependencyCycle", "a"),
        ("DependencyCycle", "b"),
    ]
    assert "a-attachedcluster-m1 -> b-attachedcluster-m1 -> a-attachedcluster-m1" in problems[0].message


@pytest.mark.parametrize("text", ["web", "", "a" * 63, "A.b_c-9"])
def test_a_valid_label_value_stays(text):
    assert label_value(text) == text


@given(st.text(max_size=200))
def test_any_text_becomes_a_valid_label_value(text):
    import re

    assert re.fullmatch(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", label_value(text))


POLICIES = st.lists(st.sampled_from(["a", "b", "c", "a-attachedcluster", "p" * 60]), min_size=1, unique=True)
CLUSTERS = st.lists(st.sampled_from(["m1", "m2", "attachedcluster-m1", "c" * 60]), unique=True)


ODD = [policy("b") | {"kustomization": None}, policy("B"), policy(), policy("c", destination=MISSING)]
LABELLED = policy("a", destination={"fleet": "shop", "clusterSelector": {"matchLabels": {"env": "x"}}})
BARE = policy("p" * 60) | {"destination": None}
READ = st.sampled_from(["m1", "m2"])


@given(
    old=st.lists(st.sampled_from([*ODD, LABELLED, BARE, policy("b"), policy("c")]), min_size=1, max_size=4),
    new=st.lists(st.sampled_from([*ODD, LABELLED, BARE, policy("b"), policy("c")]), min_size=1, max_size=4),
    named=st.lists(READ, unique=True),
    known=st.dictionaries(READ, st.sampled_from([None, {}, {"env": "x"}])),
    is_missing=st.booleans(),
)
def test_a_cluster_sync_is_wanted_just_where_the_plan_does_not_let_it_go(old, new, named, known, is_missing):
    """Each is asked alone, without the whole plan."""
    before = plan(application(*old), known=labels(m1={"env": "x"}, m2={"env": "x"}), fleets=with_other("m1", "m2"))
    syncs, app = carried_out(before), application(*new)
    fleets = {"other": None} if is_missing else with_other(*named)
    result = plan(app, syncs, fleets=fleets, known=labels(**known))
    going = {*result.delete, *(each.name for each in result.held)}
    for sync in syncs:
        wanted = is_wanted(app, sync, fleets=fleets, clusters=labels(**known))
        assert wanted is (sync.metadata.name not in going)


@given(old=POLICIES, old_clusters=CLUSTERS, new=POLICIES, new_clusters=CLUSTERS)
def test_every_change_settles_in_two_plans_and_never_shares_a_name(old, old_clusters, new, new_clusters):
    app = application(*(policy(name) for name in new))
    syncs = carried_out(plan(application(*(policy(name) for name in old)), clusters=tuple(old_clusters)))
    for _ in range(2):
        result = plan(app, syncs, clusters=tuple(new_clusters), artifact=C2)
        syncs = carried_out(result, syncs)
        found = [sync.metadata.name for sync in syncs]
        assert len(found) == len(set(found))
    assert {(s.spec.policy, s.spec.cluster.name) for s in syncs} == {(p, c) for p in new for c in new_clusters}
    final = plan(app, syncs, clusters=tuple(new_clusters), artifact=C2)
    assert (final.create, final.update, final.delete, final.held) == ((), (), (), ())
    assert all(ClusterSync.model_validate(sync.dump()) == sync for sync in syncs)


@pytest.mark.parametrize(
    ("namespace", "reasons"),
    [(None, []), ("", []), ("ns", []), ("other", ["CrossNamespaceRef"]), (" ns", ["CrossNamespaceRef"])],
)
def test_t30_in_lockdown_a_dependency_stays_in_the_applications_namespace(namespace, reasons):
    """The default comes first, then the check, and nothing that runs is pruned for it."""
    plain = application(policy("db"), policy("web"))
    existing = carried_out(plan(plain, clusters=("m1",)))
    named = {"name": "db"} if namespace is None else {"name": "db", "namespace": namespace}
    app = application(policy("db"), policy("web", kustomization={"dependsOn": [named]}))
    result = plan(app, existing, clusters=("m1",), cross_namespace_refs=False)
    assert [problem.reason for problem in result.problems] == reasons
    assert result.delete == ()
    [update] = result.update
    [dependency] = update.spec.kustomization.depends_on
    assert dependency.namespace == (namespace or "ns")
    assert dependency.name == ("db" if reasons else "db-attachedcluster-m1")


def test_t30_without_lockdown_other_namespaces_may_be_named():
    app = application(policy("web", kustomization={"dependsOn": [{"name": "db", "namespace": "other"}]}))
    assert plan(app, clusters=("m1",)).problems == ()
