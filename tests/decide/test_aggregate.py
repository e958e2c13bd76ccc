from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from fleet_rollout.decide.aggregate import application_status, invalid_status
from fleet_rollout.decide.engines import Conflict
from fleet_rollout.decide.hand_over import Held
from fleet_rollout.decide.plan import Row, SyncPlan
from fleet_rollout.decide.problems import Problem
from fleet_rollout_api.application import Application
from fleet_rollout_api.application_status import ApplicationStatus
from fleet_rollout_api.cluster_sync import ClusterReference, ClusterSync
from fleet_rollout_api.fleet import Fleet

T1, T2 = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
AT = "2026-01-01T00:00:00Z"
C1 = {"revision": "main@sha1:c1", "digest": "sha256:1"}
C2 = {"revision": "main@sha1:c2", "digest": "sha256:2"}
ROLLOUT = {
    "trafficRoutingProvider": "istio",
    "workload": {"name": "cart", "namespace": "shop"},
    "serviceName": "cart",
    "port": 80,
    "rolloutPolicy": {"skipTrafficAnalysis": True},
}


def application(**metadata):
    policy = {"kustomization": {"interval": "1m", "prune": True}, "destination": {"fleet": "shop"}}
    spec = {"source": {"gitRepository": {"url": "https://git/x", "interval": "1m"}}, "syncPolicies": [policy]}
    return Application.model_validate(
        {"metadata": {"name": "web", "namespace": "ns", "generation": 2} | metadata, "spec": spec}
    )


def condition(type_, status, reason="R", message="m", generation=1):
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": AT,
        "observedGeneration": generation,
    }


def source(artifact=C1, *conditions, generation=2, **more):
    found = {
        "observedGeneration": generation,
        "conditions": list(conditions) or [condition("Ready", "True", "Succeeded", "stored artifact", generation)],
    } | more
    return found | ({"artifact": {"path": "p", "url": "u", "lastUpdateTime": AT} | artifact} if artifact else {})


