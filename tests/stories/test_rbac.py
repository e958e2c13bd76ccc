"""The service with exactly the rights of config/, on hub and member, in lockdown (part 12; trust.md section 3).

The API servers' audit logs say what was asked, by whom, and what was refused.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout.lab.lab import Lab, LabCluster
from tests.stories.guarded import (
    CONFIG,
    NAME,
    NOTHING,
    Use,
    application,
    apply,
    attach,
    audited,
    curtailed,
    ensure_namespace,
    granted,
    path,
    refusals,
    uses,
)
from tests.stories.replicas import Launcher

CONTROLLER = "fleet-rollout-system:fleet-rollout-controller"
SYNC = "fleet-rollout-system:fleet-rollout-sync"
RECEIVER = "fleet-rollout-receiver"
MEMBER = ("fleet-rollout-sync", "member/base", "member/tenant")
TENANT = "tenant"
ROLLOUT = {
    "testLoader": True,
    "trafficRoutingProvider": "istio",
    "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend", "namespace": TENANT},
    "serviceName": "backend",
    "port": 9898,
    "rolloutPolicy": {
        "trafficRouting": {"timeoutSeconds": 60, "canaryStrategy": {"maxWeight": 50, "stepWeight": 25}},
        "trafficAnalysis": {
            "checkIntervalSeconds": 10,
            "checkFailedTimes": 5,
            "metrics": [
                {"name": "request-success-rate", "intervalSeconds": 10, "thresholdRange": {"min": 99}},
                {
                    "name": "own",
                    "intervalSeconds": 10,
                    "thresholdRange": {"max": 1},
                    "customMetric": {
                        "provider": {"type": "prometheus", "address": f"http://prometheus.{TENANT}:9090"},
                        "query": "vector(0)",
                    },
                },
            ],
        },
    },
}
# Rights that other stories need and this one does not use, with the reason why they are there.
NOT_USED_HERE_ON_THE_HUB = {
    Use("apps.kurator.dev", "applications", "get"): "read again after a conflict",
    Use("apps.kurator.dev", "clustersyncs", "get"): "read again after a conflict",
    Use("fleet.kurator.dev", "fleets", "get"): "aggregated with list and watch",
    Use("cluster.kurator.dev", "attachedclusters", "get"): "read again after a conflict",
    Use("cluster.kurator.dev", "clusters", "get"): "Kurator's kind, where it is served",
    Use("cluster.kurator.dev", "clusters", "list"): "Kurator's kind, where it is served",
    Use("cluster.kurator.dev", "clusters", "watch"): "Kurator's kind, where it is served",
    Use("", "configmaps", "create"): "an apply of what is not there needs it",
    Use("", "configmaps", "patch"): "orphan records and long inventories, test_rbac_records.py",
    Use("", "configmaps", "delete"): "orphan records and long inventories, test_rbac_records.py",
    Use("", "events", "patch"): "granted with create, as every recorder has it",
}
# The same in a member, by resource.
NOT_USED_HERE_IN_A_MEMBER = {
    ("", "configmaps", ("get",)): "hashed, where Pods are configured with them",
    ("", "secrets", ("get",)): "hashed, where Pods are configured with them",
    ("", "namespaces", ("create",)): "an apply of what is not there needs it",
    ("", "services", ("create",)): "an apply of what is not there needs it",
    ("apps", "deployments", ("create",)): "an apply of what is not there needs it",
    ("flagger.app", "canaries", ("create",)): "an apply of what is not there needs it",
    ("flagger.app", "metrictemplates", ("create",)): "an apply of what is not there needs it",
    ("apiextensions.k8s.io", "customresourcedefinitions", ("create",)): "an apply of what is not there needs it",
    ("", "services", ("list",)): "where there are many of one kind",
    ("apps", "deployments", ("list",)): "where there are many of one kind",
    ("flagger.app", "metrictemplates", ("list",)): "where there are many of one kind",
    ("apps", "daemonsets", ("get", "patch")): "another kind of workload",
    ("networking.istio.io", "virtualservices", ("get", "patch")): "given back, where an engine has worked",
    ("networking.k8s.io", "ingresses", ("create", "update", "delete")): "another provider",
    ("kuma.io", "trafficroutes", ("get", "delete")): "another provider",
    ("split.smi-spec.io", "trafficsplits", ("get", "delete")): "another provider",
    ("gateway.networking.k8s.io", "httproutes", ("get", "patch")): "another provider",
    ("projectcontour.io", "httpproxies", ("get", "patch")): "another provider",
    ("traefik.io", "traefikservices", ("get", "patch")): "another provider",
    ("gateway.solo.io", "routetables", ("get", "patch")): "another provider",
    ("apisix.apache.org", "apisixroutes", ("get", "delete")): "another provider",
    ("serving.knative.dev", "services", ("get", "patch")): "another provider",
}


@pytest.fixture(scope="session")
async def guarded() -> AsyncIterator[Lab]:
    """Hub and a member with everything of config/ applied."""
    async with Lab(["m1"], name=NAME, audit=True) as lab:
        for folder in ("crd", "default"):
            await apply(lab.hub, folder)
        await lab.hub.crds_established()
        await ensure_namespace(lab.hub, TENANT)
        for folder in ("member/base", "member/tenant"):
            await apply(lab.clusters["m1"], folder)
        yield lab


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    await made.close()


def content() -> dict[str, str]:
    """What `edit` may bring into the tenant's namespace."""
    labels = {"app": "backend"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "backend", "namespace": TENANT},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "backend", "namespace": TENANT},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 9898}]},
    }
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": TENANT}}
    return {f"{obj['kind']}.yaml": yaml.safe_dump(obj) for obj in (deployment, service, config_map)}


