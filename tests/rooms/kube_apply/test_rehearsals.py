"""What one member has accepted in a dry run, another of its version is not asked; whatever is in doubt is asked."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace

import pytest

from fleet_rollout.decide.inventory import Ref
from fleet_rollout.decide.names import MANAGER_SCALE, MANAGER_SYNC
from fleet_rollout.kube import rehearsals
from fleet_rollout.kube.apply import Applier
from fleet_rollout.kube.client import Cluster, Connection
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
async def clusters(member, settings, cluster):
    """Two clusters as the service sees them; both requests' recorder is that of `requests`."""
    headers = {"Authorization": f"Bearer {member.token}"}
    second = Cluster(Connection("m-other", member.server, member.ca, headers), settings)
    own, second._transport = second._transport, cluster._transport
    yield cluster, second
    await own.close()


@pytest.fixture
async def another(namespace, member, owner, clusters, settings, shared):
    """Makes the same objects in a namespace of its own, for another ClusterSync that knows the same rehearsals.

    Each is in another cluster than the one before.
    """
    turns = itertools.cycle(clusters)

    async def make(hub_namespace=owner.namespace, **kept):
        made = await namespace("other", on=[member])
        settled, at = Settled(), next(turns)
        holder = replace(owner, name=f"web-0-{made}", namespace=hub_namespace)
        by = lambda: Applier(at, holder, settings, settled=settled, rehearsals=shared, **kept)  # noqa: E731
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
    assert requests.verbs == {"get": 1, "list": 1, "apply": 3}  # it tells its version


async def test_members_that_plan_at_the_same_time_ask_once(apply, another, requests, monkeypatch):
    monkeypatch.setattr(rehearsals, "PATIENCE", 30.0)
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


DIFFERENCES = {
    "a field of somebody else": {},
    "another version": {},
    "a service account": {"impersonate": "deployer"},
    "another tenant": {"hub_namespace": "tenant"},
}


@pytest.mark.parametrize("difference", DIFFERENCES)
async def test_what_may_be_otherwise_here_is_asked(apply, another, member, requests, clusters, monkeypatch, difference):
    async def own_version(cluster):
        return f"v1.{clusters.index(cluster)}"

    if difference == "another version":
        monkeypatch.setattr(Cluster, "server_version", own_version)
    first, second = await another(), await another(**DIFFERENCES[difference])
    await allowed(member, second[0].namespace, "deployer")
    for make, by in (first, second):
        await apply(*revision(make, "1"), by=by())
    if difference == "a field of somebody else":
        await changed_by(member, second[0], "team", {"metadata": {"annotations": {"team": "a"}}}, *MAPS)
        await apply(*revision(second[0], "1"), by=second[1]())
    await apply(*revision(first[0], "2"), by=first[1]())
    requests.forget()
    await apply(*revision(second[0], "2"), by=second[1]())
    assert requests.verbs["dry run"] == 3


@pytest.mark.parametrize(
    "error", [Unreachable("m1", "it is no API", maybe_sent=False), ApiError(403, "Forbidden", "no")]
)
async def test_a_server_that_does_not_tell_its_version_is_asked(apply, another, requests, monkeypatch, error):
    async def refuse(_):
        raise error

    monkeypatch.setattr(Cluster, "server_version", refuse)
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


WRITE = Step(
    Ref("shop", "a", "", "ConfigMap", "v1"), {}, {"metadata": {"managedFields": [{"manager": MANAGER_SYNC}]}}, "write"
)
CHANGE = Change(b"1", b"2")


@pytest.mark.parametrize(
    ("found", "is_passed_on"),
    [
        (WRITE, True),
        (replace(WRITE, do="keep"), False),
        (replace(WRITE, do="recreate"), False),
        (replace(WRITE, live=None), False),
        (replace(WRITE, live={"metadata": {}}), False),
    ],
    ids=["accepted", "nothing to do", "refused", "was gone", "is another by now"],
)
async def test_only_the_acceptance_of_this_very_change_is_passed_on(cluster, shared, found, is_passed_on):
    asked = []

    async def plan() -> Step:
        asked.append(found)
        return found

    for _ in range(2):
        assert await shared.planned(cluster, "shop", CHANGE, WRITE, plan) is found
    assert len(asked) == (1 if is_passed_on else 2)


async def test_without_a_word_about_owners_nothing_is_passed_on(cluster, shared):
    bare, asked = replace(WRITE, live={"metadata": {}}), []

    async def plan() -> Step:
        asked.append(bare)
        return bare

    for _ in range(2):
        await shared.planned(cluster, "shop", CHANGE, bare, plan)
    assert len(asked) == 2


async def test_a_server_that_was_upgraded_while_it_was_asked_speaks_for_nobody(cluster, shared, clock, monkeypatch):
    async def version(_):
        return f"v1.{clock[0]:.0f}"

    async def plan() -> Step:
        clock[0] += rehearsals.JUST_NOW + 1
        return WRITE

    monkeypatch.setattr(Cluster, "server_version", version)
    await shared.planned(cluster, "shop", CHANGE, WRITE, plan)
    assert not shared._accepted


async def test_nobody_waits_long_for_a_member_that_does_not_answer(cluster, shared, monkeypatch):
    """Each asks its own server after a moment; once one has accepted, nobody waits any more."""
    monkeypatch.setattr(rehearsals, "PATIENCE", 0.01)
    never = asyncio.Event()

    async def hangs() -> Step:
        await never.wait()
        return WRITE

    async def answers() -> Step:
        return WRITE

    hanging = asyncio.create_task(shared.planned(cluster, "shop", CHANGE, WRITE, hangs))
    async with asyncio.timeout(30):
        while not shared._asked:
            await asyncio.sleep(0.01)
        assert await shared.planned(cluster, "shop", CHANGE, WRITE, answers) is WRITE
        monkeypatch.setattr(rehearsals, "PATIENCE", 3600.0)
        assert await shared.planned(cluster, "shop", CHANGE, WRITE, hangs) is WRITE
    hanging.cancel()
    await asyncio.wait([hanging])
    assert not shared._asked


async def test_a_version_that_does_not_come_is_not_waited_for(cluster, shared, monkeypatch):
    async def hangs(_):
        await asyncio.Event().wait()

    async def plan() -> Step:
        return WRITE

    monkeypatch.setattr(Cluster, "server_version", hangs)
    monkeypatch.setattr(rehearsals, "VERSION_PATIENCE", 0.01)
    async with asyncio.timeout(30):
        await shared.planned(cluster, "shop", CHANGE, WRITE, plan)
        monkeypatch.setattr(rehearsals, "VERSION_PATIENCE", 3600.0)
        await shared.planned(cluster, "shop", CHANGE, WRITE, plan)  # it is not asked again so soon
    assert not shared._accepted


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
