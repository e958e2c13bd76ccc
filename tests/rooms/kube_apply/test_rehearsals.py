"""What one member has accepted in a dry run, another of its version is not asked; whatever is in doubt is asked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from fleet_rollout.decide.inventory import Ref
from fleet_rollout.decide.names import MANAGER_SCALE, MANAGER_SYNC
from fleet_rollout.kube.apply import Applier
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.kube.rehearsals import BELIEVED, Rehearsals
from fleet_rollout.kube.settled import Change, Settled
from fleet_rollout.kube.writer import Step
from tests.rooms.kube_apply.conftest import Manifests

MAPS = "abc"


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def shared(clock):
    return Rehearsals(lambda: clock[0])


@pytest.fixture
async def another(namespace, member, owner, cluster, settings, shared):
    """Makes the same objects in a namespace of its own, for another ClusterSync that knows the same rehearsals."""

    async def make(**kept):
        made = await namespace("other", on=[member])
        settled = Settled()
        holder = replace(owner, name=f"web-0-{made}", namespace=made)
        by = lambda: Applier(cluster, holder, settings, settled=settled, rehearsals=shared, **kept)  # noqa: E731
        return Manifests(made), by

    return make


def revision(make, data, names=MAPS, **metadata):
    return [make.config_map(name, {"a": data}, **metadata) for name in names]


async def test_the_second_member_writes_without_a_dry_run(apply, another, requests):
    first, second = await another(), await another()
    for make, by in (first, second):
        await apply(*revision(make, "1"), by=by())
    requests.forget()
    await apply(*revision(first[0], "2"), by=first[1]())
    assert requests.verbs["dry run"] == 3
    requests.forget()
    lines = await apply(*revision(second[0], "2"), by=second[1]())
    assert [line.split()[-1] for line in lines] == ["configured"] * 3
    assert requests.verbs == {"list": 1, "apply": 3}


async def test_members_that_plan_at_the_same_time_ask_once(apply, another, requests):
    places = [await another() for _ in range(4)]
    for make, by in places:
        await apply(*revision(make, "1"), by=by())
    await apply(*revision(places[0][0], "2"), by=places[0][1]())  # the version is known from here on
    requests.forget()
    await asyncio.gather(*(apply(*revision(make, "3"), by=by()) for make, by in places[1:]))
    assert requests.verbs["apply"] == 9
    assert requests.verbs["dry run"] == 3


async def test_a_refusal_that_only_this_member_has_is_told_and_asked_about_the_next_time(
    apply, refusal, another, member, requests
):
    """Somebody made one of them immutable without leaving a trace: after the failed write all is asked again."""
    first, second = await another(), await another()
    for make, by in (first, second):
        await apply(*revision(make, "1"), by=by())
    await changed_by(member, second[0], MANAGER_SCALE, {"immutable": True}, "b")
    await apply(*revision(second[0], "1"), by=second[1]())  # looked at, and as wanted
    await apply(*revision(first[0], "2"), by=first[1]())
    text = await refusal(*revision(second[0], "2"), by=second[1]())
    assert text.splitlines()[0].startswith(f"ConfigMap/{second[0].namespace}/b apply failed (Invalid)")
    requests.forget()
    text = await refusal(*revision(second[0], "2"), by=second[1]())
    assert text.startswith(f"ConfigMap/{second[0].namespace}/b dry-run failed (Invalid)")
    assert requests.verbs["apply"] == 0


@pytest.mark.parametrize("difference", ["a field of somebody else", "another version", "a service account"])
async def test_what_may_be_otherwise_here_is_asked(apply, another, member, requests, shared, cluster, difference):
    first = await another()
    second = await another(**({"impersonate": "deployer"} if difference == "a service account" else {}))
    await allowed(member, second[0].namespace, "deployer")
    for make, by in (first, second):
        await apply(*revision(make, "1"), by=by())
    if difference == "a field of somebody else":
        await changed_by(member, second[0], "team", {"metadata": {"annotations": {"team": "a"}}}, *MAPS)
        await apply(*revision(second[0], "1"), by=second[1]())
    await apply(*revision(first[0], "2"), by=first[1]())
    if difference == "another version":
        shared._servers[cluster].version = "v1.0.0"
    requests.forget()
    await apply(*revision(second[0], "2"), by=second[1]())
    assert requests.verbs["dry run"] == 3


@pytest.mark.parametrize(
    "error", [Unreachable("m1", "it is no API", maybe_sent=False), ApiError(403, "Forbidden", "no")]
)
async def test_a_server_that_does_not_tell_its_version_is_asked(apply, another, requests, cluster, monkeypatch, error):
    async def refuse():
        raise error

    monkeypatch.setattr(cluster, "server_version", refuse)
    first, second = await another(), await another()
    for make, by in (first, second):
        await apply(*revision(make, "1"), by=by())
    requests.forget()
    for make, by in (first, second):
        await apply(*revision(make, "2"), by=by())
    assert requests.verbs == {"list": 2, "dry run": 6, "apply": 6}


async def test_what_was_accepted_is_forgotten_in_time(apply, another, requests, clock):
    first, second = await another(), await another()
    for make, by in (first, second):
        await apply(*revision(make, "1"), by=by())
    await apply(*revision(first[0], "2"), by=first[1]())
    clock[0] += BELIEVED + 1
    requests.forget()
    await apply(*revision(second[0], "2"), by=second[1]())
    assert requests.verbs["dry run"] == 3


async def test_nobody_waits_long_for_a_member_that_does_not_answer(cluster, clock):
    """The next one asks its own server, and those after it wait for that one."""
    shared, change, never = Rehearsals(lambda: clock[0]), Change(b"1", b"2"), asyncio.Event()
    write = Step(
        Ref("shop", "a", "", "ConfigMap", "v1"),
        {},
        {"metadata": {"managedFields": [{"manager": MANAGER_SYNC}]}},
        "write",
    )

    async def hangs() -> Step:
        await never.wait()
        return write

    async def answers() -> Step:
        return write

    hanging = asyncio.create_task(shared.planned(cluster, change, write, hangs))
    async with asyncio.timeout(30):
        while not shared._asked:
            await asyncio.sleep(0.01)
        assert await shared.planned(cluster, change, write, answers) is write
        assert await shared.planned(cluster, change, write, hangs) is write
    never.set()
    await hanging


async def changed_by(member, make, manager, patch, *names):
    """Somebody else's change, whose field stays theirs."""
    for name in names:
        arguments = ("--field-manager", manager, "-p", json.dumps(patch))
        await member.kubectl("-n", make.namespace, "patch", f"configmap/{name}", *arguments)


async def allowed(member, namespace, user):
    """Everything, in that namespace."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    await member.api.create(rbac, {"metadata": {"name": user}, "roleRef": role, "subjects": [subject]})
