"""What is wrong with a source is said in the Application's status, with the fix, and mended by the fix."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def source_fails(story: Any, reason: str, *words: str) -> None:
    """SourceReady and Ready are False for `reason`, and the message says `words`."""
    condition = await story.condition("SourceReady", "False", reason)
    for word in words:
        assert word in condition["message"]
    await story.condition("Ready", "False")
    assert await story.hub.api.items(story.path("clustersyncs")) == []


URLS = [
    ("{host}/nothing-here.git", "GitOperationFailed", "repository not found; check url"),
    ("http://127.0.0.1:1/x.git", "GitOperationFailed", "'http://127.0.0.1:1/x.git'"),
    ("http://no-such-host.invalid/x.git", "GitOperationFailed", "no-such-host.invalid"),
]


@pytest.mark.parametrize(("url", "reason", "words"), URLS, ids=["wrong path", "host down", "unknown host"])
async def test_a_url_that_leads_nowhere_is_named_and_mended(story: Any, url: str, reason: str, words: str) -> None:
    """Bad input: wrong URL, host down."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(url.format(host=repository.url.rpartition("/")[0]), policy)
    await source_fails(story, reason, words)
    await story.application(repository, policy)
    await story.applied(await repository.commit_of(), SYNC)


async def test_a_reference_that_is_not_there_is_named_and_taken_up_once_it_is(story: Any) -> None:
    """Bad input: unknown ref; G2 and the last case of G4."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    source = {"url": repository.url, "interval": "1h", "ref": {"branch": "release"}}
    await story.application(repository, {"targetNamespace": story.namespace}, source=source)
    await source_fails(story, "GitOperationFailed", "refs/heads/release", "check ref")
    await repository.branch("release")
    await story.applied(await repository.commit_of(), SYNC)

    source["ref"] = {"semver": "9.x"}
    await story.application(repository, {"targetNamespace": story.namespace}, source=source)
    condition = await story.condition("SourceReady", "False", "GitOperationFailed")
    assert "no match found for semver: 9.x" in condition["message"]
    assert await story.config_map("m1", "a")


async def test_an_empty_repository_waits_for_its_first_commit(story: Any) -> None:
    """Bad input: empty repository."""
    repository = await story.git_repo()
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await source_fails(story, "EmptyGitRepository", "push a commit")
    first = await repository.commit({"a.yaml": config_map("a")})
    await story.applied(first, SYNC)


async def test_refused_credentials_are_named_without_being_shown(story: Any) -> None:
    """Bad input: auth refused: no Secret, a missing one, a wrong one, then the right one."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    repository.require_basic("reader", "right-password")
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    await source_fails(story, "AuthenticationFailed", "secretRef")

    reference = {"secretRef": {"name": "git"}}
    await story.application(repository, policy, source=reference)
    condition = await story.condition("SourceReady", "False", "AuthenticationFailed")
    assert f"{story.namespace}/git" in condition["message"]
    assert "create it" in condition["message"]

    for password in ("wrong-password", "right-password"):
        data = {"username": "reader", "password": password}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "data": encoded}
        await story.apply(secret)
        await story.request(password.partition("-")[0])
        if password.startswith("wrong"):

            async def is_refused() -> bool:
                status = (await story.read())["status"]
                found = [c for c in status["conditions"] if c["type"] == "SourceReady"]
                return found[0]["reason"] == "AuthenticationFailed" and "authentication failed" in found[0]["message"]

            await story.until(is_refused)
    await story.applied(await repository.commit_of(), SYNC)
    shown = await story.describe()
    assert "right-password" not in shown
    assert "wrong-password" not in shown


BOMBS = [
    ({"artifact_max_files": 5}, {f"{n}.yaml": config_map(f"c{n}") for n in range(6)}, "--artifact-max-files"),
    ({"artifact_max_bytes": 4096}, {"big.yaml": config_map("big", text="x" * 8192)}, "--artifact-max-bytes"),
]


@pytest.mark.parametrize(("caps", "files", "fix"), BOMBS, ids=["files", "bytes"])
async def test_a_repository_bomb_is_refused_and_harms_nobody(
    story: Any, caps: dict[str, int], files: dict[str, str], fix: str
) -> None:
    """Bad input: a repository bomb; T16 (caps that fail, never truncate)."""
    good = await story.git_repo({"a.yaml": config_map("a")})
    bomb = await story.git_repo(files)
    await story.fleet("m1")
    await story.start(**caps)
    await story.application(bomb, {"targetNamespace": story.namespace}, name="bomb")
    refused = await story.condition("SourceReady", "False", "TooLarge", name="bomb")
    assert fix in refused["message"]
    await story.application(good, {"targetNamespace": story.namespace})
    await story.applied(await good.commit_of(), SYNC)

    small = await bomb.commit({"b.yaml": config_map("b")}, replace=True)
    await story.request("1", name="bomb")
    await story.applied(small, "bomb-0-attachedcluster-m1")
