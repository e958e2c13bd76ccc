"""Artifacts on disk: restarts, lost disks, collection, hostile archives, and who may read them over HTTP."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from fleet_rollout.errors import Transient
from fleet_rollout.sources import Artifact
from fleet_rollout.sources.archive import unpack
from fleet_rollout.sources.checkout import Caps
from fleet_rollout.sources.store import ArtifactStore
from fleet_rollout.sources.tree import Entry


async def look(sources, spec, known=None, name="web"):
    return await sources.reconcile("apps", name, spec, None, known)


@pytest.fixture
async def stored(server, sources, spec_of):
    """A repository with one commit, and what was stored of it."""
    repository = await server.repository()
    await repository.commit({"a.yaml": "a: 1\n", "d/run.sh": "x"})
    return repository, await look(sources, spec_of(repository, branch="main"))


async def test_after_a_restart_nothing_is_fetched(stored, make_sources, spec_of):
    repository, first = stored
    asked = len(repository.requests())
    again = await look(make_sources(), spec_of(repository, branch="main"), first.artifact)
    assert (again.changed, again.artifact, again.subject) == (False, first.artifact, first.subject)
    assert len(repository.requests()) == asked + 2


async def test_after_a_restart_with_an_empty_disk_the_same_artifact_is_made_again(
    stored, make_sources, spec_of, tmp_path
):
    repository, first = stored
    shutil.rmtree(tmp_path / "data")
    again = await look(make_sources(), spec_of(repository, branch="main"), first.artifact)
    assert (again.changed, again.artifact) == (False, first.artifact)


async def test_a_damaged_archive_is_made_again(stored, make_sources, spec_of, tmp_path):
    repository, first = stored
    path = tmp_path / "data" / "artifacts" / first.artifact.path
    path.write_bytes(b"damaged")
    again = await look(make_sources(), spec_of(repository, branch="main"), first.artifact)
    assert again.artifact == first.artifact
    assert f"sha256:{sha256(path.read_bytes()).hexdigest()}" == first.artifact.digest


async def test_a_lost_tree_is_unpacked_from_its_archive(stored, make_sources, spec_of, tmp_path):
    repository, first = stored
    shutil.rmtree(tmp_path / "data" / "trees")
    shutil.rmtree(tmp_path / "data" / "mirrors")
    sources = make_sources()
    await look(sources, spec_of(repository, branch="main"), first.artifact)
    tree = sources.open_tree(first.artifact.digest)
    assert {p.relative_to(tree).as_posix() for p in tree.rglob("*")} == {"a.yaml", "d", "d/run.sh"}
    assert not list((tmp_path / "data" / "mirrors").glob("*/HEAD"))


async def test_trees_from_before_a_reboot_are_not_trusted(stored, make_sources, tmp_path):
    _, first = stored
    (tmp_path / "data" / "boot-id").write_text("another boot")
    sources = make_sources()
    with pytest.raises(Transient) as error:
        sources.open_tree(first.artifact.digest)
    assert error.value.reason == "ArtifactUnavailable"


async def test_a_damaged_mirror_is_fetched_anew(stored, sources, spec_of):
    repository, _ = stored
    (pack,) = sources._mirrors.glob("*/objects/pack/*.pack")
    pack.chmod(0o600)
    pack.write_bytes(b"PACK" + b"\0" * 40)
    spec = spec_of(repository, branch="main", ignore="x")
    with pytest.raises(Transient, match="damaged; it is fetched anew"):
        await look(sources, spec)
    assert (await look(sources, spec)).artifact.revision.startswith("main@sha1:")


async def test_what_a_killed_git_left_does_not_stop_the_next(stored, sources, spec_of):
    repository, _ = stored
    (head,) = sources._mirrors.glob("*/HEAD")
    for leftover in ("shallow.lock", "packed-refs.lock", "objects/pack/tmp_pack_x"):
        (head.parent / leftover).write_text("")
    c2 = await repository.commit({"a.yaml": "a: 2\n"})
    assert (await look(sources, spec_of(repository, branch="main"))).commit == c2
    assert not (head.parent / "objects/pack/tmp_pack_x").exists()


async def test_a_mirror_of_many_packs_is_begun_anew(stored, sources, spec_of, monkeypatch):
    monkeypatch.setattr("fleet_rollout.sources.mirror.MOST_PACKS", 2)
    repository, _ = stored
    for number in range(3):
        await repository.commit({"a.yaml": f"a: {number + 2}\n"})
        await look(sources, spec_of(repository, branch="main"))
    assert len(list(sources._mirrors.glob("*/objects/pack/*.pack"))) == 2


class Restoring:
    """`restore` of a pinned artifact, and what it needs."""

    def __init__(self, sources, spec, artifact):
        self.sources, self.spec, self.artifact = sources, spec, artifact

    async def __call__(self, **changes):
        pinned = {"revision": self.artifact.revision, "digest": self.artifact.digest} | changes
        return await self.sources.restore(self.spec, None, **pinned)


async def test_pinned_content_is_made_again_from_its_commit(stored, make_sources, spec_of, tmp_path):
    repository, first = stored
    await repository.commit({"a.yaml": "a: 2\n"})
    shutil.rmtree(tmp_path / "data")
    restore = Restoring(make_sources(), spec_of(repository, branch="main"), first.artifact)
    tree = await restore()
    assert (tree / "a.yaml").read_text() == "a: 1\n"
    assert await restore() == tree


async def test_pinned_content_of_another_zlib_is_known_by_its_identity(stored, make_sources, spec_of, tmp_path):
    repository, first = stored
    shutil.rmtree(tmp_path / "data")
    restore = Restoring(make_sources(), spec_of(repository, branch="main"), first.artifact)
    elsewhere = f"sha256:{'0' * 64}"
    assert (await restore(digest=elsewhere, identity=first.artifact.identity) / "a.yaml").exists()
    with pytest.raises(Transient, match="the content differs"):
        await restore(digest=f"sha256:{'1' * 64}")


@pytest.mark.parametrize("why", ["ignore changed", "server gone", "commit gone", "no commit", "no digest"])
async def test_pinned_content_that_cannot_be_had_is_unavailable(stored, server, make_sources, spec_of, tmp_path, why):
    repository, first = stored
    shutil.rmtree(tmp_path / "data")
    restore = Restoring(make_sources(), spec_of(repository, branch="main"), first.artifact)
    changes = {}
    if why == "ignore changed":
        restore.spec = spec_of(repository, branch="main", ignore="d")
    elif why == "server gone":
        await server.end()
    elif why == "commit gone":
        changes = {"revision": f"main@sha1:{'1' * 40}"}
    elif why == "no commit":
        changes = {"revision": "main"}
    else:
        changes = {"digest": "../../etc"}
    with pytest.raises(Transient) as error:
        await restore(**changes)
    assert error.value.reason == "ArtifactUnavailable"


class Clock:
    def __init__(self):
        self.now = datetime(2026, 11, 23, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(settings, clock):
    return ArtifactStore(settings, clock=clock)


def put(store, content, *, commit=None, known=None, name="web"):
    """Store one file; the commit is made up from its content."""
    commit = commit or sha256(content.encode()).hexdigest()[:40]
    with store.scratch() as folder:
        (folder / "f").write_text(content)
        return store.put(
            "apps",
            name,
            revision=f"main@sha1:{commit}",
            entries=[Entry("f")],
            folder=folder,
            subject="s",
            config="c",
            known=known,
        )


def here(store, artifact):
    return store.served(artifact.path) == artifact, store.tree(artifact.digest) is not None


def test_superseded_artifacts_go_after_the_retention(store, clock):
    one, two = put(store, "1"), put(store, "2")
    store.collect(())
    assert (here(store, one), here(store, two)) == ((True, True), (True, True))
    clock.now += timedelta(seconds=61)
    store.collect(())
    assert (here(store, one), here(store, two)) == ((False, False), (True, True))
    assert not (store._artifacts / one.path).exists()


def test_only_so_many_are_kept_however_young(store):
    made = [put(store, str(i)) for i in range(5)]
    store.collect(())
    assert [here(store, artifact)[0] for artifact in made] == [False, False, False, True, True]


def test_what_is_pinned_is_kept(store, clock):
    one = put(store, "1")
    put(store, "2"), put(store, "3")
    clock.now += timedelta(hours=1)
    store.collect({one.digest})
    assert here(store, one) == (True, True)


def test_a_tree_two_sources_share_stays_while_one_of_them_has_it(store, clock):
    put(store, "1", name="a"), put(store, "1", name="b")
    put(store, "2", name="a")
    clock.now += timedelta(hours=1)
    store.collect(())
    assert store.tree(put(store, "1", name="b").digest) is not None


def test_a_source_that_is_gone_leaves_nothing(store, clock):
    one = put(store, "1")
    store.forget("apps", "web")
    store.collect(())
    assert here(store, one) == (False, False)
    assert store.current("apps", "web") is None


def test_equal_content_keeps_its_time(store, clock):
    one = put(store, "1", commit="1" * 40)
    clock.now += timedelta(hours=1)
    assert put(store, "1", commit="1" * 40, known=one) == one
    assert put(store, "2", commit="1" * 40, known=one).last_update_time != one.last_update_time


def test_unreadable_records_mean_an_empty_store(store, settings):
    put(store, "1")
    (settings.data_dir / "records" / "apps" / "web.json").write_text("{")
    assert ArtifactStore(settings).current("apps", "web") is None


def test_the_status_of_another_writer_is_read():
    read = Artifact.from_status({"revision": f"main/{'1' * 40}", "digest": "sha256:x", "path": "p", "url": "u"})
    assert (read.revision, read.commit, read.identity) == (f"main@sha1:{'1' * 40}", "1" * 40, "")
    assert "metadata" not in read.status()


def archive_of(*members):
    """A tar.gz of (TarInfo, content) pairs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    out.seek(0)
    return out


