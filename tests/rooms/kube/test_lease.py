"""Leadership on a real API server (design section 7, bug class 5): one leads, and stops before another starts."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest

from fleet_rollout.kube import lease
from fleet_rollout.kube.client import Resource
from fleet_rollout.kube.lease import LEASES, Leadership, NotLeading, boottime

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True)


@pytest.fixture
async def short(settings, namespace, hub):
    """Quick terms, and a Lease of this test's own."""
    return dataclasses.replace(
        settings,
        own_namespace=await namespace("lease", on=[hub]),
        lease_duration=3.0,
        lease_renew_deadline=2.0,
        lease_retry=0.2,
        member_connect_timeout=1.0,
    )


class Clock:
    """The real clock and what the machine slept."""

    slept = 0.0

    def __call__(self) -> float:
        return boottime() + self.slept


class Work:
    """Work that goes on until it is cancelled, and tells whether it runs."""

    def __init__(self) -> None:
        self.started = 0
        self.is_running = False

    async def __call__(self) -> None:
        self.started += 1
        self.is_running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.is_running = False


class Contender:
    def __init__(self, cluster, settings) -> None:
        self.clock = Clock()
        self.leadership = Leadership(cluster, settings, clock=self.clock)
        self.work = Work()
        self.task = asyncio.create_task(self.leadership.run(self.work))

    async def leads(self) -> bool:
        return self.work.is_running and self.leadership.is_leading

    async def stands_by(self) -> bool:
        return not self.work.is_running and not self.leadership.is_leading

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@asynccontextmanager
async def contending(*contenders: Contender):
    try:
        yield contenders
    finally:
        for contender in contenders:
            await contender.stop()


async def lease_of(admin, settings) -> dict:
    return await admin.get(LEASES, settings.lease_name, settings.own_namespace)


def test_the_deadline_is_read_from_the_clock_that_runs_on_while_the_machine_sleeps(monkeypatch, settings):
    """Ruling "Leadership": by CLOCK_BOOTTIME, which CLOCK_MONOTONIC is no substitute for."""
    asked = []
    monkeypatch.setattr(time, "clock_gettime", lambda clock: asked.append(clock) or 12.5)
    leadership = Leadership(None, settings)
    assert leadership._clock is boottime
    assert not leadership.is_leading
    assert asked == [time.CLOCK_BOOTTIME]
    leadership._deadline = 12.6
    leadership.check()
    assert asked == [time.CLOCK_BOOTTIME] * 2


