"""What is built from a folder: its own kustomization or a generated one, with the policy merged in."""

from __future__ import annotations

import pytest

from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.render.kustomization_file import base, merge
from fleet_rollout.render.tree import Tree

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: apps, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "registry.example/web:1"}]
      volumes: [{name: c, configMap: {name: settings}}]
"""


@pytest.mark.parametrize("path", ["./missing", "missing/deeper", "../outside"])
async def test_g11_a_missing_path_is_said_in_flux_words(artifact, path):
    with pytest.raises(Transient) as failure:
        await artifact.put("a.yaml").build(path=path)
    assert failure.value.reason == "ArtifactFailed"
    assert failure.value.message == f"kustomization path not found: stat {path}: no such file or directory"


async def test_a_path_that_is_a_file_is_said(artifact):
    with pytest.raises(Transient, match=r"^kustomization path is no folder: a\.yaml"):
        await artifact.put("a.yaml").build(path="a.yaml")


async def test_g12_a_folder_without_kustomization_is_walked(artifact, named):
    artifact.put("a/deploy.yaml", "a").put("c/d/svc.yml", "svc", kind="Service")
    artifact.add("b/kustomization.yaml", "resources: [x.yaml]").put("b/x.yaml", "x").put("b/y.yaml", "y")
    artifact.add("readme.md", "# no").add("values.json", '{"no": 1}')
    assert base(Tree(artifact.root), "")["resources"] == ["./a/deploy.yaml", "./b", "./c/d/svc.yml"]
    assert named(await artifact.build()) == ["ConfigMap/apps/a", "ConfigMap/apps/x", "Service/apps/svc"]


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ("replicas: 1\n", "kind"),
        ("kind: Thing\nmetadata: {}\n", "metadata.name"),
        ("- kind: A\n", "kind"),
        ("kind: A\n", "metadata.name"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nx: 1\n", "kind"),
    ],
)
async def test_g12_a_stray_values_file_fails_the_build(artifact, content, missing):
    with pytest.raises(Terminal) as failure:
        await artifact.put("a.yaml").add("chart/values.yaml", content).build()
    assert failure.value.reason == "BuildFailed"
    assert f"failed to decode Kubernetes YAML from chart/values.yaml: {missing} is missing" in failure.value.message


async def test_a_list_needs_no_name_and_is_opened(artifact, named):
    artifact.add(
        "all.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}"
    )
    assert named(await artifact.build()) == ["Secret/s"]


async def test_g13_a_folder_without_manifests_is_an_empty_build_without_kustomize(artifact, wrapped):
    artifact.program = (wrapper := wrapped("exit 1")).program
    assert await artifact.add("README.md", "kept").build() == ()
    assert wrapper.runs == 0


@pytest.mark.parametrize("content", ["resources: []\n", "{}\n", "namePrefix: p-\n"])
async def test_g13_a_kustomization_without_resources_is_an_empty_build(artifact, content):
    assert await artifact.add("kustomization.yaml", content).build() == ()


@pytest.mark.parametrize("name", ["kustomization.yaml", "kustomization.yml", "Kustomization"])
async def test_every_name_of_a_kustomization_is_recognised(artifact, named, name):
    artifact.add(f"app/{name}", "resources: [x.yaml]").put("app/x.yaml", "x").put("app/y.yaml", "y")
    assert named(await artifact.build(path="./app/")) == ["ConfigMap/apps/x"]


async def test_two_kustomizations_in_one_folder_are_refused(artifact):
    artifact.add("app/kustomization.yaml", "resources: []").add("app/Kustomization", "resources: []")
    with pytest.raises(Terminal, match=r"app: found multiple kustomization files: kustomization\.yaml, Kustomization"):
        await artifact.build(path="app")


async def test_g25_all_that_a_policy_lays_over_a_folder(artifact):
    artifact.add("deploy.yaml", DEPLOYMENT).put("settings.yaml", "settings").put(
        "ns.yaml", "apps", kind="Namespace", namespace=""
    )
    objects = await artifact.build(
        targetNamespace="t",
        namePrefix="p-",
        commonMetadata={"labels": {"team": "blue"}, "annotations": {"note": "n"}},
        images=[{"name": "registry.example/web", "newTag": "2"}],
        patches=[
            {
                "patch": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: any}\nspec: {replicas: 3}",
                "target": {"labelSelector": "app=web"},
            }
        ],
    )
    by_kind = {each["kind"]: each for each in objects}
    deployment, template = by_kind["Deployment"], by_kind["Deployment"]["spec"]["template"]
    assert {each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"} == {"t"}
    assert by_kind["Namespace"]["metadata"]["name"] == "t"
    assert deployment["metadata"]["name"] == "p-web"
    assert (
        template["spec"]["volumes"][0]["configMap"]["name"] == by_kind["ConfigMap"]["metadata"]["name"] == "p-settings"
    )
    assert template["spec"]["containers"][0]["image"] == "registry.example/web:2"
    assert deployment["spec"]["replicas"] == 3
    assert all(each["metadata"]["labels"]["team"] == "blue" for each in objects)
    assert all(each["metadata"]["annotations"] == {"note": "n"} for each in objects)
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": "web"}}
    assert template["metadata"]["labels"] == {"app": "web"}


async def test_common_metadata_wins_over_the_manifest(artifact):
    artifact.add("a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: {x: git, y: git}}\n")
    (secret,) = await artifact.build(commonMetadata={"labels": {"x": "policy"}})
    assert secret["metadata"]["labels"] == {"x": "policy", "y": "git"}


async def test_a_policy_wins_over_the_kustomization(artifact, named):
    artifact.put("a.yaml").add(
        "kustomization.yaml", "resources: [a.yaml]\nnamespace: git\nnamePrefix: git-\nnameSuffix: -git\n"
    )
    assert named(await artifact.build(targetNamespace="t", nameSuffix="-x")) == ["ConfigMap/t/git-a-x"]


async def test_components_of_a_policy_are_found_beside_its_path(artifact, named):
    artifact.put("app/a.yaml").put("parts/extra/b.yaml", "b").add(
        "parts/extra/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [b.yaml]\n",
    )
    assert named(await artifact.build(path="app", components=["../parts/extra"])) == [
        "ConfigMap/apps/a",
        "ConfigMap/apps/b",
    ]


@pytest.mark.parametrize("component", ["/etc", "https://h/x", "git@h:x/y", "github.com/a/b"])
async def test_a_component_must_be_local_and_relative(artifact, component):
    with pytest.raises(Terminal, match=f"component path '{component}' must be local and relative"):
        await artifact.put("a.yaml").build(components=[component])


@pytest.mark.parametrize(
    ("own", "image", "merged"),
    [
        ([], {"name": "a", "newTag": "2"}, [{"name": "a", "newTag": "2"}]),
        ([{"name": "b"}], {"name": "a", "digest": "d"}, [{"name": "b"}, {"name": "a", "digest": "d"}]),
        (
            [{"name": "a", "newName": "x", "newTag": "1"}],
            {"name": "a", "newTag": "2"},
            [{"name": "a", "newName": "x", "newTag": "2"}],
        ),
        (
            [{"name": "a", "newName": "x", "newTag": "1"}],
            {"name": "a", "digest": "d"},
            [{"name": "a", "newName": "x", "digest": "d"}],
        ),
        (
            [{"name": "a", "newTag": "1", "digest": "d"}],
            {"name": "a", "newName": "y"},
            [{"name": "a", "newName": "y", "newTag": "1", "digest": "d"}],
        ),
    ],
)
def test_images_are_merged_by_name(policy, own, image, merged):
    before = {"images": own, "resources": ["x"]}
    assert merge(before, policy(images=[image]))["images"] == merged


def test_merging_leaves_the_kustomization_as_it_was(policy):
    own = {"resources": ["x"], "patches": [{"path": "p"}], "images": [{"name": "a", "newTag": "1"}]}
    merge(own, policy(patches=[{"patch": "x"}], images=[{"name": "a", "newTag": "2"}], components=["c"]))
    assert own == {"resources": ["x"], "patches": [{"path": "p"}], "images": [{"name": "a", "newTag": "1"}]}


def test_patches_and_components_of_a_policy_come_last(policy):
    own = {"resources": ["x"], "patches": [{"path": "p"}], "components": ["own"]}
    merged = merge(own, policy(patches=[{"patch": "x", "target": {"kind": "A"}}], components=["c"]))
    assert merged["patches"] == [{"path": "p"}, {"patch": "x", "target": {"kind": "A"}}]
    assert merged["components"] == ["own", "c"]


@pytest.mark.parametrize(("own", "added"), [({"resources": []}, True), ({}, True), ({"bases": ["b"]}, False)])
def test_an_empty_list_of_resources_gets_flux_build_metadata(policy, own, added):
    assert (merge(own, policy()).get("buildMetadata") == ["originAnnotations"]) is added
