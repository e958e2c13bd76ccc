"""Resolves a source's host once, checks every answer, and says which addresses may be dialled.

git is then pinned to these addresses, so that a second look-up cannot answer differently (DNS rebinding).
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from fleet_rollout.decide.dialling import (
    IPAddress,
    answer_address,
    dialled,
    is_metadata_or_multicast,
    is_odd_number,
    is_own_machine,
    literal,
)
from fleet_rollout.errors import Transient

Resolver = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Every address of `host`, as the machine's resolver gives them."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def checked_addresses(host: str, port: int, *, allow_loopback: bool, resolver: Resolver = resolve) -> list[str]:
    """The addresses to dial. Raises Transient: "AddressRefused" if any answer is loopback, link-local or none at all.

    Any, not all: a name that answers with both kinds is an attempt to be dialled at the wrong one.
    """
    if is_odd_number(host):
        raise _refused(host, "is a number that is no plain IPv4 address; write four decimal parts")
    try:
        answers = [host] if literal(host) else resolver(host, port)
    except (OSError, UnicodeError):
        raise Transient(
            "GitOperationFailed", f"could not resolve host {host}; check the name and the hub's DNS"
        ) from None
    for answer in answers:
        if _is_refused(answer_address(answer), allow_loopback):
            raise _refused(host, "leads to a loopback, link-local or metadata address")
    return answers


def _is_refused(address: IPAddress, allow_loopback: bool) -> bool:
    plain = dialled(address)
    return is_metadata_or_multicast(plain) or (is_own_machine(plain) and not allow_loopback)


def _refused(host: str, fact: str) -> Transient:
    return Transient(
        "AddressRefused",
        f"host {host} {fact}; use an address that can be reached, or allow it with --allow-loopback-sources",
    )
