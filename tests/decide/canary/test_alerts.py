from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.decide.canary import alerts
from fleet_rollout.decide.canary.alerts import Fact, Unsendable
from fleet_rollout.decide.canary.effects import Notify
from fleet_rollout.decide.canary.objects import Ref
from fleet_rollout.decide.canary.subject import EngineOptions, Subject

DETAILED = Notify("info", "New revision detected", with_details=True)
PLAIN = Notify("error", "Failed checks threshold reached 2")
SECRET = "https://hooks.example.com/s3cr3t"


def subject(analysis: dict[str, Any] | None = None, **options: Any) -> Subject:
    raw = {
        "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": "web"},
            "progressDeadlineSeconds": 60,
            "analysis": analysis or {},
        },
    }
    return Subject(raw, EngineOptions(**options))


def alert(name: str = "on-call", severity: str | None = None, **ref: str) -> dict[str, Any]:
    return {"name": name, "severity": severity, "providerRef": {"name": name, **ref}}


@pytest.mark.parametrize(
    ("severity", "heard"),
    [
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("error", ["error"]),
        ("", ["info", "warn", "error"]),
        (None, ["info", "warn", "error"]),
    ],
)
def test_q14_an_empty_severity_is_info_and_each_lets_the_graver_ones_through(severity, heard):
    canary = subject({"alerts": [alert(severity=severity)]})
    assert [each for each in ("info", "warn", "error") if alerts.recipients(canary, each)] == heard


def test_providers_are_looked_for_in_the_canarys_namespace_unless_another_is_named():
    canary = subject({"alerts": [alert("a"), alert("b", namespace=""), alert("c", namespace="ops")]})
    assert [(ref.kind, ref.namespace, ref.name) for ref in alerts.recipients(canary, "error")] == [
        ("AlertProvider", "test", "a"),
        ("AlertProvider", "test", "b"),
        ("AlertProvider", "ops", "c"),
    ]
    assert alerts.has_own_alerts(canary)
    assert not alerts.has_own_alerts(subject())
    assert alerts.recipients(subject(), "error") == []


@pytest.mark.parametrize(
    ("analysis", "routing"),
    [
        ({"iterations": 2, "match": [{}]}, "A/B Testing"),
        ({"iterations": 2}, "Blue/Green"),
        ({"stepWeight": 20, "maxWeight": 60}, "Weight step: 20 max: 60"),
        ({"stepWeight": 20}, "Weight step: 20 max: 0"),
        ({"stepWeights": [1, 10, 40]}, "Weight steps: 1,10,40 max: 0"),
    ],
)
def test_facts_say_where_what_and_how(analysis, routing):
    canary = subject(analysis | {"threshold": 3}, cluster_name="paris")
    assert alerts.facts(canary, DETAILED) == (
        Fact("Cluster", "paris"),
        Fact("Target", "Deployment/web.test"),
        Fact("Failed checks threshold", "3"),
        Fact("Progress deadline", "60s"),
        Fact("Traffic routing", routing),
    )


def test_facts_are_left_out_where_nothing_is_to_be_said():
    canary = subject()
    assert [fact.name for fact in alerts.facts(canary, DETAILED)] == [
        "Target",
        "Failed checks threshold",
        "Progress deadline",
    ]
    assert alerts.facts(canary, PLAIN) == ()
    assert alerts.facts(subject(cluster_name="paris"), PLAIN) == (Fact("Cluster", "paris"),)


# Where they go


REF = Ref("flagger.app/v1beta1", "AlertProvider", "ops", "on-call")


def test_a_spec_says_where_to():
    to = alerts.destination({"type": "gchat", "address": SECRET}, None)
    assert (to.type, to.address, to.token, to.proxy) == ("gchat", SECRET, "", "")
    assert (to.username, to.channel) == ("flagger", "general")
    to = alerts.destination(
        {"type": "slack", "address": "a", "username": "u", "channel": "c", "proxy": "http://proxy:3128"}, None
    )
    assert (to.username, to.channel, to.proxy) == ("u", "c", "http://proxy:3128")


def test_the_secrets_address_wins_and_its_token_is_taken():
    spec = {"type": "slack", "address": "https://public", "secretRef": {"name": "s"}}
    to = alerts.destination(spec, {"address": f"{SECRET}\n".encode(), "token": b"t0k3n\n"})
    assert (to.address, to.token) == (SECRET, "t0k3n")
    assert alerts.destination(spec, {"address": SECRET.encode()}).token == ""


def test_t21_a_destinations_repr_shows_no_credential():
    to = alerts.destination({"secretRef": {"name": "s"}}, {"address": SECRET.encode(), "token": b"t0k3n"})
    assert "s3cr3t" not in repr(to)
    assert "t0k3n" not in repr(to)


@pytest.mark.parametrize(
    ("spec", "secret", "message"),
    [
        ({"type": "slack"}, None, "neither spec.address nor spec.secretRef is set"),
        ({"secretRef": {"name": "s"}}, None, "Secret s not found; create it with the key `address`"),
        (
            {"secretRef": {"name": "s"}, "address": "https://public"},
            {"token": b"t"},
            "Secret s has no key `address`; put the webhook's address there",
        ),
        ({"secretRef": {"name": "s"}}, {"address": b"\xff"}, "key `address` of Secret s is not text"),
    ],
)
def test_what_is_missing_is_named_with_the_fix(spec, secret, message):
    with pytest.raises(Unsendable) as caught:
        alerts.destination(spec, secret)
    assert str(caught.value) == message


def test_the_secret_is_looked_for_beside_the_provider():
    found = alerts.secret_of(subject(), REF, {"spec": {"secretRef": {"name": "s"}}})
    assert found == Ref("v1", "Secret", "ops", "s")
    assert alerts.secret_of(subject(), REF, {"spec": {"address": "a"}}) is None


def test_a_provider_that_is_not_there_is_named():
    with pytest.raises(Unsendable, match=r"^not found; create it"):
        alerts.secret_of(subject(), REF, None)


def test_t30_another_namespace_is_refused_where_references_stay_at_home():
    strict = subject(no_cross_namespace_refs=True)
    with pytest.raises(Unsendable, match=r"^is in another namespace"):
        alerts.secret_of(strict, REF, {"spec": {"address": "a"}})
    assert alerts.secret_of(strict, REF._replace(namespace="test"), {"spec": {"address": "a"}}) is None
