"""Secrets are in nothing that the service says: whatever it was given, and whatever of that was refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from prometheus_client import generate_latest

from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.measures import REGISTRY
from tests.ssh_server import SshServer
from tests.stories.watchful import forms, watched_children, whole_log

PASSWORD, WRONG_PASSWORD = "right-Pass/word-71", "wrong-Pass/word-72"
TOKEN, WRONG_TOKEN = "right-bearer-token-73", "wrong-bearer-token-74"
IN_URL, IN_QUERY = "password-in-url-75", "token-in-query-76"
PASSPHRASE, WRONG_PASSPHRASE = "right-passphrase-77", "wrong-passphrase-78"
MEMBER_TOKEN, BROKEN_TOKEN, MEMBER_PASSWORD = "refused-member-token-79", "broken-member-token-80", "member-password-81"
APPLIED_TOKEN, BAD_BASE64 = "token-applied-by-kubectl-83", "no-base64-at-all-84!"
HOOK_KEY = "receiver-key-82"
LITERAL_IN_GIT, PATCH_IN_GIT = "literal-in-git-85", "patch-in-git-86"
GIVEN = (
    *(PASSWORD, WRONG_PASSWORD, f"reader:{PASSWORD}", f"reader:{WRONG_PASSWORD}", TOKEN, WRONG_TOKEN, IN_URL, IN_QUERY),
    *(PASSPHRASE, WRONG_PASSPHRASE, MEMBER_TOKEN, BROKEN_TOKEN, MEMBER_PASSWORD, HOOK_KEY),
    *(APPLIED_TOKEN, BAD_BASE64),
)


def config_map(name: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})


async def put_secret(story: Any, name: str, **content: str | bytes) -> None:
    raw = {key: value.encode() if isinstance(value, str) else value for key, value in content.items()}
    data = {key: base64.b64encode(value).decode() for key, value in raw.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": story.namespace}}
    await story.hub.api.apply(story.path("secrets", name), {**secret, "data": data}, manager="story")


async def refused_then_right(story: Any, name: str, repository: Any, *credentials: dict[str, Any]) -> None:
    """All but the last of `credentials` are refused; with the last everything is applied."""
    *wrong, right = credentials
    source = {"secretRef": {"name": f"git-{name}"}}
    for number, content in enumerate(wrong):
        await put_secret(story, f"git-{name}", **content)
        await story.application(repository.url, {"targetNamespace": story.namespace}, name=name, source=source)
        await story.request(str(number), name=name)
        await story.condition("SourceReady", "False", "AuthenticationFailed", name=name)
    await put_secret(story, f"git-{name}", **right)
    await story.request("right", name=name)
    await story.applied(await repository.commit_of(), f"{name}-0-attachedcluster-m1")


async def by_password_and_token(story: Any) -> None:
    for name, wrong, right in (
        ("basic", {"username": "reader", "password": WRONG_PASSWORD}, {"username": "reader", "password": PASSWORD}),
        ("bearer", {"bearerToken": WRONG_TOKEN}, {"bearerToken": TOKEN}),
    ):
        repository = await story.git_repo({"a.yaml": config_map(name)})
        if name == "basic":
            repository.require_basic("reader", PASSWORD)
        else:
            repository.require_bearer(TOKEN)
        await refused_then_right(story, name, repository, wrong, right)


async def by_key(story: Any, server: SshServer, secret: dict[str, bytes]) -> None:
    """With a passphrase that is wrong at first."""
    repository = await server.repository()
    await repository.commit({"a.yaml": config_map("ssh")})
    wrong = secret | {"password": WRONG_PASSPHRASE.encode()}
    await refused_then_right(story, "ssh", repository, wrong, secret)


async def in_urls(story: Any) -> str:
    """Credentials where they must not be: what is said of them, by the API server or in the status."""
    told = []
    for name, url in (
        ("userinfo", f"http://reader:{IN_URL}@127.0.0.1:1/x.git"),
        ("query", f"http://127.0.0.1:1/x.git?private_token={IN_QUERY}"),
    ):
        try:
            await story.application(url, {"targetNamespace": story.namespace}, name=name)
        except ApiAnswer as refusal:
            told.append(json.dumps(refusal.body))
        else:
            await story.condition("SourceReady", "False", name=name)
    return "\n".join(told)


async def in_kubeconfigs(story: Any) -> None:
    """Members whose kubeconfigs are refused, or cannot be read, or whose token nobody knows; and a sound one.

    The sound one has somebody else's token beside its own, as people's kubeconfigs often have.
    """
    document = yaml.safe_load(story.members["m1"].kubeconfig.read_bytes())
    user = document["users"][0]["user"]
    others = [*document["users"], {"name": "another", "user": {"token": APPLIED_TOKEN}}]
    contents = {"applied": yaml.safe_dump({**document, "users": others})}
    user["token"] = MEMBER_TOKEN
    contents["unknown"] = yaml.safe_dump(document)
    contents["encoded"] = yaml.safe_dump(with_user(document, {"client-key-data": BAD_BASE64}))
    user |= {"username": "admin", "password": MEMBER_PASSWORD}
    contents["refused"] = yaml.safe_dump(document)
    contents["broken"] = yaml.safe_dump(document).replace(MEMBER_TOKEN, BROKEN_TOKEN) + "\n\t: [}"
    for name, content in contents.items():
        await story.kubeconfig(name, content.encode())
        if name == "applied":
            await by_kubectl(story, f"{name}-kubeconfig")
        metadata = {"name": name, "namespace": story.namespace}
        obj = {
            "apiVersion": "cluster.kurator.dev/v1alpha1",
            "kind": "AttachedCluster",
            "metadata": metadata,
            "spec": {"kubeconfig": {"name": f"{name}-kubeconfig", "key": "value"}},
        }
        await story.hub.api.apply(story.path("attachedclusters", name), obj, manager="story")

    async def are_told() -> bool:
        objects = [await story.hub.api.get(story.path("attachedclusters", name)) for name in contents]
        return all((obj.get("status") or {}).get("conditions") for obj in objects)

    await story.until(are_told)
    ready = [(await story.hub.api.get(story.path("attachedclusters", name)))["status"]["ready"] for name in contents]
    assert ready == [name == "applied" for name in contents]


def with_user(document: dict[str, Any], more: dict[str, str]) -> dict[str, Any]:
    (entry,) = document["users"]
    return {**document, "users": [{**entry, "user": {**entry["user"], **more}}]}


async def by_kubectl(story: Any, name: str) -> None:
    """Trust, row 20: client-side apply puts the Secret's whole content into an annotation once more."""
    secret = await story.hub.api.get(story.path("secrets", name))
    metadata = {"name": name, "namespace": story.namespace}
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": secret["data"]}
    await story.hub.kubectl("apply", "-f", "-", stdin=json.dumps(plain))
    applied = await story.hub.api.get(story.path("secrets", name))
    assert "kubectl.kubernetes.io/last-applied-configuration" in applied["metadata"]["annotations"]


