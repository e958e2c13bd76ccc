"""Where the lab's programs come from: the order of places, versions on PATH, releases, builds, and where it ends."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile

import pytest
from aiohttp import web

from fleet_rollout.lab import binaries, builder, golang
from fleet_rollout.lab.programs import NEEDED, PROGRAMS, Release
from fleet_rollout.lab.state import LabError

# Plays `go`: says its version, and "builds" a program that is a copy of itself, counting how often.
FAKE_GO = """#!/bin/sh
case "$1" in
version) echo "go version go1.26.8 linux/amd64" ;;
mod) echo '{"Sum": "SUM"}' ;;
install) echo built >> "$COUNT"; sleep 0.3; cp "$0" "$GOBIN/hey" ;;
*) echo "cannot $1" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty assets, PATH and cache folders; `put(place, name, version)` makes a program that prints a version."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    # The script's own interpreter and tools stay; none of the lab's programs is in /bin of a test machine's PATH.
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    folders = {place: tmp_path / place for place in ("assets", "path")}
    folders["cache"] = tmp_path / "cache" / "fleet-rollout" / "bin"

    def put(place: str, name: str, text: str = "v9.9.9") -> str:
        folders[place].mkdir(parents=True, exist_ok=True)
        file = folders[place] / name
        file.write_text(text if text.startswith("#!") else f"#!/bin/sh\necho '{text}'\n")
        file.chmod(0o755)
        return str(file)

    return put


def test_assets_come_before_path_and_path_before_the_cache(places):
    name = f"kustomize-{PROGRAMS['kustomize'].version}"
    assert binaries.locate("kustomize") is None
    in_cache = places("cache", name)
    assert binaries.locate("kustomize").source == "cache"
    assert str(binaries.require("kustomize")) == in_cache
    on_path = places("path", "kustomize")
    assert str(binaries.require("kustomize")) == on_path
    in_assets = places("assets", "kustomize", "v1.0.0")
    assert str(binaries.require("kustomize")) == in_assets


@pytest.mark.parametrize(
    ("name", "printed", "will_do"),
    [
        ("kubectl", "Client Version: v1.28.0", True),
        ("kubectl", "Client Version: v1.27.16", False),
        ("kubectl", "Client Version: v1.32.4-dispatcher", True),
        ("kustomize", "v5.0.0", True),
        ("kustomize", "{Version:kustomize/v4.5.7}", False),
        ("kube-apiserver", "Kubernetes v1.37.2", True),
        ("kube-apiserver", "Kubernetes v1.30.1", False),
        ("etcd", "etcd Version: 3.7.3", True),
        ("prometheus", "prometheus, version 2.55.1", False),
        ("flagger", "Flagger version 1.44.0 revision  unknown", True),
        ("flagger", "Flagger version 1.37.0 revision  unknown", False),
        ("loadtester", "1.44.0", False),
        ("kubectl", "#!/bin/sh\nexit 1\n", False),
    ],
)
def test_a_program_on_path_is_taken_by_its_version(places, name, printed, will_do):
    places("path", name, printed)
    assert (binaries.locate(name) is not None) is will_do


def test_what_is_missing_is_named_with_the_command_that_gets_it(places):
    assert binaries.missing(("etcd", "kubectl")) == ["etcd", "kubectl"]
    with pytest.raises(LabError, match=r"^etcd is missing: `fleet-rollout lab binaries`"):
        binaries.require("etcd")


def test_helm_is_not_needed():
    assert "helm" not in NEEDED
    assert "kube-apiserver" in NEEDED


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ("abc\n", "abc"),
        ("111  other.tar.gz\n222  file.tar.gz\n", "222"),
        ("333 *file.tar.gz\n", "333"),
    ],
)
def test_published_sums(sums, expected):
    assert builder.published_sum(sums, "file.tar.gz") == expected


def test_a_file_without_a_published_sum_is_not_available():
    with pytest.raises(builder.NotAvailable, match="do not name"):
        builder.published_sum("111  other\n222  another\n", "file")


