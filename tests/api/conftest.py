"""The hub with our CRDs in it, and an Application to change."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.lab import LabCluster
from fleet_rollout_api.crd import hub_crds, member_crds

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}

ISTIO_CANARY: dict[str, Any] = {
    "apiVersion": "apps.kurator.dev/v1alpha1",
    "kind": "Application",
    "metadata": {"name": "shop"},
    "spec": {
        "source": {
            "gitRepository": {
                "url": "https://git.example.org/shop.git",
                "interval": "3m0s",
                "timeout": "1m0s",
                "ref": {"branch": "main"},
                "gitImplementation": "go-git",
            }
        },
        "syncPolicies": [
            {
                "destination": {"fleet": "europe"},
                "kustomization": {"interval": "0s", "path": "./deploy", "prune": True, "timeout": "2m0s"},
                "rollout": {
                    "testLoader": True,
                    "trafficRoutingProvider": "istio",
                    "workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart", "namespace": "shop"},
                    "serviceName": "cart",
                    "port": 9898,
                    "rolloutPolicy": {
                        "trafficRouting": {
                            "timeoutSeconds": 60,
                            "gateways": ["istio-system/public"],
                            "hosts": ["cart.shop"],
                            "canaryStrategy": {"maxWeight": 50, "stepWeight": 10},
                        },
                        "trafficAnalysis": {
                            "checkIntervalSeconds": 90,
                            "checkFailedTimes": 2,
                            "metrics": [
                                {
                                    "name": "request-success-rate",
                                    "intervalSeconds": 90,
                                    "thresholdRange": {"min": 99},
                                },
                                {"name": "request-duration", "intervalSeconds": 90, "thresholdRange": {"max": 500}},
                            ],
                            "webhooks": {"timeoutSeconds": 60, "command": ["hey -z 1m http://cart-canary.shop:9898/"]},
                        },
                        "rolloutTimeoutSeconds": 600,
                    },
                },
            },
            {
                "destination": {"fleet": "europe"},
                "kustomization": {
                    "targetNamespace": "default",
                    "interval": "5m0s",
                    "path": "./other",
                    "prune": True,
                    "timeout": "2m0s",
                },
            },
        ],
    },
}


def changed(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with the value of each dotted path replaced, or removed where the new value is None."""
    result = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        node: Any = result
        for part in parents:
            node = node[part] if isinstance(node, list) else node.setdefault(part, {})
        if value is not None:
            node[last] = value
        elif isinstance(node, list):
            del node[last]
        else:
            node.pop(last, None)
    return result


@pytest.fixture(scope="session")
def application() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """`application({"spec.destination.fleet": "asia"})`: an Istio canary with these changes."""
    return lambda changes: changed(ISTIO_CANARY, changes)


@pytest.fixture(scope="session")
async def api_hub(hub: LabCluster, eventually: Callable[..., Awaitable[None]]) -> LabCluster:
    """The hub, serving all our kinds."""
    for crd in (*hub_crds(), *member_crds()):
        name = crd["metadata"]["name"]
        await hub.api.apply(f"{CRDS}/{name}", crd, manager="fleet-rollout-tests")

        spec = crd["spec"]
        paths = [f"/apis/{spec['group']}/{each['name']}/{spec['names']['plural']}" for each in spec["versions"]]

        async def is_served(paths: list[str] = paths) -> bool:
            try:
                return None not in [await hub.api.find(path) for path in paths]
            except ApiAnswer as answer:
                # A kind that was just made or changed: "storage is (re)initializing".
                if answer.status == 429:
                    return False
                raise

        await eventually(is_served)
    return hub


@pytest.fixture(scope="session")
async def dry_run(api_hub: LabCluster) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
    """What the API server would store, unknown fields refused; raises ApiAnswer."""

    async def send(obj: dict[str, Any]) -> dict[str, Any]:
        plural = {"AttachedCluster": "attachedclusters", "Canary": "canaries"}.get(
            obj["kind"], f"{obj['kind'].lower()}s"
        )
        path = f"/apis/{obj['apiVersion']}/namespaces/default/{plural}"
        stored = {**obj, "metadata": {**obj["metadata"], "namespace": "default"}}
        return await api_hub.api.request("POST", path, stored, params=STRICT)

    return send


@pytest.fixture(scope="session")
def refusal(
    dry_run: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
) -> Callable[[dict[str, Any]], Awaitable[list[tuple[str, str]]]]:
    """Why the API server refuses an object: (field, message) of each cause of its 422."""

    async def send(obj: dict[str, Any]) -> list[tuple[str, str]]:
        with pytest.raises(ApiAnswer) as raised:
            await dry_run(obj)
        assert raised.value.status == 422, raised.value
        return [(cause["field"], cause["message"]) for cause in raised.value.body["details"]["causes"]]

    return send
