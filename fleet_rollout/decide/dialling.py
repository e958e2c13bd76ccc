"""Kinds of network addresses, for everything that dials a host which a user has named.

Only rules: who resolves names, and which kinds are refused to whom, is up to the callers.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Cloud metadata services outside the link-local ranges.
METADATA = frozenset(
    {
        ipaddress.ip_address("fd00:ec2::254"),
        ipaddress.ip_address("fd20:ce::254"),
        ipaddress.ip_address("100.100.100.200"),
        ipaddress.ip_address("168.63.129.16"),
        ipaddress.ip_address("192.0.0.192"),
    }
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What C libraries read as an address: 127.1, 0x7f.1, 017700000001, 2130706433.
LOOSE_NUMBER = re.compile(r"(?:.*\.)?(?:0[xX][0-9A-Fa-f]*|[0-9]+)")


@lru_cache(maxsize=1024)  # the same few hosts are asked for at every tick
def literal(host: str) -> IPAddress | None:
    """The address that `host` spells out in full, if it is one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_odd_number(host: str) -> bool:
    """Some resolvers read this as an address, but it is none in plain spelling."""
    return LOOSE_NUMBER.fullmatch(host) is not None and literal(host) is None


def dialled(address: IPAddress) -> IPAddress:
    """The IPv4 address inside an IPv6 one that would be dialled in its place; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or _compatible(address) or address


def is_own_machine(address: IPAddress) -> bool:
    """Loopback, link-local, or unspecified: dialling the unspecified address reaches the own machine, too."""
    return address.is_loopback or address.is_link_local or address.is_unspecified


def is_metadata_or_multicast(address: IPAddress) -> bool:
    """Nothing that a user may name lives there."""
    return address in METADATA or address.is_multicast


def answer_address(answer: str) -> IPAddress:
    """A resolver's answer without the zone that link-local ones carry."""
    return ipaddress.ip_address(answer.partition("%")[0])


def _compatible(address: ipaddress.IPv6Address) -> IPAddress | None:
    """`::a.b.c.d`, apart from `::` and `::1`."""
    value = int(address)
    return ipaddress.IPv4Address(value) if 0xFFFF < value <= 0xFFFFFFFF else None