@pytest.fixture
async def release():
    """Serves an archive with a program, and its sums; `release.sums` can be changed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("tool-1/tool")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"tool"))
    content = buffer.getvalue()
    served = {"tool.tar.gz": content, "sums": f"{hashlib.sha256(content).hexdigest()}  tool.tar.gz\n".encode()}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=served[request.match_info["name"]])

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield Release(f"{base}/tool.tar.gz", f"{base}/sums", "tool-1/tool"), served
    await runner.cleanup()


async def test_a_release_is_taken_where_its_hash_is_right(release, tmp_path):
    wanted, _ = release
    await asyncio.to_thread(builder.download, wanted, tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == b"tool"


async def test_a_release_with_another_hash_is_refused(release, tmp_path):
    wanted, served = release
    served["tool.tar.gz"] = served["tool.tar.gz"] + b"x"
    with pytest.raises(builder.NotAvailable, match="is to have"):
        await asyncio.to_thread(builder.download, wanted, tmp_path / "tool")
    assert not (tmp_path / "tool").exists()


def test_a_release_that_cannot_be_reached_is_not_available(tmp_path):
    nowhere = Release("http://127.0.0.1:1/tool", "http://127.0.0.1:1/sums")
    with pytest.raises(builder.NotAvailable, match=r"^127\.0\.0\.1 cannot be reached"):
        builder.download(nowhere, tmp_path / "tool")


def with_go(places, monkeypatch, tmp_path, sum_of_module: str) -> None:
    places("path", "go", FAKE_GO.replace("SUM", sum_of_module))
    for tool in ("cp", "sleep"):
        (tmp_path / "path" / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))


async def test_two_processes_build_a_program_once(places, monkeypatch, tmp_path):
    with_go(places, monkeypatch, tmp_path, PROGRAMS["hey"].build.sum)
    said: list[str] = []
    results = await asyncio.gather(
        *(asyncio.to_thread(builder.ensure, ["hey"], said.append) for _ in range(2)),
    )
    assert (tmp_path / "count").read_text() == "built\n"
    assert {found["hey"].path for found in results} == {binaries.cached(PROGRAMS["hey"])}
    assert any("expect about 6 seconds" in line for line in said)
    assert os.access(binaries.require("hey"), os.X_OK)
    assert sorted(path.name for path in binaries.cached(PROGRAMS["hey"]).parent.iterdir()) == [".hey.lock", "hey-0.1.5"]


def test_a_module_with_another_hash_is_not_built(places, monkeypatch, tmp_path):
    with_go(places, monkeypatch, tmp_path, "h1:forged")
    with pytest.raises(LabError, match=r"hey@v0\.1\.5 has the hash h1:forged"):
        builder.ensure(["hey"], lambda _: None)
    assert not (tmp_path / "count").exists()


def test_where_nothing_helps_the_error_lists_what_was_tried(places, monkeypatch):
    places("path", "go", FAKE_GO.replace("install)", "never)").replace("SUM", PROGRAMS["hey"].build.sum))
    with pytest.raises(LabError) as error:
        builder.ensure(["hey"], lambda _: None)
    text = str(error.value)
    assert text.startswith("hey 0.1.5 cannot be had. Tried:")
    for place in ("KUBEBUILDER_ASSETS: nothing in", "PATH: nothing", "cache: nothing at", "cannot install"):
        assert place in text
    assert "set KUBEBUILDER_ASSETS to it" in text


def test_the_go_of_path_is_used_where_it_is_recent(places):
    go = places("path", "go", "#!/bin/sh\necho go version go1.26.8 linux/amd64\n")
    assert str(golang.toolchain(lambda _: None)) == go


def test_manifests_are_there():
    for name in ("flagger-crds", "istio-crds"):
        assert "CustomResourceDefinition" in binaries.manifest(name).read_text()
    with pytest.raises(LabError):
        binaries.manifest("absent")
