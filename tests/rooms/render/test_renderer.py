"""One build per content and inputs, however many ask; and what comes out of it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.render import program as programs
from fleet_rollout.render.kustomize import Renderer, fingerprint, prepare
from fleet_rollout.render.objects import compacted
from fleet_rollout.render.overlay import PORTION
from fleet_rollout.render.tree import Tree
from fleet_rollout.settings import Settings
from fleet_rollout.sources.store import ArtifactStore

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: apps}\n"


@pytest.fixture
def renderer(wrapped):
    made = []

    def make(first: str = ":", **settings) -> tuple[Renderer, object]:
        wrapper = wrapped(first)
        made.append(Renderer(replace(Settings(), allow_unconfined_builds=True, **settings), wrapper.program))
        return made[-1], wrapper

    yield make
    for each in made:
        each.close()


async def test_a_thousand_clusters_share_one_build(artifact, renderer, policy):
    artifact.put("a.yaml")
    render, wrapper = renderer()
    results = await asyncio.gather(*(render.build(artifact.root, "d1", policy()) for _ in range(1000)))
    assert wrapper.runs == 1
    assert all(result is results[0] for result in results)


async def test_fields_that_do_not_change_the_build_share_it(artifact, renderer, policy):
    artifact.put("a.yaml")
    render, wrapper = renderer()
    await render.build(artifact.root, "d1", policy())
    await render.build(artifact.root, "d1", policy(interval="1h", wait=True, force=True, serviceAccountName="x"))
    assert wrapper.runs == 1
    await render.build(artifact.root, "d2", policy())
    await render.build(artifact.root, "d1", policy(targetNamespace="t"))
    assert wrapper.runs == 3


@pytest.mark.parametrize(
    "change",
    [
        {"path": "x"},
        {"targetNamespace": "x"},
        {"namePrefix": "x"},
        {"nameSuffix": "x"},
        {"patches": [{"patch": "x"}]},
        {"images": [{"name": "x"}]},
        {"components": ["x"]},
        {"commonMetadata": {"labels": {"x": "y"}}},
    ],
)
def test_every_input_has_a_build_of_its_own(policy, change):
    assert fingerprint(policy()) != fingerprint(policy(**change))


async def test_a_failure_is_remembered_too_but_not_one_of_the_moment(artifact, renderer, policy):
    artifact.add("kustomization.yaml", "resources: [a.yaml]\n").add("a.yaml", SERVICE + "---\n" + SERVICE)
    render, wrapper = renderer()
    failures = []
    for _ in range(3):
        with pytest.raises(Terminal) as failure:
            await render.build(artifact.root, "d1", policy())
        failures.append(failure.value)
    assert wrapper.runs == 1
    assert len({id(failure) for failure in failures}) == 3
    for _ in range(2):
        with pytest.raises(Transient):
            await render.build(artifact.root, "d1", policy(path="missing"))
    (artifact.root / "missing").mkdir()
    assert await render.build(artifact.root, "d1", policy(path="missing")) == ()


async def test_one_that_gives_up_waiting_does_not_end_the_build_of_the_others(artifact, renderer, policy, eventually):
    artifact.put("a.yaml")
    go = artifact.root.parent / "go"
    render, wrapper = renderer(f'until [ -e "{go}" ]; do /bin/sleep 0.05; done')
    first, second = (asyncio.create_task(render.build(artifact.root, "d1", policy())) for _ in range(2))

    async def started() -> bool:
        return wrapper.runs == 1

    await eventually(started)
    first.cancel()
    await asyncio.wait([first])
    go.touch()
    assert len(await second) == 1
    assert first.cancelled()


async def test_the_last_that_gives_up_ends_the_build_and_leaves_nothing(
    artifact, renderer, policy, eventually, tmp_path, monkeypatch
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    render, _ = renderer(f'echo $$ > "{tmp_path}/pid"; /bin/sleep 600')
    task = asyncio.create_task(render.build(artifact.put("a.yaml").root, "d1", policy()))

    async def started() -> bool:
        return (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n")

    await eventually(started)
    assert list(scratch.iterdir())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not list(scratch.iterdir())


async def test_only_so_many_builds_run_at_the_same_time(artifact, renderer, policy, tmp_path):
    artifact.put("a.yaml")
    render, wrapper = renderer(
        f'/bin/mkdir "{tmp_path}/lock" || exit 1; /bin/sleep 0.1; /bin/rmdir "{tmp_path}/lock"', render_workers=1
    )
    await asyncio.gather(*(render.build(artifact.root, f"d{i}", policy()) for i in range(4)))
    assert wrapper.runs == 4


async def test_the_oldest_build_is_forgotten_when_memory_is_full(artifact, renderer, policy, monkeypatch):
    monkeypatch.setattr("fleet_rollout.render.kustomize.MOST_KEPT", 200)
    artifact.put("a.yaml")  # some 90 bytes of JSON
    render, wrapper = renderer()
    for digest in ("d1", "d2", "d1", "d3", "d1"):
        await render.build(artifact.root, digest, policy())
    assert wrapper.runs == 3
    await render.build(artifact.root, "d2", policy())
    assert wrapper.runs == 4


async def test_building_changes_nothing_in_the_artifact(artifact):
    artifact.put("app/a.yaml").add("app/kustomization.yml", "resources: [a.yaml]")
    before = {path: path.stat().st_mtime_ns for path in [artifact.root, *artifact.root.rglob("*")]}
    await artifact.build(path="app", namePrefix="p-")
    assert {path: path.stat().st_mtime_ns for path in [artifact.root, *artifact.root.rglob("*")]} == before


async def test_kustomize_errors_are_told_without_paths_of_the_hub(artifact):
    artifact.put("a.yaml").add("kustomization.yaml", "resources: [a.yaml]\npatches: [{patch: 'kind: Nope'}]\n")
    with pytest.raises(Terminal) as failure:
        await artifact.build()
    assert failure.value.reason == "BuildFailed"
    assert failure.value.message.startswith("kustomize build failed: ")
    assert "/" not in failure.value.message.replace("kustomize build", "")


async def test_deprecation_warnings_are_no_errors(artifact, named):
    artifact.add("kustomization.yaml", "bases: [base]\n").put("base/a.yaml").add(
        "base/kustomization.yaml", "resources: [a.yaml]"
    )
    assert named(await artifact.build()) == ["ConfigMap/apps/a"]


async def test_twins_are_refused(artifact):
    artifact.put("a.yaml", kind="Service").put("b.yaml", kind="Service")
    with pytest.raises(Terminal) as failure:
        await artifact.build()
    assert failure.value.reason == "BuildFailed"
    assert "Service" in failure.value.message


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("kind: ConfigMap\nmetadata: {name: a}\n", "apiVersion"),
        ("apiVersion: v1\nkind: List\nitems: [{kind: A}]\n", ""),
    ],
)
async def test_what_is_no_object_is_said_without_its_content(artifact, text, missing):
    artifact.add("kustomization.yaml", "resources: [a.yaml]").add("a.yaml", text + "stringData: {password: hunter2}\n")
    with pytest.raises(Terminal) as failure:
        await artifact.build()
    assert failure.value.reason == "BuildFailed"
    assert missing in failure.value.message
    assert "hunter2" not in failure.value.message


async def test_kustomizations_among_the_objects_are_left_out(artifact, named):
    artifact.put("a.yaml").put("k.yaml", kind="Kustomization", version="kustomize.config.k8s.io/v1beta1")
    artifact.put("f.yaml", kind="Kustomization", version="kustomize.toolkit.fluxcd.io/v1")
    assert named(await artifact.build()) == ["ConfigMap/apps/a", "Kustomization/apps/a"]


async def test_values_keep_the_type_that_kustomize_gave_them(artifact):
    data = (
        '{a: "yes", b: "1e3", c: "012", d: "1:20", e: "2020-01-01", f: "null", g: "~", h: "0x1", i: "<<", j: "1_000"}'
    )
    artifact.add("a.yaml", SERVICE + f"data: {data}\nspec: {{n: 1, big: 1e21, f: 1.5, t: true, z: null}}\n")
    (built,) = await artifact.build()
    assert built["data"] == {
        "a": "yes",
        "b": "1e3",
        "c": "012",
        "d": "1:20",
        "e": "2020-01-01",
        "f": "null",
        "g": "~",
        "h": "0x1",
        "i": "<<",
        "j": "1_000",
    }
    assert built["spec"] == {"n": 1, "big": 1e21, "f": 1.5, "t": True, "z": None}


@pytest.mark.parametrize("value", [2**70, b"\xff", {1: "x"}])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(Terminal) as failure:
        compacted(({"spec": value},))
    assert failure.value.reason == "InvalidYAML"


@pytest.mark.parametrize("nested", [False, True])
async def test_a_commit_of_5000_objects_is_built_in_portions(artifact, wrapped, nested, tmp_path):
    names = [f"c{i}" for i in range(5000)]
    text = "\n---\n".join(
        SERVICE.replace("name: a,", f"name: {name},") + "data: |\n  --- not a separator" for name in names
    )
    artifact.add("base/all.yaml", "--- # first\n" + text + "\n---\n").put("base/one.yaml", "one")
    if nested:
        artifact.add("kustomization.yaml", "resources: [base]").add(
            "base/kustomization.yaml", "resources: [all.yaml, one.yaml]"
        )
    artifact.program = (wrapper := wrapped()).program
    objects = await artifact.build()
    assert sorted(each["metadata"]["name"] for each in objects) == sorted([*names, "one"])
    assert all(each.get("data", "--- not a separator").strip() == "--- not a separator" for each in objects)
    assert wrapper.runs == -(-5001 // PORTION)


async def test_twins_in_different_portions_are_refused_as_well(artifact):
    for i in range(PORTION + 1):
        artifact.put(f"a{i:04}.yaml", f"c{i}")
    with pytest.raises(Terminal, match="ConfigMap/apps/c0 is there twice"):
        await artifact.put("z.yaml", "c0").build()


async def test_images_are_changed_in_every_portion(artifact, wrapped):
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c, image: web}]}\n"
    artifact.add("pods.yaml", "---\n".join(pod % f"p{i}" for i in range(PORTION + 1)))
    artifact.add("kustomization.yaml", "resources: [pods.yaml]\nimages: [{name: web, newName: registry.example/web}]\n")
    artifact.program = (wrapper := wrapped()).program
    objects = await artifact.build(images=[{"name": "web", "newTag": "2"}])
    assert wrapper.runs == 2
    assert {each["spec"]["containers"][0]["image"] for each in objects} == {"registry.example/web:2"}


async def test_an_error_in_one_portion_is_the_error_of_the_build(artifact):
    for i in range(PORTION * 2):
        artifact.put(f"a{i:04}.yaml", f"c{i}")
    artifact.put("z.yaml", "z", version="''")
    with pytest.raises(Terminal) as failure:
        await artifact.build()
    assert failure.value.reason == "BuildFailed"


@pytest.mark.parametrize(
    "extra",
    [
        "namePrefix: p-",
        "configMapGenerator: [{name: g}]",
        "commonLabels: {a: b}",
        "images: []\nreplicas: [{name: a, count: 1}]",
    ],
)
def test_a_build_in_which_objects_meet_is_never_split(artifact, policy, tmp_path, extra):
    for i in range(PORTION + 1):
        artifact.put(f"a{i:04}.yaml", f"c{i}")
    names = ", ".join(f"a{i:04}.yaml" for i in range(PORTION + 1))
    (tmp_path / "root").mkdir()
    artifact.add("kustomization.yaml", f"resources: [{names}]\n{extra}\n")
    assert prepare(Tree(artifact.root), policy(), tmp_path / "root").folders == [""]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with nothing on PATH, in the cache or in the variable; returns a function that installs a program."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "cache" / "fleet-rollout" / "bin").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(programs.VARIABLE, raising=False)
    places = {"path": tmp_path / "bin", "cache": tmp_path / "cache" / "fleet-rollout" / "bin"}

    def install(name: str, place: str) -> Path:
        (places[place] / name).touch(0o755)
        return places[place] / name

    return install


def test_kustomize_is_preferred_to_kubectl_and_path_to_the_cache(machine, monkeypatch):
    with pytest.raises(Transient, match="no kustomize and no kubectl: looked at FLEET_ROLLOUT_KUSTOMIZE, PATH and"):
        programs.locate()
    kubectl = machine("kubectl", "path")
    assert programs.locate() == programs.Program(kubectl, kubectl=True)
    cached = machine("kustomize", "cache")
    assert programs.locate() == programs.Program(cached)
    on_path = machine("kustomize", "path")
    assert programs.locate() == programs.Program(on_path)
    monkeypatch.setenv(programs.VARIABLE, str(kubectl))
    assert programs.locate() == programs.Program(kubectl, kubectl=True)
    monkeypatch.setenv(programs.VARIABLE, "/nowhere/kustomize")
    with pytest.raises(Transient, match="FLEET_ROLLOUT_KUSTOMIZE names /nowhere/kustomize, which is no executable"):
        programs.locate()


async def test_the_version_says_which_program_builds(kustomize):
    from fleet_rollout.lab import binaries

    assert (await Renderer(Settings(), kustomize).version()).startswith("kustomize v5.")
    kubectl = programs.Program(binaries.require("kubectl"), kubectl=True)
    assert (await kubectl.version()).endswith(" (in kubectl)")


async def test_a_program_that_went_away_is_a_matter_of_time(artifact, tmp_path):
    artifact.put("a.yaml").program = programs.Program(tmp_path / "gone")
    with pytest.raises(Transient, match="is no longer where it was found"):
        await artifact.build()


async def test_builds_of_the_service_lie_where_the_next_start_clears(artifact, wrapped, policy, tmp_path):
    """A process that is killed removes nothing; its Pod's volumes outlive it."""
    settings = replace(Settings(), data_dir=tmp_path / "data", allow_unconfined_builds=True)
    scratch = ArtifactStore(settings).scratch_folder
    seen = tmp_path / "seen"
    render = Renderer(settings, wrapped(f"/bin/ls {scratch} >{seen}").program, folder=scratch)
    await render.build(artifact.put("a.yaml").root, "d1", policy())
    render.close()
    (left,) = seen.read_text().split()
    assert not list(scratch.iterdir())
    (scratch / left / "tree").mkdir(parents=True)
    assert not list(ArtifactStore(settings).scratch_folder.iterdir())
