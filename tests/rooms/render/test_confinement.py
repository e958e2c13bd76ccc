"""What a kustomization may not do: read outside the artifact, run programs, reach the network, exhaust the machine."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.render.program import Program
from fleet_rollout.render.scan import Scan
from fleet_rollout.render.tree import Tree
from fleet_rollout.settings import Settings

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: apps}\n"
PATCH = "- {op: add, path: /data, value: {x: z}}\n"


async def refusal(artifact, **policy) -> Terminal:
    with pytest.raises(Terminal) as failure:
        await artifact.build(**policy)
    assert str(artifact.root) not in failure.value.message
    return failure.value


def plugin(kind: str, **fields) -> str:
    """The configuration of a built-in plugin, inline, as an entry of generators or transformers."""
    return str({"apiVersion": "builtin", "kind": kind, "metadata": {"name": "x"}, **fields})


# Every way to name a file, with the field that the error must name. `%` stands for the file.
REFERENCES = [
    ("resources: [%]", "resources[0]"),
    ("bases: [%]", "bases[0]"),
    ("components: [%]", "components[0]"),
    ("crds: [%]", "crds[0]"),
    ("configurations: [%]", "configurations[0]"),
    ("openapi: {path: %}", "openapi.path"),
    ("patches: [{path: %}]", "patches[0].path"),
    ("patchesJson6902: [{path: %, target: {kind: ConfigMap, name: a, version: v1}}]", "patchesJson6902[0].path"),
    ("patchesStrategicMerge: [%]", "patchesStrategicMerge[0]"),
    ("replacements: [{path: %}]", "replacements[0].path"),
    ("configMapGenerator: [{name: g, files: [%]}]", "configMapGenerator[0].files[0]"),
    ("configMapGenerator: [{name: g, files: [key=%]}]", "configMapGenerator[0].files[0]"),
    ("configMapGenerator: [{name: g, envs: [%]}]", "configMapGenerator[0].envs[0]"),
    ("configMapGenerator: [{name: g, env: %}]", "configMapGenerator[0].env"),
    ("secretGenerator: [{name: g, files: [%]}]", "secretGenerator[0].files[0]"),
    ("secretGenerator: [{name: g, envs: [%]}]", "secretGenerator[0].envs[0]"),
    ("generators: [%]", "generators[0]"),
    ("transformers: [%]", "transformers[0]"),
    ("validators: [%]", "validators[0]"),
    (f'generators: ["{plugin("ConfigMapGenerator", files=["%"])}"]', "generators[0]: ConfigMapGenerator.files[0]"),
    (f'generators: ["{plugin("SecretGenerator", envs=["%"])}"]', "generators[0]: SecretGenerator.envs[0]"),
    (f'transformers: ["{plugin("PatchTransformer", path="%")}"]', "transformers[0]: PatchTransformer.path"),
    (
        f'transformers: ["{plugin("PatchStrategicMergeTransformer", paths=["%"])}"]',
        "transformers[0]: PatchStrategicMergeTransformer.paths[0]",
    ),
    (
        f'transformers: ["{plugin("ReplacementTransformer", replacements=[{"path": "%"}])}"]',
        "transformers[0]: ReplacementTransformer.replacements[0].path",
    ),
]


@pytest.mark.parametrize(("text", "field"), REFERENCES, ids=[field for _, field in REFERENCES])
@pytest.mark.parametrize("target", ["absolute", "above", "link", "linked folder"])
async def test_t11_no_field_reads_outside_the_artifact(artifact, tmp_path, text, field, target):
    (tmp_path / "secret.yaml").write_text(MAP)
    (artifact.root / "app").mkdir()
    (artifact.root / "app" / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (artifact.root / "app" / "out").symlink_to(tmp_path)
    name = {
        "absolute": str(tmp_path / "secret.yaml"),
        "above": "../../secret.yaml",
        "link": "link.yaml",
        "linked folder": "out/secret.yaml",
    }[target]
    error = await refusal(artifact.add("app/kustomization.yaml", text.replace("%", name)), path="app")
    assert error.reason == "BuildFailed"
    assert error.message.startswith(f"kustomize build failed: app/kustomization.yaml: {field}: '")


@pytest.mark.parametrize(("text", "field"), REFERENCES, ids=[field for _, field in REFERENCES])
async def test_t11_a_base_is_scanned_like_the_folder_of_the_policy(artifact, text, field):
    artifact.add("kustomization.yaml", "resources: [base]").add(
        "base/kustomization.yaml", text.replace("%", "/etc/hostname")
    )
    error = await refusal(artifact)
    assert error.message.startswith(f"kustomize build failed: base/kustomization.yaml: {field}: '/etc/hostname' is an")


async def test_t11_a_file_of_a_neighbour_folder_may_be_read(artifact):
    artifact.add("common/app.properties", "a=b").add("common/patch.yaml", PATCH).put("app/a.yaml").add(
        "app/kustomization.yaml",
        "resources: [a.yaml]\n"
        "configMapGenerator: [{name: g, envs: [../common/app.properties], options: {disableNameSuffixHash: true}}]\n"
        "patches: [{path: ../common/patch.yaml, target: {name: a}}]\n",
    )
    objects = {each["metadata"]["name"]: each for each in await artifact.build(path="app")}
    assert objects["g"]["data"] == {"a": "b"}
    assert objects["a"]["data"] == {"x": "z"}


async def test_t11_kustomize_gets_only_the_files_that_were_looked_at(artifact, wrapped):
    artifact.put("a.yaml").add("kustomization.yaml", "resources: [a.yaml]").add("token", "x").add("other/b.yaml", MAP)
    artifact.program = wrapped('/usr/bin/find . "$HOME" -type f >&2; exit 1').program
    message = (await refusal(artifact)).message
    assert sorted(message.split()[3:]) == ["./a.yaml", "./kustomization.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        "Resources: [/etc/hostname]",
        "configmapgenerator: [{name: g, files: [/etc/hostname]}]",
        "configMapGenerator: [{name: g, Files: [/etc/hostname]}]",
        "configMapGenerator: [{name: g, fileſ: [/etc/hostname]}]",
        "patches: [{PATH: /etc/hostname}]",
        "HelmCharts: [{name: x}]",
        "inventory: {}\nresources: [a.yaml]\nsomething: else",
    ],
)
async def test_t11_fields_in_another_case_are_no_way_around(artifact, text):
    error = await refusal(artifact.put("a.yaml").add("kustomization.yaml", text))
    assert error.reason == "BuildFailed"
    assert "is no field of a kustomization" in error.message


@pytest.mark.parametrize("key", ["Files", "FILES", "fileſ", "Env"])
async def test_t11_nor_are_those_of_plugins(artifact, key):
    artifact.add("kustomization.yaml", "generators: [g.yaml]").add(
        "g.yaml", f"apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {{name: g}}\n{key}: [/etc/hostname]\n"
    )
    error = await refusal(artifact)
    assert f"generators[0]: g.yaml: ConfigMapGenerator.{key}: is no field of this plugin" in error.message


async def test_t11_a_key_given_twice_hides_nothing(artifact):
    error = await refusal(
        artifact.put("a.yaml").add("kustomization.yaml", "resources: [/etc/x]\nresources: [a.yaml]\n")
    )
    assert (error.reason, error.message) == (
        "InvalidYAML",
        "kustomization.yaml: key 'resources' is there twice, from line 1",
    )


async def test_t11_a_built_in_plugin_works_from_file_and_inline(artifact):
    artifact.put("a.yaml").add("data.txt", "hello").add(
        "g.yaml",
        "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: g}\nname: g\nfiles: [data.txt]\n"
        "options: {disableNameSuffixHash: true}\n",
    )
    artifact.add(
        "kustomization.yaml",
        "resources: [a.yaml]\ngenerators: [g.yaml]\ntransformers:\n- |\n  apiVersion: builtin\n"
        "  kind: PrefixTransformer\n  metadata: {name: p}\n  prefix: p-\n  fieldSpecs: [{path: metadata/name}]\n",
    )
    objects = {each["metadata"]["name"]: each for each in await artifact.build()}
    assert set(objects) == {"p-a", "p-g"}
    assert objects["p-g"]["data"] == {"data.txt": "hello"}


@pytest.mark.parametrize("path", ["out", "out/deeper", "app/link"])
async def test_t10_a_path_through_a_link_is_an_escape(artifact, tmp_path, path):
    (tmp_path / "deeper").mkdir()
    artifact.put("app/a.yaml")
    (artifact.root / "out").symlink_to(tmp_path)
    (artifact.root / "app" / "link").symlink_to("/")
    error = await refusal(artifact, path=path)
    assert error.reason == "PathEscape"
    assert path in error.message


async def test_t10_a_path_above_the_root_stays_at_the_root(artifact, named, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "outside.yaml").write_text(MAP)
    assert named(await artifact.put("app/a.yaml", "inside").build(path="../../app")) == ["ConfigMap/apps/inside"]


@pytest.mark.parametrize("climb", ["../../", "/", "../../../../../../../../", "app/../../../"])
async def test_t14_a_path_that_climbs_does_not_tell_what_lies_outside(artifact, climb):
    messages = []
    for path in (f"{climb}etc/passwd", f"{climb}nope"):
        with pytest.raises(Transient) as failure:
            await artifact.put("app/a.yaml").build(path=path)
        assert failure.value.reason == "ArtifactFailed"
        messages.append(failure.value.message.replace(path, "%"))
    assert messages == ["kustomization path not found: stat %: no such file or directory"] * 2


async def test_t14_nor_does_a_file_that_is_named(artifact):
    messages = [
        (await refusal(artifact.add("kustomization.yaml", f"resources: [{name}]"))).message.replace(name, "%")
        for name in ("../../etc/passwd", "../../nope")
    ]
    assert len(set(messages)) == 1, messages


async def test_t10_links_in_a_folder_without_kustomization_are_no_manifests(artifact, tmp_path, named):
    (tmp_path / "outside.yaml").write_text(MAP.replace("name: a", "name: outside"))
    artifact.put("a.yaml")
    (artifact.root / "b.yaml").symlink_to(tmp_path / "outside.yaml")
    assert named(await artifact.build()) == ["ConfigMap/apps/a"]


async def test_t10_a_kustomization_that_is_a_link_is_refused(artifact, tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: []")
    (artifact.root / "kustomization.yaml").symlink_to(tmp_path / "kustomization.yaml")
    assert "is a symbolic link" in (await refusal(artifact)).message


async def test_t10_what_is_no_regular_file_is_refused(artifact):
    os.mkfifo(artifact.root / "pipe.yaml")
    error = await refusal(artifact.add("kustomization.yaml", "resources: [pipe.yaml]"))
    assert "resources[0]: 'pipe.yaml': is no regular file" in error.message


async def test_t12_bases_in_a_cycle_end_in_a_limit(artifact):
    artifact.add("a/kustomization.yaml", "resources: [../b]").add("b/kustomization.yaml", "resources: [../a]")
    error = await refusal(artifact, path="a")
    assert error.reason == "BuildLimit"
    assert "bases refer to each other" in error.message


async def test_t12_so_do_500_bases_in_a_row(artifact):
    for i in range(500):
        artifact.add(f"b{i}/kustomization.yaml", f"resources: [../b{i + 1}]")
    assert (await refusal(artifact.put("b500/a.yaml"), path="b0")).reason == "BuildLimit"


async def test_t12_and_bases_that_double_at_each_step(artifact, wrapped):
    for i in range(30):
        artifact.add(f"b{i}/kustomization.yaml", f"resources: [../b{i + 1}, ../b{i + 1}/]")
    artifact.add("b30/kustomization.yaml", "resources: [a.yaml]").put("b30/a.yaml")
    artifact.program = (wrapper := wrapped()).program
    assert (await refusal(artifact, path="b0")).reason == "BuildLimit"
    assert wrapper.runs == 0


async def test_t12_and_folders_without_end(artifact):
    assert (await refusal(artifact.put("/".join(["d"] * 100) + "/a.yaml"))).reason == "BuildLimit"


@pytest.mark.parametrize(
    ("first", "limit", "kind", "words"),
    [
        ("/bin/sleep 60", {"render_timeout": 0.5}, Transient, "did not finish within 0.5s"),
        ("", {"render_output": 50}, Terminal, "prints more than 50 bytes"),
        ("", {"render_memory": 200 * 1024**2}, Terminal, "needs more than 209715200 bytes of memory"),
        ("kill -9 $$", {}, Terminal, "was ended by signal 9"),
    ],
)
async def test_t12_time_output_and_memory_have_an_end_and_the_next_build_runs(
    artifact, wrapped, kustomize, first, limit, kind, words
):
    artifact.put("a.yaml").program = wrapped(first).program
    with pytest.raises(kind) as failure:
        await artifact.build(replace(Settings(), **limit))
    assert failure.value.reason == "BuildLimit"
    assert words in failure.value.message
    artifact.program = kustomize
    assert len(await artifact.build()) == 1


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("helmCharts: [{name: x, releaseName: '--post-renderer=touch'}]", "helmCharts"),
        ("helmGlobals: {chartHome: charts}", "helmGlobals"),
        ("helmChartInflationGenerator: [{chartName: x, helmBin: /bin/sh}]", "helmChartInflationGenerator"),
        (f'generators: ["{plugin("HelmChartInflationGenerator", name="x")}"]', "generators[0]"),
        (
            'generators: ["{apiVersion: example.org/v1, kind: Tool, metadata: {name: x, annotations: '
            "{config.kubernetes.io/function: 'exec: {path: /bin/sh}'}}}\"]",
            "generators[0]",
        ),
        (
            'transformers: ["{apiVersion: example.org/v1, kind: Tool, metadata: {name: x, annotations: '
            "{config.kubernetes.io/function: 'container: {image: x}'}}}\"]",
            "transformers[0]",
        ),
        (
            'validators: ["{apiVersion: someteam.example.com/v1, kind: Validator, metadata: {name: x}}"]',
            "validators[0]",
        ),
    ],
)
async def test_t13_nothing_that_runs_a_program_is_built(artifact, wrapped, text, field):
    artifact.put("a.yaml").add("kustomization.yaml", f"resources: [a.yaml]\n{text}\n")
    artifact.program = (wrapper := wrapped()).program
    error = await refusal(artifact)
    assert error.reason == "BuildRefused"
    assert f"kustomization.yaml: {field}" in error.message
    assert wrapper.runs == 0


async def test_t13_plugins_from_a_folder_are_refused(artifact):
    artifact.add("kustomization.yaml", "generators: [gen]").add("gen/kustomization.yaml", "resources: []")
    assert "generators[0]: 'gen': is a folder" in (await refusal(artifact)).message


REMOTES = [
    "https://example.org/x.yaml",
    "HTTP://example.org/x.yaml",
    "https:example.org/x",
    "github.com/owner/repo//base?ref=v1",
    "GitHub.com:owner/repo",
    "git@example.org:owner/repo",
    "ssh://git@example.org/owner/repo",
    "git::https://example.org/x",
    "file:///etc",
    "org-123@github.com:owner/repo",
]


@pytest.mark.parametrize("remote", REMOTES)
async def test_remote_bases_are_off(artifact, remote):
    artifact.add("github.com/owner/repo/kustomization.yaml", "resources: []")
    error = await refusal(artifact.add("kustomization.yaml", f"resources: ['{remote}']"))
    assert error.reason == "BuildRefused"
    assert "resources[0]" in error.message


@pytest.mark.parametrize(
    "text", ["crds: ['%']", "patches: [{path: '%'}]", "configMapGenerator: [{name: g, files: ['a=%']}]"]
)
async def test_remote_files_are_always_refused(artifact, text):
    artifact.add("kustomization.yaml", text.replace("%", "https://example.org/x"))
    with pytest.raises(Terminal) as failure:
        await artifact.build(replace(Settings(), allow_remote_bases=True))
    assert failure.value.reason == "BuildRefused"


@pytest.mark.parametrize("remote", REMOTES)
def test_remote_bases_pass_the_scan_where_they_are_allowed_but_not_the_hubs_files(artifact, remote):
    scan = Scan(Tree(artifact.root), allow_remote=True)
    if remote.startswith("file:"):
        with pytest.raises(Terminal, match="is a remote base"):
            scan.visit("", {"resources": [remote]}, "kustomization.yaml")
    else:
        scan.visit("", {"resources": [remote]}, "kustomization.yaml")
        assert scan.remote


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
BAD_YAML = {
    "alias bomb": MAP + BOMB,
    "depth 5,000": MAP + "data: " + "[" * 5000 + "]" * 5000,
    "depth 500,000": MAP + "data: " + "[" * 500_000 + "]" * 500_000,
    "block depth": MAP + "data:\n" + "- " * 5000 + "x",
    "alias of itself": MAP + "data: &a [*a]",
    "unfinished": MAP + "data: [",
    "control character": MAP + "data: \x07",
    "not UTF-8": MAP.encode() + b"data: {a: \xc3\x28}",
}


@pytest.mark.parametrize("bad", BAD_YAML.values(), ids=BAD_YAML)
@pytest.mark.parametrize("file", ["manifest", "listed", "kustomization", "patch"])
async def test_t18_bombs_and_broken_yaml_name_the_file(artifact, bad, file, wrapped):
    name = {"manifest": "x.yaml", "listed": "x.yaml", "kustomization": "kustomization.yaml", "patch": "x.yaml"}[file]
    text = {"listed": "resources: [x.yaml]", "patch": "resources: [a.yaml]\npatches: [{path: x.yaml}]"}.get(file)
    artifact.put("a.yaml").add(name, bad)
    if text:
        artifact.add("kustomization.yaml", text)
    artifact.program = (wrapper := wrapped()).program
    error = await refusal(artifact)
    assert error.reason == "InvalidYAML"
    assert error.message.startswith(f"{name}: ")
    assert "\x07" not in error.message
    assert wrapper.runs == 0


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [x]", "!!python/name:os.system"])
async def test_t18_tags_run_nothing(artifact, tag):
    error = await refusal(artifact.add("kustomization.yaml", f"namePrefix: {tag}"))
    assert error.reason == "InvalidYAML"


async def test_t18_yaml_deep_inside_a_patch_of_the_policy_ends_in_an_error(artifact):
    patch = "[{op: add, path: /data, value: " + "[" * 3000 + "]" * 3000 + "}]"
    error = await refusal(artifact.put("a.yaml"), patches=[{"patch": patch, "target": {"name": "a"}}])
    assert error.reason in ("InvalidYAML", "BuildFailed", "BuildLimit")


async def test_the_environment_of_the_hub_does_not_reach_kustomize(artifact, wrapped, monkeypatch):
    monkeypatch.setenv("FLEET_ROLLOUT_CANARY", "canary-value")
    artifact.put("a.yaml").program = wrapped("/usr/bin/env >&2; exit 1").program
    message = (await refusal(artifact)).message
    assert "canary-value" not in message
    assert "HOME=" in message
    assert f"HOME={os.environ.get('HOME')} " not in message


async def test_kubectl_builds_the_same(artifact, named):
    from fleet_rollout.lab import binaries

    artifact.put("a.yaml").add("kustomization.yaml", "resources: [a.yaml]\nnamePrefix: p-")
    artifact.program = Program(binaries.require("kubectl"), kubectl=True)
    assert named(await artifact.build()) == ["ConfigMap/apps/p-a"]