def sync(
    cluster="m1",
    *conditions,
    artifact=C1,
    applied=C1,
    rollout=None,
    policy="web-0",
    deleting=False,
    suspend=False,
    **status,
):
    metadata = {"name": f"{policy}-attachedcluster-{cluster}", "namespace": "ns", "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = AT
    spec = {
        "application": "web",
        "policy": policy,
        "cluster": {"kind": "AttachedCluster", "name": cluster},
        "artifact": artifact,
        "kustomization": {"interval": "1m", "prune": True, "suspend": suspend},
        "rollout": ROLLOUT if rollout is not None else None,
    }
    default = condition("Ready", "True", "ReconciliationSucceeded", f"Applied revision: {C1['revision']}")
    status = {
        "observedGeneration": 1,
        "conditions": list(conditions) or [default],
        "lastAppliedRevision": applied and applied["revision"],
        "lastAttemptedRevision": artifact and artifact["revision"],
        "lastAppliedDigest": applied and applied["digest"],
        "appliedFingerprint": "f1",
        "inventory": {"entries": [{"id": "ns_x__ConfigMap", "v": "v1"}]},
        "rollout": rollout or None,
    } | status
    return ClusterSync.model_validate({"metadata": metadata, "spec": spec, "status": status})


def rollout(phase, *, wanted="f1", spec="h2", inputs="i2", **canary):
    """A record whose Canary was at h1 when i2 was applied over i1."""
    attribution = {"wanted": wanted, "baseSpec": "h1", "baseInputs": "i1", "seenInputs": "i1", "inputs": inputs}
    status = {"phase": phase, "lastAppliedSpec": spec, "canaryWeight": 0, "failedChecks": 0, "iterations": 0} | canary
    return {
        "namespace": "shop",
        "workload": "cart",
        "service": "cart",
        "canary": "cart",
        "attribution": attribution,
        "canaryStatus": status,
    }


def row(each, child=None):
    return Row(each.metadata.name, child or each.metadata.name, each.spec.policy, each.spec.cluster)


def planned(*syncs, **more):
    return SyncPlan(rows=tuple(row(each) for each in syncs), **more)


def status(*syncs, plan=None, app=None, of=None, previous=None, now=T1, max_bytes=300_000):
    found = application_status(
        app or application(),
        source=source() if of is None else of or None,
        syncs=syncs,
        plan=planned(*syncs) if plan is None else plan,
        previous=previous,
        now=now,
        max_bytes=max_bytes,
    )
    # What the API server would prune or refuse would be written again for ever.
    assert ApplicationStatus.model_validate(found).dump() == found
    return found


def conditions(found):
    return {each["type"]: each for each in found["conditions"]}


def claims(found, *types):
    return tuple((conditions(found)[type_]["status"], conditions(found)[type_]["reason"]) for type_ in types)


ALL = ("Ready", "Reconciling", "Stalled")
READY = sync("m1"), sync("m2")


def test_the_status_has_kurators_shape():
    record = rollout("Succeeded", trackedConfigs={}, unknownToUs=1)
    record["canaryStatus"]["conditions"] = [
        {"type": "Promoted", "status": "True", "reason": "Succeeded", "odd": 1, "message": None}
    ]
    found = status(sync("m1", rollout=record, lastHandledReconcileAt="x"), of=source(lastHandledReconcileAt="x"))
    assert found["sourceStatus"]["gitRepoStatus"]["artifact"]["revision"] == "main@sha1:c1"
    assert (found["revision"], found["observedGeneration"], found["lastHandledReconcileAt"]) == ("main@sha1:c1", 2, "x")
    [line] = found["syncStatus"]
    assert line == {
        "name": "web-0-attachedcluster-m1",
        "policy": "web-0",
        "cluster": "AttachedCluster/m1",
        "clusterSync": "web-0-attachedcluster-m1",
        "ready": "True",
        "kustomizationStatus": {
            "observedGeneration": 1,
            "conditions": [condition("Ready", "True", "ReconciliationSucceeded", "Applied revision: main@sha1:c1")],
            "lastAppliedRevision": "main@sha1:c1",
            "lastAttemptedRevision": "main@sha1:c1",
            "lastHandledReconcileAt": "x",
            "inventory": {"entries": [{"id": "ns_x__ConfigMap", "v": "v1"}]},
        },
        "rolloutStatus": {
            "clusterName": "m1",
            "rolloutNameInCluster": "cart",
            "rolloutStatusInCluster": {
                "phase": "Succeeded",
                "lastAppliedSpec": "h2",
                "canaryWeight": 0,
                "failedChecks": 0,
                "iterations": 0,
                "trackedConfigs": {},
                "conditions": [{"type": "Promoted", "status": "True", "reason": "Succeeded"}],
            },
        },
    }


def test_all_applied_is_ready():
    found = status(*READY)
    assert claims(found, *ALL, "SourceReady", "RolloutHealthy") == (
        ("True", "ReconciliationSucceeded"),
        ("False", "ReconciliationSucceeded"),
        ("False", "ReconciliationSucceeded"),
        ("True", "Succeeded"),
        ("True", "NoRollouts"),
    )
    assert conditions(found)["Ready"]["message"] == "Applied revision: main@sha1:c1; clusters: 2"
    assert all(each["observedGeneration"] == 2 for each in found["conditions"])
    assert found["summary"] == {
        "clusters": "2/2",
        "readyClusters": 2,
        "totalClusters": 2,
        "readySyncs": 2,
        "totalSyncs": 2,
    }


def test_nothing_changed_is_an_equal_status():
    first = status(*READY)
    assert status(*READY, previous=first, now=T2) == first


def test_a_change_moves_only_its_own_transition_time():
    first = status(*READY)
    found = conditions(status(sync("m1", applied=C2), sync("m2"), previous=first, now=T2))
    assert found["Ready"]["lastTransitionTime"].startswith("2026-01-02")
    assert found["SourceReady"]["lastTransitionTime"].startswith("2026-01-01")


def test_rows_keep_the_plans_order_and_kurators_names():
    syncs = [sync("m2"), sync("m1"), sync("m3", deleting=True), sync("a9")]
    plan = SyncPlan(rows=(row(syncs[0]), row(syncs[1], "kurators-name")))
    found = status(*syncs, plan=plan)
    assert [line["name"] for line in found["syncStatus"]] == [
        "web-0-attachedcluster-m2",
        "kurators-name",
        "web-0-attachedcluster-a9",
        "web-0-attachedcluster-m3",
    ]


UNFINISHED = [
    ("a newer artifact at the source", {"of": source(C2)}, sync()),
    ("not applied yet", {}, sync(artifact=C1, applied=None)),
    ("an older digest applied", {"of": source(C2)}, sync(artifact=C2, applied=C1)),
    ("a newer spec", {}, sync(observedGeneration=0)),
    ("at work", {}, sync("m1", condition("Ready", "Unknown"), condition("Reconciling", "True"))),
    ("no condition yet", {}, ClusterSync.model_validate(sync().dump() | {"status": {}})),
    ("without an artifact", {}, sync(artifact=None, applied=None)),
]


@pytest.mark.parametrize(("given", "each"), [case[1:] for case in UNFINISHED], ids=[case[0] for case in UNFINISHED])
def test_ready_is_unknown_while_a_cluster_is_unfinished(given, each):
    found = status(each, sync("m2"), **given)
    assert claims(found, *ALL) == (("Unknown", "Progressing"), ("True", "Progressing"), ("False", "Progressing"))
    assert "web-0 on AttachedCluster/m1: " in conditions(found)["Ready"]["message"]
    assert found["syncStatus"][0]["ready"] == "Unknown"


def test_a_planned_row_without_its_sync_is_unfinished():
    found = status(sync("m1"), plan=planned(sync("m1"), sync("m2")))
    assert found["syncStatus"][1] == {
        "name": "web-0-attachedcluster-m2",
        "policy": "web-0",
        "cluster": "AttachedCluster/m2",
        "ready": "Unknown",
        "message": "waits to be started",
    }
    assert found["summary"]["clusters"] == "1/2"


def test_a_suspended_policy_says_what_is_applied():
    found = status(sync(artifact=C2, suspend=True), of=source(C2))
    assert found["syncStatus"][0]["message"] == "the policy is suspended, main@sha1:c1 is applied"
    never = status(sync(applied=None, suspend=True))
    assert never["syncStatus"][0]["message"] == "the policy is suspended, nothing is applied"
    assert claims(status(sync(suspend=True)), "Ready") == (("True", "ReconciliationSucceeded"),)


def test_g33_an_unreachable_cluster_shows_in_its_own_row():
    down = sync("m2", condition("Ready", "False", "ClusterUnreachable", "no answer"), condition("Reconciling", "True"))
    found = status(sync("m1"), down)
    assert [line["ready"] for line in found["syncStatus"]] == ["True", "False"]
    assert found["syncStatus"][1]["message"] == "no answer"
    assert claims(found, *ALL) == (
        ("False", "ClusterUnreachable"),
        ("True", "ProgressingWithRetry"),
        ("False", "ProgressingWithRetry"),
    )
    assert conditions(found)["Ready"]["message"] == "web-0 on AttachedCluster/m2: no answer"


def test_what_stays_because_its_fleet_is_not_there_is_not_under_way():
    """It has an older commit, and will not get the newer one before the Fleet is there."""
    missing = Problem("FleetNotFound", "Fleet/ns/shop not found; create it")
    unplaced = SyncPlan(problems=(missing,), unplaced={"web-0": missing})
    found = status(sync("m1"), sync("m2", deleting=True), of=source(C2), plan=unplaced)
    kept, leaving = found["syncStatus"]
    assert (kept["ready"], kept["message"], leaving["ready"]) == ("False", missing.message, "Unknown")
    assert claims(found, "Ready") == (("Unknown", "Progressing"),)
    found = status(sync("m1"), of=source(C2), plan=unplaced)
    assert claims(found, "Ready") == (("False", "FleetNotFound"),)


def test_every_row_that_stays_names_the_fleet_of_its_own_policy():
    """Two Fleets are not there; a policy that is placed nowhere for another reason says nothing of them."""
    found = [Problem("FleetNotFound", f"Fleet/ns/{name} not found; create it", policy=name) for name in ("fa", "fb")]
    named = SyncPlan(problems=tuple(found), unplaced={each.policy: each for each in found})
    rows = [sync("m1", policy="fa"), sync("m1", policy="fb"), sync("m1", policy="other")]
    lines = status(*rows, of=source(C2), plan=named)["syncStatus"]
    assert [line["message"].split()[0] for line in lines] == ["Fleet/ns/fa", "Fleet/ns/fb", "waits"]


def test_failures_of_several_kinds_are_named_together():
    rows = [
        sync(name, condition("Ready", "False", reason, "x"))
        for name, reason in (("m1", "BuildFailed"), ("m2", "PruneFailed"))
    ]
    assert claims(status(*rows), "Ready") == (("False", "ClustersNotReady"),)


def test_only_failures_that_need_an_edit_stall():
    stalled = condition("Ready", "False", "BuildRefused", "x"), condition("Stalled", "True", "BuildRefused", "x")
    assert claims(status(sync("m1", *stalled)), *ALL) == (
        ("False", "BuildRefused"),
        ("False", "BuildRefused"),
        ("True", "BuildRefused"),
    )
    assert claims(status(sync("m1", *stalled), sync("m2", condition("Ready", "False"))), "Stalled")[0][0] == "False"


def test_many_rows_are_named_up_to_a_limit():
    rows = [sync(f"m{number}", condition("Ready", "False", "BuildFailed", "x")) for number in range(8)]
    message = conditions(status(*rows))["Ready"]["message"]
    assert message.endswith("web-0 on AttachedCluster/m4: x; and 3 more")


@pytest.mark.parametrize(
    ("record", "ready", "healthy", "text"),
    [
        (rollout("Succeeded"), ("True", "ReconciliationSucceeded"), ("True", "RolloutSucceeded"), "1 Succeeded"),
        (
            rollout("Initialized", inputs="i1", spec="h1"),
            ("True", "ReconciliationSucceeded"),
            ("True", "RolloutSucceeded"),
            "1 Initialized",
        ),
        (rollout("Progressing"), ("Unknown", "Progressing"), ("Unknown", "RolloutProgressing"), "1 Progressing"),
        (rollout("Failed"), ("False", "RolloutFailed"), ("False", "RolloutFailed"), "1 Failed"),
        # The success, and the failure, of the revision before.
        (rollout("Succeeded", spec="h1"), ("Unknown", "Progressing"), ("Unknown", "RolloutProgressing"), "1 Pending"),
        (rollout("Failed", spec="h1"), ("Unknown", "Progressing"), ("Unknown", "RolloutProgressing"), "1 Pending"),
        (rollout("Succeeded", wanted="f0"), ("Unknown", "Progressing"), ("Unknown", "RolloutProgressing"), "1 Pending"),
        ({}, ("Unknown", "Progressing"), ("Unknown", "RolloutProgressing"), "1 Pending"),
    ],
)
def test_a_canary_counts_with_the_revision_it_is_about(record, ready, healthy, text):
    found = status(sync(rollout=record))
    assert claims(found, "Ready", "RolloutHealthy") == (ready, healthy)
    assert found["summary"]["rollout"] == text


def test_an_old_success_is_not_credited_while_the_new_revision_is_not_applied():
    found = status(sync(rollout=rollout("Succeeded"), artifact=C2, applied=C1), of=source(C2))
    assert claims(found, "Ready", "RolloutHealthy") == (("Unknown", "Progressing"), ("Unknown", "RolloutProgressing"))


def test_a_failed_rollout_is_shown_at_once_and_stalls_when_all_are_done():
    failed, under_way = (
        sync("m1", rollout=rollout("Failed")),
        sync("m2", rollout=rollout("Progressing", canaryWeight=10)),
    )
    early = status(failed, under_way, sync("m3", rollout=rollout("Succeeded")))
    assert claims(early, "Ready", "RolloutHealthy") == (("Unknown", "Progressing"), ("False", "RolloutFailed"))
    assert early["summary"]["rollout"] == "1 Progressing, 1 Succeeded, 1 Failed"
    assert early["summary"]["phases"] == {"Progressing": 1, "Succeeded": 1, "Failed": 1}
    late = status(failed, sync("m2", rollout=rollout("Succeeded")))
    assert claims(late, *ALL) == (("False", "RolloutFailed"), ("False", "RolloutFailed"), ("True", "RolloutFailed"))
    assert conditions(late)["Ready"]["message"].startswith(
        "AttachedCluster/m1: web-0 on AttachedCluster/m1: Canary/shop/cart failed"
    )


def test_a_missing_engine_is_named_until_one_is_at_work():
    record = rollout("Initialized", spec="h1", inputs="i1")
    idle, other = sync(rollout=record | {"canaryStatus": None}), sync("m2", rollout=record)
    wish = {("web-0", idle.spec.cluster): "Fleet/ns/shop", ("web-0", other.spec.cluster): "Fleet/ns/shop"}
    found = status(idle, other, plan=planned(idle, other, uninstalled=wish))
    missing = conditions(found)["EngineMissing"]
    assert (missing["status"], missing["reason"]) == ("True", "NotSupportedYet")
    assert missing["message"] == (
        "Fleet/ns/shop spec.plugin.flagger is not carried out yet; install Flagger by hand in AttachedCluster/m1"
    )
    assert claims(found, "Ready") == (("Unknown", "Progressing"),)
    assert status(idle, other, plan=planned(idle, other, uninstalled=wish), previous=found, now=T2) == found
    at_work = sync(rollout=record)
    after = status(at_work, other, plan=planned(at_work, other, uninstalled=wish), previous=found)
    assert "EngineMissing" not in conditions(after)
    assert claims(after, "Ready") == (("True", "ReconciliationSucceeded"),)


def test_fleets_that_disagree_are_named_and_hold_up_nothing():
    at_work = sync(rollout=rollout("Succeeded"))
    old, new = (Fleet.model_validate({"metadata": {"name": name, "namespace": "ns"}}) for name in ("old", "new"))
    conflicts = (Conflict(at_work.spec.cluster, new, old),)
    found = status(at_work, plan=planned(at_work, conflicts=conflicts))
    told = conditions(found)["EngineConflict"]
    assert (told["status"], told["reason"]) == ("True", "FleetsDisagree")
    assert told["message"].startswith("AttachedCluster/m1: Fleet/ns/old is older")
    assert claims(found, "Ready") == (("True", "ReconciliationSucceeded"),)
    assert "EngineConflict" not in conditions(status(at_work, plan=planned(at_work), previous=found))


def test_what_to_look_after_depends_on_the_engine():
    idle = sync(rollout=rollout("Succeeded") | {"canaryStatus": None})
    for engine, hint in (("hub", "not looked"), ("agent", "fleet-rollout agent runs"), ("flagger", "Flagger runs")):
        each = idle.model_copy(update={"spec": idle.spec.model_copy(update={"engine": engine})})
        assert hint in status(each)["syncStatus"][0]["message"]


def test_a_suspended_rollout_says_so():
    each = sync(rollout=rollout("Progressing"))
    policy = each.spec.rollout.rollout_policy.model_copy(update={"suspend": True})
    spec = each.spec.model_copy(update={"rollout": each.spec.rollout.model_copy(update={"rollout_policy": policy})})
    found = status(each.model_copy(update={"spec": spec}))
    assert found["syncStatus"][0]["message"].endswith("is Progressing; the rollout is suspended")


def test_a_rollout_that_cannot_be_translated_is_no_success():
    broken = (
        condition("Ready", "True"),
        condition("RolloutReady", "False", "ServiceNotFound", "Service/shop/cart not found"),
    )
    found = status(sync("m1", *broken, rollout=rollout("Succeeded")))
    assert claims(found, "Ready", "RolloutHealthy") == (("False", "ServiceNotFound"), ("False", "ServiceNotFound"))
    assert found["syncStatus"][0]["message"] == "Service/shop/cart not found"


def test_a_rollout_is_shown_until_its_removal_is_over():
    each = sync(rollout=rollout("Succeeded"))
    removing = each.model_copy(update={"spec": each.spec.model_copy(update={"rollout": None})})
    found = status(removing)
    assert claims(found, "Ready") == (("Unknown", "Progressing"),)
    assert found["syncStatus"][0]["rolloutStatus"]["rolloutNameInCluster"] == "cart"
    assert "rollout" not in found["summary"]
    down = sync("m1", condition("Ready", "False", "X"), rollout=rollout("Succeeded"))
    down = down.model_copy(update={"spec": removing.spec})
    assert status(down)["syncStatus"][0]["ready"] == "False"


def test_a_canary_without_status_has_a_row_without_it():
    record = rollout("x") | {"canaryStatus": None, "canary": None}
    assert status(sync(rollout=record))["syncStatus"][0]["rolloutStatus"] == {
        "clusterName": "m1",
        "rolloutNameInCluster": "cart",
    }


def test_what_leaves_is_shown_and_not_counted():
    gone = sync("m2", condition("Ready", "False", "ClusterUnreachable", "no answer"), deleting=True)
    found = status(sync("m1"), gone, plan=planned(sync("m1")))
    assert claims(found, *ALL)[0] == ("Unknown", "Progressing")
    assert found["syncStatus"][1]["message"] == "no answer"
    assert found["summary"]["clusters"] == "1/1"
    calm = status(sync("m2", deleting=True), plan=SyncPlan())
    assert calm["syncStatus"][0]["message"] == "what it has brought is being removed"


def test_what_is_held_says_whom_it_waits_for():
    old, new = sync("m1", policy="old"), sync("m1", policy="new", applied=None)
    plan = planned(new, held=(Held(old.metadata.name, (new.metadata.name,)),))
    found = status(old, new, plan=plan)
    assert found["syncStatus"][1]["message"] == "kept until new-attachedcluster-m1 has taken over"


def test_a_failure_is_not_hidden_by_what_is_held_for_it():
    new = sync("m1", condition("Ready", "False", "ArtifactFailed", "no such path"), policy="new", applied=None)
    old = sync("m1", policy="old")
    plan = planned(new, held=(Held(old.metadata.name, (new.metadata.name,)),))
    assert claims(status(old, new, plan=plan), *ALL)[0] == ("False", "ArtifactFailed")


def test_what_is_held_for_one_that_may_never_be_there_says_why():
    """And the Application says it too: nothing is under way."""
    old, new = sync("m1", policy="old"), sync("m1", policy="new", applied=None)
    missing = Problem("FleetNotFound", "Fleet/ns/other not found; create it", policy="z")
    again = Problem("FleetNotFound", "Fleet/ns/other not found; create it", policy="y")
    plan = SyncPlan(problems=(missing,), held=(Held(old.metadata.name, problems=(missing, again)),))
    found = status(old, plan=plan)
    said = f"this is mended: FleetNotFound: {missing.message}"
    assert found["syncStatus"][0]["message"] == f"kept until {said}"
    assert claims(found, *ALL)[0] == ("False", "FleetNotFound")
    plan = planned(new, problems=(missing,), held=(Held(old.metadata.name, (new.metadata.name,), (missing,)),))
    found = status(old, new, plan=plan)
    assert found["syncStatus"][1]["message"] == f"kept until {new.metadata.name} has taken over and {said}"
    assert claims(found, *ALL)[0] == ("Unknown", "Progressing")


M1 = ClusterReference(kind="AttachedCluster", name="m1")


def test_problems_that_may_end_by_themselves():
    missing = Problem("ClusterNotFound", "AttachedCluster/ns/m9 not found; create it")
    found = status(sync("m1"), plan=planned(sync("m1"), problems=(missing, missing)))
    assert claims(found, *ALL) == (
        ("False", "ClusterNotFound"),
        ("True", "ProgressingWithRetry"),
        ("False", "ProgressingWithRetry"),
    )
    assert conditions(found)["Ready"]["message"] == missing.message
    assert found["syncStatus"][0]["ready"] == "True"


def test_problems_that_need_an_edit_stall_and_show_in_their_row():
    circle = Problem("DependencyCycle", "dependsOn goes in a circle", terminal=True, policy="web-0", cluster=M1)
    found = status(sync("m1"), sync("m2"), plan=planned(sync("m1"), sync("m2"), problems=(circle,)))
    assert claims(found, *ALL) == (
        ("False", "DependencyCycle"),
        ("False", "DependencyCycle"),
        ("True", "DependencyCycle"),
    )
    assert [line["ready"] for line in found["syncStatus"]] == ["False", "True"]


MISSING = Problem("ClusterNotFound", "AttachedCluster/ns/m9 not found; create it")
NAMELESS = Problem("ClusterReferenceInvalid", "name is missing; set it", terminal=True, policy="web-0", of_member=True)
CIRCLE = Problem("DependencyCycle", "dependsOn goes in a circle", terminal=True, policy="web-0", cluster=M1)
EMPTY = Problem("PolicyEmpty", "spec.syncPolicies[1] has no kustomization; add one", terminal=True, policy="web-1")


@pytest.mark.parametrize(
    ("problem", "stalled"), [(MISSING, ("False", "ProgressingWithRetry")), (NAMELESS, ("True", "RolloutFailed"))]
)
def test_a_problem_elsewhere_does_not_hide_a_rollback(problem, stalled):
    failed, fine = sync("m1", rollout=rollout("Failed")), sync("m2", rollout=rollout("Succeeded"))
    found = status(failed, fine, plan=planned(failed, fine, problems=(problem,)))
    assert claims(found, "Ready", "Stalled") == (("False", "RolloutFailed"), stalled)
    message = conditions(found)["Ready"]["message"]
    assert message.startswith("AttachedCluster/m1: web-0 on AttachedCluster/m1: Canary/shop/cart failed")
    assert message.endswith(f"; {problem.message}")


@pytest.mark.parametrize("problem", [MISSING, NAMELESS, CIRCLE])
def test_a_problem_of_one_member_does_not_end_the_rollout_of_others(problem):
    other, at_work = sync("m1"), sync("m2", rollout=rollout("Progressing"))
    found = status(other, at_work, plan=planned(other, at_work, problems=(problem,)))
    assert claims(found, *ALL) == (("Unknown", "Progressing"), ("True", "Progressing"), ("False", "Progressing"))
    message = conditions(found)["Ready"]["message"]
    assert message.startswith("web-0 on AttachedCluster/m2: ")
    assert message.endswith(f"; {problem.message}")


def test_a_problem_of_one_member_that_needs_an_edit_stalls_when_the_others_are_done():
    found = status(*READY, plan=planned(*READY, problems=(MISSING, NAMELESS)))
    assert claims(found, "Ready", "Stalled") == (("False", NAMELESS.reason), ("True", NAMELESS.reason))
    assert conditions(found)["Ready"]["message"] == f"{NAMELESS.message}; {MISSING.message}"


def test_a_refused_policy_is_said_first_and_a_rollback_with_it():
    failed, at_work = sync("m1", rollout=rollout("Failed")), sync("m2", rollout=rollout("Progressing"))
    found = status(failed, at_work, plan=planned(failed, at_work, problems=(EMPTY,)))
    assert claims(found, "Ready", "Stalled") == (("False", "PolicyEmpty"), ("True", "PolicyEmpty"))
    message = conditions(found)["Ready"]["message"]
    assert message.startswith(f"{EMPTY.message}; web-0 on AttachedCluster/m1: Canary/shop/cart failed")


def test_without_any_cluster_there_is_nothing_to_wait_for():
    assert claims(status(), "Ready") == (("True", "NoClusters"),)
    assert status()["summary"]["clusters"] == "0/0"


def test_a_plan_made_too_early_promises_nothing():
    assert claims(status(plan=SyncPlan(complete=False)), "Ready") == (("Unknown", "Progressing"),)
    found = application_status(
        application(), source=source(), syncs=[sync()], plan=None, previous=None, now=T1, max_bytes=9999
    )
    assert claims(found, "Ready") == (("Unknown", "Progressing"),)


def test_deletion_names_what_is_left():
    leaving = application(deletionTimestamp=AT)
    found = status(sync("m1", deleting=True), app=leaving, plan=SyncPlan())
    assert claims(found, "Ready", "Reconciling") == (("Unknown", "Deleting"), ("True", "Progressing"))
    assert conditions(found)["Ready"]["message"].startswith("to be cleaned up: web-0 on AttachedCluster/m1")
    assert conditions(status(app=leaving, plan=SyncPlan()))["Ready"]["message"] == ""


REFUSED = condition("Ready", "False", "GitOperationFailed", "no such host", 2)
STALLED = condition("Stalled", "True", "InvalidURL", "x", 2)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ({}, ("Unknown", "Progressing", "True")),
        (source(None, condition("Ready", "Unknown")), ("Unknown", "Progressing", "True")),
        (source(None, REFUSED), ("False", "GitOperationFailed", "True")),
        (source(None, REFUSED, STALLED), ("False", "GitOperationFailed", "False")),
        # A host that is away for a while changes nothing; an edit that cannot be fetched does (G 9).
        (source(C1, REFUSED), ("True", "ReconciliationSucceeded", "False")),
        (source(C1, generation=1), ("Unknown", "Progressing", "True")),
        (source(C1, REFUSED, generation=1), ("False", "GitOperationFailed", "True")),
        (source(C1, REFUSED, STALLED), ("False", "GitOperationFailed", "False")),
    ],
)
def test_a_source_without_content_is_said_first(of, expected):
    found = status(sync(), of=of)
    assert (*claims(found, "Ready")[0], conditions(found)["Reconciling"]["status"]) == expected
    assert conditions(found)["SourceReady"]["status"] == (
        "False" if of and of["conditions"][0]["status"] == "False" else "Unknown"
    )


