"""Inventories: ids as Flux writes them, and that no object falls out of all of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.inventory import ENTRY_FRAME, Ref, entry_of, object_id, parse_id, parts, ref_of, stale, union
from fleet_rollout_api.cluster_sync import InventoryEntry


def manifest(api_version, kind, name, namespace=None):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (manifest("v1", "Namespace", "apps"), "_apps__Namespace"),
        (
            manifest("rbac.authorization.k8s.io/v1", "ClusterRole", "system:x"),
            "_system__x_rbac.authorization.k8s.io_ClusterRole",
        ),
        (manifest("v1", "Service", "web", "apps"), "apps_web__Service"),
        (manifest("apps/v1", "Deployment", "web", "apps"), "apps_web_apps_Deployment"),
    ],
)
def test_g19_ids_are_those_of_flux(obj, expected):
    entry = object_id(obj)
    assert (entry.id, entry.v) == (expected, "v1")
    assert parse_id(entry) == ref_of(obj)


def test_g19_a_rename_makes_the_old_name_stale():
    old = [object_id(manifest("v1", "Service", name, "apps")) for name in ("web", "shop")]
    new = [object_id(manifest("v1", "Service", name, "apps")) for name in ("www", "shop")]
    assert [entry.id for entry in stale(old, new)] == ["apps_web__Service"]


def test_a_new_version_of_a_kind_is_the_same_object():
    old = [InventoryEntry(id="apps_web_policy_PodDisruptionBudget", v="v1beta1")]
    new = [InventoryEntry(id="apps_web_policy_PodDisruptionBudget", v="v1")]
    assert stale(old, new) == []
    assert union(old, new) == new


@pytest.mark.parametrize("text", ["", "web", "apps_web", "apps_web_Deployment", "apps__apps_Deployment", "apps_web__"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="not an inventory id"):
        parse_id(InventoryEntry(id=text, v="v1"))


@pytest.mark.parametrize(
    ("ref", "subject"),
    [(Ref("apps", "web", "apps", "Deployment"), "Deployment/apps/web"), (Ref("", "n", "", "Namespace"), "Namespace/n")],
)
def test_a_subject_leaves_out_the_missing_namespace(ref, subject):
    assert ref.subject == subject


@pytest.mark.parametrize(("group", "expected"), [("", "v1"), ("apps", "apps/v1")])
def test_the_api_version_of_a_reference(group, expected):
    assert Ref("", "x", group, "K", "v1").api_version == expected


dns = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-z]+([:._-][a-z0-9]+){0,3}", fullmatch=True)


@given(st.one_of(st.just(""), dns), names, st.sampled_from(["v1", "v1beta1"]))
def test_an_rbac_name_survives_the_way_into_an_id_and_back(namespace, name, version):
    ref = Ref(namespace, name, "rbac.authorization.k8s.io", "Role", version)
    assert parse_id(entry_of(ref)) == ref


@given(st.one_of(st.just(""), dns), dns, st.sampled_from(["", "apps", "example.org"]), st.sampled_from(["A", "Bc"]))
def test_any_other_object_survives_the_way_into_an_id_and_back(namespace, name, group, kind):
    ref = Ref(namespace, name, group, kind, "v1")
    assert parse_id(entry_of(ref)) == ref


entries = st.lists(
    st.builds(InventoryEntry, id=st.sampled_from([f"a_{n}__ConfigMap" for n in "pqrst"]), v=st.just("v1")),
    unique_by=lambda entry: entry.id,
)


@given(entries, entries)
def test_an_object_is_never_in_no_inventory(old, new):
    before_the_first_write = {entry.id for entry in union(old, new)}
    assert before_the_first_write == {entry.id for entry in [*old, *new]}
    assert {entry.id for entry in stale(old, new)} | {entry.id for entry in new} == before_the_first_write
    assert not {entry.id for entry in stale(old, new)} & {entry.id for entry in new}


def named(*ids):
    return [InventoryEntry(id=id_, v="v1") for id_ in ids]


@pytest.mark.parametrize(
    ("ids", "most", "room", "expected"),
    [
        ([], 2, 100, []),
        (["a", "b", "c"], 2, 100, [["a", "b"], ["c"]]),
        (["aaa", "bbb", "c"], 5, 6, [["aaa", "bbb"], ["c"]]),
        (["long", "a", "b"], 5, 2, [["long"], ["a", "b"]]),
        (["ä", "b"], 5, 2, [["ä"], ["b"]]),
    ],
    ids=["nothing", "by number", "by size", "too large by itself", "by bytes, not letters"],
)
def test_what_is_written_together_is_bounded(ids, most, room, expected):
    """By number and by bytes: an API server refuses what is larger than 1 MiB."""
    frame = len("v1") + ENTRY_FRAME
    size = room + frame * max((len(part) for part in expected), default=0)
    assert [[entry.id for entry in part] for part in parts(named(*ids), most=most, size=size)] == expected


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters='"\\', min_codepoint=32), max_size=40)))
def test_parts_are_as_large_as_they_say(ids):
    entries = named(*ids)
    found = parts(entries, most=3, size=120)
    assert [entry for part in found for entry in part] == entries
    for part in found:
        text = json.dumps([entry.dump() for entry in part], separators=(",", ":"))
        assert len(part) == 1 or len(text) <= 121
