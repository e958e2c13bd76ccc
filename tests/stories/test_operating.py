"""The commands of docs/operating.md, as they stand there."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

from fleet_rollout import processes
from fleet_rollout.lab import binaries
from fleet_rollout.lab.lab import LabCluster

ROOT = Path(__file__).parents[2]
HOME, ACCOUNT = "/api/v1/namespaces/fleet-rollout-system", "fleet-rollout-sync"
TEXT = (ROOT / "docs" / "operating.md").read_text()


def commands(part: str) -> str:
    """The block of commands in which `part` stands."""
    (found,) = (block for block in TEXT.split("```")[1::2] if part in block)
    return found


async def run_commands(script: str, folder: Path, **clusters: Path) -> None:
    """With kubectl on the PATH; `--context NAME` means the cluster of that kubeconfig."""
    for name, kubeconfig in clusters.items():
        script = script.replace(f"--context {name}", f"--kubeconfig {kubeconfig}")
    assert "--context" not in script
    (folder / "kubectl").symlink_to(binaries.require("kubectl"))
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    shell = ["bash", "-euo", "pipefail", "-c", f"cd {folder}\nln -s {ROOT / 'config'} config\n{script}"]
    done = await processes.run(shell, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr


async def issue_token(cluster: LabCluster, eventually: Any) -> None:
    """What the token controller does, which the lab does not run."""
    secret = f"{HOME}/secrets/{ACCOUNT}"

    async def is_asked_for() -> bool:
        return await cluster.api.find(secret) is not None

    await eventually(is_asked_for)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    answer = await cluster.api.create(f"{HOME}/serviceaccounts/{ACCOUNT}/token", request)
    content = {"ca.crt": cluster.ca, "token": answer["status"]["token"].encode()}
    await cluster.api.merge(secret, {"data": {key: base64.b64encode(value).decode() for key, value in content.items()}})


async def test_the_kubeconfig_of_a_member_is_made_as_described(
    story: Any, spare: LabCluster, tmp_path: Path, eventually: Any
) -> None:
    """Its Secret on the hub is one with which the member is ready."""
    folder = tmp_path / "commands"
    folder.mkdir()
    script = commands("kubernetes.io/service-account-token").replace("https://PARIS:6443", spare.server)
    script = script.replace("--context HUB", f"--context HUB -n {story.namespace}")
    await spare.api.delete(f"{HOME}/secrets/{ACCOUNT}")
    async with asyncio.TaskGroup() as group:
        group.create_task(issue_token(spare, eventually))
        group.create_task(run_commands(script, folder, PARIS=spare.kubeconfig, HUB=story.hub.kubeconfig))
    await story.apply(
        {
            "apiVersion": "cluster.kurator.dev/v1alpha1",
            "kind": "AttachedCluster",
            "metadata": {"name": "paris"},
            "spec": {"kubeconfig": {"name": "paris-kubeconfig", "key": "value"}},
        }
    )
    await story.set_fleet(["paris"])
    await story.start()
    wait = ("wait", "-n", story.namespace, "--for=condition=Ready", "--timeout=60s", "attachedcluster/paris")
    assert "condition met" in await story.hub.kubectl(*wait)
    secret = await story.hub.api.get(story.path("secrets", "paris-kubeconfig"))
    assert set(secret["data"]) == {"value"}