async def test_the_accounts_of_config_are_enough_and_no_more(
    guarded: Lab, launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """A sync in lockdown, a rollout, a second commit with a removal, and the deletion: no 403, no right unused."""
    hub, member = guarded.hub, guarded.clusters["m1"]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*CONTROLLER.split(":")))
    await attach(hub, TENANT, "m1", await member.service_account_kubeconfig(*SYNC.split(":")))
    repository = await guarded.git.create("tenant")
    await repository.commit(content())
    app = application(
        TENANT, repository.url, kustomization={"serviceAccountName": "deployer", "force": False}, rollout=ROLLOUT
    )
    canary = f"/apis/flagger.app/v1beta1/namespaces/{TENANT}/canaries/backend"

    async def said() -> str:
        return yaml.safe_dump(await hub.api.items(path(TENANT, "clustersyncs")))

    async with launcher.program(kubeconfig=kubeconfig, data_dir=tmp_path / "data", retry_max=1.0) as (replica, process):
        await hub.api.apply(path(TENANT, "applications", "web"), app, manager="story")

        async def has_canary() -> bool:
            return await member.api.find(canary) is not None

        try:
            await eventually(has_canary)
        except BaseException:
            print(await said(), replica.log.read_text())
            raise
        assert await member.api.find(f"/api/v1/namespaces/{TENANT}/configmaps/settings")
        second = await repository.commit({"ConfigMap.yaml": None})
        await hub.api.merge(
            path(TENANT, "applications", "web"), {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2"}}}
        )

        async def is_pruned() -> bool:
            (sync,) = await hub.api.items(path(TENANT, "clustersyncs"))
            return str((sync.get("status") or {}).get("lastAppliedRevision", "")).endswith(second)

        await eventually(is_pruned)
        assert await member.api.find(f"/api/v1/namespaces/{TENANT}/configmaps/settings") is None
        await hub.api.delete(path(TENANT, "applications", "web"))

        async def is_gone() -> bool:
            return await hub.api.find(path(TENANT, "applications", "web")) is None

        await eventually(is_gone)
        assert await member.api.find(canary) is None
        assert await member.api.find(f"/apis/apps/v1/namespaces/{TENANT}/deployments/backend") is None
        replica.signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert not [w for w in replica.words() if "AdmissionPolicy" in w["message"]], "the policies are in force"

    on_hub, on_member = list(audited(hub, CONTROLLER)), list(audited(member, SYNC))
    assert refusals(on_hub) == []
    assert refusals(on_member) == []
    documents = yaml.safe_load_all(await hub.kubectl("kustomize", str(CONFIG / "rbac")))
    roles = [obj for obj in documents if obj["kind"] in ("Role", "ClusterRole") and obj["metadata"]["name"] != RECEIVER]
    assert granted(*roles) - uses(on_hub) - NOT_USED_HERE_ON_THE_HUB.keys() == set()
    assert NOT_USED_HERE_ON_THE_HUB.keys() - granted(*roles) == set(), "these are no longer granted"
    documents = yaml.safe_load_all(await member.kubectl("kustomize", str(CONFIG / "member/sync")))
    rights = granted(*(obj for obj in documents if obj["kind"] == "ClusterRole"))
    unused = {Use(group, resource, verb) for group, resource, verbs in NOT_USED_HERE_IN_A_MEMBER for verb in verbs}
    # Of all that have these rights: whichever story comes first places the CRDs.
    used = uses(list(audited(member, "*:" + SYNC.partition(":")[2])))
    assert rights - used - unused == set(), "nobody needs these"
    assert unused - rights == set(), "these are no longer granted"
    as_deployer = {e["impersonatedUser"]["username"] for e in on_member if "impersonatedUser" in e}
    assert as_deployer == {f"system:serviceaccount:{TENANT}:deployer"}


async def test_a_missing_right_does_not_pass_the_story_s_check(
    guarded: Lab, launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """The account of config/namespaced without one verb: the audit log has the refusal, with the verb's name.

    The verb is one that every controller needs, whatever the one of another story does in this namespace meanwhile.
    """
    hub, home = guarded.hub, "curtailed"
    documents = list(yaml.safe_load_all(await hub.kubectl("kustomize", str(CONFIG / "namespaced"))))
    roles = [obj for obj in documents if obj["kind"] in ("Role", "RoleBinding", "ServiceAccount")]
    for obj in roles:
        if obj["metadata"]["namespace"] != "kube-system":
            obj["metadata"]["namespace"] = home
        for subject in obj.get("subjects", []):
            subject["namespace"] = home
        for rule in obj.get("rules", []):
            if "applications" in rule["resources"] and "watch" in rule["verbs"]:
                rule["verbs"].remove("watch")
    await ensure_namespace(hub, home)
    await hub.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(roles))
    account = f"{home}:fleet-rollout-controller"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*account.split(":")))
    await hub.api.apply(path(home, "applications", "web"), application(home, "https://127.0.0.1:9/x"), manager="story")
    settings = {"namespace": home, "own_namespace": home, "data_dir": tmp_path / "data", "retry_max": 1.0}
    async with launcher.program(kubeconfig=kubeconfig, **settings):

        async def is_refused() -> bool:
            found = refusals(list(audited(hub, account)))
            return any(line.startswith("watch ") and "cannot watch" in line for line in found)

        await eventually(is_refused)
    await hub.api.merge(path(home, "applications", "web"), {"metadata": {"finalizers": []}})
    await hub.api.delete(f"/api/v1/namespaces/{home}")


