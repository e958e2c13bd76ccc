from __future__ import annotations

import pytest

from fleet_rollout.decide.dependencies import cycles, may_name, unmet
from fleet_rollout_api.cluster_sync import ClusterSync
from fleet_rollout_api.meta import ObjectName

NOW = "2026-01-01T00:00:00Z"


def sync(name, *, application="web", digest="sha256:2", depends_on=(), generation=1, **status):
    spec = {
        "application": application,
        "policy": name,
        "cluster": {"kind": "AttachedCluster", "name": "m1"},
        "artifact": {"revision": "r", "digest": digest} if digest else None,
        "kustomization": {"interval": "1m", "prune": True, "dependsOn": [{"name": each} for each in depends_on]},
    }
    metadata = {"name": name, "namespace": "ns", "generation": generation}
    return ClusterSync.model_validate({"metadata": metadata, "spec": spec, "status": status})


def k1(status="True", **more):
    ready = {"type": "Ready", "status": status, "reason": "R", "lastTransitionTime": NOW}
    return sync("k1", **{"observedGeneration": 1, "lastAppliedDigest": "sha256:2", "conditions": [ready]} | more)


@pytest.mark.parametrize(
    ("dependency", "expected"),
    [
        (None, "dependency 'ns/k1' not found: no policy of this name is placed on this cluster"),
        (k1(conditions=[]), "dependency 'ns/k1' is not ready"),
        (k1("False"), "dependency 'ns/k1' is not ready"),
        (k1(observedGeneration=0), "dependency 'ns/k1' is not ready"),
        (k1(lastAppliedDigest="sha256:1"), "dependency 'ns/k1' revision is not up to date"),
        (k1(), None),
        (k1(lastAppliedDigest="sha256:1", application="other"), None),
    ],
)
def test_g22_a_dependency_is_there_ready_and_at_the_same_revision(dependency, expected):
    assert unmet(sync("k2", depends_on=["k1"]), {("ns", "k1"): dependency}) == expected


def test_dependencies_are_looked_at_in_their_order():
    waiting = sync("k3", depends_on=["k1", "k2"])
    assert unmet(waiting, {("ns", "k1"): k1(), ("ns", "k2"): None}).startswith("dependency 'ns/k2' not found")
    assert unmet(waiting, {}).startswith("dependency 'ns/k1' not found")


def test_without_an_artifact_no_dependency_is_up_to_date():
    assert unmet(sync("k2", digest=None, depends_on=["k1"]), {("ns", "k1"): k1()}).endswith("not up to date")


def test_cycles_show_the_shortest_way_round():
    edges = {"a": ["b", "c"], "b": ["c"], "c": ["a"], "d": ["a"], "e": ["e"], "f": ["missing"]}
    assert cycles(edges) == {"a": ("a", "c", "a"), "b": ("b", "c", "a", "b"), "c": ("c", "a", "c"), "e": ("e", "e")}


@pytest.mark.parametrize(
    ("namespace", "expected"), [(None, True), ("", True), ("ns", True), ("other", False), ("ns ", False)]
)
def test_t30_a_name_without_namespace_is_one_of_its_own(namespace, expected):
    dependency = ObjectName(name="k1", namespace=namespace)
    assert may_name(dependency, "ns", cross_namespace_refs=False) is expected
    assert may_name(dependency, "ns", cross_namespace_refs=True)
