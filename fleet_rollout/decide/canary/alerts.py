"""Who hears what is told about a Canary, in which chat system, and with which facts below it.

The messages come from the state machine; how each chat system wants to hear them is notify's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fleet_rollout.decide.canary.effects import Notify, Severity
from fleet_rollout.decide.canary.objects import Ref
from fleet_rollout.decide.canary.strategy import strategy_of
from fleet_rollout.decide.canary.subject import CANARY_API, Subject

# A filter lets through its own severity and the graver ones. An empty one is info, as the schema says (Flagger: nothing
# at all; Q14).
RANKS: dict[str, int] = {"": 0, "info": 0, "warn": 1, "error": 2}
DEFAULT_USERNAME, DEFAULT_CHANNEL = "flagger", "general"


class Fact(NamedTuple):
    """A name and a value below the message."""

    name: str
    value: str


def facts(subject: Subject, alert: Notify) -> tuple[Fact, ...]:
    """What stands below the message."""
    cluster = subject.options.cluster_name
    where = (Fact("Cluster", cluster),) if cluster else ()
    return (*where, *_of_canary(subject)) if alert.with_details else where


def _of_canary(subject: Subject) -> tuple[Fact, ...]:
    routing = _routing(subject)
    return (
        Fact("Target", f"{subject.target_kind}/{subject.target}"),
        Fact("Failed checks threshold", str(subject.threshold)),
        Fact("Progress deadline", f"{subject.progress_deadline}s"),
        *([Fact("Traffic routing", routing)] if routing else []),
    )


def _routing(subject: Subject) -> str:
    written = int(subject.analysis.get("maxWeight") or 0)
    strategy = strategy_of(subject)
    if strategy == "ab-testing":
        return "A/B Testing"
    if strategy == "blue-green":
        return "Blue/Green"
    if subject.step_weight > 0:
        return f"Weight step: {subject.step_weight} max: {written}"
    if subject.step_weights:
        return f"Weight steps: {','.join(map(str, subject.step_weights))} max: {written}"
    return ""


# To whom


class Unsendable(Exception):
    """An alert cannot be sent that way. The text says what to change, and no address; its subject is the recipient."""


@dataclass(frozen=True)
class Destination:
    """One room of one chat system. Its repr shows no credential: the address of a chat webhook is one."""

    type: str
    address: str = field(repr=False)
    token: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)
    username: str = DEFAULT_USERNAME
    channel: str = DEFAULT_CHANNEL


def has_own_alerts(subject: Subject) -> bool:
    """Whether the Canary says itself whom to tell; the engine's default destination is then left out."""
    return bool(subject.analysis.get("alerts"))


def recipients(subject: Subject, severity: Severity) -> list[Ref]:
    """The AlertProviders of the Canary that want to hear of this."""
    return [
        Ref(CANARY_API, "AlertProvider", str(ref.get("namespace") or subject.namespace), str(ref["name"]))
        for alert in subject.analysis.get("alerts") or []
        if RANKS[severity] >= RANKS.get(str(alert.get("severity") or ""), 0)
        for ref in [alert["providerRef"]]
    ]


def secret_of(subject: Subject, ref: Ref, provider: Mapping[str, Any] | None) -> Ref | None:
    """The Secret to read before `destination` can be told; None where there is none.

    Raises Unsendable where the AlertProvider is not there, or not for this Canary.
    """
    if subject.options.no_cross_namespace_refs and ref.namespace != subject.namespace:
        raise Unsendable("is in another namespace, which this engine does not allow")
    if provider is None:
        raise Unsendable("not found; create it or take it out of spec.analysis.alerts")
    reference = provider["spec"].get("secretRef")
    return Ref("v1", "Secret", ref.namespace, str(reference["name"])) if reference else None


def destination(spec: Mapping[str, Any], secret: Mapping[str, bytes] | None = None) -> Destination:
    """Where a spec of an AlertProvider leads; `secret` is what its secretRef names. Raises Unsendable."""
    address, token = str(spec.get("address") or ""), ""
    if reference := spec.get("secretRef"):
        name = str(reference["name"])
        if secret is None:
            raise Unsendable(f"Secret {name} not found; create it with the key `address`")
        address, token = _text(name, secret, "address"), _text(name, secret, "token")
        if not address:
            raise Unsendable(f"Secret {name} has no key `address`; put the webhook's address there")
    if not address:
        raise Unsendable("neither spec.address nor spec.secretRef is set")
    return Destination(
        type=str(spec.get("type") or ""),
        address=address,
        token=token,
        proxy=str(spec.get("proxy") or ""),
        username=str(spec.get("username") or DEFAULT_USERNAME),
        channel=str(spec.get("channel") or DEFAULT_CHANNEL),
    )


def named(ref: Ref) -> str:
    """How messages name an AlertProvider."""
    return f"alert provider {ref.name}.{ref.namespace}"


def _text(name: str, secret: Mapping[str, bytes], key: str) -> str:
    """A trailing newline comes from the editor, not from the chat system."""
    try:
        return secret.get(key, b"").decode().strip()
    except UnicodeDecodeError:
        raise Unsendable(f"key `{key}` of Secret {name} is not text") from None
