"""Kinds of addresses, in every spelling (trust row 26)."""

from __future__ import annotations

import ipaddress

import pytest

from fleet_rollout.decide.dialling import (
    answer_address,
    dialled,
    is_metadata_or_multicast,
    is_odd_number,
    is_own_machine,
    literal,
)

address = ipaddress.ip_address


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("64:ff9b::7f00:1", "127.0.0.1"),
        ("2002:7f00:1::", "127.0.0.1"),
        ("::7f00:1", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::"),
    ],
)
def test_an_address_inside_another_is_the_one_that_is_dialled(written, meant):
    assert dialled(address(written)) == address(meant)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::"])
def test_the_own_machine_and_its_link(text):
    assert is_own_machine(address(text))
    assert not is_metadata_or_multicast(address(text))


# Azure's and Oracle's, which look like anybody's.
CLOUDS = ["168.63.129.16", "192.0.0.192"]


@pytest.mark.parametrize("text", ["fd00:ec2::254", "fd20:ce::254", "100.100.100.200", *CLOUDS, "224.0.0.1", "ff02::1"])
def test_metadata_services_and_multicast(text):
    assert is_metadata_or_multicast(address(text))
    assert not is_own_machine(address(text))


@pytest.mark.parametrize("text", ["10.0.0.1", "8.8.8.8", "2001:db8::1"])
def test_the_rest_is_neither(text):
    assert not is_own_machine(address(text))
    assert not is_metadata_or_multicast(address(text))


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "017700000001", "0177.0.0.1", "0x7f000001", "a.1"])
def test_numbers_that_only_some_resolvers_read_are_odd(host):
    assert is_odd_number(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "example.com", "10.example", "x1", "::1"])
def test_plain_spellings_are_not_odd(host):
    assert not is_odd_number(host)


def test_a_name_is_no_literal():
    assert literal("example.com") is None
    assert literal("10.0.0.1") == address("10.0.0.1")


def test_the_zone_of_an_answer_is_left_out():
    assert answer_address("fe80::1%eth0") == address("fe80::1")
