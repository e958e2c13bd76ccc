"""Kubeconfigs: missing, useless, refused, without rights, rotated; and what AttachedCluster.status says of them."""

from __future__ import annotations

import datetime
import json
from typing import Any

import yaml


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def policy(story: Any) -> dict[str, Any]:
    return {"targetNamespace": story.namespace}


async def cluster_ready(story: Any, name: str, ready: bool, reason: str, text: str = "") -> dict[str, Any]:
    """Wait until AttachedCluster.status says so."""

    async def says() -> dict[str, Any] | None:
        status = (await story.hub.api.get(story.path("attachedclusters", name))).get("status") or {}
        condition = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        said = (status.get("ready"), condition.get("reason")) == (ready, reason)
        return condition if said and text in condition["message"] else None

    found: dict[str, Any] = await story.until(says)
    return found


async def test_a_missing_kubeconfig_stops_one_cluster_alone(story: Any) -> None:
    """Bad input: no Secret, then a Secret without the key, then the right one; nobody restarts anything."""
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m1", "m2")
    await story.delete("secrets", "m2-kubeconfig")
    await story.start(member_check_interval=0.5)
    await story.application(repository, policy(story))
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1")
    missing = f"Secret {story.namespace}/m2-kubeconfig not found; create it with the kubeconfig under key value"
    await story.row("web-0-attachedcluster-m2", ready="False", message=missing)
    await cluster_ready(story, "m2", False, "KubeconfigMissing", missing)
    await cluster_ready(story, "m1", True, "Reachable")

    await story.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m2-kubeconfig"}}))
    await cluster_ready(story, "m2", False, "KubeconfigMissing", "has no key value; put the kubeconfig there")
    await story.kubeconfig("m2", story.members["m2"].kubeconfig.read_bytes())
    await cluster_ready(story, "m2", True, "Reachable")
    await story.condition("Ready", "True")


def kubeconfig(story: Any, **changes: Any) -> bytes:
    """The kubeconfig of m1 with changes to its user and cluster."""
    content = json.loads(story.members["m1"].kubeconfig.read_bytes())
    content["users"][0]["user"].update(changes.get("user", {}))
    content["clusters"][0]["cluster"].update(changes.get("cluster", {}))
    return json.dumps(content).encode()


async def test_a_kubeconfig_that_could_do_harm_is_refused(story: Any) -> None:
    """T28: each field gives KubeconfigRefused with its name and the fix; no program runs, no value is shown."""
    proof = story.folder / "ran"
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(proof)]}
    fields: dict[str, tuple[str, dict[str, Any]]] = {
        "exec": ("user.exec", {"user": {"exec": run}}),
        "provider": ("user.auth-provider", {"user": {"auth-provider": {"name": "s3cr3t"}}}),
        "tokenfile": ("user.tokenFile", {"user": {"tokenFile": "/s3cr3t"}}),
        "certificate": ("user.client-certificate", {"user": {"client-certificate": "/s3cr3t"}}),
        "key": ("user.client-key", {"user": {"client-key": "/s3cr3t"}}),
        "impersonate": ("user.as", {"user": {"as": "s3cr3t"}}),
        "authority": ("cluster.certificate-authority", {"cluster": {"certificate-authority": "/s3cr3t"}}),
        "proxy": ("cluster.proxy-url", {"cluster": {"proxy-url": "http://s3cr3t.example.com"}}),
        "insecure": ("cluster.insecure-skip-tls-verify", {"cluster": {"insecure-skip-tls-verify": True}}),
        "plain": ("cluster.server", {"cluster": {"server": "http://s3cr3t.example.com"}}),
    }
    for name in fields:
        await story.join(story.members["m1"], name)
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m2", *fields)
    for name, (_, changes) in fields.items():
        await story.kubeconfig(name, kubeconfig(story, **changes))
    await story.start()
    await story.application(repository, policy(story))
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m2")
    for name, (field, _) in fields.items():
        told = f"AttachedCluster/{name}: kubeconfig: {field} is not accepted"
        refused = await cluster_ready(story, name, False, "KubeconfigRefused", told)
        row = await story.row(f"web-0-attachedcluster-{name}", ready="False", message=told)
        assert "s3cr3t" not in json.dumps([refused, row])
    assert not proof.exists()
    assert await story.config_map("m1", "a") is None


async def test_a_useless_kubeconfig_is_named_and_mended(story: Any) -> None:
    """Bad input: no YAML, a certificate that has expired, credentials that nobody knows."""
    ended = story.members["m1"].kubeconfig_for("late", ["system:masters"], -datetime.timedelta(hours=1))
    cases = {
        "garbled": (b"\x7fELF: {", "KubeconfigInvalid", "not YAML"),
        "expired": (ended, "KubeconfigInvalid", "the client certificate expired at"),
        "unknown": (kubeconfig(story, user={"token": "s3cr3t"}), "ClusterUnreachable", "401"),
    }
    for name in cases:
        await story.join(story.members["m1"], name)
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.fleet("m2", *cases)
    for name, (content, _, _) in cases.items():
        await story.kubeconfig(name, content)
    await story.start(member_check_interval=0.5)
    await story.application(repository, policy(story))
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m2")
    for name, (_, reason, text) in cases.items():
        await cluster_ready(story, name, False, reason, text)
        row = await story.row(f"web-0-attachedcluster-{name}", ready="False", message=text)
        assert "s3cr3t" not in json.dumps(row)

    await story.set_fleet(["m2", "expired"])
    await story.kubeconfig("expired", story.members["m1"].kubeconfig.read_bytes())
    await story.row("web-0-attachedcluster-expired", ready="True")
    await cluster_ready(story, "expired", True, "Reachable")


