"""A source over ssh, from the Secret on the hub to the objects in a member, with a real ssh server."""

from __future__ import annotations

import base64
from typing import Any

import asyncssh
import yaml

from tests.ssh_server import SshServer

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def put_secret(story: Any, content: dict[str, bytes]) -> None:
    data = {key: base64.b64encode(value).decode() for key, value in content.items()}
    await story.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "data": data})


async def test_a_source_over_ssh_is_applied_and_trusts_only_the_host_key_of_its_secret(
    story: Any, ssh_server: SshServer
) -> None:
    """Sources: identity and known_hosts; another host key leaves the cluster as it is, and a new Secret mends it."""
    repository = await ssh_server.repository()
    await repository.commit({"a.yaml": config_map("a", version="1")})
    secret = ssh_server.secret()
    await put_secret(story, secret)
    await story.fleet("m1")
    await story.start()
    policy, source = {"targetNamespace": story.namespace}, {"secretRef": {"name": "git"}}
    await story.application(repository.url, policy, source=source)
    await story.applied(await repository.commit_of(), SYNC)

    other = ssh_server.known_hosts_of(asyncssh.generate_private_key("ssh-ed25519"))
    await put_secret(story, secret | {"known_hosts": other})
    second = await repository.commit({"a.yaml": config_map("a", version="2")})
    await story.request("1")
    failed = await story.condition("SourceReady", "False", "HostKeyMismatch")
    assert "update known_hosts" in failed["message"]
    assert (await story.config_map("m1", "a"))["data"] == {"version": "1"}

    await put_secret(story, secret)
    await story.applied(second, SYNC)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "2"}
    assert set(ssh_server.users) == {"git"}
