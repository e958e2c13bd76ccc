"""What is known to be as wanted costs no dry run; whatever changes on either side costs one again."""

from __future__ import annotations

import pytest

from fleet_rollout.kube.apply import Applier
from fleet_rollout.kube.settled import BELIEVED, Settled


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def knowing(cluster, owner, settings, clock):
    """Appliers of one ClusterSync, as each of its passes has one."""
    settled = Settled(lambda: clock[0])
    return lambda: Applier(cluster, owner, settings, settled=settled)


async def test_an_object_that_nobody_changed_is_read_and_nothing_else(apply, make, knowing, requests):
    objects = [make.config_map(name) for name in "abc"]
    await apply(*objects, by=knowing())
    requests.forget()
    lines = await apply(*objects, by=knowing())
    assert [line.split()[-1] for line in lines] == ["unchanged"] * 3
    assert requests.verbs == {"list": 1}


async def test_a_new_revision_asks_about_what_it_changes_alone(apply, make, knowing, requests):
    await apply(*(make.config_map(name) for name in "abc"), by=knowing())
    requests.forget()
    changed = [make.config_map("a"), make.config_map("b", {"a": "2"}), make.config_map("c")]
    lines = await apply(*changed, by=knowing())
    assert [line.split()[-1] for line in lines] == ["unchanged", "configured", "unchanged"]
    assert requests.verbs == {"list": 1, "dry run": 1, "apply": 1}


async def test_what_was_changed_in_the_member_is_reverted(apply, make, knowing, member, requests):
    await apply(make.config_map("a"), make.config_map("b"), by=knowing())
    await member.kubectl("-n", make.namespace, "patch", "configmap/a", "-p", '{"data": {"a": "other"}}')
    requests.forget()
    lines = await apply(make.config_map("a"), make.config_map("b"), by=knowing())
    assert [line.split()[-1] for line in lines] == ["configured", "unchanged"]
    assert requests.verbs["dry run"] == 1


async def test_what_was_deleted_and_made_again_by_somebody_else_is_looked_at(apply, make, knowing, member):
    await apply(make.config_map("a"), by=knowing())
    await member.kubectl("-n", make.namespace, "delete", "configmap/a")
    await member.kubectl("-n", make.namespace, "create", "configmap", "a", "--from-literal=a=other")
    assert (await apply(make.config_map("a"), by=knowing()))[0].endswith("configured")


async def test_after_an_hour_all_is_asked_again(apply, make, knowing, clock, requests):
    await apply(make.config_map("a"), by=knowing())
    for passed, dry_runs in ((BELIEVED - 1, 0), (2, 1), (1, 0)):
        clock[0] += passed
        requests.forget()
        await apply(make.config_map("a"), by=knowing())
        assert requests.verbs["dry run"] == dry_runs
