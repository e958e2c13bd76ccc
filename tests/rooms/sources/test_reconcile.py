"""From a commit on a real Git server to an artifact: what Flux's GitRepository promises (scenarios G 1-9)."""

from __future__ import annotations

import asyncio
import tarfile

import pytest

from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.lab.repository import Entry
from fleet_rollout.sources import Artifact


async def look(sources, spec, *, known=None, secret=None, name="web"):
    return await sources.reconcile("apps", name, spec, secret, known)


def names_in(sources, artifact):
    with tarfile.open(sources.store._artifacts / artifact.path) as archive:
        return [member.name for member in archive]


async def test_g1_a_branch_gives_its_head(server, sources, spec_of):
    repository = await server.repository()
    c1 = await repository.commit({"a.yaml": "a: 1\n"}, message="First\n\nbody")
    seen = await look(sources, spec_of(repository, branch="main"))
    assert seen.artifact.revision == f"main@sha1:{c1}"
    assert seen.artifact.path == f"gitrepository/apps/web/{c1}.tar.gz"
    assert seen.artifact.url.endswith(seen.artifact.path)
    assert (seen.changed, seen.subject, seen.commit) == (True, "First", c1)
    assert (sources.open_tree(seen.artifact.digest) / "a.yaml").read_text() == "a: 1\n"


