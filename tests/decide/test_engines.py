"""design.md section 2: which engine runs the canaries of a member, and what it takes as given."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.decide.engines import (
    conflict,
    conflict_message,
    engine_of,
    fleets_by_member,
    options_of,
    settings_of,
)
from fleet_rollout_api.cluster_sync import ClusterReference
from fleet_rollout_api.fleet import Fleet

M1, M2 = (ClusterReference(kind="AttachedCluster", name=name) for name in ("m1", "m2"))
HOST = ClusterReference(kind="currentCluster", name="host")


def fleet(name="f", *members, created="2026-01-01T00:00:00Z", **spec):
    clusters = [{"kind": "AttachedCluster", "name": member} for member in members]
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": created}
    return Fleet.model_validate({"metadata": metadata, "spec": {"clusters": clusters} | spec})


def gone(found):
    metadata = found.metadata.model_copy(update={"deletion_timestamp": "2026-01-02T00:00:00Z"})
    return found.model_copy(update={"metadata": metadata})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, "Hub"),
        (fleet(), "Hub"),
        (fleet(rolloutEngine={}), "Hub"),
        (fleet(rolloutEngine={"meshProvider": "kuma"}), "Hub"),
        *((fleet(rolloutEngine={"mode": mode}), mode) for mode in ("Hub", "Agent", "Flagger")),
        (fleet(plugin={}), "Hub"),
        (fleet(plugin={"metric": {}}), "Hub"),
        (fleet(plugin={"flagger": {}}), "Flagger"),
        (fleet(plugin={"flagger": {"publicTestloader": True}}, rolloutEngine={"mode": "Flagger"}), "Flagger"),
        # The API server refuses it; an older one may have let it in, and Flagger would act on every Canary.
        (fleet(plugin={"flagger": {}}, rolloutEngine={"mode": "Hub"}), "Flagger"),
    ],
)
def test_the_hub_runs_the_canaries_unless_the_fleet_says_otherwise(found, expected):
    assert engine_of(found) == expected


def test_options_are_flaggers_defaults_but_for_where_prometheus_is():
    default = EngineOptions(metrics_server="http://prometheus.istio-system:9090", cluster_name="m1")
    assert options_of(None, "m1") == options_of(fleet(), "m1") == options_of(fleet(rolloutEngine={}), "m1") == default


def test_what_the_fleet_says_replaces_them():
    said = {
        "meshProvider": "smi:istio",
        "metricsServer": "http://prometheus.monitoring:9090",
        "selectorLabels": ["app.kubernetes.io/name"],
        "includeLabelPrefix": ["team/", "cost/"],
        "ingressClass": "contour",
        "clusterName": "paris",
        "eventWebhook": "http://events.example.org",
    }
    assert options_of(fleet(rolloutEngine=said), "m1") == EngineOptions(
        mesh_provider="smi:istio",
        metrics_server="http://prometheus.monitoring:9090",
        selector_labels=("app.kubernetes.io/name",),
        include_label_prefix=("team/", "cost/"),
        ingress_class="contour",
        cluster_name="paris",
        event_webhook="http://events.example.org",
    )


def test_settings_have_defaults_where_there_is_no_fleet():
    assert (settings_of(None).plain_canaries, settings_of(None).smi_adapter) == ("Ignore", False)
    assert settings_of(fleet(rolloutEngine={"plainCanaries": "Adopt"})).plain_canaries == "Adopt"


OLD = fleet("b-old", "m1", created="2026-01-01T00:00:00Z")
NEW = fleet("a-new", "m1", "m2", created="2026-02-01T00:00:00Z", rolloutEngine={"mode": "Flagger"})


@pytest.mark.parametrize(
    ("fleets", "cluster", "expected"),
    [
        ((NEW, OLD), M1, "b-old"),
        ((OLD, NEW), M2, "a-new"),
        ((OLD,), M2, None),
        ((OLD, NEW), HOST, None),
        ((gone(OLD), NEW), M1, "a-new"),
        ((fleet("x", "m1"), fleet("w", "m1")), M1, "w"),
        ((fleet("x", "m1", "m1"),), M1, "x"),
        ((), M1, None),
    ],
)
def test_the_oldest_fleet_that_names_a_member_has_the_say(fleets, cluster, expected):
    all_of_them = fleets_by_member([*fleets, None]).get((cluster.kind, cluster.name), [None])
    assert (all_of_them[0].metadata.name if all_of_them[0] else None) == expected
    assert len(all_of_them) == len({id(each) for each in all_of_them})


def test_a_member_without_kind_is_a_cluster_as_kurator_reads_it():
    plain = Fleet.model_validate({"metadata": {"name": "f"}, "spec": {"clusters": [{"name": "m1"}, {}]}})
    assert fleets_by_member([plain]) == {("Cluster", "m1"): [plain], ("Cluster", ""): [plain]}


def test_fleets_that_agree_or_are_alone_are_no_conflict():
    assert conflict(M1, OLD, OLD) is None
    assert conflict(M1, fleet("other", "m1"), OLD) is None
    assert conflict(HOST, None, None) is None
    assert conflict(M1, NEW, None) is None


def test_a_conflict_names_the_clusters_both_fleets_and_the_way_out():
    many = [conflict(ClusterReference(kind="AttachedCluster", name=f"m{n}"), NEW, OLD) for n in range(7)]
    assert conflict_message(many[1:2]) == (
        "AttachedCluster/m1: Fleet/ns/b-old is older and has engine Hub, Fleet/ns/a-new wants Flagger;"
        " set spec.rolloutEngine.mode alike, or take the cluster out of one of them"
    )
    assert conflict_message([*many, many[0]]).startswith(
        "AttachedCluster/m0, AttachedCluster/m1, AttachedCluster/m2, AttachedCluster/m3, AttachedCluster/m4,"
        " and 2 more: Fleet/ns/b-old"
    )
    third = fleet("c", "m1", rolloutEngine={"mode": "Agent"})
    assert len(conflict_message([many[1], conflict(M1, third, OLD)]).split("; Att")) == 2


def test_t30_lockdown_reaches_the_canaries_of_every_fleet():
    assert options_of(None, "m1", cross_namespace_refs=False).no_cross_namespace_refs
    assert not options_of(fleet(), "m1").no_cross_namespace_refs


def test_t25_the_hub_lends_its_identity_only_where_it_is_told_to():
    assert not options_of(fleet(), "m1").lends_identity
    assert options_of(fleet(), "m1", lends_identity=True).lends_identity
