"""How each chat system wants to hear an alert: address, headers and body of one request.

The payloads are Flagger's (tests/goldens/alerts); Discord and Rocket.Chat take Slack's form.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fleet_rollout.decide.canary.alerts import Destination, Fact, Unsendable

Body = dict[str, Any]

BLUE, RED = "0076D7", "FF0000"
SLACK_SUFFIX = "/slack"


class Message(NamedTuple):
    """One alert about one Canary; `canary` is `<name>.<namespace>`."""

    canary: str
    severity: str
    text: str
    facts: tuple[Fact, ...] = ()


class Posting(NamedTuple):
    """One request; nothing of it may be shown, the address of a chat webhook is a credential."""

    url: str
    headers: Mapping[str, str]
    body: Body


def posting(to: Destination, message: Message) -> Posting:
    """What to send where; raises Unsendable for a chat system that is not known."""
    build = CHATS.get(to.type)
    if build is None:
        raise Unsendable(f"spec.type {to.type!r} is not one of {', '.join(CHATS)}")
    return build(to, message)


def _slack(to: Destination, message: Message) -> Posting:
    headers = {"Authorization": f"Bearer {to.token}"} if to.token else {}
    return Posting(to.address, headers, _attachment(to, message, "good", "danger"))


def _discord(to: Destination, message: Message) -> Posting:
    """Discord has an address beside its own that takes what Slack takes."""
    address = to.address
    if not address.endswith(SLACK_SUFFIX):
        parts = urlsplit(address)
        address = parts._replace(path=parts.path.rstrip("/") + SLACK_SUFFIX).geturl()
    return Posting(address, {}, _attachment(to, message, "good", "danger"))


def _rocket(to: Destination, message: Message) -> Posting:
    return Posting(to.address, {}, _attachment(to, message, f"#{BLUE}", f"#{RED}"))


def _attachment(to: Destination, message: Message, fine: str, bad: str) -> Body:
    attachment = {
        "color": bad if message.severity == "error" else fine,
        "author_name": message.canary,
        "text": message.text,
        "mrkdwn_in": ["text"],
        "fields": [{"title": fact.name, "value": fact.value, "short": False} for fact in message.facts],
    }
    return {
        "channel": to.channel,
        "username": to.username,
        "icon_url": "",
        "icon_emoji": ":rocket:",
        "attachments": [attachment],
    }


def _teams(to: Destination, message: Message) -> Posting:
    section = {
        "activityTitle": message.text,
        "activitySubtitle": message.canary,
        "facts": [{"name": fact.name, "value": fact.value} for fact in message.facts],
    }
    body = {
        "@type": "MessageCard",
        "@context": "http://schema.org/extensions",
        "themeColor": RED if message.severity == "error" else BLUE,
        "summary": message.canary,
        "sections": [section],
    }
    return Posting(to.address, {}, body)


def _google_chat(to: Destination, message: Message) -> Posting:
    texts = [_strong(message.text), *(f"{html.escape(name, quote=False)}<br>{_strong(v)}" for name, v in message.facts)]
    header = {
        "title": "Flagger",
        "subtitle": message.canary,
        "imageUrl": "https://flagger.app/favicon.png",
    }
    sections = [{"widgets": [{"textParagraph": {"text": text}}]} for text in texts]
    return Posting(to.address, {}, {"cards": [{"header": header, "sections": sections}]})


def _strong(text: str) -> str:
    """Google Chat reads texts as HTML, so that an error's angle brackets would vanish."""
    return f"<font color=#848484><strong>{html.escape(text, quote=False)}</strong></font>"


CHATS: Mapping[str, Callable[[Destination, Message], Posting]] = {
    "slack": _slack,
    "msteams": _teams,
    "discord": _discord,
    "rocket": _rocket,
    "gchat": _google_chat,
}