async def test_g2_without_a_ref_it_is_master_and_not_the_remote_head(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    with pytest.raises(Transient, match=r'find remote ref "refs/heads/master"') as error:
        await look(sources, spec_of(repository))
    assert error.value.reason == "GitOperationFailed"
    await repository.branch("master")
    assert (await look(sources, spec_of(repository))).artifact.revision.startswith("master@sha1:")


async def test_g3_an_annotated_tag_names_the_commit_and_not_the_tag_object(server, sources, spec_of):
    repository = await server.repository()
    c1 = await repository.commit({"a.yaml": "a: 1\n"})
    t1 = await repository.tag("v1.2.0", message="release")
    assert t1 != c1
    assert (await look(sources, spec_of(repository, tag="v1.2.0"))).artifact.revision == f"v1.2.0@sha1:{c1}"


@pytest.mark.parametrize(("semver", "tag"), [(">=1.0.0", "v1.3.0"), (">=1.0.0-0", "2.0.0-rc.1"), ("1.0.x", "1.0.0")])
async def test_g4_semver_takes_the_highest_tag(server, sources, spec_of, semver, tag):
    repository = await server.repository()
    for name in ("1.0.0", "v1.3.0", "2.0.0-rc.1", "foo"):
        await repository.commit({"a.yaml": f"a: {name}\n"})
        await repository.tag(name, message=name if name.startswith("v") else None)
    seen = await look(sources, spec_of(repository, semver=semver))
    assert seen.artifact.revision == f"{tag}@sha1:{await repository.commit_of(tag)}"


async def test_g4_a_range_nothing_matches_and_one_that_is_none(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    await repository.tag("1.0.0")
    with pytest.raises(Transient, match=r"no match found for semver: 9\.x"):
        await look(sources, spec_of(repository, semver="9.x"))
    with pytest.raises(Terminal, match="semver parse error") as error:
        await look(sources, spec_of(repository, semver="latest"))
    assert error.value.reason == "InvalidReference"


async def test_tags_that_differ_in_build_metadata_go_by_commit_time(server, sources, spec_of):
    repository = await server.repository()
    for name, when in (("1.0.0+z", 1_700_000_000), ("1.0.0+a", 1_800_000_000), ("1.0.0+k", 1_750_000_000)):
        change = f"M 100644 inline f\ndata 1\n{name[-1]}\n"
        stream = f"commit refs/heads/main\ncommitter L <l@l> {when} +0000\ndata 1\nm\n{change}"
        await repository.git("fast-import", "--quiet", "--force", stdin=stream.encode())
        await repository.tag(name)
    assert (await look(sources, spec_of(repository, semver="1.x"))).artifact.revision.startswith("1.0.0+a@sha1:")


async def test_g5_precedence(server, sources, spec_of):
    repository = await server.repository()
    c0 = await repository.commit({"a.yaml": "a: 0\n"})
    c1 = await repository.commit({"a.yaml": "a: 1\n"})
    await repository.tag("1.0.0", at=c1)
    await repository.commit({"a.yaml": "a: 2\n"})
    await repository.tag("1.1.0")
    both = {"tag": "1.0.0", "semver": ">=1.0.0"}

    async def revision(**fields):
        return (await look(sources, spec_of(repository, **fields))).artifact.revision

    assert await revision(**both) == f"1.0.0@sha1:{c1}"
    assert await revision(**both, commit=c0) == f"sha1:{c0}"
    assert await revision(**both, commit=c0, branch="main") == f"main@sha1:{c0}"
    assert await revision(**both, name="refs/heads/main") == f"refs/heads/main@sha1:{await repository.commit_of()}"


async def test_g6_without_a_new_commit_nothing_changes_and_nothing_is_fetched(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    first = await look(sources, spec_of(repository, branch="main"))
    asked = len(repository.requests())
    second = await look(sources, spec_of(repository, branch="main"), known=first.artifact)
    assert second.artifact == first.artifact
    assert not second.changed
    assert second.subject == first.subject
    listing = repository.requests()[asked:]
    assert len(listing) == 2  # capabilities and ls-refs; a fetch would be a third
    assert len(list(sources._mirrors.glob("*/objects/pack/*.pack"))) == 1


async def test_g6_commit_and_semver_have_the_shortcut_too(server, sources, spec_of):
    repository = await server.repository()
    c1 = await repository.commit({"a.yaml": "a: 1\n"})
    await repository.tag("1.0.0")
    await look(sources, spec_of(repository, semver="1.x"))
    asked = len(repository.requests())
    await look(sources, spec_of(repository, semver="1.x"))
    assert len(repository.requests()) == asked + 2
    await look(sources, spec_of(repository, commit=c1), name="pinned")
    assert len(repository.requests()) == asked + 2


async def test_g7_ignore_rules(server, sources, spec_of):
    repository = await server.repository()
    files = {"a.yaml": "a: 1\n", "logo.png": "x", ".github/x.yml": "x", "docs/d.md": "d", ".gitignore": "x"}
    await repository.commit(files)
    first = await look(sources, spec_of(repository, branch="main"))
    assert names_in(sources, first.artifact) == ["a.yaml", "docs", "docs/d.md"]

    await repository.commit({".sourceignore": "/docs\n"})
    second = await look(sources, spec_of(repository, branch="main"))
    assert names_in(sources, second.artifact) == [".github", ".github/x.yml", ".sourceignore", "a.yaml", "logo.png"]

    only = await look(sources, spec_of(repository, branch="main", ignore="/*\n!/a.yaml"))
    assert names_in(sources, only.artifact) == ["a.yaml"]
    assert only.artifact.revision == second.artifact.revision
    assert only.artifact.digest != second.artifact.digest


async def test_absurd_ignore_rules_say_so(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"d/.sourceignore": "x\n" * 3000})
    with pytest.raises(Transient, match="more than 2000 ignore patterns") as error:
        await look(sources, spec_of(repository, branch="main"))
    assert error.value.reason == "InvalidIgnore"


async def test_g8_the_same_content_gives_the_same_bytes_wherever_it_is_built(server, make_sources, spec_of, tmp_path):
    repository = await server.repository()
    files = {
        "a.yaml": "a: 1\n",
        "l": Entry.symlink("a.yaml"),
        "run.sh": Entry.executable("#!/bin/sh\n"),
        "d/é.txt": "x",
    }
    await repository.commit({**files, "s": Entry.submodule("1" * 40), "n" * 120 + "/" + "m" * 120: "long"})
    spec = spec_of(repository, branch="main")
    first, second = [await look(make_sources(data_dir=tmp_path / where), spec) for where in ("one", "two")]
    assert (first.artifact.digest, first.artifact.identity) == (second.artifact.digest, second.artifact.identity)
    one, two = ((tmp_path / w / "artifacts" / first.artifact.path).read_bytes() for w in ("one", "two"))
    assert one == two
    with tarfile.open(tmp_path / "one" / "artifacts" / first.artifact.path) as archive:
        members = {m.name: m for m in archive}
    assert "l" not in members
    assert "s" not in members
    assert (members["a.yaml"].mode, members["run.sh"].mode, members["d"].mode) == (0o600, 0o700, 0o750)
    assert {(m.mtime, m.uid, m.gid, m.uname) for m in members.values()} == {(0, 0, 0, "")}


async def test_content_is_the_raw_blob(server, sources, spec_of):
    """No export-subst, no end-of-line conversion, no LFS, no filter, whatever .gitattributes wants."""
    repository = await server.repository()
    attributes = "* text eol=crlf export-subst filter=lfs\nhidden export-ignore\n"
    await repository.commit({".gitattributes": attributes, "a.txt": "$Format:%H$\nline\n", "hidden": "h"})
    seen = await look(sources, spec_of(repository, branch="main"))
    tree = sources.open_tree(seen.artifact.digest)
    assert (tree / "a.txt").read_bytes() == b"$Format:%H$\nline\n"
    assert (tree / "hidden").read_text() == "h"


async def test_g9_the_server_goes_away_and_comes_back(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    spec = spec_of(repository, branch="main")
    first = await look(sources, spec)
    await server.end()
    with pytest.raises(Transient, match=r"unable to list remote 'http") as error:
        await look(sources, spec, known=first.artifact)
    assert error.value.reason == "GitOperationFailed"
    assert sources.open_tree(first.artifact.digest).is_dir()


async def test_a_new_commit_is_fetched_without_what_is_here_already(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"big": "x" * 100_000 + "y", "a.yaml": "a: 1\n"})
    first = await look(sources, spec_of(repository, branch="main"))
    c2 = await repository.commit({"a.yaml": "a: 2\n"})
    second = await look(sources, spec_of(repository, branch="main"), known=first.artifact)
    assert second.changed
    assert second.commit == c2
    packs = sorted(p.stat().st_size for p in sources._mirrors.glob("*/objects/pack/*.pack"))
    assert len(packs) == 2


async def test_an_unknown_commit_and_an_unknown_tag_say_so(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    with pytest.raises(Transient, match=r"unable to resolve commit object for '1111.*object not found"):
        await look(sources, spec_of(repository, commit="1" * 40))
    with pytest.raises(Transient, match=r'find remote ref "refs/tags/v9"'):
        await look(sources, spec_of(repository, tag="v9"))


@pytest.mark.parametrize("ref", [{}, {"branch": "main"}, {"semver": "1.x"}, {"tag": "v1"}])
async def test_an_empty_repository_says_so(server, sources, spec_of, ref):
    repository = await server.repository()
    with pytest.raises(Transient, match="git repository is empty") as error:
        await look(sources, spec_of(repository, **ref))
    assert error.value.reason == "EmptyGitRepository"


async def test_a_tag_that_is_no_commit_says_so(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    await repository.tag("tree", at="main^{tree}")
    with pytest.raises(Transient, match="does not lead to a commit") as error:
        await look(sources, spec_of(repository, tag="tree"))
    assert error.value.reason == "SourceInvalid"


async def test_pull_request_refs(server, sources, spec_of):
    repository = await server.repository()
    c1 = await repository.commit({"a.yaml": "a: 1\n"})
    await repository.git("update-ref", "refs/pull/1/head", c1)
    seen = await look(sources, spec_of(repository, name="refs/pull/1/head"))
    assert seen.artifact.revision == f"refs/pull/1/head@sha1:{c1}"


async def test_a_sha256_repository(server, sources, spec_of, tmp_path):
    repository = await server.repository()
    await repository.git(
        "init", "-q", "--bare", "--object-format=sha256", "-b", "main", str(server.root / "s.git"), outside=True
    )
    other = type(repository)(server.root / "s.git", f"{server.url}/s.git")
    c1 = await other.commit({"a.yaml": "a: 1\n"})
    assert len(c1) == 64
    seen = await look(sources, spec_of(other, branch="main"))
    assert seen.artifact.revision == f"main@sha256:{c1}"


@pytest.mark.parametrize("pinned", [False, True])
async def test_a_server_without_protocol_2_is_fetched_whole(server, sources, spec_of, pinned):
    """Old servers give no commit they do not list; then branches come as a whole."""

    async def protocol_0(request, handler):
        headers = {k: v for k, v in request.headers.items() if k.lower() != "git-protocol"}
        return await handler(request.clone(headers=headers))

    repository = await server.repository()
    for key in ("allowAnySHA1InWant", "allowTipSHA1InWant", "allowReachableSHA1InWant"):
        await repository.git("config", f"uploadpack.{key}", "false")
    c0 = await repository.commit({"a.yaml": "a: 0\n"})
    c1 = await repository.commit({"a.yaml": "a: 1\n"})
    server.fault = protocol_0
    wanted = {"commit": c0} if pinned else {"branch": "main"}
    assert (await look(sources, spec_of(repository, **wanted))).commit == (c0 if pinned else c1)
    assert (await look(sources, spec_of(repository, commit=c1), name="b")).commit == c1


UNSUPPORTED = [
    ({"recurseSubmodules": True}, "recurseSubmodules"),
    ({"include": [{"repository": {"name": "b"}}]}, "include"),
    ({"verify": {"mode": "head", "secretRef": {"name": "keys"}}}, "verify"),
]


@pytest.mark.parametrize(("fields", "named"), UNSUPPORTED)
async def test_what_is_not_carried_out_yet_says_so(sources, spec_of, fields, named):
    with pytest.raises(Terminal, match=rf"gitRepository\.{named} is not supported yet") as error:
        await look(sources, spec_of("https://git.example/x", **fields))
    assert error.value.reason == "NotSupportedYet"


async def test_many_applications_of_one_repository_share_listing_and_fetch(server, sources, spec_of):
    repository = await server.repository()
    c1 = await repository.commit({"a.yaml": "a: 1\n"})
    spec = spec_of(repository, branch="main")
    seen = await asyncio.gather(*(look(sources, spec, name=f"web-{i}") for i in range(20)))
    assert {s.commit for s in seen} == {c1}
    # One listing (2 requests) and one fetch (capabilities, ls-refs is left out for a hash, fetch), at most.
    assert len(repository.requests()) <= 5
    assert len(list(sources._mirrors.glob("*/objects/pack/*.pack"))) == 1


async def test_whoever_asks_after_a_push_sees_it_although_a_listing_was_under_way(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    spec = spec_of(repository, branch="main")
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(request, handler):
        answer = await handler(request)
        entered.set()
        await release.wait()
        return answer

    server.fault = slow
    early = asyncio.create_task(look(sources, spec))
    await entered.wait()
    c2 = await repository.commit({"a.yaml": "a: 2\n"})
    late = asyncio.create_task(look(sources, spec, name="late"))
    await asyncio.sleep(0)
    server.fault = None
    release.set()
    assert (await late).commit == c2
    await early


async def test_an_artifact_survives_its_status(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    artifact = (await look(sources, spec_of(repository, branch="main"))).artifact
    assert Artifact.from_status(artifact.status()) == artifact