@pytest.mark.parametrize(
    "problems", [(), (Problem("NotSupportedYet", "spec.source.ociRepository is …", terminal=True),)]
)
def test_another_kind_of_source_is_not_ready(problems):
    app = application()
    other = app.spec.source.model_validate({"ociRepository": {"url": "oci://x", "interval": "1m"}})
    app = app.model_copy(update={"spec": app.spec.model_copy(update={"source": other})})
    found = conditions(status(app=app, of={}, plan=SyncPlan(problems=problems)))
    assert (found["SourceReady"]["status"], found["SourceReady"]["reason"]) == ("False", "NotSupportedYet")
    assert (found["Ready"]["status"], found["Stalled"]["status"]) == (
        ("False", "True") if problems else ("Unknown", "False")
    )


def big(count, entries, **given):
    inventory = {"entries": [{"id": f"ns_config-map-{number}__ConfigMap", "v": "v1"} for number in range(entries)]}
    return [sync(f"member-{number}", inventory=inventory, **given) for number in range(count)]


def test_a_large_status_loses_inventories_first():
    rows = big(20, 100)
    for limit in (60_000, 100_000):  # where they cannot fit, and where they nearly do
        found = status(*rows, max_bytes=limit)
        assert len(json.dumps(found)) <= limit
        assert all("conditions" in line["kustomizationStatus"] for line in found["syncStatus"])
        assert not any("inventory" in line["kustomizationStatus"] for line in found["syncStatus"])
    assert "inventory" in status(*rows)["syncStatus"][0]["kustomizationStatus"]