async def bind(story: Any, user: str, present: bool) -> None:
    """Give a user of m1 all rights, or take them away."""
    name = f"{story.namespace}-{user}"
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    if not present:
        await story.members["m1"].api.delete(f"{path}/{name}")
        return
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    await story.members["m1"].api.apply(f"{path}/{name}", binding)


async def test_a_rotated_kubeconfig_is_noticed_and_the_old_one_used_no_more(story: Any) -> None:
    """Rotation within the check interval; before it, an account that has lost its rights is named."""
    member = story.members["m1"]
    old, new = f"old-{story.namespace}", f"new-{story.namespace}"
    repository = await story.git_repo({"a.yaml": config_map("a", version="1")})
    await story.fleet("m1")
    await story.kubeconfig("m1", member.kubeconfig_for(old))
    await bind(story, old, True)
    try:
        await story.start(member_check_interval=0.5)
        await story.application(repository, policy(story))
        await story.applied(await repository.commit_of())

        await bind(story, old, False)
        forbidden = await cluster_ready(story, "m1", False, "ClusterUnreachable", "forbidden")
        assert old in forbidden["message"]
        await bind(story, new, True)
        await story.kubeconfig("m1", member.kubeconfig_for(new))
        await cluster_ready(story, "m1", True, "Reachable")
        second = await repository.commit({"a.yaml": config_map("a", version="2")})
        await story.request("1")
        await story.applied(second)
        assert (await story.config_map("m1", "a"))["data"] == {"version": "2"}
    finally:
        await bind(story, old, False)
        await bind(story, new, False)


async def test_a_missing_right_is_named_in_the_row(story: Any) -> None:
    """Bad input: no permission in the member; the row says which, and the next try finds it granted."""
    member = story.members["m1"]
    user = f"weak-{story.namespace}"
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    name = f"{story.namespace}-weak"
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    binding = role | {
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    await member.api.apply(f"{rbac}/clusterroles/{name}", role | {"rules": rules})
    await member.api.apply(f"{rbac}/clusterrolebindings/{name}", binding)
    try:
        repository = await story.git_repo({"a.yaml": config_map("a")})
        await story.fleet("m1", "m2")
        await story.kubeconfig("m1", member.kubeconfig_for(user))
        await story.start()
        await story.application(repository, policy(story))
        await story.applied(await repository.commit_of(), "web-0-attachedcluster-m2")
        row = await story.row("web-0-attachedcluster-m1", ready="False", message="forbidden")
        assert user in row["message"]
        assert f'resource "configmaps" in API group "" in the namespace "{story.namespace}"' in row["message"]
        await bind(story, user, True)
        await story.row("web-0-attachedcluster-m1", ready="True")
    finally:
        await bind(story, user, False)
        await member.api.delete(f"{rbac}/clusterrolebindings/{name}")
        await member.api.delete(f"{rbac}/clusterroles/{name}")


CLUSTER_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusters.cluster.kurator.dev"},
    "spec": {
        "group": "cluster.kurator.dev",
        "names": {"kind": "Cluster", "plural": "clusters", "singular": "cluster", "listKind": "ClusterList"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
                "subresources": {"status": {}},
            }
        ],
    },
}


async def test_kurators_clusters_are_read_where_their_kind_exists(story: Any) -> None:
    """A.6, and Kurator's defect 14: the kubeconfig is status.kubeconfigSecretRef's, not the cloud credential's."""
    await story.apply(CLUSTER_CRD)
    await story.hub.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/clusters.cluster.kurator.dev")
    await story.kubeconfig("m1", story.members["m1"].kubeconfig.read_bytes())
    path = f"/apis/cluster.kurator.dev/v1alpha1/namespaces/{story.namespace}/clusters/prod"
    cluster = {"apiVersion": "cluster.kurator.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "prod"}}
    cluster |= {"spec": {"credential": {"secretRef": "cloud"}}}
    await story.hub.api.apply(path, cluster, manager="story")
    fleet = {"apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "fleet"}}
    await story.apply(fleet | {"spec": {"clusters": [{"kind": "Cluster", "name": "prod"}]}})
    repository = await story.git_repo({"a.yaml": config_map("a")})
    await story.start()
    await story.application(repository, policy(story))
    await story.row("web-0-cluster-prod", ready="False", message="Cluster/prod: status.kubeconfigSecretRef is empty")

    await story.hub.api.merge(f"{path}/status", {"status": {"kubeconfigSecretRef": "m1-kubeconfig"}})
    await story.row("web-0-cluster-prod", ready="True")
    assert await story.config_map("m1", "a") is not None
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await story.config_map("m1", "a") is None
