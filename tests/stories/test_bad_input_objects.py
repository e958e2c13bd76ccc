"""What is wrong with a commit, or with one member, is said where it happens and harms nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

ONE, TWO = "web-0-attachedcluster-m1", "web-0-attachedcluster-m2"


def config_map(name: str, **data: Any) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"ports": [{"port": 99999}]}}
COMMITS = [
    ("invalid YAML", {"bad.yaml": "a: [1\nb: }\n"}, "bad.yaml"),
    ("kustomize error", {"kustomization.yaml": "resources: [a.yaml, nowhere.yaml]\n"}, "nowhere.yaml"),
    ("no kind", {"bad.yaml": "apiVersion: v1\nmetadata: {name: bad}\n"}, "bad.yaml"),
    ("invalid object", {"bad.yaml": yaml.safe_dump(SERVICE)}, "Service/{namespace}/bad dry-run failed (Invalid): "),
    ("misspelt field", {"bad.yaml": config_map("bad") + "dataa: {k: v}\n"}, "ConfigMap/{namespace}/bad dry-run failed"),
    (
        "unknown kind",
        {"bad.yaml": "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: bad}\n"},
        'Widget/{namespace}/bad dry-run failed: no matches for kind "Widget" in version "example.com/v1"',
    ),
    (
        "twice",
        {"bad.yaml": config_map("a")},
        "kustomize build failed: ConfigMap/a is there twice: remove one of the two manifests",
    ),
]


@pytest.mark.parametrize(("files", "words"), [case[1:] for case in COMMITS], ids=[case[0] for case in COMMITS])
async def test_a_broken_commit_changes_nothing_and_the_next_one_mends_it(
    story: Any, files: dict[str, str], words: str
) -> None:
    """Bad input: invalid YAML, kustomize error, object rejected by the API server."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace})
    first = await repository.commit_of()
    await story.applied(first, ONE)
    before = await story.sync(ONE)

    await repository.commit({"a.yaml": config_map("a", version="2")} | files)
    await story.request("1")
    failed = await story.sync_condition(ONE, "Ready", "False")
    assert words.format(namespace=story.namespace) in failed["message"]
    assert (await story.config_map("m1", "a"))["data"] == {"version": "1"}
    sync = await story.sync(ONE)
    assert sync["status"]["inventory"] == before["status"]["inventory"]
    assert sync["status"]["lastAppliedRevision"].endswith(first)
    await story.condition("Ready", "False")

    mended = await repository.commit(dict.fromkeys(files) | {"a.yaml": config_map("a", version="3")})
    await story.request("2")
    await story.applied(mended, ONE)
    assert (await story.config_map("m1", "a"))["data"] == {"version": "3"}
    await story.condition("Ready", "True")


async def test_a_member_without_permission_says_so_and_the_others_go_on(story: Any) -> None:
    """Bad input: no permission in the member. Recovery after the fix."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.attach("m1", "m2")
    await story.kubeconfig("m2", story.members["m2"].kubeconfig_for("story-viewer", ["story-viewers"]))
    reader = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": story.namespace},
        "rules": [reader],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": story.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": story.namespace},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "story-viewer"}],
    }
    member = story.members["m2"]
    for obj in (role, binding):
        await member.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(obj))
    try:
        await story.set_fleet(["m1", "m2"])
        await story.start()
        await story.application(repository, {"targetNamespace": story.namespace})
        first = await repository.commit_of()
        await story.applied(first, ONE)
        failed = await story.sync_condition(TWO, "Ready", "False", "ReconciliationFailed")
        assert f"ConfigMap/{story.namespace}/a dry-run failed (Forbidden): " in failed["message"]
        assert 'User "story-viewer" cannot' in failed["message"]

        role["rules"] = [reader, {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
        await member.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(role))
        await story.applied(first, ONE, TWO)
    finally:
        await member.kubectl("delete", "clusterrole,clusterrolebinding", story.namespace)


async def test_a_namespaced_object_without_namespace_names_the_fix(story: Any) -> None:
    """Bad input: no metadata.namespace and no targetNamespace (Flux's text, with the fix)."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository)
    failed = await story.sync_condition(ONE, "Ready", "False", "ReconciliationFailed")
    assert failed["message"].startswith("ConfigMap/a namespace not specified: ")
    assert "targetNamespace" in failed["message"]
    await story.application(repository, {"targetNamespace": story.namespace})
    await story.applied(await repository.commit_of(), ONE)
