"""What the source says, and that a source in trouble leaves the clusters on what they have."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import yaml

from tests.stories.conftest import matching

SYNC = "web-0-attachedcluster-m1"


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def source_of(application: dict[str, Any]) -> dict[str, Any]:
    return application.get("status", {}).get("sourceStatus", {}).get("gitRepoStatus", {})


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", [])}


async def source_ready(story: Any, status: str, reason: str) -> dict[str, Any]:
    """The source's status once its Ready says so."""

    async def found() -> dict[str, Any] | None:
        source = source_of(await story.read())
        return source if conditions(source).get("Ready") == (status, reason) else None

    return await story.until(found)


STORED = "stored artifact for commit 'First commit'"


async def test_the_source_says_what_it_has_stored(story: Any) -> None:
    """G1: revision, conditions and observedGeneration, and one event."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.condition("Ready", "True")
    application = await story.read()
    source, revision = source_of(application), f"main@sha1:{await repository.commit_of()}"
    assert source["artifact"]["revision"] == revision
    assert source["observedGeneration"] == application["metadata"]["generation"]
    message = f"stored artifact for revision '{revision}'"
    shown = {c["type"]: (c["status"], c["reason"], c["message"]) for c in source["conditions"]}
    assert shown == dict.fromkeys(("Ready", "ArtifactInStorage"), ("True", "Succeeded", message))

    async def is_told() -> bool:
        return ("Normal", "NewArtifact", STORED) in await story.events()

    await story.until(is_told)


async def test_without_a_reference_it_is_master_whatever_the_server_s_default(story: Any) -> None:
    """G2"""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, source={"ref": None})
    source = await source_ready(story, "False", "GitOperationFailed")
    assert conditions(source)["FetchFailed"] == ("True", "GitOperationFailed")
    assert "artifact" not in source
    failed = await story.condition("SourceReady", "False", "GitOperationFailed")
    assert "refs/heads/master" in failed["message"]
    assert await story.hub.api.items(story.path("clustersyncs")) == []
    await repository.branch("master")
    await story.applied(await repository.commit_of(), SYNC)


async def test_a_push_is_seen_by_polling_alone(story: Any) -> None:
    """Rule 2: Git has no push, so a timer asks; nobody annotates, and no receiver is told."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, interval="1s")
    await story.applied(await repository.commit_of(), SYNC)
    for version in ("2", "3"):
        await story.applied(await repository.commit({"a.yaml": config_map("a", version=version)}), SYNC)
        assert (await story.config_map("m1", "a"))["data"] == {"version": version}
    application = await story.read()
    assert application["metadata"]["generation"] == 1
    assert "reconcile.fluxcd.io/requestedAt" not in application["metadata"].get("annotations", {})


async def test_a_look_that_finds_nothing_new_changes_nothing_but_the_request(story: Any) -> None:
    """G6: no event, Ready all the while, the same artifact; `requestedAt` is answered.

    The Application waits meanwhile for its clusters, which are asked to look as well.
    """
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, interval="1s")
    await story.condition("Ready", "True")

    async def is_told() -> bool:
        return ("Normal", "NewArtifact", STORED) in await story.events()

    await story.until(is_told)
    before, events = await story.read(), sorted(await story.events())
    asked = len(repository.requests())

    async def has_looked_again() -> bool:
        return len(repository.requests()) >= asked + 6

    await story.until(has_looked_again)
    assert await story.versions(since=before) == [], "a look that finds nothing new is worth no write"
    await story.request("x")

    async def is_answered() -> bool:
        return source_of(await story.read()).get("lastHandledReconcileAt") == "x"

    await story.until(is_answered)
    written = await story.versions(since=before)
    assert {conditions(source_of(each))["Ready"] for each in written} == {("True", "Succeeded")}
    after = source_of(written[-1])
    assert after.pop("lastHandledReconcileAt") == "x"
    assert after == source_of(before)
    assert sorted(await story.events()) == events