@pytest.mark.parametrize(
    "taken",
    [Use("flagger.app", "canaries", "patch"), Use("", "serviceaccounts", "impersonate")],
    ids=lambda use: use.verb,
)
async def test_a_right_that_a_member_does_not_give_is_missed(
    guarded: Lab, launcher: Launcher, tmp_path: Path, eventually: Any, taken: Use
) -> None:
    """The first half of the story with one verb less: the refusal is in the audit log and in the Application."""
    hub, member, home = guarded.hub, guarded.clusters["m1"], f"no-{taken.verb}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*CONTROLLER.split(":")))
    await ensure_namespace(hub, home)
    await attach(hub, home, "m1", await curtailed(member, home, taken, *MEMBER))
    repository = await guarded.git.create(home)
    await repository.commit({file: text.replace(TENANT, home) for file, text in content().items()})
    rollout = yaml.safe_load(yaml.safe_dump(ROLLOUT).replace(TENANT, home))
    policy = {"serviceAccountName": "deployer", "force": False}
    app = application(home, repository.url, kustomization=policy, rollout=rollout)
    where = path(home, "applications", "web")
    words = f"cannot {taken.verb}"  # an API server that knows constrained impersonation names another resource
    async with launcher.program(kubeconfig=kubeconfig, data_dir=tmp_path / "data", retry_max=1.0):
        await hub.api.apply(where, app, manager="story")

        async def is_said() -> bool:
            return words in yaml.safe_dump((await hub.api.get(where)).get("status"), width=10**6)

        await eventually(is_said)
        found = refusals(list(audited(member, f"{home}:fleet-rollout-sync")))
        assert any(words in line for line in found), found
        await attach(hub, home, "m1", member.kubeconfig.read_bytes())
        await hub.api.delete(where)

        async def is_gone() -> bool:
            return await hub.api.find(where) is None

        await eventually(is_gone)
        await member.api.delete(f"/api/v1/namespaces/{home}")


