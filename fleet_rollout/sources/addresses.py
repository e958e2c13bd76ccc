"""Resolves a source's host once, checks every answer, and says which addresses may be dialled.

git is then pinned to these addresses, so that a second look-up cannot answer differently (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable

from fleet_rollout.errors import Transient

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], list[str]]

# Cloud metadata services outside the link-local ranges.
METADATA = frozenset(
    {
        ipaddress.ip_address("fd00:ec2::254"),
        ipaddress.ip_address("fd20:ce::254"),
        ipaddress.ip_address("100.100.100.200"),
    }
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What C libraries read as an address: 127.1, 0x7f.1, 017700000001, 2130706433.
LOOSE_NUMBER = re.compile(r"(?:.*\.)?(?:0[xX][0-9A-Fa-f]*|[0-9]+)")


def resolve(host: str, port: int) -> list[str]:
    """Every address of `host`, as the machine's resolver gives them."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def checked_addresses(host: str, port: int, *, allow_loopback: bool, resolver: Resolver = resolve) -> list[str]:
    """The addresses to dial. Raises Transient: "AddressRefused" if any answer is loopback, link-local or none at all.

    Any, not all: a name that answers with both kinds is an attempt to be dialled at the wrong one.
    """
    if LOOSE_NUMBER.fullmatch(host) and _literal(host) is None:
        raise _refused(host, "is a number that is no plain IPv4 address; write four decimal parts")
    try:
        answers = [host] if _literal(host) else resolver(host, port)
    except (OSError, UnicodeError):
        raise Transient(
            "GitOperationFailed", f"could not resolve host {host}; check the name and the hub's DNS"
        ) from None
    for answer in answers:
        if _is_refused(ipaddress.ip_address(answer.partition("%")[0]), allow_loopback):
            raise _refused(host, "leads to a loopback, link-local or metadata address")
    return answers


def _is_refused(address: IPAddress, allow_loopback: bool) -> bool:
    plain = _embedded(address)
    if plain in METADATA or plain.is_multicast:
        return True
    # Dialling the unspecified address reaches the own machine, too.
    return (plain.is_loopback or plain.is_link_local or plain.is_unspecified) and not allow_loopback


def _embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address inside an IPv6 one that would be dialled in its place."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or _compatible(address) or address


def _compatible(address: ipaddress.IPv6Address) -> IPAddress | None:
    """`::a.b.c.d`, apart from `::` and `::1`."""
    value = int(address)
    return ipaddress.IPv4Address(value) if 0xFFFF < value <= 0xFFFFFFFF else None


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refused(host: str, fact: str) -> Transient:
    return Transient(
        "AddressRefused",
        f"host {host} {fact}; use an address that can be reached, or allow it with --allow-loopback-sources",
    )