async def in_announcements(story: Any) -> None:
    """A receiver's key, used well and badly."""
    await put_secret(story, "hook", token=HOOK_KEY)
    body = json.dumps({"url": "http://127.0.0.1:1/x.git", "ref": "refs/heads/main"}).encode()
    url = f"{story.health.receiver_url}/hook/{story.namespace}/hook"
    async with aiohttp.ClientSession() as session:
        for key in (HOOK_KEY, "another"):
            headers = {"X-Signature": "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()


async def in_builds_that_fail(story: Any) -> None:
    """What Git holds of a Secret, where kustomize would quote it: a literal without a key, a patch that is none."""
    patch = {"target": {"kind": "ConfigMap"}, "patch": f"kind: Secret\nstringData: {{a: {PATCH_IN_GIT}}}\n"}
    for name, field, entry in (
        ("literal", "secretGenerator", {"name": "g", "literals": [LITERAL_IN_GIT]}),
        ("patch", "patches", patch),
    ):
        kustomization = yaml.safe_dump({"resources": ["a.yaml"], field: [entry]})
        repository = await story.git_repo({"a.yaml": config_map(name), "kustomization.yaml": kustomization})
        await story.application(repository.url, {"targetNamespace": story.namespace}, name=name)
        await story.sync_condition(f"{name}-0-attachedcluster-m1", "Ready", "False", "BuildFailed")


async def said_by_objects(story: Any) -> str:
    """Everything on hub and member that the service has written; what users wrote into a spec is theirs."""
    found = []
    for plural in ("applications", "clustersyncs", "fleets", "attachedclusters", "events", "configmaps"):
        for obj in await story.hub.api.items(story.path(plural)):
            ours = {key: value for key, value in obj.items() if plural != "applications" or key != "spec"}
            found.append(json.dumps(ours))
    member = story.members["m1"].api
    for plural in ("events", "configmaps"):
        found.append(json.dumps(await member.get(f"/api/v1/namespaces/{story.namespace}/{plural}")))
    return "\n".join(found)


def on_disk(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return "\n".join(path.read_bytes().decode(errors="replace") for path in files)


async def test_secrets_are_in_no_status_event_log_metric_argument_or_file(story: Any, ssh_server: SshServer) -> None:
    """Trust, rows 20 and 21: all loggers at debug, unmasked, and every place that the service writes to."""
    key = ssh_server.secret(PASSPHRASE)  # made by a program that is given the passphrase
    with whole_log() as log:
        async with watched_children() as children:
            await story.fleet("m1")
            await story.start()
            await by_password_and_token(story)
            await by_key(story, ssh_server, key)
            refusals = await in_urls(story)
            await in_kubeconfigs(story)
            await in_announcements(story)
            await in_builds_that_fail(story)
            objects = await said_by_objects(story)
            await story.stop()
    assert {"fleet_rollout", "kopf", "git"} <= log.names(), log.names()
    started = b"\n".join(children.seen).decode(errors="replace")
    assert "git-remote-http" in started
    assert "ssh_config" in started
    sinks = {
        "objects": objects,
        "refusals": refusals,
        "log": "\n".join(log.lines),
        "metrics": generate_latest(REGISTRY).decode(),
        "children": started,
        "files": on_disk(story.settings().data_dir),
    }
    secrets = {secret: secret for secret in (*GIVEN, LITERAL_IN_GIT, PATCH_IN_GIT)}
    secrets |= {"the ssh key": key["identity"].decode()}
    secrets |= {f"the token of {cluster.name}": token_of(cluster) for cluster in (story.hub, story.members["m1"])}
    shown = [
        f"{name} in {sink}: {around(text, form)}"
        for name, secret in secrets.items()
        for form in forms(secret)
        for sink, text in sinks.items()
        if form in text and not (sink == "files" and name in (LITERAL_IN_GIT, PATCH_IN_GIT))  # copies of what Git has
    ]
    assert not shown, "\n".join(shown)


def token_of(cluster: Any) -> str:
    return str(yaml.safe_load(cluster.kubeconfig.read_bytes())["users"][0]["user"]["token"])


def around(text: str, form: str) -> str:
    where = text.index(form)
    return text[max(where - 200, 0) : where + len(form) + 40]