async def test_one_leads_and_hands_over_at_once_when_it_is_stopped(admin, short, eventually):
    async with contending(Contender(admin, short)) as (first,):
        await eventually(first.leads)
        assert first.leadership.epoch == 1
        first.leadership.check()
        async with contending(Contender(admin, short)) as (second,):
            with pytest.raises(NotLeading):
                second.leadership.check()
            before = boottime()
            await first.stop()
            await eventually(second.leads)
            assert boottime() - before < short.lease_duration
            assert not first.work.is_running
            assert second.leadership.epoch == 2
        spec = (await lease_of(admin, short))["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("", 2)


async def test_the_lease_tells_where_its_holder_serves_artifacts(admin, short):
    """Who does not tell takes away what its predecessor told, and a Lease that was given back tells nothing."""
    first = Leadership(admin, short, artifacts=lambda: "10.0.0.1:9790")
    second, third = Leadership(admin, short), Leadership(admin, short)
    assert third.artifacts_of_holder is None
    assert await first._take()
    assert not await third._take()
    assert first.artifacts_of_holder == third.artifacts_of_holder == "10.0.0.1:9790"
    await first._release()
    assert await second._take()
    assert not await third._take()
    assert third.artifacts_of_holder is None
    await second._release()
    assert await first._take()
    await first._release()
    await third._read()
    assert third.artifacts_of_holder is None


async def test_a_leader_that_was_suspended_may_not_send_before_it_has_won_a_new_term(
    admin, short, eventually, hub, connection, open_cluster
):
    async with contending(Contender(admin, short)) as (leader,):
        await eventually(leader.leads)
        member = open_cluster(connection(hub), short, fence=leader.leadership.check)
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": short.own_namespace}}
        await member.apply(CONFIG_MAPS, obj, manager="tests")
        leader.clock.slept = 20
        with pytest.raises(NotLeading):
            await member.apply(CONFIG_MAPS, obj | {"data": {"late": "yes"}}, manager="tests")
        assert "data" not in await member.get(CONFIG_MAPS, "a", short.own_namespace)

        async def leads_anew():
            return leader.work.started == 2 and await leader.leads()

        await eventually(leads_anew)
        assert leader.leadership.epoch == 2


@pytest.fixture(params=[0, 1, -1], ids="{:+}h".format)
def hours(request, monkeypatch) -> int:
    """What the clocks of leaders are ahead."""
    monkeypatch.setattr(lease, "datetime", Mock(now=lambda tz: datetime.now(tz) + timedelta(hours=request.param)))
    return request.param


async def test_class_6_a_leader_whose_clock_is_wrong_keeps_the_lease(admin, short, eventually, hours):
    async with contending(Contender(admin, short)) as (first,):
        await eventually(first.leads)
        said = datetime.fromisoformat((await lease_of(admin, short))["spec"]["renewTime"])
        assert abs(said - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(minutes=5)
        async with contending(Contender(admin, short)) as (second,):
            until = boottime() + 2 * short.lease_duration

            async def terms_have_passed():
                assert first.work.is_running
                assert second.work.started == 0
                return boottime() > until

            await eventually(terms_have_passed)


@pytest.mark.usefixtures("hours")
async def test_class_6_a_standby_waits_for_the_whole_term_of_a_leader_that_died(admin, short, eventually):
    dead = Leadership(admin, short)
    assert await dead._take()
    async with contending(Contender(admin, short)) as (second,):
        before = boottime()
        await eventually(second.leads)
        assert boottime() - before >= short.lease_duration - short.lease_retry
        assert not dead.is_leading
        assert second.leadership.epoch == 2


async def test_a_hub_that_hangs_ends_the_work_at_the_deadline_and_it_starts_anew_after(
    spare, connection, open_cluster, short, eventually, namespace
):
    settings = dataclasses.replace(short, own_namespace=await namespace("lease", on=[spare]))
    cluster = open_cluster(connection(spare), settings)
    async with contending(Contender(cluster, settings)) as (leader,):
        await eventually(leader.leads)
        before = boottime()
        await spare.pause()
        await eventually(leader.stands_by, every=0.02)
        assert boottime() - before < settings.lease_duration
        await spare.resume()
        await eventually(leader.leads)
        assert (leader.work.started, leader.leadership.epoch) == (2, 2)


async def test_a_lease_taken_by_force_ends_the_work(admin, short, eventually):
    async with contending(Contender(admin, short)) as (leader,):
        await eventually(leader.leads)
        patch = {"spec": {"holderIdentity": "somebody", "leaseTransitions": 7}}
        await admin.patch(LEASES, short.lease_name, short.own_namespace, patch, kind="merge")
        await eventually(leader.stands_by)
        await eventually(leader.leads)
        assert leader.leadership.epoch == 8


async def test_a_label_put_on_the_lease_ends_nothing(admin, short, eventually):
    async with contending(Contender(admin, short)) as (leader,):
        await eventually(leader.leads)
        patch = {"metadata": {"labels": {"seen-by": "somebody"}}}
        before = await admin.patch(LEASES, short.lease_name, short.own_namespace, patch, kind="merge")

        async def was_renewed():
            return (await lease_of(admin, short))["spec"]["renewTime"] > before["spec"]["renewTime"]

        await eventually(was_renewed)
        assert (leader.work.started, await leader.leads()) == (1, True)
        assert (await lease_of(admin, short))["metadata"]["labels"] == {"seen-by": "somebody"}


async def test_a_deleted_lease_is_made_anew(admin, short, eventually):
    async with contending(Contender(admin, short)) as (leader,):
        await eventually(leader.leads)
        await admin.delete(LEASES, short.lease_name, short.own_namespace)

        async def leads_again():
            return leader.work.started == 2 and await leader.leads()

        await eventually(leads_again)


async def test_work_that_fails_gives_the_lease_back_and_is_told(admin, short):
    async def fail() -> None:
        raise LookupError("no CRDs")

    with pytest.raises(LookupError, match="no CRDs"):
        await Leadership(admin, short).run(fail)
    assert (await lease_of(admin, short))["spec"]["holderIdentity"] == ""


async def test_the_lease_is_given_back_although_it_was_written_meanwhile(admin, short, eventually):
    """As by a renewal of ours that was cut off when the work ended, and that the API server has carried out."""
    slow = dataclasses.replace(short, lease_duration=60.0, lease_renew_deadline=50.0, lease_retry=30.0)
    async with contending(Contender(admin, slow)) as (first,):
        await eventually(first.leads)
        lease = await lease_of(admin, slow)
        patch = {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
        await admin.patch(LEASES, slow.lease_name, slow.own_namespace, patch, kind="merge")
        await first.stop()
        assert (await lease_of(admin, slow))["spec"]["holderIdentity"] == ""
        assert lease["spec"]["holderIdentity"] == first.leadership.identity


async def test_a_lease_that_is_anothers_by_now_is_not_given_back(admin, short, eventually):
    slow = dataclasses.replace(short, lease_duration=60.0, lease_renew_deadline=50.0, lease_retry=30.0)
    async with contending(Contender(admin, slow)) as (first,):
        await eventually(first.leads)
        patch = {"spec": {"holderIdentity": "another"}}
        await admin.patch(LEASES, slow.lease_name, slow.own_namespace, patch, kind="merge")
        await first.stop()
        assert (await lease_of(admin, slow))["spec"]["holderIdentity"] == "another"


async def test_the_lease_is_kept_while_the_work_ends(admin, short, eventually):
    ending = asyncio.Event()
    may_end = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()

    leadership = Leadership(admin, short)
    task = asyncio.create_task(leadership.run(slow_to_end))

    async def is_leading():
        return leadership.is_leading

    await eventually(is_leading)
    task.cancel()
    async with asyncio.timeout(30):
        await ending.wait()
    held = await lease_of(admin, short)

    async def was_renewed():
        return (await lease_of(admin, short))["spec"]["renewTime"] > held["spec"]["renewTime"]

    await eventually(was_renewed)
    leadership.check()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await lease_of(admin, short))["spec"]["holderIdentity"] == ""
