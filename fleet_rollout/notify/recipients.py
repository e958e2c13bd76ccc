"""From what a tick wants to tell to the letters that tell it: one a recipient, each of which finds its own address.

AlertProviders and Secrets are read when a letter is delivered, by the sender: a tick waits for neither.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fleet_rollout.decide.canary.addresses import Dial
from fleet_rollout.decide.canary.alerts import (
    Destination,
    Unsendable,
    destination,
    facts,
    has_own_alerts,
    named,
    recipients,
    secret_of,
)
from fleet_rollout.decide.canary.effects import Notify
from fleet_rollout.decide.canary.objects import Object, Ref
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.notify.alerts import Find, Letter
from fleet_rollout.notify.chats import Message

DEFAULT = "the engine's alerts"

# An object of the Canary's cluster, None where it is not there; raises Unsendable where it cannot be read.
Read = Callable[[Ref], Awaitable[Object | None]]


def letters(
    subject: Subject, told: Notify, read: Read, *, default: Find | None = None, dial: Dial | None = None
) -> list[Letter]:
    """What to post. A Canary without alerts of its own is told about at the engine's default, whatever the severity."""
    message = Message(subject.full_name, told.severity, told.message, facts(subject, told))
    if not has_own_alerts(subject):
        return [Letter(DEFAULT, default, message, dial)] if default is not None else []
    return [Letter(named(ref), finder(subject, ref, read), message, dial) for ref in recipients(subject, told.severity)]


def finder(subject: Subject, ref: Ref, read: Read) -> Find:
    """Reads an AlertProvider and its Secret."""

    async def find() -> Destination:
        provider = await read(ref)
        secret_ref = secret_of(subject, ref, provider)
        assert provider is not None
        secret = await read(secret_ref) if secret_ref is not None else None
        return destination(provider["spec"], secret_data(secret))

    return find


def secret_data(secret: Mapping[str, Any] | None) -> dict[str, bytes] | None:
    """The decoded content of a Secret, None where there is none."""
    if secret is None:
        return None
    try:
        return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
    except (binascii.Error, ValueError, TypeError):
        raise Unsendable("its Secret holds something that is not base64") from None
