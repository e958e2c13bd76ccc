"""Text of users in what proxies read: every router refuses it, or quotes it (trust row 44)."""

from __future__ import annotations

import json
import re

import pytest

from fleet_rollout.decide.canary.objects import StepFailed
from fleet_rollout.traffic.factory import router_for
from fleet_rollout.traffic.router import Routes
from tests.rooms.traffic import test_apisix, test_knative, test_nginx, test_skipper
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
    "traefik": ((), {}, {}),
    "kuma": ((), {}, {}),
    "apisix": ((test_apisix.USUAL,), {}, {"routeRef": test_apisix.REF}),
    "skipper": ((test_skipper.ingress(),), {}, {"ingressRef": test_skipper.REF}),
    "knative": ((test_knative.service(),), {}, {"targetRef": test_knative.TARGET}),
}


def named(header, value="insider"):
    return {"iterations": 2, "match": [{"headers": {header: {"exact": value}}}]}


def written(provider, *, service=None, analysis=None, **more):
    """Everything that the router of a provider writes, while the traffic moves."""
    objects, of_service, spec = SCENES[provider]
    router, member = router_for(provider), Member(*objects)
    canary = subject(service={**of_service, **(service or {})}, analysis=analysis, **spec, **more)
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


@pytest.mark.parametrize("text", [*BREAKS, "`) || true", "a_b_svc_1"])
@pytest.mark.parametrize("provider", ["traefik", "kuma", "apisix", "skipper", "knative"])
def test_t44_where_only_shares_are_written_no_text_of_a_canary_is(provider, text):
    """Their objects hold names of Services, shares, and what the user's own route says."""
    marked = f"marked{text}marked"
    service = {
        "hosts": [marked],
        "gateways": [marked],
        "match": [{"uri": {"prefix": marked}}],
        "rewrite": {"uri": marked, "authority": marked},
        "headers": {"request": {"add": {marked: marked}}},
        "corsPolicy": {"allowOrigin": [marked]},
        "retries": {"attempts": 1, "retryOn": marked},
        "timeout": marked,
    }
    analysis = {**named(marked, marked), "sessionAffinity": {"cookieName": marked}}
    objects = written(provider, service=service, analysis=analysis, annotations={"example.com/theirs": marked})
    assert objects
    assert not [found for obj in objects for found in (*strings(obj), *keys(obj)) if "marked" in found]


@pytest.mark.parametrize("text", [*BREAKS, "a_b", "A", "-a", ""])
def test_t44_a_mesh_is_a_name(text):
    with pytest.raises(StepFailed, match=r"^metadata\.annotations\[kuma\.io/mesh\]: ") as caught:
        written("kuma", annotations={"kuma.io/mesh": text})
    assert caught.value.message.isprintable()


def strings(obj):
    if isinstance(obj, dict):
        return [text for each in obj.values() for text in strings(each)]
    if isinstance(obj, list):
        return [text for each in obj for text in strings(each)]
    return [obj] if isinstance(obj, str) else []


def keys(obj):
    if isinstance(obj, dict):
        return [*obj, *(key for each in obj.values() for key in keys(each))]
    return [key for each in obj for key in keys(each)] if isinstance(obj, list) else []
