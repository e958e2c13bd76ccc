"""Gates in a ConfigMap of a real API server, with exactly the rights of config/loadtester."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from fleet_rollout.control import loadtesting
from fleet_rollout.control.loadtester_gates import ConfigMapGates, connect
from fleet_rollout.control.loadtesting import CONFIG_MAP, Persistence
from fleet_rollout.lab.cluster import kubeconfig
from fleet_rollout.loadtester.gates import GatesUnavailable, MemoryGates

CONFIG = Path(__file__).parents[2] / "config/loadtester"
KEY = "podinfo.test"


@pytest.fixture
async def home(namespace, hub, tmp_path) -> str:
    """A namespace with config/loadtester in it."""
    name = await namespace("tester", on=[hub])
    overlay = {"namespace": name, "resources": [os.path.relpath(CONFIG, tmp_path)]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    await hub.kubectl("apply", "--server-side", "--validate=strict", "-k", str(tmp_path))
    return name


@pytest.fixture
async def persistence(hub, home, tmp_path) -> Persistence:
    """The load tester's own account."""
    path = f"/api/v1/namespaces/{home}/serviceaccounts/flagger-loadtester/token"
    answer = await hub.api.create(path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    file = tmp_path / "kubeconfig"
    file.write_bytes(kubeconfig("hub", hub.server, hub.ca, token=answer["status"]["token"]))
    return Persistence(file, home, CONFIG_MAP)


@pytest.fixture
async def gates(persistence) -> AsyncIterator[Callable[[], Awaitable[ConfigMapGates]]]:
    """Each call is what a restart, or another Pod, would have."""
    opened = []

    async def again() -> ConfigMapGates:
        cluster, made = connect(persistence)
        opened.append(cluster)
        return made

    yield again
    for cluster in opened:
        await cluster.close()


async def data_of(hub, home) -> dict[str, str]:
    return (await hub.api.get(f"/api/v1/namespaces/{home}/configmaps/{CONFIG_MAP}")).get("data") or {}


async def test_a_restart_loses_nothing(gates, hub, home):
    before = await gates()
    assert not await before.is_open(KEY)
    await before.set(KEY, is_open=True)
    await before.set(f"rollback.{KEY}", is_open=True)
    await before.set(f"rollback.{KEY}", is_open=False)
    after = await gates()
    assert await after.is_open(KEY)
    assert not await after.is_open(f"rollback.{KEY}")
    assert await data_of(hub, home) == {KEY: "open"}


async def test_two_pods_never_undo_each_others_gates(gates, hub, home):
    pods = [await gates() for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(pods[number % 2].set(f"app{number}.test", is_open=True))
    assert len(await data_of(hub, home)) == 20
    assert all([await pods[0].is_open(f"app{number}.test") for number in range(20)])


async def test_who_edits_the_config_map_by_hand_is_believed_at_once(gates, hub, home):
    kept = await gates()
    path = f"/api/v1/namespaces/{home}/configmaps/{CONFIG_MAP}"
    await hub.api.merge(path, {"data": {KEY: "open", "other.test": "shut"}})
    assert await kept.is_open(KEY)
    assert not await kept.is_open("other.test")
    await hub.api.merge(path, {"data": {KEY: None}})
    assert not await kept.is_open(KEY)


async def test_applying_the_manifests_again_closes_no_gate(gates, hub, home, tmp_path):
    await (await gates()).set(KEY, is_open=True)
    await hub.kubectl("apply", "--server-side", "-k", str(tmp_path))
    assert await data_of(hub, home) == {KEY: "open"}


async def test_without_its_config_map_every_gate_is_closed_and_the_fix_is_named(gates, hub, home):
    await hub.api.delete(f"/api/v1/namespaces/{home}/configmaps/{CONFIG_MAP}")
    kept = await gates()
    assert not await kept.is_open(KEY)
    await kept.set(KEY, is_open=False)
    with pytest.raises(GatesUnavailable) as caught:
        await kept.set(KEY, is_open=True)
    assert str(caught.value) == (
        f"ConfigMap {home}/{CONFIG_MAP} cannot be written: Forbidden; apply config/loadtester, or start with "
        "--no-persistence"
    )


async def test_where_it_may_the_config_map_is_created(hub, home):
    cluster, kept = connect(Persistence(hub.kubeconfig, home, "another"))
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(kept.set(f"app{number}.test", is_open=True))
        assert all([await kept.is_open(f"app{number}.test") for number in range(5)])
    finally:
        await cluster.close()


async def test_the_account_can_touch_nothing_else(persistence, hub, home):
    cluster, _ = connect(persistence)
    try:
        with pytest.raises(GatesUnavailable, match="cannot be read: Forbidden"):
            await ConfigMapGates(cluster, home, "kube-root-ca.crt").is_open(KEY)
        with pytest.raises(GatesUnavailable, match="cannot be read: Forbidden"):
            await ConfigMapGates(cluster, "default", CONFIG_MAP).is_open(KEY)
    finally:
        await cluster.close()


async def test_an_api_server_that_is_away_leaves_gates_closed_with_a_reason(hub, home, tmp_path):
    file = tmp_path / "away"
    file.write_bytes(kubeconfig("hub", "https://127.0.0.1:1", hub.ca, token="t"))
    cluster, kept = connect(Persistence(file, home, CONFIG_MAP))
    try:
        with pytest.raises(GatesUnavailable, match=rf"^ConfigMap {home}/{CONFIG_MAP} cannot be read: "):
            await kept.is_open(KEY)
    finally:
        await cluster.close()


async def test_over_http_a_gate_is_open_for_the_next_process(persistence, open_tester, hub, home):
    async with loadtesting.gates(persistence) as kept:
        assert await (await open_tester(kept)).ask("/gate/open") == (202, "")
    async with loadtesting.gates(persistence) as kept:
        assert await (await open_tester(kept)).ask("/gate/check") == (200, "Approved")
    async with loadtesting.gates(None) as kept:
        assert isinstance(kept, MemoryGates)
        assert await (await open_tester(kept)).ask("/gate/check") == (403, "Forbidden")


async def test_the_pods_are_admitted_under_the_restricted_standard(namespace, hub):
    built = yaml.safe_load_all(await hub.kubectl("kustomize", str(CONFIG)))
    (deployment,) = (obj for obj in built if obj["kind"] == "Deployment")
    name = await namespace("restricted", on=[hub])
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await hub.api.merge(f"/api/v1/namespaces/{name}", labels)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tester", "namespace": name},
        "spec": deployment["spec"]["template"]["spec"],
    }
    await hub.api.request("POST", f"/api/v1/namespaces/{name}/pods", pod, params={"dryRun": "All"})
