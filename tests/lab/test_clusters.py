"""Real API servers: RBAC, identities, outages."""

from __future__ import annotations

import secrets

import aiohttp
import pytest

from fleet_rollout.lab.api import Api, ApiAnswer
from fleet_rollout.lab.lab import CRDS, KubectlFailed


async def test_hub_and_members_are_different_clusters(hub, members, namespace):
    name = await namespace(on=[hub])
    assert await hub.api.find(f"/api/v1/namespaces/{name}")
    for member in members.values():
        assert await member.api.find(f"/api/v1/namespaces/{name}") is None


async def test_kubectl_acts_as_the_administrator(member):
    assert "kube-system" in await member.kubectl("get", "namespaces", "-o", "name")
    with pytest.raises(KubectlFailed, match="not found"):
        await member.kubectl("get", "configmap", "absent")


async def test_rbac_is_on_for_users_and_groups(member, namespace, tmp_path, eventually):
    name = await namespace(on=[member])
    config = tmp_path / "kubeconfig"
    config.write_bytes(member.kubeconfig_for("jane", ["readers"]))
    as_jane = ("--kubeconfig", str(config), "-n", name)
    with pytest.raises(KubectlFailed, match='User "jane" cannot list resource "configmaps"'):
        await member.kubectl(*as_jane, "get", "configmaps")
    await member.kubectl("-n", name, "create", "rolebinding", "r", "--clusterrole=view", "--group=readers")
    attributes = {"namespace": name, "verb": "list", "resource": "configmaps"}

    async def may_list() -> bool:  # the authorizer's caches lag by moments
        review = {"spec": {"user": "jane", "groups": ["readers"], "resourceAttributes": attributes}}
        answer = await member.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return answer["status"]["allowed"]

    await eventually(may_list)
    assert await member.kubectl(*as_jane, "get", "configmaps") == ""
    with pytest.raises(KubectlFailed, match="cannot create"):
        await member.kubectl(*as_jane, "create", "configmap", "x")


async def test_service_accounts_have_tokens(member, namespace, tmp_path):
    name = await namespace(on=[member])
    await member.kubectl("-n", name, "create", "serviceaccount", "robot")
    config = tmp_path / "kubeconfig"
    config.write_bytes(await member.service_account_kubeconfig(name, "robot"))
    answer = await member.kubectl("--kubeconfig", str(config), "auth", "whoami", "-o", "name", "-o", "json")
    assert f"system:serviceaccount:{name}:robot" in answer


async def test_a_token_of_another_cluster_is_refused(hub, member):
    stranger = Api(member.server, member.ca, hub.token)
    with pytest.raises(ApiAnswer) as refused:
        await stranger.get("/api/v1/namespaces")
    await stranger.close()
    assert refused.value.status == 401


async def test_crds_are_deleted_with_their_objects(spare):
    group = f"{secrets.token_hex(4)}.example.org"
    name = f"things.{group}"
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {"group": group, "scope": "Cluster", "names": {"kind": "Thing", "plural": "things"}, "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name}}
    await spare.api.apply(f"{CRDS}/{name}", {**crd, "spec": spec})
    await spare.crds_established()
    one = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "one"}}
    await spare.api.apply(f"/apis/{group}/v1/things/one", one)
    await spare.delete_crds(name, f"absent.{group}")
    assert await spare.api.find(f"{CRDS}/{name}") is None
    # The same kind anew has none of the old objects.
    await spare.api.apply(f"{CRDS}/{name}", {**crd, "spec": spec})
    await spare.crds_established()
    assert await spare.api.items(f"/apis/{group}/v1/things") == []
    await spare.delete_crds(name)


async def test_a_stopped_member_returns_with_port_and_data(spare, namespace):
    name = await namespace(on=[spare])
    await spare.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await spare.api.get(f"/api/v1/namespaces/{name}")
    await spare.start()
    assert await spare.api.find(f"/api/v1/namespaces/{name}")


async def test_a_paused_member_accepts_connections_and_does_not_answer(spare):
    await spare.pause()
    limit = aiohttp.ClientTimeout(total=1)
    async with aiohttp.ClientSession(timeout=limit) as session:
        with pytest.raises(TimeoutError):
            await session.get(f"{spare.server}/healthz", ssl=False)
    await spare.resume()
    assert await spare.api.is_ready()


async def test_namespaces_are_emptied_and_finish_deleting(member, namespace, eventually):
    name = await namespace(on=[member])
    await member.kubectl("-n", name, "create", "configmap", "x")
    await member.api.delete(f"/api/v1/namespaces/{name}")

    async def gone() -> bool:
        return await member.api.find(f"/api/v1/namespaces/{name}") is None

    await eventually(gone)