async def test_29_without_an_impersonated_account_the_member_takes_nothing(
    guarded: Lab, launcher: Launcher, tmp_path: Path, eventually: Any
) -> None:
    """Lockdown: a policy that names no account is refused, by a condition, and nothing is written (T29)."""
    hub, member, home = guarded.hub, guarded.clusters["m1"], "unnamed"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(await hub.service_account_kubeconfig(*CONTROLLER.split(":")))
    await ensure_namespace(hub, home)
    await attach(hub, home, "m1", await curtailed(member, home, NOTHING, *MEMBER))
    repository = await guarded.git.create(home)
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "unnamed", "namespace": home}}
    await repository.commit({"a.yaml": yaml.safe_dump(config_map)})
    app = application(home, repository.url)
    where = path(home, "applications", "web")
    async with launcher.program(kubeconfig=kubeconfig, data_dir=tmp_path / "data", retry_max=1.0):
        await hub.api.apply(where, app, manager="story")

        async def is_refused() -> bool:
            conditions = ((await hub.api.get(where)).get("status") or {}).get("conditions", [])
            return any(
                c["type"] == "Ready" and c["status"] == "False" and "forbidden" in c["message"] for c in conditions
            )

        await eventually(is_refused)
        assert await member.api.find(f"/api/v1/namespaces/{home}/configmaps/unnamed") is None
        await hub.api.delete(where)

        async def is_gone() -> bool:
            return await hub.api.find(where) is None

        await eventually(is_gone)


async def may(cluster: LabCluster, account: str, verb: str, resource: str, group: str = "") -> bool:
    """Whether a service account may do so with all objects of a kind, wherever they are."""
    asked = {"verb": verb, "resource": resource, "group": group}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {"user": f"system:serviceaccount:{account}", "resourceAttributes": asked},
    }
    answer = await cluster.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


async def test_the_controller_may_read_secrets_by_name_and_no_more(guarded: Lab) -> None:
    """20, 21 and section 3: secrets get; no cluster-wide list."""
    assert await may(guarded.hub, CONTROLLER, "get", "secrets")
    for verb in ("list", "watch", "create", "update", "patch", "delete"):
        assert not await may(guarded.hub, CONTROLLER, verb, "secrets"), verb


RBAC, APPS = "rbac.authorization.k8s.io", "apps.kurator.dev"


@pytest.mark.parametrize(
    "asked",
    [
        ("escalate", "clusterroles", RBAC),
        ("bind", "clusterroles", RBAC),
        ("impersonate", "users"),
        ("impersonate", "groups"),
        ("*", "*", "*"),
        ("create", "pods"),
        ("get", "nodes"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("update", "applications", APPS),
        ("create", "applications", APPS),
        ("delete", "applications", APPS),
    ],
)
async def test_rights_that_nobody_of_ours_has(guarded: Lab, asked: tuple[str, ...]) -> None:
    """Section 3: nowhere escalate, bind, *, nodes, lists of Secrets; never users or groups."""
    hub, member = guarded.hub, guarded.clusters["m1"]
    await apply(member, "agent")
    receiver, agent = (f"fleet-rollout-system:fleet-rollout-{name}" for name in ("receiver", "agent"))
    for cluster, account in ((hub, CONTROLLER), (hub, receiver), (member, SYNC), (member, agent)):
        assert not await may(cluster, account, *asked), account