def test_an_inventory_in_parts_is_not_shown():
    assert "inventory" not in status(sync(inventoryParts=["a", "b"]))["syncStatus"][0]["kustomizationStatus"]


def test_then_details_go_then_rows_that_are_as_wanted():
    rows = big(60, 0, rollout=rollout("Succeeded", trackedConfigs={"configmap/x": "1"}))
    rows[50] = sync("member-50", condition("Ready", "False", "BuildFailed", "x"))
    found = status(*rows, max_bytes=16_000)
    assert len(json.dumps(found)) <= 16_000
    shown = [line["name"] for line in found["syncStatus"]]
    assert found["summary"]["omittedSyncs"] == 60 - len(shown) > 0
    assert found["summary"]["totalSyncs"] == 60
    assert shown[0] == "web-0-attachedcluster-member-0"
    assert "web-0-attachedcluster-member-50" in shown
    assert shown == [row.metadata.name for row in rows if row.metadata.name in shown]
    assert found["syncStatus"][0] == {
        "name": "web-0-attachedcluster-member-0",
        "policy": "web-0",
        "cluster": "AttachedCluster/member-0",
        "clusterSync": "web-0-attachedcluster-member-0",
        "ready": "True",
        "kustomizationStatus": {"lastAppliedRevision": "main@sha1:c1"},
        "rolloutStatus": {
            "clusterName": "member-0",
            "rolloutNameInCluster": "cart",
            "rolloutStatusInCluster": {"phase": "Succeeded", "canaryWeight": 0, "failedChecks": 0, "iterations": 0},
        },
    }


