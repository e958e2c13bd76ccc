"""Whatever JSON a member answers: what was asked for, or an error of ours (trust.md 2, class 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.errors import Terminal
from fleet_rollout.kube import answers
from fleet_rollout.kube.access import connection_from_kubeconfig
from fleet_rollout.kube.discovery import Resource
from fleet_rollout.kube.errors import ApiError, Unreachable

MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
WORDS = ("kind", "metadata", "items", "name", "labels", "uid", "type", "object", "code", "message", "details", "reason")
VALUES = ("ConfigMap", "Status", "ADDED", "ERROR", "BOOKMARK", "MODIFIED", "a")
scalars = st.none() | st.booleans() | st.integers(-9, 700) | st.floats(allow_nan=False) | st.sampled_from(VALUES)
odd = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=15,
)

metadata = st.dictionaries(st.sampled_from(["name", "uid", "labels"]), odd | st.sampled_from(["", "a"]), max_size=3)
items = st.lists(st.fixed_dictionaries({"metadata": metadata | odd}) | odd, max_size=3)


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (Terminal, Unreachable) as refused:
        return refused


@given(odd, st.booleans())
def test_an_object_is_one_or_nothing_that_can_be_trusted(body: Any, changed: bool) -> None:
    found = outcome(lambda: answers.one(body, MAPS, "m", changed=changed))
    if isinstance(found, Unreachable):
        assert found.maybe_sent == changed
        return
    assert isinstance(found["metadata"], dict)
    assert isinstance(found["metadata"].get("name", ""), str)


@given(odd | st.fixed_dictionaries({"items": items}))
def test_a_page_holds_named_objects(body: Any) -> None:
    try:
        found, about = answers.page(body, MAPS, "m")
    except Unreachable:
        return
    assert all(item["metadata"]["name"] for item in found)
    assert isinstance(about, dict)


@given(odd.map(orjson.dumps) | st.binary(max_size=50))
def test_a_line_of_a_watch_is_an_event_or_an_error(line: bytes) -> None:
    try:
        kind, obj = answers.event(line, "m")
    except (Unreachable, ApiError):
        return
    assert kind in answers.EVENTS
    assert kind == "BOOKMARK" or obj["metadata"]["name"]


@given(st.integers(400, 599), odd)
def test_a_refusal_has_words_whatever_its_body(status: int, body: Any) -> None:
    found = answers.refusal(status, body)
    assert found.status == status
    assert found.message
    assert isinstance(found.reason, str)


FIELDS = (
    "current-context",
    "contexts",
    "context",
    "clusters",
    "cluster",
    "users",
    "user",
    "name",
    "server",
    "token",
    "exec",
)
TEXTS = ("c", "https://10.0.0.1:6443", "http://h", "x\r\ny", "https://[", "https://h:99999", "")
configs = st.recursive(
    scalars | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=15,
)


def entries(field: str, inner: Any) -> Any:
    return st.lists(st.fixed_dictionaries({"name": st.just("c"), field: inner}) | configs, max_size=2)


kubeconfigs = st.fixed_dictionaries(
    {
        "current-context": st.just("c") | configs,
        "contexts": entries("context", st.just({"cluster": "c", "user": "c"}) | configs),
        "clusters": entries("cluster", st.fixed_dictionaries({"server": st.sampled_from(TEXTS) | configs})),
        "users": entries("user", st.fixed_dictionaries({"token": st.sampled_from(TEXTS) | configs}) | configs),
    }
)


@given(kubeconfigs.map(orjson.dumps) | configs.map(orjson.dumps) | st.binary(max_size=60), st.booleans())
def test_t28_a_kubeconfig_leads_to_a_server_or_is_refused_by_name(text: bytes, allow_insecure: bool) -> None:
    found = outcome(lambda: connection_from_kubeconfig("AttachedCluster/a", text, allow_insecure=allow_insecure))
    if isinstance(found, Terminal):
        assert found.message.startswith("AttachedCluster/a: kubeconfig: ")
        return
    assert found.server.startswith("https://" if not allow_insecure else "http")
