"""Attacks on Git sources that worked elsewhere (rows of trust.md, section 1, named T1, T2, …)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import shutil
import stat
import sys
import tarfile
import time
from pathlib import Path

import pytest
from aiohttp import web

from fleet_rollout import processes
from fleet_rollout.errors import FleetRolloutError, Terminal, Transient
from fleet_rollout.lab.repository import Entry
from fleet_rollout.sources import checkout
from fleet_rollout_api.application import GitRef

BASIC = {"username": b"user", "password": b"pass-word-secret"}
# MB; a process that read the whole of a bomb would grow by gigabytes.
MOST_GROWTH = 150
ENCODED = base64.b64encode(b"user:pass-word-secret").decode()


async def look(sources, spec, secret=None, name="web", known=None):
    return await sources.reconcile("apps", name, spec, secret, known)


async def refusal(sources, spec, secret=None):
    with pytest.raises(FleetRolloutError) as error:
        await look(sources, spec, secret)
    return error.value


def children(pid=None):
    """Processes started from this one, as /proc shows them."""
    found = []
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def pack_line(text):
    data = text.encode() if isinstance(text, str) else text
    return f"{len(data) + 4:04x}".encode() + data


def advertisement(*refs):
    """A protocol 0 answer with references of our choice."""
    c = "1" * 40
    lines = [f"{c} {name}" for name in refs]
    lines[0] += "\0side-band-64k ofs-delta symref=HEAD:refs/heads/../../x"
    body = pack_line("# service=git-upload-pack\n") + b"0000" + b"".join(pack_line(x + "\n") for x in lines) + b"0000"
    return web.Response(body=body, content_type="application/x-git-upload-pack-advertisement")


async def test_t1_variables_in_urls_are_refused_and_never_expanded(server, sources, spec_of, monkeypatch):
    monkeypatch.setenv("CANARY", "value-of-canary")
    error = await refusal(sources, spec_of(f"{server.url}/$CANARY.git", branch="main"))
    assert error.reason == "InvalidURL"
    assert server.seen == []


@pytest.fixture
def started_gits(tmp_path, monkeypatch):
    """The arguments of every git that was started: the first git on the PATH notes them."""
    note, folder = tmp_path / "started-gits", tmp_path / "noting"
    folder.mkdir()
    (folder / "git").write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{note}"\nexec "{shutil.which("git")}" "$@"\n')
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return lambda: note.read_text().splitlines() if note.exists() else []


@pytest.mark.parametrize("ref", [{"branch": "--upload-p=x"}, {"branch": "-u"}, {"commit": "--output=f"}, {"tag": "-x"}])
async def test_t2_options_in_references_start_no_git(server, sources, spec_of, ref, started_gits):
    empty = dict.fromkeys(("branch", "tag", "semver", "name", "commit"))
    spec = spec_of(server.url + "/shop.git").model_copy(update={"ref": GitRef.model_construct(**empty | ref)})
    assert (await refusal(sources, spec)).reason == "InvalidReference"
    assert server.seen == []
    assert list(sources._mirrors.iterdir()) == [sources._mirrors / "key"]
    assert started_gits() == []


async def test_t2_a_plain_reference_starts_git(server, sources, spec_of, started_gits):
    """The counterpart: what counts the git processes does see them."""
    await refusal(sources, spec_of(server.url + "/shop.git", branch="main"))
    assert any("ls-remote" in line for line in started_gits())


async def test_t3_names_in_a_repository_never_reach_the_mirrors_configuration(server, sources, spec_of):
    repository = await server.repository()
    evil = '[submodule "x\\"]\n[core]\n\tsshCommand = touch marker\n"]\n\tpath = x\n\turl = -x\n'
    await repository.commit({"a.yaml": "a\n"})
    await look(sources, spec_of(repository, branch="main"))
    (config,) = sources._mirrors.glob("*/config")
    before = config.read_bytes()
    await repository.commit({".gitmodules": evil, "x": Entry.submodule("1" * 40), ".git-config": evil})
    seen = await look(sources, spec_of(repository, branch="main"))
    assert config.read_bytes() == before
    assert b"sshCommand" not in before
    assert not (sources.open_tree(seen.artifact.digest) / "x").exists()
    error = await refusal(sources, spec_of(repository, branch="main", recurseSubmodules=True))
    assert (type(error), error.reason) == (Terminal, "NotSupportedYet")


async def test_t4_no_hook_runs_from_configuration_template_or_repository(
    server, sources, spec_of, tmp_path, monkeypatch
):
    marker = tmp_path / "marker"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("reference-transaction", "post-checkout", "post-merge", "post-index-change", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (hooks / name).chmod(0o755)
    config = tmp_path / ".gitconfig"
    config.write_text(f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = touch {marker}\n")
    for key, value in {"HOME": tmp_path, "GIT_CONFIG_GLOBAL": config, "GIT_TEMPLATE_DIR": tmp_path}.items():
        monkeypatch.setenv(key, str(value))
    repository = await server.repository()
    script = Entry.executable(f"#!/bin/sh\ntouch {marker}\n")
    await repository.commit(
        {
            "a.yaml": "a\n",
            "hooks/post-checkout": script,
            "link": Entry.symlink("hooks"),
            "A/modules/x/hooks/post-checkout": script,
        }
    )
    await repository.commit({"a": Entry.symlink(".git")})
    seen = await look(sources, spec_of(repository, branch="main"))
    assert sources.open_tree(seen.artifact.digest).is_dir()
    assert not marker.exists()
    assert not list(sources._mirrors.glob("*/hooks/*"))


async def test_t5_names_that_climb_in_the_servers_answer_are_refused(server, sources, spec_of, tmp_path):
    async def lying(request, handler):
        return advertisement("refs/heads/main", "refs/tags/../../1.0.0", "refs/heads/../../x")

    server.fault = lying
    before = sorted(p for p in tmp_path.rglob("*") if "data" not in p.parts)
    error = await refusal(sources, spec_of(server.url + "/shop.git", semver="1.x"))
    assert error.reason == "SourceInvalid"
    assert sorted(p for p in tmp_path.rglob("*") if "data" not in p.parts) == before
    assert list(sources._mirrors.iterdir()) == [sources._mirrors / "key"]


async def test_t5_a_head_that_climbs_leads_nowhere(server, sources, spec_of, tmp_path, answering_at_once):
    """With every other name in order: nothing is read from where HEAD points to, and nothing is written there."""
    repository = await server.repository()
    commit = await repository.commit({"a.yaml": "a\n"})
    await repository.git("update-ref", "refs/heads/release", commit)
    await repository.git("symbolic-ref", "HEAD", "refs/heads/release")
    lied = []

    async def lying(request, handler):
        answer = await answering_at_once(server.root, request)
        lies = answer.body
        for before in (b"symref=HEAD:", b"symref-target:"):  # as long as it was, as the answer tells lengths
            lies = lies.replace(before + b"refs/heads/release", before + b"refs/heads/../../x")
        lied.append(lies != answer.body)
        answer.body = lies
        return answer

    server.fault = lying
    assert (await look(sources, spec_of(repository, branch="main"))).commit == commit
    assert any(lied)
    (head,) = sources._mirrors.glob("*/HEAD")
    assert ".." not in head.read_text()
    assert not list(tmp_path.rglob("x"))


async def giving_no_single_commit(repository):
    """As old servers do: two commits, of which only the newer one can be asked for by itself."""
    for key in ("allowAnySHA1InWant", "allowTipSHA1InWant", "allowReachableSHA1InWant"):
        await repository.git("config", f"uploadpack.{key}", "false")
    return [await repository.commit({"a.yaml": f"a: {number}\n"}) for number in range(2)]


def without_protocol_2(request):
    return request.clone(
        headers={name: text for name, text in request.headers.items() if name.lower() != "git-protocol"}
    )


async def test_t5_where_branches_come_as_a_whole_no_name_leaves_its_folder(
    server, sources, spec_of, tmp_path, answering_at_once
):
    """Of an old server, which gives no single commit, references reach the disk under names of its choice."""
    repository = await server.repository()
    older, newest = await giving_no_single_commit(repository)
    climbing = [f"refs/heads/{name}" for name in ("../../../escaped", "a/../../../escaped", "escaped.lock", "/escaped")]

    async def lying(request, handler):
        answer = await answering_at_once(server.root, without_protocol_2(request))
        if request.path.endswith("/info/refs"):
            added = b"".join(pack_line(f"{newest} {name}\n") for name in climbing)
            answer.body = answer.body.removesuffix(b"0000") + added + b"0000"
        return answer

    server.fault = lying
    with contextlib.suppress(FleetRolloutError):
        assert (await look(sources, spec_of(repository, commit=older))).commit == older
    assert list(sources._mirrors.glob("*/refs/kept/heads/main"))
    assert [path for path in tmp_path.rglob("*") if "escaped" in path.name] == []


@pytest.mark.parametrize("url", ["https://a%0ahost=b/", "https://h/x%0ahost=b", "https://h/%0d"])
async def test_t6_line_ends_in_urls_are_refused(sources, spec_of, url):
    assert (await refusal(sources, spec_of(url, branch="main"))).reason == "InvalidURL"


@pytest.mark.parametrize("url", ["ssh://-oX=y/z", "ext::sh -c id", "file:///etc", "/etc"])
async def test_t7_other_transports_and_hosts_as_options_are_refused(sources, spec_of, url):
    spec = spec_of("https://h/x", branch="main").model_copy(update={"url": url})
    assert (await refusal(sources, spec)).reason == "InvalidURL"


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_t8_credentials_do_not_follow_a_redirect(server, other_server, sources, spec_of, code):
    repository = await other_server.repository()
    await repository.commit({"a.yaml": "a\n"})

    async def elsewhere(request, handler):
        return web.Response(status=code, headers={"Location": f"{other_server.url}{request.raw_path}"})

    server.fault = elsewhere
    error = await refusal(sources, spec_of(server.url + "/shop.git", branch="main"), BASIC)
    assert error.reason == "CredentialRedirect"
    assert "redirects" in error.message
    assert other_server.seen == []
    without = await refusal(sources, spec_of(server.url + "/shop.git", branch="main"))
    assert without.reason == "GitOperationFailed"
    assert other_server.seen == []


async def test_t8_a_foreign_realm_gets_no_second_attempt(server, other_server, sources, spec_of):
    async def asks(request, handler):
        realm = f'Bearer realm="{other_server.url}/token",service="git"'
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    server.fault = asks
    error = await refusal(sources, spec_of(server.url + "/shop.git", branch="main"), BASIC)
    assert error.reason == "AuthenticationFailed"
    assert {s.get("Authorization") for s in server.seen} <= {f"Basic {ENCODED}"}
    assert other_server.seen == []


@pytest.mark.parametrize("name", ["..", ".", "a/b", "A", "", "a" * 300, "-x"])
async def test_t14_names_of_sources_cannot_leave_the_store(server, sources, spec_of, name):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    with pytest.raises(FleetRolloutError) as error:
        await look(sources, spec_of(repository, branch="main"), name=name)
    assert error.value.reason == "IllegalPath"


def tree_object(*entries):
    return b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)


async def raw_commit(repository, *entries):
    """A commit on main whose root tree git itself would refuse to make."""
    path = repository.path / "tree-object"
    path.write_bytes(tree_object(*entries))
    tree = await repository.git("hash-object", "-t", "tree", "--literally", "-w", str(path))
    commit = await repository.git("commit-tree", tree, "-m", "odd")
    await repository.git("update-ref", "refs/heads/main", commit)


@pytest.mark.parametrize(
    "names", [(b"..",), (b"../x",), (b".",), (b"a", b"a"), (b"a/../../x",), (b"x" * 300,)], ids=str
)
async def test_t15_t16_trees_with_names_that_climb_or_repeat_are_refused(server, sources, spec_of, tmp_path, names):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    blob = await repository.git("rev-parse", "main:a.yaml")
    await raw_commit(repository, *((b"100644", name, blob) for name in names))
    error = await refusal(sources, spec_of(repository, branch="main"))
    assert error.reason == "SourceInvalid"
    assert not (tmp_path / "data" / "x").exists()
    assert not list((tmp_path / "data" / "scratch").iterdir())


async def test_t16_a_bomb_of_nested_trees_is_refused_quickly(server, sources, spec_of):
    """Ten levels of ten equal folders: a few hundred bytes that unfold to 10^10 files."""
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    at = await repository.git("rev-parse", "main:a.yaml")
    mode, path = b"100644", repository.path / "tree-object"
    for _ in range(10):
        path.write_bytes(tree_object(*((mode, f"f{i}".encode(), at) for i in range(10))))
        at, mode = await repository.git("hash-object", "-t", "tree", "-w", str(path)), b"40000"
    commit = await repository.git("commit-tree", at, "-m", "bomb")
    await repository.git("update-ref", "refs/heads/main", commit)
    assert (await refusal(sources, spec_of(repository, branch="main"))).reason == "TooLarge"


async def test_t16_content_that_unfolds_is_refused_before_it_is_read(server, make_sources, spec_of):
    repository = await server.repository()
    await repository.commit({"zeros": b"\0" * 30_000_000})
    sources = make_sources(artifact_max_bytes=1_000_000)
    error = await refusal(sources, spec_of(repository, branch="main"))
    assert error.reason == "TooLarge"
    assert "artifact-max-bytes" in error.message
    assert (await look(sources, spec_of(repository, branch="main", ignore="zeros"))).changed


async def test_t16_too_many_files_are_refused(server, make_sources, spec_of):
    repository = await server.repository()
    await repository.commit({f"f{i}": "x" for i in range(60)})
    error = await refusal(make_sources(artifact_max_files=50), spec_of(repository, branch="main"))
    assert error.reason == "TooLarge"


async def taken(kind, what, folder):
    """How a process with the default caps took a bomb: the reason, and the MB that its memory grew by."""
    folder.mkdir()
    root = Path(__file__).parents[3]
    argv = [sys.executable, "-m", "tests.rooms.sources.bombs", kind, what, folder]
    done = await processes.run(argv, timeout=120, cwd=root, env={"PYTHONPATH": f"{root}:{root / 'api'}"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def gigabytes(file):
    """10 MB that unfold to 10 GB: one file of zeros, its gzip member made once and repeated."""
    head = tarfile.TarInfo("zeros")
    head.size = 10 * 1024**3
    block = gzip.compress(bytes(64 * 1024**2))
    file.write(gzip.compress(head.tobuf()))
    for _ in range(160):
        file.write(block)


def entries(file):
    """100,000 empty files."""
    headers = b"".join(tarfile.TarInfo(f"f{number}").tobuf() for number in range(100_000))
    file.write(gzip.compress(headers, compresslevel=1))


@pytest.mark.parametrize("bomb", [gigabytes, entries])
async def test_t16_an_archive_that_unfolds_is_refused_within_bounded_memory(tmp_path, bomb):
    with open(tmp_path / "bomb.tar.gz", "wb") as file:
        bomb(file)
    found = await taken("archive", tmp_path / "bomb.tar.gz", tmp_path / "unpacked")
    assert found["reason"] == "TooLarge"
    assert found["growth"] < MOST_GROWTH


async def test_t16_references_without_end_are_refused_within_bounded_memory(server, tmp_path):
    repository = await server.repository()
    commit = await repository.commit({"a.yaml": "a\n"})
    tags = "".join(f"{commit} refs/tags/v1.0.{number}-{'x' * 40}\n" for number in range(300_000))
    (repository.path / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted\n{tags}")
    found = await taken("references", repository.url, tmp_path / "data")
    assert found["reason"] == "TooLarge"
    assert found["growth"] < MOST_GROWTH


@pytest.mark.parametrize(("size", "names"), [(50_000_000, 200), (1, 100_000)], ids=["10 GB", "100,000 entries"])
async def test_t16_a_repository_that_unfolds_is_refused_within_bounded_memory(server, tmp_path, size, names):
    repository = await server.repository()
    await repository.commit({"zeros": bytes(size)})
    blob = await repository.git("rev-parse", "main:zeros")
    await raw_commit(repository, *((b"100644", f"f{number:06}".encode(), blob) for number in range(names)))
    found = await taken("repository", repository.url, tmp_path / "taken")
    assert found["reason"] == "TooLarge"
    assert found["growth"] < MOST_GROWTH


async def test_t12_t16_more_patterns_and_files_than_can_be_compared_are_refused(server, sources, spec_of, monkeypatch):
    monkeypatch.setattr(checkout, "IGNORE_SECONDS", 0.05)
    repository = await server.repository()
    await repository.commit({f"f{number}": "x" for number in range(500)})
    patterns = "\n".join(f"**/a{number}/**/b*" for number in range(1900))
    error = await refusal(sources, spec_of(repository, branch="main", ignore=patterns))
    assert (error.reason, "write fewer" in error.message) == ("InvalidIgnore", True)
    assert (await look(sources, spec_of(repository, branch="main", ignore="f1*"))).changed


async def with_ignore_files(repository, content, number):
    """A commit of so many folders, each with this .sourceignore; the folders are one tree."""
    await repository.commit({"d/.sourceignore": content, "d/left-out": "x", "d/a.yaml": "a\n"})
    folder = await repository.git("rev-parse", "main:d")
    await raw_commit(repository, *((b"40000", f"d{index:05}".encode(), folder) for index in range(number)))


@pytest.mark.parametrize(
    ("content", "number", "fact"),
    [("", 2000, f"2000 files, more than {checkout.MOST_IGNORE_FILES}"), ("#" * 30_000, 9, "270000 bytes")],
    ids=["number", "size"],
)
async def test_t16_ignore_files_without_end_are_refused_before_one_is_read(
    server, sources, spec_of, started_gits, content, number, fact
):
    repository = await server.repository()
    await with_ignore_files(repository, content, number)
    error = await refusal(sources, spec_of(repository, branch="main"))
    assert (error.reason, fact in error.message) == ("InvalidIgnore", True)
    assert not any("cat-file --batch" in line for line in started_gits())


async def test_t16_ignore_files_are_read_by_one_git(server, sources, spec_of, started_gits):
    repository = await server.repository()
    await with_ignore_files(repository, "left-out\n", checkout.MOST_IGNORE_FILES)
    seen = await look(sources, spec_of(repository, branch="main"))
    names = {path.name for path in sources.open_tree(seen.artifact.digest).rglob("*") if path.is_file()}
    assert names == {".sourceignore", "a.yaml"}
    assert sum("cat-file --batch" in line for line in started_gits()) == 2  # the rules, then the content


async def test_t16_a_fetch_larger_than_its_cap_is_ended(server, make_sources, spec_of, answering_at_once):
    repository = await server.repository()
    server.fault = lambda request, handler: answering_at_once(server.root, request)
    await repository.commit({"noise": os.urandom(40_000_000)})
    sources = make_sources(source_max_bytes=2_000_000)
    assert (await refusal(sources, spec_of(repository, branch="main"))).reason == "TooLarge"
    assert not list(sources._mirrors.glob("*/objects/pack/*.pack"))


async def test_t16_references_without_end_do_not_fill_the_disk(server, make_sources, spec_of, answering_at_once):
    """Each is a file of some bytes, which takes a block and an entry of the disk."""
    repository = await server.repository()
    older, newest = await giving_no_single_commit(repository)
    tags = "".join(f"{newest} refs/tags/v{number:05}\n" for number in range(3000))
    (repository.path / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted\n{tags}")
    server.fault = lambda request, handler: answering_at_once(server.root, without_protocol_2(request))
    sources = make_sources(source_max_bytes=4_000_000)
    assert (await refusal(sources, spec_of(repository, commit=older))).reason == "TooLarge"
    assert list(sources._mirrors.iterdir()) == [sources._mirrors / "key"]


async def test_t16_what_a_fetch_without_end_has_brought_does_not_stay(server, sources, spec_of, answering_at_once):
    repository = await server.repository()
    older, _ = await giving_no_single_commit(repository)
    entered, released = asyncio.Event(), asyncio.Event()

    async def hang(request, handler):
        if request.method == "POST":
            entered.set()
            await released.wait()
        return await answering_at_once(server.root, without_protocol_2(request))

    server.fault = hang
    error = await refusal(sources, spec_of(repository, commit=older, timeout="15s"))
    assert ("time-out of 15s" in error.message, entered.is_set()) == (True, True)
    assert list(sources._mirrors.iterdir()) == [sources._mirrors / "key"]
    released.set()


async def test_t21_t22_secrets_are_in_no_argument_environment_message_or_log(server, sources, spec_of, caplog):
    caplog.set_level("DEBUG")
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    repository.require_basic("user", "other")
    seen = []

    async def inspect(request, handler):
        for pid in await asyncio.to_thread(children):
            for file in ("cmdline", "environ"):
                try:
                    seen.append(Path(f"/proc/{pid}/{file}").read_bytes())
                except OSError:
                    continue
        return await handler(request)

    server.fault = inspect
    error = await refusal(sources, spec_of(repository, branch="main"), BASIC)
    assert error.reason == "AuthenticationFailed"
    assert any(b"git-remote-http" in text for text in seen)
    for text in (*seen, error.message.encode(), caplog.text.encode()):
        assert b"pass-word-secret" not in text
        assert ENCODED.encode() not in text


async def test_t22_nothing_of_our_environment_reaches_git(server, sources, spec_of, monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", "hub-token-value")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("GIT_TRACE", "1")
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    environments = []

    async def inspect(request, handler):
        for pid in await asyncio.to_thread(children):
            try:
                if b"ls-remote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    environments.append(Path(f"/proc/{pid}/environ").read_bytes())
            except OSError:
                continue
        return await handler(request)

    server.fault = inspect
    await look(sources, spec_of(repository, branch="main"))
    assert environments
    assert not any(b"hub-token-value" in text or b"GIT_TRACE" in text for text in environments)


async def test_t21_what_a_server_repeats_is_hidden(server, sources, spec_of):
    async def repeats(request, handler):
        text = f"you sent {request.headers.get('Authorization')} \x1b[31m pass-word-secret"
        return web.Response(status=500, text=text)

    server.fault = repeats
    error = await refusal(sources, spec_of(server.url + "/shop.git", branch="main"), BASIC)
    assert error.reason == "GitOperationFailed"
    assert "pass-word-secret" not in error.message
    assert ENCODED not in error.message
    assert error.message.isprintable()
    assert "/" + "dev/shm" not in error.message


async def test_t21_what_a_server_repeats_is_hidden_also_where_its_words_are_cut(server, sources, spec_of):
    """More than is kept of them, so that what is kept may begin inside the password."""

    async def repeats(request, handler):
        return web.Response(status=500, text="pass-word-secret" * 3000)

    server.fault = repeats
    error = await refusal(sources, spec_of(server.url + "/shop.git", branch="main"), BASIC)
    assert "returned error: 500" in error.message
    assert "secret" not in error.message


async def test_private_files_are_private_and_gone_afterwards(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    repository.require_basic("user", "pass-word-secret")
    modes = []

    async def inspect(request, handler):
        for path in Path("/dev/shm").glob("fleet-rollout-*"):
            modes.extend(stat.S_IMODE(p.stat().st_mode) for p in (path, *path.iterdir()))
        return await handler(request)

    before = set(Path("/dev/shm").glob("fleet-rollout-*"))
    server.fault = inspect
    assert (await look(sources, spec_of(repository, branch="main"), BASIC)).changed
    assert set(modes) == {0o600, 0o700}
    left = set(Path("/dev/shm").glob("fleet-rollout-*")) - before
    assert not [path for path in left if b"Basic" in _read(path / "gitconfig")]


def _read(path):
    return path.read_bytes() if path.exists() else b""


LOOPBACK = ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
ELSEWHERE = [
    "169.254.169.254",
    "0.0.0.0",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "168.63.129.16",
    "[64:ff9b::7f00:1]",
    "[::7f00:1]",
    "224.0.0.1",
]


@pytest.mark.parametrize("host", LOOPBACK + ELSEWHERE)
async def test_t26_loopback_and_metadata_addresses_are_not_dialled(server, make_sources, spec_of, host):
    sources = make_sources(allow_loopback_sources=False)
    url = server.url.replace("127.0.0.1", host) + "/shop.git"
    assert (await refusal(sources, spec_of(url, branch="main"))).reason == "AddressRefused"
    assert server.seen == []


async def test_t26_one_bad_answer_among_good_ones_is_enough(server, make_sources, spec_of):
    sources = make_sources(resolver=lambda host, port: ["93.184.215.14", "127.0.0.1"], allow_loopback_sources=False)
    url = server.url.replace("127.0.0.1", "rebinding.example") + "/shop.git"
    assert (await refusal(sources, spec_of(url, branch="main"))).reason == "AddressRefused"
    assert server.seen == []


async def test_t26_git_dials_the_address_that_was_checked_whatever_the_name_means_later(server, make_sources, spec_of):
    """The name does not exist: without the pin git could not reach anything."""
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    sources = make_sources(resolver=lambda host, port: ["127.0.0.1"])
    url = repository.url.replace("127.0.0.1", "pinned.invalid")
    assert (await look(sources, spec_of(url, branch="main"))).changed
    assert {s["Host"].partition(":")[0] for s in server.seen} == {"pinned.invalid"}


async def test_a_host_that_cannot_be_resolved_says_so(make_sources, spec_of):
    def fails(host, port):
        raise OSError("no such host")

    error = await refusal(make_sources(resolver=fails), spec_of("https://nowhere.invalid/x", branch="main"))
    assert (error.reason, "could not resolve host nowhere.invalid" in error.message) == ("GitOperationFailed", True)


@pytest.mark.parametrize("refused", [401, 403])
async def test_refused_logins_say_so(server, sources, spec_of, refused):
    async def refuse(request, handler):
        return web.Response(status=refused, headers={"WWW-Authenticate": "Basic"})

    server.fault = refuse
    error = await refusal(sources, spec_of(server.url + "/shop.git", branch="main"))
    assert (type(error), error.reason) == (Transient, "AuthenticationFailed")


async def test_a_repository_that_is_not_there_says_so(server, sources, spec_of):
    error = await refusal(sources, spec_of(server.url + "/none.git", branch="main"))
    assert "repository not found" in error.message


async def test_a_server_that_hangs_is_left_at_the_time_out_with_all_its_processes(server, sources, spec_of, eventually):
    released = asyncio.Event()

    async def hang(request, handler):
        await released.wait()
        return await handler(request)

    server.fault = hang
    started = time.monotonic()
    error = await refusal(sources, spec_of(server.url + "/shop.git", branch="main", timeout="1s"))
    assert "time-out of 1s" in error.message
    assert time.monotonic() - started < 30

    async def no_git_left():
        commands = [_read(Path(f"/proc/{pid}/cmdline")) for pid in children()]
        return not any(b"git-remote-http" in command for command in commands)

    await eventually(no_git_left)
    released.set()


async def test_stopping_ends_what_is_under_way(server, settings, spec_of):
    from fleet_rollout.sources import Sources

    entered, released = asyncio.Event(), asyncio.Event()

    async def hang(request, handler):
        entered.set()
        await released.wait()
        return await handler(request)

    server.fault = hang
    sources = Sources(settings)
    running = asyncio.create_task(refusal(sources, spec_of(server.url + "/shop.git", branch="main")))
    await entered.wait()
    await sources.close()
    assert "the service stops" in (await running).message
    released.set()
