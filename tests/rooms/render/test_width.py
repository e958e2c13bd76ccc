"""How many values a build may hold, since two bytes of text take hundreds in memory; and how long it may take."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.render import documents, kustomize, ledger, scan
from fleet_rollout.render.ledger import BUILD_VALUES, DOCUMENT_VALUES, Ledger
from fleet_rollout.render.scan import Scan
from fleet_rollout.render.tree import FILE_LIMIT, Tree
from fleet_rollout.settings import Settings

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: apps}\n"
READERS = [documents.check, documents.load, documents.load_strictly, lambda *given: list(documents.roots(*given))]


async def refusal(artifact, **policy) -> Terminal:
    with pytest.raises(Terminal) as failure:
        await artifact.build(**policy)
    assert failure.value.reason == "BuildLimit"
    return failure.value


@pytest.fixture
def narrow(monkeypatch):
    """Limits that a test reaches at once."""
    monkeypatch.setattr(documents, "DOCUMENT_VALUES", 50)
    monkeypatch.setattr(ledger, "BUILD_VALUES", 100)


@pytest.mark.parametrize("read", READERS)
def test_t18_a_document_of_many_short_values_is_refused_before_it_is_built(read):
    text = b"- a\n" * DOCUMENT_VALUES
    with pytest.raises(Terminal) as failure:
        read(text, "x.yaml")
    assert failure.value.reason == "BuildLimit"
    assert "x.yaml: the document in line 250000 holds more than 250000 values: split it" in failure.value.message


@pytest.mark.parametrize("read", READERS)
def test_t18_so_are_many_documents_and_long_texts(read, narrow):
    for text in (b"--- a\n" * 101, b"[x,x,x,x,x,x,x,x,x,x]\n---\n" * 10, b"--- " + b"x" * 5000 + b"\n"):
        with pytest.raises(Terminal, match=r"x\.yaml: .* holds more than (?:50|100) values"):
            read(text * 3, "x.yaml")


@pytest.mark.parametrize("file", ["manifest", "listed", "kustomization", "patch", "plugin"])
async def test_t18_every_file_of_a_build_counts(artifact, wrapped, narrow, file):
    name = {"kustomization": "kustomization.yaml"}.get(file, "x.yaml")
    artifact.put("a.yaml").add(name, MAP + f"data: [{'x, ' * 60}]\n")
    text = {
        "listed": "resources: [x.yaml]",
        "patch": "resources: [a.yaml]\npatches: [{path: x.yaml}]",
        "plugin": "generators: [x.yaml]",
    }.get(file)
    if text:
        artifact.add("kustomization.yaml", text)
    artifact.program = (wrapper := wrapped()).program
    assert f"{name}: the document in line 4 holds more than 50 values" in (await refusal(artifact)).message
    assert wrapper.runs == 0


async def test_t18_and_all_of_them_together(artifact, narrow):
    for i in range(15):
        artifact.put(f"c{i}.yaml", f"c{i}")
    message = (await refusal(artifact)).message
    assert message.startswith("kustomize build failed: c")
    assert message.endswith(".yaml: with it the build holds more than 100 values: split the policy")


async def test_t18_what_kustomize_makes_of_them_counts_again(artifact, narrow):
    artifact.put("a.yaml").add("kustomization.yaml", "resources: [a.yaml]\nconfigMapGenerator: [{name: b, files: [b]}]")
    message = (await refusal(artifact.add("b", "x" * 128 * 60))).message
    assert "the built manifests: the document in line" in message


async def test_a_file_is_counted_once_however_often_it_is_met(artifact, narrow):
    artifact.put("a.yaml").add("plugin.yaml", "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: p}\n")
    folders = [f"f{i}" for i in range(5)]
    for folder in folders:
        artifact.add(f"{folder}/kustomization.yaml", "transformers: [../plugin.yaml, ../plugin.yaml]")
    artifact.add("kustomization.yaml", f"resources: [a.yaml]\ncomponents: [{', '.join(folders)}]")
    look = Scan(Tree(artifact.root))
    look.visit("", {"resources": ["a.yaml"], "components": folders}, "kustomization.yaml")
    assert look.ledger.values < 60


@pytest.mark.parametrize("field", ["generators", "transformers"])
async def test_t12_a_plugin_named_a_thousand_times_is_read_once(artifact, monkeypatch, field):
    artifact.add("g.yaml", "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: g}\n")
    reads = []
    monkeypatch.setattr(scan, "load_strictly", lambda *each: reads.append(each) or documents.load_strictly(*each))
    Scan(Tree(artifact.root)).visit("", {field: ["g.yaml"] * 1000}, "kustomization.yaml")
    assert len(reads) == 1


async def test_t12_a_manifest_named_a_thousand_times_is_not_copied_as_often(artifact, policy, tmp_path):
    artifact.add("a.yaml", MAP).add("kustomization.yaml", f"resources: [{'a.yaml, ' * 1000}]")
    (root := tmp_path / "root").mkdir()
    assert kustomize.prepare(Tree(artifact.root), policy(), root).folders == [""]
    assert sorted(path.name for path in (root / "tree").iterdir()) == ["a.yaml", "kustomization.yaml"]


async def test_t18_a_file_that_stands_for_more_text_than_it_holds_is_no_kustomization(artifact):
    row = f"metadata: {{annotations: {{a: &a {'x' * 300_000}, b: [{'*a, ' * 100}]}}}}\n"
    with pytest.raises(Terminal, match="aliases stand for more than 100000 values"):
        await artifact.put("a.yaml").add("kustomization.yaml", "resources: [a.yaml]\n" + row).build()


async def test_t16_a_file_is_read_up_to_a_limit(artifact):
    artifact.add("a.yaml", MAP + "#" * FILE_LIMIT)
    assert f"a.yaml is larger than {FILE_LIMIT} bytes: split it" in (await refusal(artifact)).message


async def test_t12_the_output_of_all_portions_together_has_an_end(artifact):
    for i in range(450):
        artifact.put(f"a{i:04}.yaml", f"c{i}")
    with pytest.raises(Terminal, match="prints more than 25000 bytes"):
        await artifact.build(replace(Settings(), render_output=25_000))


@pytest.mark.parametrize("read", READERS)
def test_t12_reading_has_an_end_in_time_too(read):
    times = iter([0.0, *[1.0] * 3, *[61.0] * 1000])
    with pytest.raises(Transient) as failure:
        read(b"--- a\n" * 3000, "x.yaml", Ledger(60, lambda: next(times)))
    assert failure.value.reason == "BuildLimit"
    assert "did not finish within 60s: split the policy, or raise --render-timeout" in failure.value.message


@pytest.mark.parametrize("stage", ["prepare", "parse"])
async def test_t12_before_kustomize_and_after_it(artifact, monkeypatch, stage):
    real = getattr(kustomize, stage)

    def slow(*given, **named):
        time.sleep(1.1)
        return real(*given, **named)

    monkeypatch.setattr(kustomize, stage, slow)
    with pytest.raises(Transient, match="did not finish within 1s"):
        await artifact.put("a.yaml").build(replace(Settings(), render_timeout=1.0))


def test_t18_directives_that_cost_the_square_of_their_number_are_refused():
    text = b"".join(b"%%TAG !a%d! tag:x\n" % i for i in range(100_000)) + b"--- a\n"
    for data in (text, text.decode().encode("utf-16")):
        with pytest.raises(Terminal, match="more than 1000 %TAG directives"):
            documents.load(data, "x")


def test_a_bundle_of_crds_of_5_mb_is_within_the_limits():
    """At 80,000 values a megabyte, the densest of those that were measured."""
    crd = "x-kubernetes:\n" + "".join(f"- {{type: string, n: {i}}}\n" for i in range(3000))
    text = "---\n".join([crd] * 66).encode()
    assert len(text) > 4_900_000
    documents.check(text, "crds.yaml", own := Ledger())
    assert own.values > 80_000 * 5


# One character in each text that makes Python keep four bytes for all; together just below `render_output`.
WIDE = '"\U0001f600' + "x" * 50 + '"'
PEAK = """
import sys
from pathlib import Path
from fleet_rollout.render.kustomize import prepare
from fleet_rollout.render.ledger import Ledger
from fleet_rollout.render.objects import compacted, parse
from fleet_rollout.render.tree import Tree
from fleet_rollout_api.kustomization import KustomizationSpec

