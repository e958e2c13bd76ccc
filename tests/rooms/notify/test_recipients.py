"""From a tick's words to letters, and from a letter to its address."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from fleet_rollout.decide.canary.alerts import Destination, Fact, Unsendable
from fleet_rollout.decide.canary.effects import Notify
from fleet_rollout.decide.canary.objects import Ref
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.notify.recipients import DEFAULT, letters

ADDRESS = "https://hooks.example.com/x"


def subject(*alerts: dict[str, Any], **options: Any) -> Subject:
    spec = {"targetRef": {"kind": "Deployment", "name": "web"}, "analysis": {"alerts": list(alerts)}}
    return Subject({"metadata": {"name": "podinfo", "namespace": "test"}, "spec": spec}, EngineOptions(**options))


def alert(name: str, severity: str = "info", **ref: str | None) -> dict[str, Any]:
    return {"name": name, "severity": severity, "providerRef": {"name": name, **ref}}


class Cluster:
    """Objects by kind, namespace and name, and which of them were read."""

    def __init__(self, **objects: Any) -> None:
        self.objects = {tuple(key.split("__")): value for key, value in objects.items()}
        self.read: list[tuple[str, str, str]] = []

    async def __call__(self, ref: Ref) -> dict[str, Any] | None:
        self.read.append((ref.kind, ref.namespace, ref.name))
        return self.objects.get((ref.kind, ref.namespace, ref.name))


def provider(**spec: Any) -> dict[str, Any]:
    return {"spec": {"type": "slack", **spec}}


def encoded(**data: str) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}


async def default() -> Destination:
    return Destination("msteams", ADDRESS)


def test_a_letter_says_what_and_about_whom_and_nothing_is_read_for_it():
    cluster = Cluster()
    canary = subject(alert("a"), alert("b", "error"), cluster_name="paris")
    found = letters(canary, Notify("info", "words", with_details=False), cluster, default=default)
    assert [(each.who, each.message.canary, each.message.text) for each in found] == [
        ("alert provider a.test", "podinfo.test", "words")
    ]
    assert found[0].message.facts == (Fact("Cluster", "paris"),)
    assert cluster.read == []
    assert len(letters(canary, Notify("error", "words"), cluster)) == 2


async def test_a_canary_without_alerts_is_told_about_at_the_engines_default():
    (letter,) = letters(subject(), Notify("info", "words"), Cluster(), default=default)
    assert (letter.who, await letter.find()) == (DEFAULT, Destination("msteams", ADDRESS))
    assert letters(subject(), Notify("error", "words"), Cluster()) == []


async def test_a_provider_is_read_when_its_letter_is_delivered():
    cluster = Cluster(AlertProvider__ops__a=provider(address=ADDRESS))
    (letter,) = letters(subject(alert("a", namespace="ops")), Notify("info", "words"), cluster)
    assert await letter.find() == Destination("slack", ADDRESS)
    assert cluster.read == [("AlertProvider", "ops", "a")]


async def test_its_secret_is_read_beside_it():
    cluster = Cluster(
        AlertProvider__test__a=provider(secretRef={"name": "s"}), Secret__test__s=encoded(address=ADDRESS, token="t")
    )
    (letter,) = letters(subject(alert("a")), Notify("info", "words"), cluster)
    found = await letter.find()
    assert (found.address, found.token) == (ADDRESS, "t")
    assert cluster.read == [("AlertProvider", "test", "a"), ("Secret", "test", "s")]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({}, "not found; create it or take it out of spec.analysis.alerts"),
        (
            {"AlertProvider__test__a": provider(secretRef={"name": "s"})},
            "Secret s not found; create it with the key `address`",
        ),
        (
            {
                "AlertProvider__test__a": provider(secretRef={"name": "s"}),
                "Secret__test__s": {"data": {"address": "a"}},
            },
            "its Secret holds something that is not base64",
        ),
        (
            {"AlertProvider__test__a": provider(secretRef={"name": "s"}), "Secret__test__s": {}},
            "Secret s has no key `address`; put the webhook's address there",
        ),
    ],
)
async def test_what_is_missing_is_said(objects, message):
    (letter,) = letters(subject(alert("a")), Notify("info", "words"), Cluster(**objects))
    with pytest.raises(Unsendable) as caught:
        await letter.find()
    assert str(caught.value) == message


async def refused_by(words: str, namespace: str | None) -> Cluster:
    """What was read of a provider in that namespace, where references stay at home, before the letter was refused."""
    made = provider(secretRef={"name": "s"})
    cluster = Cluster(AlertProvider__ops__a=made, AlertProvider__test__a=made)
    canary = subject(alert("a", namespace=namespace), no_cross_namespace_refs=True)
    (letter,) = letters(canary, Notify("info", "words"), cluster)
    with pytest.raises(Unsendable, match=words):
        await letter.find()
    return cluster


@pytest.mark.parametrize("namespace", ["ops", " ops", "test ", "TEST"])
async def test_t30_a_provider_of_another_namespace_gets_no_secret_read_where_references_stay_at_home(namespace):
    cluster = await refused_by("is in another namespace", namespace)
    assert "Secret" not in {kind for kind, *_ in cluster.read}


@pytest.mark.parametrize("namespace", ["", None, "test"])
async def test_t30_an_empty_namespace_is_the_canarys_own(namespace):
    cluster = await refused_by("Secret s not found", namespace)
    assert ("Secret", "test", "s") in cluster.read
