"""Text of users in what proxies read: every router refuses it, or quotes it (trust row 44)."""

from __future__ import annotations

import json
import re

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.traffic.factory import router_for
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic import test_nginx
from tests.rooms.traffic.scene import Member, subject
from tests.rooms.traffic.test_gloo import SERVICES

# What could end a line, a statement, a block or a string, or begin a variable or a template.
BREAKS = ["a\nb", "a\r\nHost: b", "a}b", 'a"b', "a;b", "$host", "a`b", "a b", "a\0", "é"]
CONTROLS = ["a\nb", "a\r\nX: y", "a\0", "a\x7f"]
GATEWAY = [{"name": "gateway", "namespace": "istio-system"}]
SCENES = {
    "istio": ((), {}, {}),
    "gatewayapi:v1": ((), {"gatewayRefs": GATEWAY}, {}),
    "nginx": ((test_nginx.ingress(),), {}, {"ingressRef": test_nginx.REF}),
    "contour": ((), {}, {}),
    "gloo": (SERVICES, {}, {}),
    "smi:istio": ((), {}, {}),
}


def named(header, value="insider"):
    return {"iterations": 2, "match": [{"headers": {header: {"exact": value}}}]}


def written(provider, *, service=None, analysis=None):
    """Everything that the router of a provider writes, while the traffic moves."""
    objects, of_service, spec = SCENES[provider]
    router, member = router_for(provider), Member(*objects)
    canary = subject(service={**of_service, **(service or {})}, analysis=analysis, **spec)
    member.reconcile(router, canary)
    member.move(router, canary, 0, 100)
    member.move(router, canary, 100, 0)
    return [obj for obj in member.objects.values() if obj not in objects]


def refused(provider, **parts):
    with pytest.raises(StepFailed) as caught:
        written(provider, **parts)
    assert caught.value.message.startswith("spec.")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("text", BREAKS)
@pytest.mark.parametrize("provider", ["istio", "gatewayapi:v1", "nginx", "contour", "gloo"])
def test_t44_a_header_is_a_name(provider, text):
    refused(provider, analysis=named(text))


@pytest.mark.parametrize("text", [text for text in BREAKS if text != "a b"])
@pytest.mark.parametrize("provider", ["nginx", "contour", "gloo"])
def test_t44_a_header_s_value_ends_nothing_where_it_becomes_configuration(provider, text):
    refused(provider, analysis=named("x-canary", text))


@pytest.mark.parametrize("text", CONTROLS)
@pytest.mark.parametrize("provider", ["istio", "gatewayapi:v1", "nginx", "contour", "gloo"])
def test_t44_nowhere_does_a_value_begin_another_line(provider, text):
    refused(provider, analysis=named("x-canary", text))


@pytest.mark.parametrize("text", [*BREAKS, "a..b", "-a", "a_b", "*.*"])
@pytest.mark.parametrize("provider", ["istio", "gatewayapi:v1", "smi:istio"])
def test_t44_a_host_is_a_host(provider, text):
    refused(provider, service={"hosts": [text]})


@pytest.mark.parametrize("text", [*BREAKS, "a=b"])
@pytest.mark.parametrize("provider", ["istio", "gatewayapi:v1"])
def test_t44_a_cookie_is_a_name(provider, text):
    refused(provider, analysis={"sessionAffinity": {"cookieName": text}})


@pytest.mark.parametrize("provider", ["istio", "gatewayapi:v1"])
def test_t44_in_expressions_of_ours_a_dot_is_a_dot(provider):
    """`a.b` as a cookie must not let `aXb` through to the canary."""
    objects, of_service, spec = SCENES[provider]
    router, member = router_for(provider), Member(*objects)
    canary = subject(service=of_service, analysis={"sessionAffinity": {"cookieName": "a.b"}}, **spec)
    member.reconcile(router, canary)
    moved = router.set_routes(canary, member.live(router, canary), Routes(80, 20), token="abcdefghij")
    member.carry_out(moved.writes)
    texts = [text for obj in member.objects.values() for text in strings(obj) if "abcdefghij" in text and "*" in text]
    assert texts, json.dumps(list(member.objects.values()), default=str)
    for text in texts:
        assert re.search(text, "a.b=abcdefghij")
        assert not re.search(text, "aXb=abcdefghij")


def strings(obj):
    if isinstance(obj, dict):
        return [text for each in obj.values() for text in strings(each)]
    if isinstance(obj, list):
        return [text for each in obj for text in strings(each)]
    return [obj] if isinstance(obj, str) else []