@pytest.mark.parametrize(
    "edit",
    [lambda other, commit: {"url": other.url}, lambda other, commit: {"ref": {"commit": commit}}],
    ids=["url", "ref"],
)
async def test_an_edited_source_is_not_ready_before_it_was_looked_at(story: Any, edit: Any) -> None:
    """`kubectl wait --for=condition=Ready` after an edit waits for what the edit asks for."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    earlier = await repository.commit_of()
    await repository.commit({"a.yaml": config_map("a", version="2")})
    other = await story.git_repo({"a.yaml": config_map("a", version="3")})
    await story.fleet("m1")
    await story.start(status_interval=0.0)
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    await story.condition("Ready", "True")
    before = await story.read()
    changes = edit(other, earlier)
    await story.application(repository, policy, source=changes)
    await story.condition("Ready", "True")
    wanted = earlier if "ref" in changes else await other.commit_of()
    for version in await story.versions(before):
        if matching(version, "Ready", "True", None) or matching(version, "SourceReady", "True", None):
            assert version["status"]["revision"].endswith(wanted)


async def test_an_edit_of_source_and_path_is_one_whole(story: Any) -> None:
    """The new path is built from the new source alone, and waits for it while it cannot be fetched."""
    repository = await story.git_repo({"one/a.yaml": config_map("a"), "two/trap.yaml": config_map("trap")})
    other = await story.git_repo({"two/b.yaml": config_map("b")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace, "path": "./one"})
    await story.condition("Ready", "True")
    before = await story.sync(SYNC)
    second = {"targetNamespace": story.namespace, "path": "./two"}
    await story.application(other, second, source={"ref": {"branch": "nowhere"}})
    await story.condition("Ready", "False", "GitOperationFailed")
    assert (await story.sync(SYNC))["spec"] == before["spec"]
    await story.application(other, second)
    await story.applied(await other.commit_of(), SYNC)
    for version in await story.versions(before, SYNC, "clustersyncs"):
        kept = version["spec"]["artifact"] == before["spec"]["artifact"]
        assert version["spec"]["kustomization"]["path"] == ("./one" if kept else "./two")
    assert await story.config_map("m1", "a") is None
    assert await story.config_map("m1", "b")


async def test_an_edit_beside_the_source_asks_the_source_nothing(story: Any) -> None:
    """A policy is edited while the host is away: what it had is what is wanted, now and after a restart."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.condition("Ready", "True")
    asked = len(repository.requests())
    await story.application(repository, {"targetNamespace": story.namespace, "commonMetadata": {"labels": {"a": "b"}}})
    await story.condition("Ready", "True")
    assert (await story.config_map("m1", "a"))["metadata"]["labels"]["a"] == "b"
    assert len(repository.requests()) == asked
    await story.stop()
    await story.start()
    await story.condition("Ready", "True")


async def test_an_edit_beside_a_source_that_is_away_is_carried_out_after_a_restart_too(story: Any) -> None:
    """Who leads now knows of the source what the status says, and that has to be enough."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    policy = {"targetNamespace": story.namespace}
    await story.application(repository, policy)
    await story.condition("Ready", "True")
    await story.stop()
    repository.path.rename(repository.path.with_suffix(".away"))
    await story.start()
    await story.request("1")
    await source_ready(story, "False", "GitOperationFailed")
    await story.application(repository, {**policy, "suspend": True})

    async def is_suspended() -> bool:
        return bool((await story.sync(SYNC))["spec"]["kustomization"].get("suspend"))

    await story.until(is_suspended)


async def test_a_source_that_recovers_says_so_once(story: Any) -> None:
    """G9: the same commit is there again, so what is new is only that it can be seen."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.condition("Ready", "True")
    first = await repository.commit_of()
    away = repository.path.with_suffix(".away")
    repository.path.rename(away)
    await story.request("1")
    failed = await source_ready(story, "False", "GitOperationFailed")
    assert failed["artifact"]["revision"] == f"main@sha1:{first}"
    away.rename(repository.path)
    await source_ready(story, "True", "Succeeded")

    async def is_told() -> bool:
        return ("Normal", "Succeeded", STORED) in await story.events()

    await story.until(is_told)
    normal = [reason for type_, reason, message in await story.events() if message == STORED]
    assert sorted(normal) == ["NewArtifact", "Succeeded"]