def most():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

before = most()
if sys.argv[1] == "prepare":
    spec = KustomizationSpec.model_validate({"interval": "5m", "prune": True})
    prepare(Tree(Path(sys.argv[2])), spec, Path(sys.argv[3]))
else:
    kept = compacted(parse([path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())], ledger := Ledger()))
    assert ledger.values > 990_000
print(most() - before)
"""


@pytest.mark.parametrize(
    ("stage", "value", "most"),
    [("prepare", WIDE, 300), ("finish", "{}", 400), ("finish", WIDE, 1000)],
    ids=["prepare-wide", "finish-empty", "finish-wide"],
)
def test_t18_the_largest_build_that_is_accepted_takes_bounded_memory(artifact, tmp_path, stage, value, most):
    """In MiB above what the process has anyway; the figures of the ledger are from here (`pytest -rP`)."""
    data = ", ".join([value] * (DOCUMENT_VALUES - 100))
    for i in range(BUILD_VALUES // DOCUMENT_VALUES):
        artifact.add(f"c{i}.yaml", f"apiVersion: v1\nkind: A\nmetadata: {{name: c{i}}}\ndata: [{data}]\n")
    (tmp_path / "root").mkdir()
    command = [sys.executable, "-c", PEAK, stage, artifact.root, tmp_path / "root"]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{stage}, {value[:9]}: {taken} MiB")
    assert taken < most