def member(name, kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


HOSTILE = {
    "climbs": [(member("../x"), b"")],
    "absolute": [(member("/tmp/x"), b"")],
    "dot": [(member("a/./b"), b"")],
    "symlink": [(member("l", tarfile.SYMTYPE, linkname="/etc"), b"")],
    "chain": [(member(f"l{i}", tarfile.SYMTYPE, linkname=f"l{i + 1}/" * 50), b"") for i in range(20)],
    "hardlink": [(member("f"), b"x"), (member("g", tarfile.LNKTYPE, linkname="f"), b"")],
    "device": [(member("d", tarfile.CHRTYPE), b"")],
    "pipe": [(member("p", tarfile.FIFOTYPE), b"")],
    "twin": [(member("f"), b"1"), (member("f"), b"2")],
    "file as folder": [(member("f"), b"1"), (member("f/g"), b"2")],
    "pax path": [(member("f", pax_headers={"path": "../../x"}), b"1")],
    "long name": [(member("n" * 300), b"")],
    "deep": [(member("d/" * 2500 + "f"), b"")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_t15_hostile_archives_are_refused(tmp_path, members):
    (target := tmp_path / "target").mkdir()
    with pytest.raises(Transient) as error:
        unpack(archive_of(*members), target, Caps(1_000_000, 100))
    assert error.value.reason == "ArchiveInvalid"
    assert {p.name for p in tmp_path.iterdir()} == {"target"}
    assert not any(p.is_symlink() for p in target.rglob("*"))


@pytest.mark.parametrize("cut", [b"", b"no gzip", gzip.compress(b"no tar" * 200, mtime=0), "half"])
def test_t15_what_is_no_archive_is_refused(tmp_path, cut):
    whole = archive_of((member("f"), os.urandom(5000))).getvalue()
    with pytest.raises(Transient) as error:
        unpack(io.BytesIO(whole[: len(whole) // 2] if cut == "half" else cut), tmp_path, Caps(1_000_000, 100))
    assert error.value.reason == "ArchiveInvalid"


BOMBS = {
    "bytes": [(member("f"), b"\0" * 3_000_000)],
    "files": [(member(f"f{i}"), b"") for i in range(300)],
    "folders": [(member(f"d{i}", tarfile.DIRTYPE), b"") for i in range(300)],
    "pax header": [(member("f", pax_headers={"comment": "x" * 3_000_000}), b"")],
}


@pytest.mark.parametrize("members", BOMBS.values(), ids=BOMBS.keys())
def test_t16_archives_that_unfold_are_refused(tmp_path, members):
    with pytest.raises(Transient) as error:
        unpack(archive_of(*members), tmp_path, Caps(1_000_000, 100))
    assert error.value.reason == "TooLarge"


@pytest.fixture
async def served(stored, sources):
    await sources.start()
    return sources, stored[1].artifact


async def get(url, **options):
    async with (
        aiohttp.ClientSession() as session,
        session.request(options.pop("method", "GET"), url, **options) as answer,
    ):
        return answer.status, await answer.read()


async def test_the_artifact_of_the_status_can_be_fetched(served, spec_of, stored):
    sources, _ = served
    artifact = (await look(sources, spec_of(stored[0], branch="main"))).artifact
    status, content = await get(artifact.url)
    assert status == 200
    assert f"sha256:{sha256(content).hexdigest()}" == artifact.digest
    assert len(content) == artifact.size
    assert await get(artifact.url, method="HEAD") == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "gitrepository",
        "gitrepository/apps/web/",
        "records/apps/web.json",
        "boot-id",
        "%2e%2e/boot-id",
        "..%2fboot-id",
    ],
)
async def test_t14_nothing_else_is_served(served, path):
    sources, artifact = served
    assert (await get(f"{sources.store.base_url}/{path}"))[0] == 404
    assert (await get(f"{sources.store.base_url}/{artifact.path}?x"))[0] == 404
    assert (await get(f"{sources.store.base_url}/{artifact.path}", method="PUT"))[0] == 405


async def test_t37_an_artifact_of_others_is_answered_as_none_at_all(served):
    """A path that once was, that never was, of another namespace: one status, one body."""
    sources, artifact = served
    await sources.forget("apps", "web")
    paths = (artifact.path, artifact.path.replace("apps", "other"), "gitrepository/none/none/0.tar.gz", "x")
    answers = {await get(f"{sources.store.base_url}/{path}") for path in paths}
    assert answers == {(404, b"no such artifact\n")}


async def test_t14_a_link_in_the_place_of_an_artifact_is_not_followed(served, tmp_path):
    sources, artifact = served
    path = sources.store._artifacts / artifact.path
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert (await get(f"{sources.store.base_url}/{artifact.path}"))[0] == 404


async def test_unused_mirrors_are_collected_and_come_back(stored, sources, spec_of):
    repository, first = stored
    (head,) = sources._mirrors.glob("*/HEAD")
    await sources.collect(())
    assert head.exists()
    os.utime(head.parent, (0, 0))
    await sources.collect(())
    assert not head.parent.exists()
    assert (sources._mirrors / "key").exists()
    assert sources._repositories == {}
    assert not (await look(sources, spec_of(repository, branch="main"), first.artifact)).changed


async def test_a_forgotten_source_is_not_served(served):
    sources, artifact = served
    await sources.forget("apps", "web")
    assert (await get(f"{sources.store.base_url}/{artifact.path}"))[0] == 404
    assert isinstance(sources.open_tree(artifact.digest), Path)
