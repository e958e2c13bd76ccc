"""Git over smart HTTP, read by the real git client."""

from __future__ import annotations

import pytest

from fleet_rollout import processes
from fleet_rollout.lab.repository import GIT_ENVIRONMENT, Entry


@pytest.fixture
def client(tmp_path):
    """Run git as a user would: `await client("clone", url)` in an empty folder; exit code and errors."""

    async def run(*arguments: str) -> processes.Completed:
        env = GIT_ENVIRONMENT | {"GIT_TERMINAL_PROMPT": "0"}
        return await processes.run(["git", *arguments], timeout=60, cwd=tmp_path, env=env)

    return run


async def test_clone_sees_commits_deletions_and_kinds_of_files(git_repo, client, tmp_path):
    repository = await git_repo({"a.yaml": "a: 1\n", "dir/b": b"\x00\x01", "old": "x"})
    commit = await repository.commit(
        {"old": None, "run.sh": Entry.executable("#!/bin/sh\n"), "link": Entry.symlink("a.yaml"), 'odd "name"': "q"}
    )
    assert (await client("clone", "--quiet", repository.url, "copy")).returncode == 0
    copy = tmp_path / "copy"
    assert (copy / "a.yaml").read_text() == "a: 1\n"
    assert (copy / "dir/b").read_bytes() == b"\x00\x01"
    assert not (copy / "old").exists()
    assert (copy / "run.sh").stat().st_mode & 0o100
    assert (copy / "link").is_symlink()
    assert (copy / 'odd "name"').read_text() == "q"
    head = await client("-C", "copy", "rev-parse", "HEAD")
    assert head.stdout.decode().strip() == commit


async def test_replace_leaves_nothing_else(git_repo):
    repository = await git_repo({"a": "1", "b": "2"})
    await repository.commit({"c": "3"}, replace=True)
    assert await repository.git("ls-tree", "--name-only", "main") == "c"


async def test_branches_and_tags_are_listed(git_repo, client):
    repository = await git_repo({"a": "1"})
    first = await repository.commit_of("main")
    annotated = await repository.tag("v1.0.0", message="One")
    assert await repository.tag("light") == first
    await repository.branch("release")
    second = await repository.commit({"a": "2"}, branch="release")
    await repository.branch("gone")
    await repository.delete("refs/heads/gone")
    listed = (await client("ls-remote", repository.url)).stdout.decode().split("\n")
    found = dict(reversed(line.split("\t")) for line in listed if line)
    assert found["refs/heads/main"] == first
    assert found["refs/heads/release"] == second
    assert found["refs/tags/v1.0.0"] == annotated != first
    assert found["refs/tags/v1.0.0^{}"] == first
    assert "refs/heads/gone" not in found


async def test_a_commit_is_fetched_by_its_hash(git_repo, client):
    repository = await git_repo({"a": "1"})
    first = await repository.commit_of("main")
    await repository.commit({"a": "2"})
    await client("init", "--quiet", "copy")
    assert (await client("-C", "copy", "fetch", "--quiet", "--depth=1", repository.url, first)).returncode == 0
    assert repository.requests()[0] == "GET info/refs service=git-upload-pack"


async def test_push_is_accepted(git_repo, client):
    repository = await git_repo({"a": "1"})
    await client("clone", "--quiet", repository.url, "copy")
    await client("-C", "copy", "commit", "--quiet", "--allow-empty", "--message", "x")
    assert (await client("-C", "copy", "push", "--quiet", "origin", "main")).returncode == 0
    assert await repository.git("log", "-1", "--format=%s", "main") == "x"


async def test_basic_auth_is_asked_for_and_checked(git_repo, client):
    repository = await git_repo({"a": "1"})
    repository.require_basic("jane", "s3cret")
    assert "could not read Username" in (await client("ls-remote", repository.url)).stderr
    wrong = await client("ls-remote", repository.url.replace("://", "://jane:guess@"))
    assert "Authentication failed" in wrong.stderr
    right = await client("ls-remote", repository.url.replace("://", "://jane:s3cret@"))
    assert right.returncode == 0
    repository.require_bearer("t0")
    with_token = await client("-c", "http.extraHeader=Authorization: Bearer t0", "ls-remote", repository.url)
    assert with_token.returncode == 0
    repository.allow_everybody()
    assert (await client("ls-remote", repository.url)).returncode == 0


async def test_only_repositories_are_served(lab, client):
    for path in ("absent.git", "../options.json", "%2e%2e/options.json"):
        assert (await client("ls-remote", f"{lab.git.url}/{path}")).returncode != 0
