"""An Application that is valid for Kurator is valid here, and what it leaves out means what Kurator documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_rollout_api.application import Application

FIRST = "spec.syncPolicies.0"
SECOND = "spec.syncPolicies.1"
ROLLOUT = f"{FIRST}.rollout"
ROUTING = f"{ROLLOUT}.rolloutPolicy.trafficRouting"
ANALYSIS = f"{ROLLOUT}.rolloutPolicy.trafficAnalysis"
GOLDENS = Path(__file__).parents[1] / "goldens" / "kurator" / "given"

QUERY = 'sum(rate(http_requests_total{status!~"5.*"}[{{ interval }}])) / sum(rate(http_requests_total[{{ interval }}]))'
OWN_METRIC = {
    "name": "own-success-rate",
    "intervalSeconds": 90,
    "thresholdRange": {"min": 99},
    "customMetric": {
        "provider": {"type": "prometheus", "address": "http://prometheus.monitoring:9090"},
        "query": QUERY,
    },
}
HEADERS = [
    {"headers": {"user-agent": {"regex": ".*Firefox.*"}}},
    {"headers": {"cookie": {"regex": "^(.*?;)?(type=insider)(;.*)?$"}}},
]
PUBLIC = {"name": "public", "namespace": "istio-ingress", "sectionName": "http"}
NO_CANARY = {f"{ROUTING}.canaryStrategy": None, f"{ROUTING}.analysisTimes": 3}
NO_MESH = {f"{ROUTING}.gateways": None, f"{ROUTING}.hosts": None, f"{ANALYSIS}.metrics": [OWN_METRIC]}
NGINX = {**NO_MESH, f"{ROLLOUT}.trafficRoutingProvider": "nginx", f"{ROUTING}.host": "shop.example.org"}


def routed(provider: str, **routing: Any) -> dict[str, Any]:
    """Another provider, with these fields of trafficRouting."""
    return {f"{ROLLOUT}.trafficRoutingProvider": provider} | {
        f"{ROUTING}.{key}": given for key, given in routing.items()
    }


ACCEPTED: dict[str, dict[str, Any]] = {
    # The shapes of Kurator's eight rollout examples.
    "istio canary": {},
    "istio blue/green": NO_CANARY,
    "istio A/B": {**NO_CANARY, f"{ROUTING}.match": HEADERS},
    "istio canary with a metric of its own": {f"{ANALYSIS}.metrics.1": OWN_METRIC},
    "nginx canary": NGINX,
    "nginx blue/green": {**NGINX, **NO_CANARY},
    "nginx A/B": {**NGINX, **NO_CANARY, f"{ROUTING}.match": [{"headers": {"x-canary": {"exact": "insider"}}}]},
    "kuma canary": {**NO_MESH, f"{ROLLOUT}.trafficRoutingProvider": "kuma"},
    # The rest of what Kurator lets in.
    "a fleet for all policies": {
        "spec.destination.fleet": "europe",
        f"{FIRST}.destination": None,
        f"{SECOND}.destination": None,
    },
    "the application's fleet, again in one policy": {
        "spec.destination.fleet": "europe",
        f"{FIRST}.destination": None,
    },
    "no fleet: the hub itself": {f"{FIRST}.destination": None, f"{SECOND}.destination": None},
    "an empty fleet counts as none": {f"{FIRST}.destination.fleet": "", f"{SECOND}.destination": None},
    "a Helm chart from a Helm repository": {
        "spec.source": {"helmRepository": {"url": "https://charts.example.org", "interval": "5m", "type": "default"}},
        "spec.syncPolicies": [
            {
                "helm": {
                    "interval": "5m",
                    "releaseName": "web",
                    "chart": {"spec": {"chart": "web", "version": ">=1.0.0"}},
                    "install": {"createNamespace": True, "skipCRDs": True, "remediation": {"retries": 3}},
                    "valuesFrom": [{"kind": "Secret", "name": "web", "targetPath": "a.b[0]"}],
                    "values": {"replicas": 2, "nested": {"list": [1, "two"]}},
                }
            }
        ],
    },
    "an OCI artifact": {
        "spec.source": {
            "ociRepository": {"url": "oci://registry.example.org/shop", "interval": "5m", "ref": {"semver": "1.x"}}
        }
    },
    "names of ones own": {f"{FIRST}.name": "Front", f"{SECOND}.name": "back.end"},
    "a default name freed by its owner": {f"{FIRST}.name": "shop-1", f"{SECOND}.name": "shop-0"},
    "empty text where Go means unset": {
        f"{FIRST}.name": "",
        "spec.source.gitRepository.ref": {"branch": "", "tag": "v1", "semver": "", "name": "", "commit": ""},
    },
    "a promotion unmeasured": {
        f"{ROLLOUT}.rolloutPolicy": {"skipTrafficAnalysis": True},
    },
    "a canary that insiders always get": {f"{ROUTING}.match": HEADERS},
    "weights along a list": {f"{ROUTING}.canaryStrategy": {"stepWeights": [1, 5, 20, 100], "stepWeightPromotion": 25}},
    "the workload's namespace from targetNamespace": {
        f"{ROLLOUT}.workload": {"name": "cart"},
        f"{FIRST}.kustomization.targetNamespace": "shop",
    },
    "an ssh url with a user": {"spec.source.gitRepository.url": "ssh://git@git.example.org:2222/shop.git"},
    # Every provider with what it needs.
    "nginx with an Ingress of one's own": routed("nginx", ingressRef={"name": "shop"}),
    "kubernetes blue/green": {**NO_CANARY, **routed("kubernetes")},
    "kubernetes unmeasured": {
        f"{ROLLOUT}.trafficRoutingProvider": "kubernetes",
        f"{ROLLOUT}.rolloutPolicy": {"skipTrafficAnalysis": True},
    },
    **{f"{name} canary": routed(name) for name in ("smi:v1alpha1", "smi:v1alpha2", "smi:v1alpha3", "linkerd", "osm")},
    **{f"{name} canary": routed(name) for name in ("contour", "traefik", "gloo")},
    "gatewayapi:v1 canary": routed("gatewayapi:v1", gatewayRefs=[PUBLIC]),
    "gatewayapi:v1beta1 A/B": {
        **NO_CANARY,
        **routed("gatewayapi:v1beta1", gatewayRefs=[PUBLIC], match=HEADERS),
        f"{ANALYSIS}.sessionAffinity": {"cookieName": "version"},
    },
    "gatewayapi blue/green with copies of requests": {
        **NO_CANARY,
        **routed("gatewayapi:v1", gatewayRefs=[PUBLIC], mirror=True, mirrorWeight=50),
    },
    "istio with copies of requests": routed("istio", mirror=True),
    "contour A/B": {**NO_CANARY, **routed("contour", match=HEADERS)},
    "apisix canary": routed("apisix", routeRef={"kind": "ApisixRoute", "name": "shop"}),
    "gloo with settings of an Upstream": routed("gloo", upstreamRef={"name": "shop", "namespace": "gloo-system"}),
    "skipper canary": routed("skipper", ingressRef={"apiVersion": "networking.k8s.io/v1", "name": "shop"}),
    "knative canary": {
        **routed("knative"),
        f"{ROLLOUT}.workload.apiVersion": "serving.knative.dev/v1",
        f"{ROLLOUT}.workload.kind": "Service",
    },
    "what Kurator lets kuma name without reading it": {
        **NO_CANARY,
        **routed("kuma", match=HEADERS),
        f"{ANALYSIS}.sessionAffinity": {"cookieName": "version"},
    },
    # Ours, after Flux.
    "Flux's further fields": {
        f"{SECOND}.kustomization.wait": True,
        f"{SECOND}.kustomization.namePrefix": "p-",
        f"{SECOND}.kustomization.nameSuffix": "-s",
        f"{SECOND}.kustomization.serviceAccountName": "deployer",
        f"{SECOND}.kustomization.deletionPolicy": "Orphan",
        f"{SECOND}.kustomization.allowEmpty": True,
        f"{SECOND}.kustomization.healthChecks": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}],
        f"{SECOND}.kustomization.healthCheckExprs": [
            {"apiVersion": "x.example/v1", "kind": "Job", "current": "status.ready == true"}
        ],
        f"{ROLLOUT}.autoscaler": False,
        f"{FIRST}.destination.clusterSelector": {
            "matchLabels": {"env": "prod"},
            "matchExpressions": [
                {"key": "region", "operator": "In", "values": ["eu", "us"]},
                {"key": "drained", "operator": "DoesNotExist"},
            ],
        },
    },
}


@pytest.mark.parametrize("case", ACCEPTED)
async def test_accepted_without_loss(case, application, dry_run):
    given = application(ACCEPTED[case])
    stored = await dry_run(given)
    assert lost(given["spec"], stored["spec"]) == []
    assert Application.model_validate(stored) is not None


@pytest.mark.parametrize("path", sorted(GOLDENS.glob("*.yaml")), ids=lambda path: path.stem)
async def test_what_kurator_itself_was_given_is_accepted_without_loss(path, dry_run):
    given = yaml.safe_load(path.read_text("utf-8"))
    stored = await dry_run(given)
    assert lost(given["spec"], stored["spec"]) == []


def test_the_goldens_are_there():
    assert len(list(GOLDENS.glob("*.yaml"))) >= 10


async def test_defaults_are_filled_in(application, dry_run):
    given = application(
        {
            "spec.source.gitRepository.timeout": None,
            "spec.source.gitRepository.gitImplementation": None,
            f"{ROLLOUT}.workload": {"name": "cart", "namespace": "shop"},
            f"{ANALYSIS}.metrics.0.intervalSeconds": None,
            f"{ANALYSIS}.webhooks.timeoutSeconds": None,
        }
    )
    spec = (await dry_run(given))["spec"]
    assert spec["source"]["gitRepository"]["timeout"] == "60s"
    assert spec["source"]["gitRepository"]["gitImplementation"] == "go-git"
    policy = spec["syncPolicies"][0]
    assert policy["kustomization"]["force"] is False
    assert policy["kustomization"]["allowEmpty"] is False
    rollout = policy["rollout"]
    assert rollout["autoscaler"] is True
    assert rollout["workload"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart", "namespace": "shop"}
    analysis = rollout["rolloutPolicy"]["trafficAnalysis"]
    assert analysis["metrics"][0]["intervalSeconds"] == 60
    assert analysis["webhooks"]["timeoutSeconds"] == 60


async def test_what_the_server_fills_in_is_what_the_model_fills_in(application, dry_run):
    given = application({f"{ROLLOUT}.workload": {"name": "cart", "namespace": "shop"}})
    assert Application.model_validate(await dry_run(given)).spec == Application.model_validate(given).spec


def lost(given: Any, stored: Any, path: str = "spec") -> list[str]:
    """What was given and is not stored as it was."""
    if isinstance(given, dict) and isinstance(stored, dict):
        return [hit for key, value in given.items() for hit in lost(value, stored.get(key), f"{path}.{key}")]
    if isinstance(given, list) and isinstance(stored, list) and len(given) == len(stored):
        pairs = enumerate(zip(given, stored, strict=True))
        return [hit for number, (old, new) in pairs for hit in lost(old, new, f"{path}[{number}]")]
    return [] if given == stored else [f"{path}: {given!r} became {stored!r}"]
