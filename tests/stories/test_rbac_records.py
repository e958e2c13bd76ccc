"""Long inventories and records of lost members, under exactly the rights of config/ (trust.md section 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fleet_rollout.lab.lab import Lab
from tests.stories.guarded import (
    NOTHING,
    Use,
    application,
    attach,
    audited,
    curtailed,
    ensure_namespace,
    path,
    refusals,
    uses,
)
from tests.stories.replicas import Launcher
from tests.stories.test_rbac import CONTROLLER, MEMBER, guarded, launcher

__all__ = ["guarded", "launcher"]

HOME = "recorded"
MORE_THAN_A_STATUS_HOLDS = 1_001
LONG = 180.0


def config_maps(count: int) -> dict[str, str]:
    found = ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{n}"}} for n in range(count))
    return {"all.yaml": yaml.safe_dump_all(found)}


async def test_the_rights_for_long_inventories_and_lost_members_are_enough(
    guarded: Lab, launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """More objects than a status holds, then one; then the member is lost, given up, and comes back."""
    hub, member = guarded.hub, guarded.clusters["m1"]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*CONTROLLER.split(":")))
    await ensure_namespace(hub, HOME)
    account = await curtailed(member, HOME, NOTHING, *MEMBER)
    await attach(hub, HOME, "m1", account)
    repository = await guarded.git.create(HOME)
    policy = {"serviceAccountName": "deployer", "targetNamespace": HOME}
    where, record = path(HOME, "applications", "web"), path(CONTROLLER.partition(":")[0], "configmaps")
    in_member = f"/api/v1/namespaces/{HOME}/configmaps/c0"
    settings = {"data_dir": tmp_path / "data", "retry_max": 1.0, "member_check_interval": 0.5, "member_give_up": 1.0}
    async with launcher.program(kubeconfig=kubeconfig, **settings):

        async def has_parts(count: int, commit: str) -> None:
            async def check() -> bool:
                syncs = await hub.api.items(path(HOME, "clustersyncs"))
                status = (syncs[0].get("status") or {}) if syncs else {}
                is_applied = str(status.get("lastAppliedRevision", "")).endswith(commit)
                return is_applied and len(status.get("inventoryParts", [])) == count

            await eventually(check, LONG)

        async def is_gone(cluster: Any, what: str) -> None:
            async def check() -> bool:
                return await cluster.api.find(what) is None

            await eventually(check, LONG)

        async def is_lost() -> bool:
            return not (await hub.api.get(path(HOME, "attachedclusters", "m1")))["status"]["ready"]

        first = await repository.commit(config_maps(MORE_THAN_A_STATUS_HOLDS))
        await hub.api.apply(where, application(HOME, repository.url, kustomization=policy), manager="story")
        await has_parts(1, first)
        second = await repository.commit(config_maps(1))
        await hub.api.merge(where, {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2"}}})
        await has_parts(0, second)

        server = yaml.safe_load(account)["clusters"][0]["cluster"]["server"]
        await attach(hub, HOME, "m1", account.replace(server.encode(), b"https://127.0.0.1:9"))
        await eventually(is_lost, LONG)
        await hub.api.delete(where)
        await is_gone(hub, where)
        named = [obj["metadata"]["name"] for obj in await hub.api.items(record)]
        assert [name for name in named if name.startswith(f"fleet-rollout-orphans-{HOME}.web-0-attachedcluster-m1-")]
        assert await member.api.find(in_member)
        await attach(hub, HOME, "m1", account)
        await is_gone(member, in_member)

    asked = list(audited(hub, CONTROLLER))
    assert refusals(asked) == []
    assert refusals(list(audited(member, f"{HOME}:{MEMBER[0]}"))) == []
    assert {Use("", "configmaps", verb) for verb in ("get", "list", "patch", "delete")} <= uses(asked)
    await member.api.delete(f"/api/v1/namespaces/{HOME}")