async def test_a_repository_that_goes_away_leaves_the_clusters_as_they_are(story: Any) -> None:
    """G9"""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    first = await repository.commit_of()
    await story.applied(first, SYNC)

    away = repository.path.with_suffix(".away")
    repository.path.rename(away)
    await story.request("1")
    source = await source_ready(story, "False", "GitOperationFailed")
    assert conditions(source)["FetchFailed"] == ("True", "GitOperationFailed")
    assert conditions(source)["ArtifactInStorage"] == ("True", "Succeeded")
    assert source["artifact"]["revision"] == f"main@sha1:{first}"
    assert (await story.config_map("m1", "a"))["data"] == {"version": "1"}
    assert (await story.sync(SYNC))["status"]["lastAppliedRevision"].endswith(first)

    away.rename(repository.path)
    second = await repository.commit({"a.yaml": config_map("a", version="2")})
    await source_ready(story, "True", "Succeeded")
    await story.applied(second, SYNC)
    assert "FetchFailed" not in conditions(source_of(await story.read()))


async def test_a_cluster_that_joins_while_the_source_is_away_gets_the_last_artifact(story: Any) -> None:
    """G9: what was fetched before is enough for a new member."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    first = await repository.commit_of()
    await story.applied(first, SYNC)
    shutil.move(repository.path, repository.path.with_suffix(".away"))
    await story.request("1")
    await source_ready(story, "False", "GitOperationFailed")

    await story.attach("m2")
    await story.set_fleet(["m1", "m2"])
    await story.applied(first, SYNC, "web-0-attachedcluster-m2")
    assert (await story.config_map("m2", "a"))["data"] == {"version": "1"}


async def test_the_newest_version_of_a_range_is_applied_and_a_newer_tag_follows(story: Any) -> None:
    """G4: a pre-release counts only where the range names one."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1.0.0")})
    await repository.tag("1.0.0")
    await repository.commit({"a.yaml": config_map("a", version="1.3.0")})
    await repository.tag("v1.3.0", message="annotated")
    await repository.commit({"a.yaml": config_map("a", version="2.0.0-rc.1")})
    await repository.tag("2.0.0-rc.1")
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, source={"ref": {"semver": ">=1.0.0"}})
    tagged = await repository.commit_of("v1.3.0")
    await story.applied(tagged, SYNC)
    assert (await story.sync(SYNC))["status"]["lastAppliedRevision"] == f"v1.3.0@sha1:{tagged}"

    released = await repository.commit({"a.yaml": config_map("a", version="2.0.0")})
    await repository.tag("2.0.0")
    await story.request("1")
    await story.applied(released, SYNC)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "2.0.0"}


REFS = [
    ({"tag": "1.0.0", "semver": ">=1.0.0"}, "1.0.0@sha1:{one}"),
    ({"tag": "1.0.0", "commit": "{zero}"}, "sha1:{zero}"),
    ({"branch": "main", "commit": "{zero}"}, "main@sha1:{zero}"),
    ({"branch": "main", "name": "refs/heads/other"}, "refs/heads/other@sha1:{two}"),
]


@pytest.mark.parametrize(("ref", "revision"), REFS, ids=[rev.split(":")[0] for _, rev in REFS])
async def test_the_most_exact_reference_wins(story: Any, ref: dict[str, str], revision: str) -> None:
    """G5"""
    repository = await story.git_repo({"a.yaml": config_map("a", version="0")})
    commits = {"zero": await repository.commit_of()}
    commits["one"] = await repository.commit({"a.yaml": config_map("a", version="1")})
    await repository.tag("1.0.0")
    await repository.branch("other")
    commits["two"] = await repository.commit({"a.yaml": config_map("a", version="2")}, branch="other")
    await repository.tag("1.1.0", at="other")
    await story.fleet("m1")
    await story.start()
    wanted = {key: value.format(**commits) for key, value in ref.items()}
    source = {"url": repository.url, "interval": "1h", "ref": wanted}
    await story.application(repository, {"targetNamespace": story.namespace}, source=source)

    async def is_applied() -> bool:
        sync = await story.sync(SYNC)
        return bool(sync) and sync.get("status", {}).get("lastAppliedRevision") == revision.format(**commits)

    await story.until(is_applied)
