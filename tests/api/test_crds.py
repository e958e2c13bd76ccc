"""The CRDs as files, and as an API server takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout_api import crd
from fleet_rollout_api.application import Application
from fleet_rollout_api.application_status import ApplicationStatus
from fleet_rollout_api.fleet import RolloutEngine

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "crd"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
ALL_CRDS = [*crd.hub_crds(), *crd.member_crds()]
SYNC: dict[str, Any] = {
    "apiVersion": "apps.kurator.dev/v1alpha1",
    "kind": "ClusterSync",
    "metadata": {"name": "web-0-attachedcluster-m1"},
    "spec": {
        "application": "web",
        "policy": "web-0",
        "cluster": {"kind": "AttachedCluster", "name": "m1"},
        "kustomization": {"interval": "1m", "prune": True},
    },
}


def test_the_committed_files_are_what_the_models_say():
    assert crd.stale(FOLDER) == [], "run `make crds`"


def test_check_names_what_is_stale_and_write_mends_it(tmp_path, capsys):
    assert crd.main([str(tmp_path)]) == 0
    assert crd.main(["--check", str(tmp_path)]) == 0
    (tmp_path / "fleet.kurator.dev_fleets.yaml").write_text("old: true\n")
    (tmp_path / "left-over.yaml").write_text("old: true\n")
    (tmp_path / "member" / "flagger.app_canaries.yaml").unlink()
    assert crd.main(["--check", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0].removeprefix(f"{tmp_path}/") for line in said] == [
        "fleet.kurator.dev_fleets.yaml",
        "left-over.yaml",
        "member/flagger.app_canaries.yaml",
    ]
    assert crd.main([str(tmp_path)]) == 0
    assert crd.stale(tmp_path) == []


def test_the_command_says_how_it_is_used(capsys):
    assert crd.main([]) == 2
    assert "usage:" in capsys.readouterr().err


def test_every_file_is_listed_in_its_kustomization():
    for folder in (FOLDER, FOLDER / "member"):
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))["resources"]
        assert listed == sorted(path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


@pytest.mark.parametrize("item", ALL_CRDS, ids=lambda item: item["metadata"]["name"])
def test_every_field_is_described(item):
    schema = item["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    silent = [
        path
        for path, node in nodes(schema)
        if not path.endswith("[]") and not path.startswith(".metadata") and not node.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize("item", ALL_CRDS, ids=lambda item: item["metadata"]["name"])
def test_every_rule_says_what_to_do(item):
    schema = item["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = [rule for _, node in nodes(schema) for rule in node.get("x-kubernetes-validations", [])]
    assert all(rule["message"] and len(rule["message"]) < 200 for rule in rules)


@pytest.mark.parametrize("item", ALL_CRDS, ids=lambda item: item["metadata"]["name"])
async def test_the_api_server_accepts_the_crd_without_a_word(item, api_hub):
    name = item["metadata"]["name"]
    found = await api_hub.api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    conditions = {entry["type"]: entry["status"] for entry in found["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


async def columns(cluster, namespace: str, plural: str) -> dict[str, Any]:
    path = f"/apis/apps.kurator.dev/v1alpha1/namespaces/{namespace}/{plural}"
    table = await cluster.api.request("GET", path, headers={"Accept": TABLE})
    shown = [
        (entry["name"], cell) for entry, cell in zip(table["columnDefinitions"], table["rows"][0]["cells"], strict=True)
    ]
    return dict(shown)


async def test_kubectl_get_shows_an_application_in_one_line(api_hub, namespace, application):
    where = await namespace("api", on=[api_hub])
    path = f"/apis/apps.kurator.dev/v1alpha1/namespaces/{where}/applications"
    await api_hub.api.create(path, application({}))
    ready = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "Progressing",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "revision": "main@sha1:0123456789",
        "summary": {"clusters": "2/3", "rollout": "2 Progressing, 1 Succeeded"},
        "conditions": [ready],
    }
    await api_hub.api.merge(f"{path}/shop/status", {"status": status})
    shown = await columns(api_hub, where, "applications")
    assert list(shown) == ["Name", "Ready", "Revision", "Clusters", "Rollout", "Message", "Age"]
    assert list(shown.values())[:5] == ["shop", "Unknown", "main@sha1:0123456789", "2/3", "2 Progressing, 1 Succeeded"]


async def test_kubectl_get_shows_a_cluster_sync_in_one_line(api_hub, namespace):
    where = await namespace("api", on=[api_hub])
    path = f"/apis/apps.kurator.dev/v1alpha1/namespaces/{where}/clustersyncs"
    await api_hub.api.create(path, SYNC)
    rollout = {"namespace": "shop", "workload": "cart", "service": "cart", "canaryStatus": {"phase": "Progressing"}}
    status = {"lastAppliedRevision": "main@sha1:01", "rollout": rollout}
    await api_hub.api.merge(f"{path}/{SYNC['metadata']['name']}/status", {"status": status})
    shown = await columns(api_hub, where, "clustersyncs")
    assert shown["Cluster"] == "m1"
    assert shown["Revision"] == "main@sha1:01"
    assert shown["Canary"] == "Progressing"


async def test_a_cluster_sync_never_moves_to_another_cluster(api_hub, namespace):
    where = await namespace("api", on=[api_hub])
    path = f"/apis/apps.kurator.dev/v1alpha1/namespaces/{where}/clustersyncs"
    await api_hub.api.create(path, SYNC)
    with pytest.raises(ApiAnswer, match="application, policy and cluster cannot be changed"):
        await api_hub.api.merge(f"{path}/{SYNC['metadata']['name']}", {"spec": {"cluster": {"name": "m2"}}})
    await api_hub.api.merge(f"{path}/{SYNC['metadata']['name']}", {"spec": {"requestedAt": "now"}})


async def test_kurators_status_keys_are_stored_as_they_are(api_hub, namespace, application):
    where = await namespace("api", on=[api_hub])
    path = f"/apis/apps.kurator.dev/v1alpha1/namespaces/{where}/applications"
    await api_hub.api.create(path, application({}))
    time = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": time}
    artifact = {"path": "p", "url": "http://h/p", "revision": "r", "lastUpdateTime": time, "digest": "d", "size": 1}
    canary = {
        "phase": "Progressing",
        "failedChecks": 0,
        "canaryWeight": 10,
        "iterations": 0,
        "lastAppliedSpec": "5fcd",
        "lastTransitionTime": time,
        "trackedConfigs": {},
        "conditions": [{**condition, "type": "Promoted", "lastUpdateTime": time}],
    }
    status = {
        "sourceStatus": {"gitRepoStatus": {"observedGeneration": 1, "artifact": artifact, "conditions": [condition]}},
        "syncStatus": [
            {
                "name": "shop-0-attachedcluster-m1",
                "kustomizationStatus": {
                    "observedGeneration": 1,
                    "conditions": [condition],
                    "lastAppliedRevision": "r",
                    "lastAttemptedRevision": "r",
                    "inventory": {"entries": [{"id": "shop_cart_apps_Deployment", "v": "v1"}]},
                },
                "rolloutStatus": {
                    "clusterName": "m1",
                    "rolloutNameInCluster": "cart",
                    "rolloutStatusInCluster": canary,
                },
            },
            {"name": "shop-1-attachedcluster-m1", "HelmReleaseStatus": {"lastAppliedRevision": "1.0.0", "failures": 1}},
        ],
    }
    stored = await api_hub.api.merge(f"{path}/shop/status", {"status": status})
    assert stored["status"] == status
    assert ApplicationStatus.model_validate(status).dump() == status
    assert Application.model_validate(stored).status == status


async def test_an_attached_cluster_needs_a_secrets_name_and_defaults_its_key(dry_run, refusal):
    cluster: dict[str, Any] = {
        "apiVersion": "cluster.kurator.dev/v1alpha1",
        "kind": "AttachedCluster",
        "metadata": {"name": "m1"},
        "spec": {"kubeconfig": {"name": "m1-kubeconfig"}},
    }
    assert (await dry_run(cluster))["spec"]["kubeconfig"] == {"name": "m1-kubeconfig", "key": "value"}
    causes = await refusal({**cluster, "spec": {"kubeconfig": {"name": "No_Secret", "key": ""}}})
    assert {field for field, _ in causes} == {"spec.kubeconfig.name", "spec.kubeconfig.key"}
    assert ("spec.kubeconfig", "Required value") in await refusal({**cluster, "spec": {}})


async def test_a_fleet_of_kurator_is_stored_with_its_plugins(dry_run, refusal):
    fleet: dict[str, Any] = {
        "apiVersion": "fleet.kurator.dev/v1alpha1",
        "kind": "Fleet",
        "metadata": {"name": "europe"},
        "spec": {
            "clusters": [{"kind": "AttachedCluster", "name": "m1"}, {"name": "m2", "kind": "Cluster"}],
            "plugin": {
                "flagger": {"publicTestloader": True, "trafficRoutingProvider": "istio"},
                "metric": {"thanos": {"objectStoreConfig": {"secretName": "thanos"}}},
            },
        },
    }
    assert (await dry_run(fleet))["spec"] == fleet["spec"]
    engine = {**fleet, "spec": {**fleet["spec"], "rolloutEngine": {"mode": "Flagger"}}}
    assert (await dry_run(engine))["spec"]["rolloutEngine"]["mode"] == "Flagger"
    causes = await refusal({**fleet, "spec": {**fleet["spec"], "rolloutEngine": {"mode": "Hub"}}})
    fact = "plugin.flagger lets Flagger run the canaries: remove it, or set rolloutEngine.mode to Flagger"
    assert [(field, fact in message) for field, message in causes] == [("spec.rolloutEngine.mode", True)]
    assert (await dry_run({**fleet, "spec": {}}))["spec"] == {}


def fleet_with(engine: dict[str, Any]) -> dict[str, Any]:
    spec = {"clusters": [{"kind": "AttachedCluster", "name": "m1"}], "rolloutEngine": engine}
    return {"apiVersion": "fleet.kurator.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "f"}, "spec": spec}


async def test_an_engine_is_stored_with_all_that_flagger_takes_as_flags(dry_run):
    engine = {
        "mode": "Agent",
        "meshProvider": "smi:istio",
        "metricsServer": "http://prometheus.monitoring:9090",
        "eventWebhook": "https://events.example.org/canary",
        "alerts": {
            "type": "slack",
            "secretRef": {"name": "slack"},
            "channel": "canaries",
            "username": "fleet",
            "proxy": "http://proxy.example.org:3128",
            "severity": "warn",
        },
        "selectorLabels": ["app", "app.kubernetes.io/name"],
        "includeLabelPrefix": ["team.example.org/"],
        "ingressClass": "contour",
        "clusterName": "paris",
        "plainCanaries": "Adopt",
        "allowedAddresses": [
            "monitoring",
            "vault.secrets:8200",
            "hooks.example.org",
            "example.com.",
            "10.0.0.0/8",
            "fd00::/8",
        ],
        "smiAdapter": True,
    }
    assert (await dry_run(fleet_with(engine)))["spec"]["rolloutEngine"] == engine
    assert set(engine) == set(RolloutEngine.model_validate(engine).dump())
    defaults = {"plainCanaries": "Ignore", "smiAdapter": False}
    assert (await dry_run(fleet_with({})))["spec"]["rolloutEngine"] == defaults
    assert RolloutEngine().dump() == defaults


@pytest.mark.parametrize(
    ("engine", "field", "message"),
    [
        ({"mode": "hub"}, "mode", 'Unsupported value: "hub": supported values: "Hub", "Agent", "Flagger"'),
        ({"meshProvider": "appmesh"}, "meshProvider", 'Unsupported value: "appmesh"'),
        ({"metricsServer": "prometheus:9090"}, "metricsServer", "should match '^https?://"),
        ({"alerts": {"type": "slack"}}, "alerts", "set exactly one of address and secretRef"),
        (
            {"alerts": {"type": "slack", "address": "https://x.example.org", "secretRef": {"name": "s"}}},
            "alerts",
            "set exactly one of address and secretRef, a Secret in the Fleet's namespace with the key address",
        ),
        ({"selectorLabels": []}, "selectorLabels", "should have at least 1 items"),
        ({"plainCanaries": "Yes"}, "plainCanaries", 'supported values: "Ignore", "Adopt"'),
        ({"allowedAddresses": ["*.monitoring"]}, "allowedAddresses[0]", "should match"),
    ],
)
async def test_an_engine_that_cannot_be_meant_is_refused_with_the_field(engine, field, message, refusal):
    causes = await refusal(fleet_with(engine))
    assert any(where == f"spec.rolloutEngine.{field}" and message in text for where, text in causes), causes
