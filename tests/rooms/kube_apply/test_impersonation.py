"""Whoever a policy acts as, it does everything as that one, and no request leaves without (trust row 29)."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.inventory import object_id
from fleet_rollout.kube.apply import Applier
from fleet_rollout.kube.health import Checks, unhealthy
from fleet_rollout.kube.prune import Pruner

ALL = ["get", "list", "create", "patch", "update", "delete"]


@pytest.fixture
async def user(account):
    return await account("deployer", ("", "configmaps", ALL), ("", "services", ALL), ("apps", "deployments", ALL))


def as_whom(requests):
    """Verb and user of each request but those of discovery, which tell nothing about objects."""
    return {(request.method, request.impersonate) for request in requests.sent if "apidiscovery" not in request.accept}


async def test_t29_every_request_is_made_as_the_policys_account(
    user, apply, make, member, cluster, owner, settings, requests
):
    """Reading, dry runs, writes, fields taken over from kubectl, objects made anew, health and pruning."""
    by = Applier(cluster, owner, settings, impersonate=user)
    objects = [make.config_map("c"), make.service("s"), make.deployment("web")]
    await apply(*objects, by=by)
    await member.kubectl("-n", make.namespace, "label", "configmap/c", "extra=1")
    renamed = make.deployment("web", app="other")  # its selector cannot be changed in place
    await apply(make.config_map("c", {"a": "2"}), make.service("s"), renamed, by=by, force=True)
    entries = [object_id(obj) for obj in objects]
    await unhealthy(cluster, Checks(entries=entries, selector=owner.selector), impersonate=user)
    pruner = Pruner(cluster, owner, impersonate=user)
    changes, survivors = await pruner.prune(entries)
    assert [change.action for change in changes] == ["deleted"] * 3
    assert survivors == []
    assert as_whom(requests) == {(method, user) for method in ("GET", "PATCH", "DELETE")}
