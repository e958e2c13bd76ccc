"""Announcements of pushes: a signed one makes the source be looked at now; nothing else does anything."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import aiohttp
import yaml

from fleet_rollout.control.connecting import connect
from fleet_rollout.control.receiving import Receiving
from fleet_rollout.kube.client import Cluster

KEY = b"wh-key"
REQUESTED = "reconcile.fluxcd.io/requestedAt"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def listening(story: Any) -> Any:
    """An Application that polls once an hour, synced, and the Secret with the receiver's key."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": {"token": KEY.decode()}}
    await story.apply(secret)
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1", "m2")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, interval="1h")
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1", "web-0-attachedcluster-m2")
    await story.condition("Ready", "True")
    return repository


def generic(url: str, ref: str = "refs/heads/main") -> bytes:
    return json.dumps({"url": url, "ref": ref}).encode()


async def post(story: Any, body: bytes, header: str | None = "X-Signature", to: str = "", **more: str) -> int:
    headers = {"Content-Type": "application/json", **more}
    if header:
        headers[header] = "sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest()
    url = f"{to or story.health.receiver_url}/hook/{story.namespace}/hook"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status


async def test_a_signed_push_brings_the_commit_without_polling(story: Any) -> None:
    """Receiver: a generic announcement, then one in GitHub's form, each followed by its commit."""
    repository = await listening(story)
    second = await repository.commit({"a.yaml": config_map("a", version="2")})
    assert await post(story, generic(repository.url)) == 202
    await story.applied(second)

    third = await repository.commit({"a.yaml": config_map("a", version="3")})
    github = {"ref": "refs/heads/main", "repository": {"clone_url": repository.url, "full_name": "x/y"}}
    body = json.dumps(github).encode()
    assert await post(story, body, "X-Hub-Signature-256", **{"X-GitHub-Event": "push"}) == 202
    await story.applied(third)
    for member in ("m1", "m2"):
        assert (await story.config_map(member, "a"))["data"] == {"version": "3"}


async def test_its_one_effect_is_the_annotation(story: Any) -> None:
    """Receiver: metadata but the annotation, and the spec, stay as they were; nobody else's Application is touched."""
    repository = await listening(story)
    other = await story.git_repo({"b.yaml": config_map("b")})
    await story.application(other, {"targetNamespace": story.namespace}, name="other")
    await story.condition("Ready", "True", name="other")
    before = await story.read()
    assert await post(story, generic(repository.url)) == 202
    after = await story.read()
    assert REQUESTED in after["metadata"].pop("annotations")
    before["metadata"].pop("annotations", None)
    for obj in (before, after):
        for moving in ("managedFields", "resourceVersion"):
            obj["metadata"].pop(moving)
    assert after["metadata"] == before["metadata"]
    assert after["spec"] == before["spec"]
    assert REQUESTED not in (await story.read("other"))["metadata"].get("annotations", {})


async def test_what_is_not_signed_does_nothing(story: Any) -> None:
    """Receiver: no signature, a wrong one, a wrong path."""
    repository = await listening(story)
    version = (await story.read())["metadata"]["resourceVersion"]
    body = generic(repository.url)
    assert await post(story, body, None) == 401
    assert await post(story, body, None, **{"X-Signature": "sha256=" + "0" * 64}) == 401
    async with aiohttp.ClientSession() as session:
        for name in ("m1-kubeconfig", "missing"):
            url = f"{story.health.receiver_url}/hook/{story.namespace}/{name}"
            async with session.post(url, data=body) as answer:
                assert answer.status == 404
    assert (await story.read())["metadata"]["resourceVersion"] == version


async def test_a_push_to_another_branch_wakes_nothing(story: Any) -> None:
    """Receiver: accepted, for it tells nobody who listens to what; but no Application is annotated."""
    repository = await listening(story)
    version = (await story.read())["metadata"]["resourceVersion"]
    asked = len(repository.requests())
    assert await post(story, generic(repository.url, "refs/heads/other")) == 202
    assert await post(story, generic("https://git.example.com/other.git")) == 202
    assert (await story.read())["metadata"]["resourceVersion"] == version
    assert len(repository.requests()) == asked


async def test_a_push_wakes_no_application_of_another_namespace(story: Any, namespace: Any) -> None:
    """Receiver: whoever has the key of one namespace cannot make another one's Applications work.

    The receiver of a service that sees every namespace; the service itself would work for other tests.
    """
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": {"token": KEY.decode()}}
    await story.apply(secret)
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.application(repository)
    other = await namespace("other", on=[story.hub])
    copied = await story.read()
    copied["metadata"] = {"name": "web", "namespace": other}
    path = story.path("applications", "web").replace(story.namespace, other)
    await story.hub.api.apply(path, copied, manager="story")
    before = (await story.hub.api.get(path))["metadata"]

    settings = story.settings(namespace=None)
    hub = Cluster(connect(settings), settings)
    receiving = Receiving(hub, settings)
    try:
        async with receiving.serve():
            assert await post(story, generic(repository.url), to=receiving.url) == 202
    finally:
        await hub.close()
    assert REQUESTED in (await story.read())["metadata"]["annotations"]
    assert (await story.hub.api.get(path))["metadata"] == before
