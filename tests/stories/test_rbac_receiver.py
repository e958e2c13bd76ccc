"""The receiver as a process of its own, with exactly the rights of config/ (trust.md section 3)."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from fleet_rollout.lab import children
from fleet_rollout.lab.children import LOCALHOST
from fleet_rollout.lab.lab import Lab, LabCluster
from tests.stories.guarded import (
    CONFIG,
    Object,
    Use,
    application,
    audited,
    curtailed,
    ensure_namespace,
    granted,
    installed,
    path,
    refusals,
    uses,
)
from tests.stories.replicas import Launcher, Replica
from tests.stories.test_rbac import CONTROLLER, RECEIVER, launcher

__all__ = ["launcher"]

ACCOUNT = f"fleet-rollout-system:{RECEIVER}"
HOME = "tenant"
KEY = b"wh-key"


@pytest.fixture
async def doors() -> AsyncIterator[tuple[Lab, LabCluster]]:
    async with installed("receiver") as (lab, hub):
        await ensure_namespace(hub, HOME)
        yield lab, hub


def secret(name: str, home: str = HOME) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": home},
        "stringData": {"token": KEY.decode()},
    }


async def announce(base: str, hook: str, url: str, home: str = HOME) -> int:
    """What a Git host sends after a push; the status of the answer."""
    return (await announced(base, hook, url, home))[0]


async def announced(base: str, hook: str, url: str, home: str = HOME) -> tuple[int, str]:
    """Status and text of the answer."""
    body = json.dumps({"url": url, "ref": "refs/heads/main"}).encode()
    headers = {"Content-Type": "application/json", "X-Signature": "sha256=" + hmac.new(KEY, body, "sha256").hexdigest()}
    where = f"http://{base}/hook/{home}/{hook}"
    async with aiohttp.ClientSession() as session, session.post(where, data=body, headers=headers) as answer:
        return answer.status, await answer.text()


async def started(launcher: Launcher, folder: Path, kubeconfig: Path, **addresses: str) -> Any:
    telemetry = f"{LOCALHOST}:{children.free_port()}"
    flags = {"kubeconfig": kubeconfig, "data-dir": folder / "doors", "telemetry-address": telemetry, **addresses}
    log = folder / "receiver.log"
    arguments = ["receiver", "--lease-retry=0.3", *(f"--{name}={value}" for name, value in flags.items())]
    process = await launcher.start(arguments, log, launcher.environment())
    return Replica(process.pid, log, telemetry), process


async def test_announcements_and_artifacts_go_through_a_process_without_other_rights(
    doors: tuple[Lab, LabCluster], launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """The push is seen, the artifact handed out, a hook of another Secret is none; nothing else is asked for."""
    lab, hub = doors
    kubeconfigs = {}
    for account in (CONTROLLER, ACCOUNT):
        kubeconfigs[account] = tmp_path / account.replace(":", "-")
        kubeconfigs[account].write_bytes(await hub.service_account_kubeconfig(*account.split(":")))
    for name in ("fleet-rollout-hook", "other"):
        await hub.api.apply(path(HOME, "secrets", name), secret(name), manager="story")
    repository = await lab.git.create("doors")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    await repository.commit({"a.yaml": yaml.safe_dump(config_map)})
    where = path(HOME, "applications", "web")
    await hub.api.apply(where, application(HOME, repository.url), manager="story")

    async def artifact() -> Object:
        source = ((await hub.api.get(where)).get("status") or {}).get("sourceStatus") or {}
        found: Object = (source.get("gitRepoStatus") or {}).get("artifact") or {}
        return found

    listens = {f"{door}-address": f"{LOCALHOST}:{children.free_port()}" for door in ("artifact", "receiver")}
    inside = {"kubeconfig": kubeconfigs[CONTROLLER], "data_dir": tmp_path / "data"}
    async with launcher.program(**inside):
        replica, process = await started(launcher, tmp_path, kubeconfigs[ACCOUNT], **listens)
        try:

            async def has_artifact() -> bool:
                return bool(await artifact()) and (await replica.get("/readyz"))[0] == 200

            await eventually(has_artifact)
            assert (await replica.get("/healthz"))[0] == 200
            commit = await repository.commit({"b.yaml": yaml.safe_dump({**config_map, "metadata": {"name": "b"}})})
            # Row 37: what it may not read is answered as what is not there.
            forbidden = await announced(listens["receiver-address"], "other", repository.url)
            assert forbidden == await announced(listens["receiver-address"], "fleet-rollout-hook", "", "elsewhere")
            assert forbidden[0] == 404
            for pattern in (".*", "(a+)+$"):  # row 39: no pattern, and of no Application
                assert await announce(listens["receiver-address"], "fleet-rollout-hook", pattern) == 422
            assert await announce(listens["receiver-address"], "fleet-rollout-hook", repository.url) == 202

            async def is_seen() -> bool:
                return str((await artifact()).get("revision", "")).endswith(commit)

            await eventually(is_seen)
            found = await artifact()
            url = f"http://{listens['artifact-address']}/{found['path']}"

            async def is_handed_out() -> bool:
                async with aiohttp.ClientSession() as session, session.get(url) as answer:
                    digest = hashlib.sha256(await answer.read()).hexdigest()
                    return (answer.status, f"sha256:{digest}") == (200, found["digest"])

            await eventually(is_handed_out)
            replica.signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            replica.kill()
            await process.wait()
            os.close(replica._fd)
        told = [word["message"] for word in replica.words() if word["level"] == "WARNING"]
        assert told == [
            f"a hook asks for Secret/{HOME}/other, which may not be read; "
            "if it is yours, let the receiver's account get it"
        ]
        await hub.api.delete(where)

        async def is_gone() -> bool:
            return await hub.api.find(where) is None

        await eventually(is_gone)

    asked = list(audited(hub, ACCOUNT))
    assert [line.split(":")[0] for line in refusals(asked)] == [f"get {path(HOME, 'secrets', 'other')}"]
    documents = list(yaml.safe_load_all(await hub.kubectl("kustomize", str(CONFIG / "rbac"))))
    roles = [obj for obj in documents if obj["kind"] in ("Role", "ClusterRole") and obj["metadata"]["name"] == RECEIVER]
    assert granted(*roles) == uses(asked)


async def test_a_right_that_the_receiver_lacks_is_missed(
    doors: tuple[Lab, LabCluster], launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """Without the right to annotate, whoever announces hears that it failed, and the audit log says why."""
    lab, hub = doors
    home, kubeconfig = "no-patch", tmp_path / "kubeconfig"
    await ensure_namespace(hub, home)
    taken = Use("apps.kurator.dev", "applications", "patch")
    kubeconfig.write_bytes(await curtailed(hub, home, taken, RECEIVER, "rbac"))
    await hub.api.apply(path(home, "secrets", "fleet-rollout-hook"), secret("fleet-rollout-hook", home))
    url = (await lab.git.create(home)).url
    await hub.api.apply(path(home, "applications", "web"), application(home, url), manager="story")
    listens = f"{LOCALHOST}:{children.free_port()}"
    addresses = {"receiver-address": listens, "artifact-address": f"{LOCALHOST}:{children.free_port()}"}
    replica, process = await started(launcher, tmp_path, kubeconfig, **addresses, **{"own-namespace": home})
    try:

        async def is_ready() -> bool:
            return (await replica.get("/readyz"))[0] == 200

        await eventually(is_ready)
        assert await announce(listens, "fleet-rollout-hook", url, home) == 503
    finally:
        replica.kill()
        await process.wait()
        os.close(replica._fd)
    found = refusals(list(audited(hub, f"{home}:{RECEIVER}")))
    assert [line for line in found if "cannot patch" in line and 'resource "applications"' in line], found
