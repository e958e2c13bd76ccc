"""Reference 3.5 and Q18: which configs are tracked, their checksums, and the primary's copies."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary import tracking
from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.decide.canary.subject import EngineOptions
from tests.decide.canary.workloads import (
    OWNER,
    Member,
    config_map,
    daemon_set,
    deployment,
    names,
    pod_template,
    put,
    secret,
    subject,
)

TEST = base64.b64encode(b"test").decode()


def using(*keys, optional=()):
    """A Pod template that names these configs."""
    sources = []
    for key in keys:
        kind, _, name = key.partition("/")
        ref = {"name": name, **({"optional": True} if key in optional else {})}
        sources.append({"configMapRef" if kind == "configmap" else "secretRef": ref})
    return pod_template(initContainers=[{"name": "init", "envFrom": sources}])


def look(about, *objects):
    member = Member(*objects)
    return objects[0], member.live(about)


def found(target, *configs, about=None):
    about = about or subject()
    target, live = look(about, target, *configs)
    return tracking.tracked(about, target, live)


# Checksums


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (config_map("c", {"color": "red"}), "241889ca0604e333"),
        (secret("s", {"apiKey": TEST}), "3930f0692c2295eb"),
        (secret("s", {"username": TEST, "password": TEST, "apiKey": TEST}), "706737bf88c752ac"),
        (config_map("c"), "74234e98afe7498f"),
    ],
)
def test_checksums_are_flaggers(config, expected):
    """Appendix A."""
    assert tracking.checksum(config) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<a href='x'>&</a>", "b44619fb580a981e"),
        ("line\u2028paragraph\u2029", "44c1f5d03b03aa78"),
        ('quote " back\\slash\ttab\nline\rreturn', "686d27201a591ba8"),
        ("\x00\x01\x08\x0c\x1f\x7f", "978d81e627f6dcb3"),
        ("Grüße 日本 🚀", "50687fb8db97f290"),
    ],
)
def test_text_is_escaped_as_go_escapes_it(value, expected):
    """Computed by encoding/json of Go 1.26."""
    assert tracking.checksum(config_map("c", {"k": value})) == expected


def test_binary_data_counts_too():
    """Q18: Flagger sees no change in it."""
    plain, first, second = (
        config_map("c", {"k": "v"}, **({"binaryData": {"b": data}} if data else {})) for data in ("", "AA==", "AQ==")
    )
    assert len({tracking.checksum(each) for each in (plain, first, second)}) == 3
    assert tracking.checksum({**plain, "binaryData": {}}) == tracking.checksum(plain)


DATA = st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=4)


@given(DATA, DATA)
def test_equal_content_and_nothing_else_has_equal_checksums(left, right):
    same = tracking.checksum(config_map("a", left)) == tracking.checksum(config_map("b", right))
    assert same == (left == right)


@given(DATA)
def test_order_does_not_matter(data):
    backwards = dict(reversed(data.items()))
    assert tracking.checksum(config_map("a", data)) == tracking.checksum(config_map("a", backwards))


# What is tracked


def test_configs_are_found_by_the_keys_of_the_status():
    configs = found(deployment(template=using("secret/b", "configmap/a")), config_map("a", {}), secret("b"))
    assert configs is not None
    assert list(tracking.checksums(configs)) == ["configmap/a", "secret/b"]


def test_daemon_sets_are_tracked_like_deployments():
    target = daemon_set(template=using("configmap/a"))
    assert list(found(target, config_map("a"), about=subject("DaemonSet")) or ()) == ["configmap/a"]


@pytest.mark.parametrize(
    ("type_", "counts"),
    [
        ("Opaque", True),
        ("kubernetes.io/basic-auth", True),
        ("kubernetes.io/ssh-auth", True),
        ("kubernetes.io/tls", True),
        ("kubernetes.io/dockerconfigjson", False),
        ("kubernetes.io/service-account-token", False),
        ("example.org/own", False),
    ],
)
def test_only_users_secrets_are_tracked(type_, counts):
    assert bool(found(deployment(template=using("secret/s")), secret("s", type=type_))) is counts


@pytest.mark.parametrize(
    ("value", "counts"), [("disabled", False), ("disable", False), ("enabled", True), ("", True), ("off", True)]
)
@pytest.mark.parametrize(("make", "key"), [(config_map, "configmap/x"), (secret, "secret/x")])
def test_an_annotation_takes_a_config_out(value, counts, make, key):
    config = make("x", {}, metadata={"annotations": {"flagger.app/config-tracking": value}})
    assert bool(found(deployment(template=using(key)), config)) is counts


@pytest.mark.parametrize(("key", "kind"), [("configmap/x", "configmap"), ("secret/x", "secret")])
def test_a_missing_config_stops_the_tick_unless_it_is_optional(key, kind):
    with pytest.raises(StepFailed) as caught:
        found(deployment(template=using(key)))
    assert caught.value.message == f"{kind} x.test does not exist, and deployment podinfo.test needs it"
    assert found(deployment(template=using(key, optional=[key]))) == {}


def test_the_engine_may_track_nothing():
    about = subject(options=EngineOptions(config_tracking=False))
    target, live = look(about, deployment(template=using("configmap/missing")))
    assert tracking.reads(about, target) == []
    assert tracking.tracked(about, target, live) is None


def test_a_target_without_configs_has_an_empty_map():
    assert found(deployment()) == {}


def test_a_copy_that_is_a_config_itself_is_read_once():
    target = deployment(template=using("configmap/a", "configmap/a-primary"))
    read = [ref.name for ref in tracking.reads(subject(), target)]
    assert read == ["a", "a-primary", "a-primary-primary"]


# Copies


def copies(member, *keys, about=None):
    about = about or subject()
    live = member.live(about)
    configs = tracking.tracked(about, deployment(template=using(*keys)), live) or {}
    return tracking.copies(about, configs, live)


def member_with(*configs):
    keys = [f"{config['kind'].lower()}/{config['metadata']['name']}" for config in configs]
    return Member(deployment(template=using(*keys)), *configs), keys


def test_copies_hold_what_the_configs_hold():
    source = config_map("a", {"k": "v"}, binaryData={"b": "AA=="}, immutable=True, metadata={"labels": {"l": "1"}})
    member, keys = member_with(source, secret("s", {"p": TEST}, type="kubernetes.io/tls"))
    writes = copies(member, *keys)
    assert put(writes, "ConfigMap", "a-primary") == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a-primary", "namespace": "test", "ownerReferences": [OWNER]},
        "data": {"k": "v"},
        "binaryData": {"b": "AA=="},
        "immutable": True,
    }
    assert put(writes, "Secret", "s-primary")["type"] == "kubernetes.io/tls"
    assert put(writes, "Secret", "s-primary")["data"] == {"p": TEST}


def test_copies_have_the_labels_that_the_engine_includes():
    labels = {"team": "blue", "tier": "web", "kustomize.toolkit.fluxcd.io/name": "x"}
    member, keys = member_with(config_map("a", {}, metadata={"labels": labels}))
    about = subject(options=EngineOptions(include_label_prefix=("te",)))
    assert put(copies(member, *keys, about=about), "ConfigMap", "a-primary")["metadata"]["labels"] == {"team": "blue"}


def test_a_copy_follows_its_config_and_keeps_foreign_annotations():
    member, keys = member_with(config_map("a", {"k": "v"}))
    member.carry_out(copies(member, *keys))
    assert copies(member, *keys) == []
    copied = next(obj for ref, obj in member.objects.items() if ref.name == "a-primary")
    copied["metadata"]["annotations"] = {"foreign": "kept"}
    source = next(obj for ref, obj in member.objects.items() if ref.name == "a")
    del source["data"]
    source["binaryData"] = {"b": "AA=="}
    written = put(copies(member, *keys), "ConfigMap", "a-primary")
    assert "data" not in written
    assert written["binaryData"] == {"b": "AA=="}
    assert written["metadata"]["annotations"] == {"foreign": "kept"}
    assert written["metadata"]["resourceVersion"] == copied["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("source", "copied"),
    [
        (config_map("a", {"k": "new"}), config_map("a-primary", {"k": "old"}, immutable=True)),
        (config_map("a", {"k": "same"}), config_map("a-primary", {"k": "same"}, immutable=True)),
        (secret("a", {"k": "bmV3"}, immutable=True), secret("a-primary", {"k": "b2xk"}, immutable=True)),
        (secret("a", {}, type="kubernetes.io/tls"), secret("a-primary", {}, type="Opaque")),
    ],
)
def test_what_cannot_be_changed_is_made_anew(source, copied):
    member, keys = member_with(source)
    member.objects.update(Member(copied).objects)
    writes = copies(member, *keys)
    assert names(writes) == [f"Remove {source['kind']} a-primary", f"Put {source['kind']} a-primary"]
    member.carry_out(writes)
    assert copies(member, *keys) == []


def test_an_immutable_copy_that_is_right_already_may_get_an_owner():
    member, keys = member_with(config_map("a", {"k": "v"}, immutable=True))
    member.objects.update(Member(config_map("a-primary", {"k": "v"}, immutable=True)).objects)
    writes = copies(member, *keys)
    assert names(writes) == ["Put ConfigMap a-primary"]
    assert put(writes, "ConfigMap", "a-primary")["metadata"]["ownerReferences"] == [OWNER]


OTHER = {**OWNER, "name": "backend", "uid": "other-uid"}
STALE = {**OWNER, "uid": "uid-of-an-earlier-canary"}
PLAIN = {"apiVersion": "v1", "kind": "ConfigMap", "name": "podinfo", "uid": "x"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [OWNER]),
        ([OTHER], [OWNER, {**OTHER, "controller": False}]),
        ([PLAIN], [OWNER, {**PLAIN, "controller": False}]),
        ([STALE], [OWNER]),
        ([{**OTHER, "controller": False}, STALE], [OWNER, {**OTHER, "controller": False}]),
        ([OWNER, {**OTHER, "controller": False}], None),
        ([OTHER, {**OWNER, "controller": False}], None),
    ],
)
def test_several_canaries_may_share_a_copy(before, after):
    member, keys = member_with(config_map("a", {"k": "v"}))
    member.objects.update(Member(config_map("a-primary", {"k": "v"}, metadata={"ownerReferences": before})).objects)
    writes = copies(member, *keys)
    if after is None:
        assert writes == []
    else:
        assert put(writes, "ConfigMap", "a-primary")["metadata"]["ownerReferences"] == after


@pytest.mark.parametrize(
    ("copied", "expected"),
    [
        (None, False),
        (config_map("a-primary", {"k": "v"}), True),
        (config_map("a-primary", {"k": "w"}), False),
        (config_map("a-primary", {"k": "v"}, binaryData={"b": "AA=="}), False),
    ],
)
def test_whether_the_primary_has_the_configs_already(copied, expected):
    about, target = subject(), deployment(template=using("configmap/a"))
    member = Member(target, config_map("a", {"k": "v"}), *([copied] if copied else []))
    live = member.live(about)
    configs = tracking.tracked(about, target, live)
    assert configs is not None
    assert tracking.is_promoted(configs, live) is expected


def test_t20_a_copy_takes_no_annotation_of_its_config():
    """kubectl's last-applied-configuration holds the values once more."""
    target = deployment(template=using("secret/s"))
    config = secret("s", {"apiKey": TEST})
    config["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": TEST}
    about = subject(options=EngineOptions(include_label_prefix=("*",)))
    _, live = look(about, target, config)
    copied = put(tracking.copies(about, {"secret/s": config}, live), "Secret", "s-primary")
    assert "annotations" not in copied["metadata"]
