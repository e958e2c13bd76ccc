"""Control annotations row by row, and who may write an object."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_rollout.decide import metadata
from fleet_rollout.decide.metadata import Owner, is_owned, ownership_conflict, with_labels

FLUX = "kustomize.toolkit.fluxcd.io"
OURS = Owner(name="web-0-attachedcluster-m1", namespace="team-a", application="web", hub_uid="hub-1")


def config_map(labels=None, annotations=None):
    found = {"name": "settings", "namespace": "apps", "labels": labels, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": found}


PLAIN = config_map()


@pytest.mark.parametrize("place", ["labels", "annotations"])
@pytest.mark.parametrize(
    ("key", "value", "claim"),
    [
        ("reconcile", "disabled", lambda obj: metadata.is_ignored(obj, None)),
        ("reconcile", "Disabled", lambda obj: metadata.is_ignored(PLAIN, obj)),
        ("ssa", "Ignore", lambda obj: metadata.is_ignored(obj, None)),
        ("ssa", "ignore", lambda obj: metadata.is_ignored(PLAIN, obj)),
        ("ssa", "IfNotPresent", metadata.is_created_only),
        ("ssa", "ifnotpresent", metadata.is_created_only),
        ("ssa", "Merge", lambda obj: metadata.is_merged(obj, None)),
        ("ssa", "merge", lambda obj: metadata.is_merged(PLAIN, obj)),
        ("force", "enabled", lambda obj: metadata.is_recreated(obj, None)),
        ("force", "ENABLED", lambda obj: metadata.is_recreated(PLAIN, obj)),
        ("prune", "disabled", metadata.is_kept),
        ("reconcile", "disabled", metadata.is_kept),
        ("ssa", "Ignore", metadata.is_kept),
    ],
)
def test_a_control_key_counts_as_label_and_as_annotation_in_any_case(place, key, value, claim):
    assert claim(config_map(**{place: {f"{FLUX}/{key}": value}}))
    assert not claim(config_map(**{place: {f"{FLUX}/{key}": "no"}}))
    assert not claim(PLAIN)


def test_owner_labels_are_added_without_touching_the_shared_manifest():
    original = config_map(labels={"app": "web"})
    labelled = with_labels(original, OURS.labels)
    assert labelled["metadata"]["labels"] == {
        "app": "web",
        f"{FLUX}/name": "web-0-attachedcluster-m1",
        f"{FLUX}/namespace": "team-a",
        "apps.kurator.dev/app-name": "web",
        "apps.kurator.dev/hub": "hub-1",
    }
    assert original == config_map(labels={"app": "web"})


def labelled(name=OURS.name, namespace=OURS.namespace, application=OURS.application, hub=OURS.hub_uid):
    return config_map(labels=Owner(name, namespace, application, hub).labels)


FLUX_OURS = {f"{FLUX}/name": OURS.name, f"{FLUX}/namespace": OURS.namespace}


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(PLAIN, id="claimed by nobody"),
        pytest.param(labelled(), id="ours"),
        pytest.param(labelled(name="web-1-attachedcluster-m1"), id="another policy of the same application"),
        pytest.param(config_map(labels=FLUX_OURS), id="left by Flux or Kurator under the same name"),
        pytest.param(config_map(labels={"apps.kurator.dev/app-name": "x"}), id="an application label proves nothing"),
    ],
)
def test_these_may_be_written(live):
    assert ownership_conflict(live, OURS) is None


@pytest.mark.parametrize(
    ("live", "owner"),
    [
        (labelled(application="shop"), "Application 'team-a/shop'"),
        (labelled(namespace="team-b"), "Application 'team-b/web'"),
        (labelled(hub="hub-2"), "Application 'team-a/web' of the hub hub-2"),
        (config_map(labels={"apps.kurator.dev/hub": "hub-1"}), "Application '/'"),
        (config_map(labels={**FLUX_OURS, f"{FLUX}/name": "infra"}), "Kustomization 'team-a/infra' of Flux"),
        (config_map(labels={f"{FLUX}/namespace": "flux-system"}), "Kustomization 'flux-system/' of Flux"),
        (config_map(labels={f"{FLUX}/name": "infra"}), "Kustomization '/infra' of Flux"),
    ],
)
def test_another_owners_object_is_refused_and_both_are_named(live, owner):
    assert ownership_conflict(live, OURS) == (
        f"ConfigMap/apps/settings belongs to {owner}: "
        "remove it from one of the two sources, or delete it from the cluster"
    )


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        (labelled(), True),
        (labelled(application="edited-away"), True),
        (labelled(name="web-1-attachedcluster-m1"), False),
        (labelled(namespace="team-b"), False),
        (labelled(hub="hub-2"), False),
        (config_map(labels=FLUX_OURS), False),
        (PLAIN, False),
    ],
)
def test_only_what_this_very_sync_wrote_may_be_pruned(live, expected):
    assert is_owned(live, OURS) is expected


def test_where_the_name_is_another_applications_now_the_application_counts():
    owner = replace(OURS, shares_name=True)
    assert is_owned(labelled(), owner)
    assert not is_owned(labelled(application="another"), owner)


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        (labelled(name="web-1-attachedcluster-m1"), True),
        (labelled(application="another"), False),
        (labelled(namespace="team-b"), False),
        (labelled(hub="hub-2"), False),
        (config_map(labels=FLUX_OURS), False),
        (PLAIN, False),
    ],
)
def test_what_policies_share_belongs_to_their_application(live, expected):
    assert is_owned(live, replace(OURS, is_any_policy=True)) is expected


def test_the_selector_finds_what_this_sync_wrote():
    assert OURS.selector == (
        "apps.kurator.dev/hub=hub-1,kustomize.toolkit.fluxcd.io/namespace=team-a,"
        "kustomize.toolkit.fluxcd.io/name=web-0-attachedcluster-m1"
    )