def test_compact_rows_may_all_fit():
    rows = big(60, 0)
    found = status(*rows, max_bytes=40_000)
    assert "omittedSyncs" not in found["summary"]
    assert "conditions" in found["syncStatus"][0]["kustomizationStatus"]
    short = status(*rows, max_bytes=24_000)
    assert len(short["syncStatus"]) == 60
    assert "conditions" not in short["syncStatus"][0]["kustomizationStatus"]


def test_a_planned_row_is_compact_already():
    rows = [*big(60, 0), sync("late")]
    found = status(*rows[:-1], plan=planned(*rows), max_bytes=24_000)
    assert found["syncStatus"][-1]["ready"] == "Unknown"


def test_an_application_that_cannot_be_read_keeps_what_is_known():
    before = status(*READY)
    found = invalid_status(before, "InvalidSpec", "spec.x: wrong", generation=3, now=T2)
    assert found["syncStatus"] == before["syncStatus"]
    assert found["observedGeneration"] == 3
    assert claims(found, *ALL) == (("False", "InvalidSpec"), ("False", "InvalidSpec"), ("True", "InvalidSpec"))
    assert invalid_status(found, "InvalidSpec", "spec.x: wrong", generation=3, now=T1) == found
    assert claims(invalid_status(None, "InvalidSpec", "x", generation=1, now=T1), "Ready") == (
        ("False", "InvalidSpec"),
    )


@pytest.mark.parametrize("odd", ["none", 7, [{}], [7, {"type": "Ready"}], None])
def test_t43_what_is_no_condition_is_written_anew(odd):
    assert status(*READY, previous={"conditions": odd}) == status(*READY)


def test_what_is_about_to_be_deleted_is_not_ready_and_not_counted():
    """The hub may not have told yet that it is on its way out."""
    old = sync("m1", policy="old")
    plan = planned(sync("m1"), delete=(old.metadata.name,))
    found = status(sync("m1"), old, plan=plan)
    assert claims(found, "Ready") == (("Unknown", "Progressing"),)
    assert conditions(found)["Ready"]["message"] == "old on AttachedCluster/m1: what it has brought is being removed"
    assert found["summary"]["totalSyncs"] == 1
