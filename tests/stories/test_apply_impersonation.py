"""A policy's service account: the member's RBAC decides what the policy may do."""

from __future__ import annotations

from typing import Any

import yaml

SYNC = "web-0-attachedcluster-m1"
RULES = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]


def config_map(name: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})


async def allow(story: Any, account: str) -> None:
    """A Role and its RoleBinding on the member, for a service account of the Application's namespace."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    metadata = {"name": "story", "namespace": story.namespace}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": story.namespace}
    role_ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "story"}
    await story.apply(rbac | {"kind": "Role", "metadata": metadata, "rules": RULES}, story.members["m1"])
    binding = rbac | {"kind": "RoleBinding", "metadata": metadata, "roleRef": role_ref, "subjects": [subject]}
    await story.apply(binding, story.members["m1"])


async def refused(story: Any, account: str) -> None:
    failed = await story.sync_condition(SYNC, "Ready", "False", "ReconciliationFailed")
    user = f"system:serviceaccount:{story.namespace}:{account}"
    assert f"ConfigMap/{story.namespace}/a dry-run failed (Forbidden): " in failed["message"]
    assert f'User "{user}" cannot' in failed["message"]


async def gone(story: Any) -> None:
    await story.delete("applications", "web")

    async def is_gone() -> bool:
        return await story.hub.api.find(story.path("applications", "web")) is None

    await story.until(is_gone)
    assert await story.config_map("m1", "a") is None


async def test_a_policy_acts_as_its_service_account_and_is_refused_without_rights(story: Any) -> None:
    """Ruling "Tenancy", trust class of T29: what the account may not do is not done by the controller's rights."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1", "m2")
    await story.start()
    plain = {"targetNamespace": story.namespace}
    await story.application(repository, plain | {"serviceAccountName": "deployer"})
    await refused(story, "deployer")
    assert await story.config_map("m1", "a") is None

    await allow(story, "deployer")
    await story.applied(await repository.commit_of(), SYNC)
    await gone(story)


async def test_t29_what_a_lost_member_still_had_is_pruned_as_the_account_too(story: Any) -> None:
    """Nobody's kubeconfig may delete later what the policy's account may not delete."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start(member_check_interval=0.3)
    await allow(story, "deployer")
    await story.application(repository, {"targetNamespace": story.namespace, "serviceAccountName": "deployer"})
    await story.applied(await repository.commit_of(), SYNC)
    await story.delete("secrets", "m1-kubeconfig")

    async def is_lost() -> bool:
        status = (await story.hub.api.get(story.path("attachedclusters", "m1")))["status"]
        return status["ready"] is False

    await story.until(is_lost)
    await story.delete("applications", "web")
    await story.gone("applications", "web")

    member = story.members["m1"]
    await member.api.delete(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{story.namespace}/rolebindings/story")
    await story.kubeconfig("m1", member.kubeconfig.read_bytes())

    async def is_refused() -> bool:
        user = f'User "system:serviceaccount:{story.namespace}:deployer" cannot'
        return any(user in message for _, _, message in await story.events("m1", "AttachedCluster"))

    await story.until(is_refused)
    assert await story.config_map("m1", "a") is not None

    await allow(story, "deployer")

    async def is_pruned() -> bool:
        return await story.config_map("m1", "a") is None

    await story.until(is_pruned)


async def test_without_a_service_account_the_default_one_is_used(story: Any) -> None:
    """Ruling "Tenancy": --default-service-account is the rule everywhere."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1")
    await story.start(default_service_account="tenant")
    await story.application(repository, {"targetNamespace": story.namespace})
    await refused(story, "tenant")
    await allow(story, "tenant")
    await story.applied(await repository.commit_of(), SYNC)
    await gone(story)


async def test_in_host_mode_too_the_account_decides(story: Any) -> None:
    """Ruling "Tenancy": on the hub itself, an account of the Application's namespace."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.start()
    policy = {"targetNamespace": story.namespace, "serviceAccountName": "deployer"}
    await story.application(repository, policy, fleet=None)
    failed = await story.sync_condition("web-0-currentcluster-host", "Ready", "False", "ReconciliationFailed")
    assert f'User "system:serviceaccount:{story.namespace}:deployer" cannot' in failed["message"]
    assert await story.config_map("hub", "a") is None


async def test_t31_a_tenant_cannot_loosen_pod_security_of_its_namespace(story: Any) -> None:
    """enforce=privileged in Git, restricted on the namespace: refused, and the label is as it was."""
    where = f"/api/v1/namespaces/{story.namespace}"
    enforce = "pod-security.kubernetes.io/enforce"
    member = story.members["m1"].api
    await member.merge(where, {"metadata": {"labels": {enforce: "restricted"}}})
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": story.namespace, "labels": {enforce: "privileged"}},
    }
    repository = await story.git_repo({"a.yaml": config_map("a"), "namespace.yaml": yaml.safe_dump(namespace)})
    await story.fleet("m1")
    await allow(story, "deployer")
    await story.start()
    policy = {"targetNamespace": story.namespace, "serviceAccountName": "deployer"}
    await story.application(repository, policy | {"commonMetadata": {"labels": {enforce: "privileged"}}})
    failed = await story.sync_condition(SYNC, "Ready", "False", "ReconciliationFailed")
    assert f"Namespace/{story.namespace} dry-run failed (Forbidden)" in failed["message"]
    assert (await member.get(where))["metadata"]["labels"][enforce] == "restricted"
    assert await story.config_map("m1", "a") is None
