"""Without a destination the objects go to the hub itself."""

from __future__ import annotations

from typing import Any

import yaml


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


async def test_an_application_without_destination_is_applied_to_the_hub(story: Any) -> None:
    """G31: one child, web-0-currentcluster-host; the members get nothing; deletion prunes the hub."""
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, fleet=None)
    await story.applied(await repository.commit_of(), "web-0-currentcluster-host")
    sync = await story.sync("web-0-currentcluster-host")
    assert sync["spec"]["cluster"] == {"kind": "currentCluster", "name": "host"}
    assert (await story.config_map("hub", "a"))["data"] == {"version": "1"}
    assert await story.config_map("m1", "a") is None
    await story.row("web-0-currentcluster-host", ready="True")

    second = await repository.commit({"a.yaml": None, "b.yaml": config_map("b")})
    await story.request("1")
    await story.applied(second)
    assert await story.config_map("hub", "a") is None
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await story.config_map("hub", "b") is None


async def test_a_service_account_limits_what_is_done_on_the_hub(story: Any) -> None:
    """G31 and Tenancy: serviceAccountName is one of the Application's namespace, and its rights are what counts."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.start()
    fields = {"targetNamespace": story.namespace, "serviceAccountName": "deployer"}
    await story.application(repository, fields, fleet=None)
    row = await story.row("web-0-currentcluster-host", ready="False", message="forbidden")
    assert f"system:serviceaccount:{story.namespace}:deployer" in row["message"]
    assert await story.config_map("hub", "a") is None

    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "deployer"}}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
    await story.apply(role | {"rules": rules})
    await story.apply(
        role
        | {
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
            "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": story.namespace}],
        }
    )
    await story.row("web-0-currentcluster-host", ready="True")

    elsewhere = config_map("b").replace("name: b", "name: b\n  namespace: default")
    commit = await repository.commit({"a.yaml": None, "b.yaml": elsewhere})
    await story.application(repository, {"serviceAccountName": "deployer"}, fleet=None)
    await story.request("1")
    row = await story.row("web-0-currentcluster-host", ready="False", message='in the namespace "default"')
    assert row["kustomizationStatus"]["lastAttemptedRevision"].endswith(commit)
    assert await story.config_map("hub", "b", "default") is None


async def test_a_default_service_account_is_used_where_a_policy_names_none(story: Any) -> None:
    """Tenancy: --default-service-account makes impersonation the rule, on the hub and on members."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start(default_service_account="tenant")
    await story.application(repository, {"targetNamespace": story.namespace})
    row = await story.row("web-0-attachedcluster-m1", ready="False", message="forbidden")
    assert f"system:serviceaccount:{story.namespace}:tenant" in row["message"]
    assert await story.config_map("m1", "a") is None


async def test_t32_content_that_would_give_rights_to_the_controller_is_refused_whole(story: Any) -> None:
    """A binding for the controller's account and a ClusterSync of its own making: none is applied."""
    api_group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{api_group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "more"},
        "roleRef": {"apiGroup": api_group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "fleet-rollout-controller", "namespace": story.namespace}],
    }
    repository = await story.git_repo({"a.yaml": config_map("a"), "b.yaml": yaml.safe_dump(binding)})
    await story.start()
    await story.application(repository, {"targetNamespace": story.namespace}, fleet=None)
    await story.sync_condition("web-0-currentcluster-host", "Ready", "False", "HostObjectRefused")
    assert await story.config_map("hub", "a") is None
    sync = {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "ClusterSync",
        "metadata": {"name": "forged"},
        "spec": {
            "application": "web",
            "policy": "web-0",
            "cluster": {"kind": "currentCluster", "name": "host"},
            "kustomization": {"interval": "1h", "prune": True},
        },
    }
    await repository.commit({"b.yaml": yaml.safe_dump(sync)})
    await story.request("1")
    await story.row("web-0-currentcluster-host", ready="False", message="that fleet-rollout itself acts on")
    assert await story.sync("forged") is None
    good = await repository.commit({"b.yaml": None})
    await story.request("2")
    await story.applied(good)
    assert await story.config_map("hub", "a") is not None
