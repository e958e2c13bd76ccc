"""What holds for every router here, whatever the shares are and whatever others write beside it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rollout.decide.canary.objects import Put, StepFailed
from fleet_rollout.traffic.apisix import ApisixRouter
from fleet_rollout.traffic.contour import ContourRouter
from fleet_rollout.traffic.gloo import GlooRouter
from fleet_rollout.traffic.knative import KnativeRouter
from fleet_rollout.traffic.kuma import KumaRouter
from fleet_rollout.traffic.nginx import NginxRouter
from fleet_rollout.traffic.router import Routes
from fleet_rollout.traffic.skipper import SkipperRouter
from fleet_rollout.traffic.smi import SmiRouter
from fleet_rollout.traffic.traefik import TraefikRouter
from tests.rooms.traffic import test_apisix, test_gloo, test_knative, test_nginx
from tests.rooms.traffic.scene import Member, subject

# Router, what is there before it, and what its Canaries name.
SCENES = {
    "smi:v1alpha1": (SmiRouter("v1alpha1", True), (), {}),
    "smi:v1alpha2": (SmiRouter("v1alpha2"), (), {}),
    "smi:v1alpha3": (SmiRouter("v1alpha3"), (), {}),
    "nginx": (NginxRouter(), (test_nginx.ingress(),), {"ingressRef": test_nginx.REF}),
    "skipper": (SkipperRouter(), (test_nginx.ingress(),), {"ingressRef": test_nginx.REF}),
    "kuma": (KumaRouter(), (), {}),
    "contour": (ContourRouter(), (), {}),
    "traefik": (TraefikRouter(), (), {}),
    "apisix": (ApisixRouter(), (test_apisix.USUAL,), {"routeRef": test_apisix.REF}),
    "gloo": (GlooRouter(), test_gloo.SERVICES, {}),
    "knative": (KnativeRouter(), (test_knative.service(),), {"targetRef": test_knative.TARGET}),
}
APEX_METADATA = {"kuma", "contour", "traefik", "gloo"}

SAME = settings(derandomize=True, deadline=None)
names = st.sampled_from(list(SCENES))
shares = st.integers(0, 100)
words = st.text("abc", min_size=1, max_size=3)
notes = st.dictionaries(words.map("foreign.example.org/{}".format), words, min_size=1, max_size=3)


def scene(name, **parts):
    router, objects, spec = SCENES[name]
    return router, Member(*objects), subject(**{**spec, **parts})


def move(name, member, router, canary, share):
    member.move(router, canary, 100 - share, share)
    if name == "knative":
        test_knative.follow(member)


@SAME
@given(names, st.lists(shares, min_size=1, max_size=5))
def test_what_is_set_is_read_back_and_left_alone(name, moves):
    router, member, canary = scene(name)
    member.reconcile(router, canary)
    for share in moves:
        move(name, member, router, canary, share)
        assert member.routes(router, canary) == Routes(100 - share, share, False)
        assert router.reconcile(canary, member.live(router, canary)) == []


@SAME
@given(names, shares, notes, notes)
def test_metadata_of_others_stays_and_moves_no_traffic(name, share, labels, annotations):
    router, member, canary = scene(name)
    member.reconcile(router, canary)
    move(name, member, router, canary, share)
    for obj in list(member.objects.values()):
        member.put(_noted(obj, labels, annotations))
    assert router.reconcile(canary, member.live(router, canary)) == []
    move(name, member, router, canary, 100 - share)
    move(name, member, router, canary, share)
    assert member.routes(router, canary) == Routes(100 - share, share)
    for obj in member.objects.values():
        assert labels.items() <= obj["metadata"]["labels"].items()
        assert annotations.items() <= obj["metadata"]["annotations"].items()


def _noted(obj, labels, annotations):
    metadata = obj["metadata"]
    noted = {
        "labels": {**metadata.get("labels", {}), **labels},
        "annotations": {**metadata.get("annotations", {}), **annotations},
    }
    return {**obj, "metadata": {**metadata, **noted}}


@SAME
@given(st.sampled_from(sorted(APEX_METADATA)), shares, notes)
def test_metadata_of_the_apex_is_enforced_and_moves_no_traffic(name, share, labels):
    router, member, canary = scene(name)
    member.reconcile(router, canary)
    move(name, member, router, canary, share)
    _, _, changed = scene(name, service={"apex": {"labels": labels}})
    [write] = member.reconcile(router, changed)
    assert labels.items() <= write.obj["metadata"]["labels"].items()
    assert write.obj["metadata"]["labels"]["app"] == "podinfo"
    assert member.routes(router, changed) == Routes(100 - share, share)


@SAME
@given(names, shares)
def test_another_port_moves_no_traffic(name, share):
    router, member, canary = scene(name)
    member.reconcile(router, canary)
    move(name, member, router, canary, share)
    _, _, changed = scene(name, service={"port": 80})
    member.reconcile(router, changed)
    expected = Routes(100, 0) if name == "gloo" else Routes(100 - share, share)  # other Upstreams, other names
    assert member.routes(router, changed) == expected


@pytest.mark.parametrize("name", SCENES)
def test_every_new_object_but_kumas_belongs_to_the_canary(name):
    router, member, canary = scene(name)
    for write in member.reconcile(router, canary):
        assert isinstance(write, Put)
        owners = write.obj["metadata"].get("ownerReferences")
        assert owners == (None if name in ("kuma", "knative") else [canary.owner_reference])


@pytest.mark.parametrize("name", SCENES)
def test_users_own_objects_are_not_written(name):
    router, member, canary = scene(name)
    before = [write.ref for write in map(Put, SCENES[name][1])]
    member.reconcile(router, canary)
    moved = member.move(router, canary, 50, 50)
    assert name == "knative" or not {write.ref for write in moved} & set(before)


@settings(SAME, max_examples=200)
@given(st.sampled_from(["nginx", "contour", "gloo"]), st.text(max_size=12), st.text(max_size=12))
def test_no_text_of_a_condition_gets_through_unchecked(name, header, value):
    analysis = {"iterations": 1, "match": [{"headers": {header: {"exact": value}}}]}
    router, member, canary = scene(name, analysis=analysis)
    told = "spec.analysis.match"
    try:
        member.reconcile(router, canary)
        member.move(router, canary, 0, 100)
    except StepFailed as failed:
        told = failed.message
    else:
        assert header.isascii()
        assert value.isprintable()
        assert not set(header + value) & set("{}\"'`\\$;<>\n\r\0")
    assert told.isprintable()
    assert "spec.analysis.match" in told
