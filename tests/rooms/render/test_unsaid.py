"""What kustomize says of a build that holds Secrets: it quotes what it cannot read, and that must not be repeated."""

from __future__ import annotations

import pytest

from fleet_rollout.errors import Terminal
from fleet_rollout.render.discretion import HIDDEN, reduced

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: apps}\nstringData: {password: hunter2}\n"
PLUGIN = "apiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: x}\nliterals: [a=b, hunter2]\n"


async def told(artifact, **policy) -> str:
    with pytest.raises(Terminal) as failure:
        await artifact.build(**policy)
    assert "hunter2" not in failure.value.message
    return failure.value.message.removeprefix("kustomize build failed: ")


@pytest.mark.parametrize("literal", ["hunter2", "=hunter2", "hunter2 again"])
async def test_t21_a_literal_without_a_key_is_named_by_its_place(artifact, wrapped, literal):
    artifact.add("kustomization.yaml", f"secretGenerator: [{{name: g, literals: [a=b, '{literal}']}}]")
    artifact.program = (wrapper := wrapped()).program
    fact = "kustomization.yaml: secretGenerator[0].literals[1]: is not of the form key=value"
    assert await told(artifact) == fact
    assert wrapper.runs == 0


INLINE = '"{apiVersion: builtin, kind: SecretGenerator, metadata: {name: x}, literals: [a=b, hunter2]}"'


@pytest.mark.parametrize("entry", ["g.yaml", INLINE])
async def test_t21_so_is_one_of_a_plugin(artifact, entry):
    artifact.add("g.yaml", PLUGIN)
    artifact.add("kustomization.yaml", f"generators: [{entry}]")
    message = await told(artifact)
    assert message.startswith("kustomization.yaml: generators[0]: ")
    assert message.endswith("SecretGenerator.literals[1]: is not of the form key=value")


async def test_literals_with_a_key_are_built_as_before(artifact):
    artifact.add("kustomization.yaml", "secretGenerator: [{name: g, literals: ['a=', 'b=c=d', \"e='f'\"]}]")
    assert (await artifact.build())[0]["data"] == {"a": "", "b": "Yz1k", "e": "Zg=="}


# What stands in kustomization.yaml beside the Secret, and what is still told of kustomize's complaint.
COMPLAINTS = {
    "a patch that is a text": ('patches: [{target: {name: s}, patch: "hunter2"}]', "trouble configuring builtin"),
    "a patch without a kind": (
        'patches: [{target: {name: s}, patch: "stringData: {password: [hunter2, x], b: `hunter2`}"}]',
        f"unable to parse SM or JSON patch from {HIDDEN}",
    ),
    "a patch of many lines": (
        "patches:\n- target: {name: s}\n  patch: |\n    stringData:\n      a: |\n        x]\n        hunter2\n",
        "unable to parse SM or JSON patch",
    ),
    "a patch in a file": ("patches: [{path: p.yaml}]", f"unable to parse SM or JSON patch from {HIDDEN}"),
    "a path that is not there": (
        'patches: [{target: {name: s}, patch: "- {op: replace, path: /stringData/no/x, value: hunter2}"}]',
        "replace operation does not apply: doc is missing path: /stringData/no/x: missing value",
    ),
    "another Secret": (
        "patches: [{patch: '{apiVersion: v1, kind: Secret, metadata: {name: o}, stringData: {a: hunter2}}'}]",
        "no matches for Id Secret.v1.[noGrp]/o.[noNs]; failed to find unique target for patch",
    ),
    "an operation that is none": (
        'patches: [{target: {name: s}, patch: "- {op: hunter2, path: /stringData/a, value: x}"}]',
        f"Unexpected kind: {HIDDEN}",
    ),
    "a replacement": (
        "replacements: [{source: {kind: Secret, name: s, fieldPath: stringData.password.x},"
        " targets: [{select: {kind: Secret}, fieldPaths: [stringData.a]}]}]",
        f"wrong node kind: expected MappingNode but got ScalarNode: node contents: {HIDDEN}",
    ),
    "a field of another type": ("images: hunter2", "cannot unmarshal string into Go struct field Kustomization.images"),
}


@pytest.mark.parametrize(("text", "fact"), COMPLAINTS.values(), ids=COMPLAINTS)
async def test_t21_kustomize_quotes_no_secret(artifact, text, fact):
    artifact.add("s.yaml", SECRET).add("p.yaml", "stringData: {password: hunter2}\n")
    message = await told(artifact.add("kustomization.yaml", f"resources: [s.yaml]\n{text}\n"))
    assert fact in message


async def test_t21_nor_where_the_policy_has_the_patch(artifact):
    message = await told(
        artifact.put("a.yaml"), patches=[{"patch": "kind: Secret\npassword: hunter2\n", "target": {"kind": "Secret"}}]
    )
    assert "unable to parse SM or JSON patch" in message


async def test_t21_a_password_that_yaml_takes_for_an_alias_is_not_quoted(artifact):
    text = SECRET.replace("password: hunter2", "password: *hunter2")
    assert "a.yaml: the alias in line 4 is unknown" in await told(artifact.add("a.yaml", text))


async def test_without_a_secret_everything_is_told(artifact):
    artifact.put("a.yaml").add("kustomization.yaml", 'resources: [a.yaml]\npatches: [{patch: "word", target: {}}]')
    with pytest.raises(Terminal) as failure:
        await artifact.build()
    assert 'unable to parse SM or JSON patch from [patch: "word"]' in failure.value.message


async def test_names_of_files_lines_and_fields_are_told_with_a_secret_too(artifact):
    artifact.add("base/s.yaml", SECRET).add("base/b.yaml", "kind: ConfigMap\nmetadata: {}\ndata: {a: hunter2}\n")
    message = await told(artifact.add("base/kustomization.yaml", "resources: [s.yaml, b.yaml]"), path="base")
    assert "accumulating resources from 'b.yaml': missing metadata.name in object" in message
    line = 'map[string]interface {}(nil): yaml: unmarshal errors: line 4: mapping key "stringData" already defined'
    assert reduced(line, ()) == line


@pytest.mark.parametrize("content", ["4", "a.b", "/9j/4AAQ", "Secret.v1", "line", "pa-ss_w0rd", "[x]", "data2", "x=y"])
def test_what_only_resembles_a_name_is_not(content):
    shown = reduced(f"invalid literal source {content}, expected key=value", ["line.yaml"])
    is_word = content == "line"
    assert (content in shown.partition(" (")[0]) is is_word


async def test_what_kubectl_logs_around_a_complaint_of_many_lines_is_left_out(artifact, wrapped):
    lines = r'E1127 12:00:00.000000 1 run.go:72] "command failed" err=<\n\tfirst\n\tsecond\n >\n'
    artifact.put("a.yaml").program = wrapped(f"printf '{lines}' >&2; exit 1").program
    assert (await told(artifact)).split() == ["first", "second"]
