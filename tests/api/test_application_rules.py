"""What Kurator's webhook checks late, or dies of, is a 422 with the field and the fix."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_rollout.lab.api import ApiAnswer

FIRST = "spec.syncPolicies.0"
SECOND = "spec.syncPolicies.1"
ROLLOUT = f"{FIRST}.rollout"
ROUTING = f"{ROLLOUT}.rolloutPolicy.trafficRouting"
ANALYSIS = f"{ROLLOUT}.rolloutPolicy.trafficAnalysis"
AT_ROUTING = "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting"
AB = {
    f"{ROUTING}.canaryStrategy": None,
    f"{ROUTING}.analysisTimes": 3,
    f"{ROUTING}.match": [{"headers": {"x-insider": {"exact": "yes"}}}],
}
GATEWAY = {f"{ROLLOUT}.trafficRoutingProvider": "gatewayapi:v1", f"{ROUTING}.gatewayRefs": [{"name": "public"}]}
CHART = {"chart": {"spec": {"chart": "web"}}, "interval": "5m"}
HELM_REPOSITORY = {"url": "https://charts.example.org", "interval": "5m"}
DIFFERENT_FLEET = "a policy's destination.fleet must equal spec.destination.fleet; leave it out to inherit it"

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no source": ({"spec.source.gitRepository": None}, "spec.source", "exactly one of gitRepository"),
    "two sources": (
        {"spec.source.helmRepository": HELM_REPOSITORY},
        "spec.source",
        "exactly one of gitRepository, helmRepository and ociRepository must be set",
    ),
    "no source at all": ({"spec.source": None}, "spec.source", "Required value"),
    "empty syncPolicies": ({"spec.syncPolicies": []}, "spec.syncPolicies", "should have at least 1 items"),
    "no syncPolicies": ({"spec.syncPolicies": None}, "spec.syncPolicies", "Required value"),
    "no spec": ({"spec": None}, "spec", "Required value"),
    "kustomization and helm": (
        {f"{SECOND}.helm": CHART},
        "spec.syncPolicies[1]",
        "set exactly one of kustomization and helm",
    ),
    "neither kustomization nor helm": (
        {f"{SECOND}.kustomization": None},
        "spec.syncPolicies[1]",
        "set exactly one of kustomization and helm",
    ),
    # G 37: Kurator's three fleet rules, and its panics.
    "G 37: policy fleet differs from the application's": (
        {"spec.destination.fleet": "asia"},
        "spec.syncPolicies",
        DIFFERENT_FLEET,
    ),
    "G 37: only some policies have a fleet": (
        {f"{SECOND}.destination": None},
        "spec.syncPolicies",
        "destination.fleet must be set in every policy, or in spec.destination, when one policy sets it",
    ),
    "G 37: two fleets": (
        {f"{SECOND}.destination.fleet": "asia"},
        "spec.syncPolicies",
        "destination.fleet must be the same in every policy",
    ),
    "G 37: nginx without host": (
        {f"{ROLLOUT}.trafficRoutingProvider": "nginx"},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting",
        "provider nginx needs rolloutPolicy.trafficRouting.host",
    ),
    "nginx with an empty host": (
        {f"{ROLLOUT}.trafficRoutingProvider": "nginx", f"{ROUTING}.host": ""},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting",
        "provider nginx needs rolloutPolicy.trafficRouting.host",
    ),
    "G 37: no trafficRouting": (
        {ROUTING: None},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting",
        "trafficRouting is required unless skipTrafficAnalysis is true",
    ),
    "no trafficAnalysis": (
        {ANALYSIS: None},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficAnalysis",
        "trafficAnalysis is required unless skipTrafficAnalysis is true",
    ),
    "unknown provider": (
        {f"{ROLLOUT}.trafficRoutingProvider": "gatewayapi"},
        "spec.syncPolicies[0].rollout.trafficRoutingProvider",
        'Unsupported value: "gatewayapi": supported values: "istio", "kuma", "nginx", "kubernetes", "smi:v1alpha1"',
    ),
    "App Mesh, which AWS ends": (
        {f"{ROLLOUT}.trafficRoutingProvider": "appmesh"},
        "spec.syncPolicies[0].rollout.trafficRoutingProvider",
        'Unsupported value: "appmesh"',
    ),
    "gatewayapi without Gateways": (
        {f"{ROLLOUT}.trafficRoutingProvider": "gatewayapi:v1"},
        AT_ROUTING,
        "provider gatewayapi needs rolloutPolicy.trafficRouting.gatewayRefs, the Gateways that the route attaches to",
    ),
    "gatewayapi with an empty list": (
        {f"{ROLLOUT}.trafficRoutingProvider": "gatewayapi:v1beta1", f"{ROUTING}.gatewayRefs": []},
        AT_ROUTING,
        "provider gatewayapi needs rolloutPolicy.trafficRouting.gatewayRefs",
    ),
    "skipper without Ingress": (
        {f"{ROLLOUT}.trafficRoutingProvider": "skipper"},
        AT_ROUTING,
        "provider skipper needs rolloutPolicy.trafficRouting.ingressRef, the Ingress that leads to the Service",
    ),
    "apisix without route, and without any routing": (
        {
            f"{ROLLOUT}.trafficRoutingProvider": "apisix",
            f"{ROLLOUT}.rolloutPolicy": {"skipTrafficAnalysis": True},
        },
        AT_ROUTING,
        "provider apisix needs rolloutPolicy.trafficRouting.routeRef, the ApisixRoute that leads to the Service",
    ),
    "knative for a Deployment": (
        {f"{ROLLOUT}.trafficRoutingProvider": "knative"},
        "spec.syncPolicies[0].rollout.workload.kind",
        "provider knative needs workload.kind: Service with apiVersion: serving.knative.dev/v1",
    ),
    "istio for a Knative Service": (
        {f"{ROLLOUT}.workload.kind": "Service", f"{ROLLOUT}.workload.apiVersion": "serving.knative.dev/v1"},
        "spec.syncPolicies[0].rollout.workload.kind",
        "and no other provider takes it",
    ),
    "a Service that is not Knative's": (
        {f"{ROLLOUT}.trafficRoutingProvider": "knative", f"{ROLLOUT}.workload.kind": "Service"},
        "spec.syncPolicies[0].rollout.workload.apiVersion",
        "a workload of kind Service is Knative's: set apiVersion: serving.knative.dev/v1",
    ),
    "shares of traffic without a mesh": (
        {f"{ROLLOUT}.trafficRoutingProvider": "kubernetes"},
        AT_ROUTING,
        "provider kubernetes cannot split traffic: set analysisTimes (blue/green)",
    ),
    "insiders without a mesh": (
        {f"{ROLLOUT}.trafficRoutingProvider": "kubernetes", **AB},
        AT_ROUTING,
        "provider kubernetes cannot split traffic: set analysisTimes (blue/green)",
    ),
    "insiders where only shares can be told": (
        {f"{ROLLOUT}.trafficRoutingProvider": "linkerd", **AB},
        f"{AT_ROUTING}.match",
        "match works with istio, nginx, gatewayapi:v1, gatewayapi:v1beta1, contour and gloo",
    ),
    "copies of requests where nothing makes them": (
        {f"{ROLLOUT}.trafficRoutingProvider": "traefik", f"{ROUTING}.mirror": True},
        f"{AT_ROUTING}.mirror",
        "mirror works with istio, gatewayapi:v1 and gatewayapi:v1beta1",
    ),
    "copies of requests and shares with gatewayapi": (
        {**GATEWAY, f"{ROUTING}.mirror": True},
        f"{AT_ROUTING}.mirror",
        "with provider gatewayapi, mirror needs analysisTimes (blue/green) instead of canaryStrategy",
    ),
    "a share of copies, but no copies": (
        {f"{ROUTING}.mirrorWeight": 10},
        f"{AT_ROUTING}.mirrorWeight",
        "mirrorWeight needs mirror: true",
    ),
    "a reference that the provider does not read": (
        {f"{ROUTING}.ingressRef": {"name": "shop"}},
        AT_ROUTING,
        "gatewayRefs is read by gatewayapi:v1 and gatewayapi:v1beta1, ingressRef by nginx and skipper, routeRef by",
    ),
    "an Ingress to be made and one of one's own": (
        {
            f"{ROLLOUT}.trafficRoutingProvider": "nginx",
            f"{ROUTING}.host": "shop.example.org",
            f"{ROUTING}.ingressRef": {"name": "shop"},
        },
        f"{AT_ROUTING}.ingressRef",
        "host and ingressRef exclude each other",
    ),
    "sticky visitors where nothing reads cookies": (
        {f"{ROLLOUT}.trafficRoutingProvider": "contour", f"{ANALYSIS}.sessionAffinity": {"cookieName": "v"}},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficAnalysis.sessionAffinity",
        "sessionAffinity works with istio, gatewayapi:v1 and gatewayapi:v1beta1",
    ),
    "no strategy": (
        {f"{ROUTING}.canaryStrategy": None},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting",
        "trafficRouting needs canaryStrategy (canary) or analysisTimes of at least 1",
    ),
    "no analysis at all": (
        {f"{ROUTING}.canaryStrategy": None, f"{ROUTING}.analysisTimes": 0},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting",
        "trafficRouting needs canaryStrategy (canary) or analysisTimes of at least 1",
    ),
    "two strategies": (
        {f"{ROUTING}.analysisTimes": 3},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.analysisTimes",
        "canaryStrategy and analysisTimes exclude each other",
    ),
    "match without analysisTimes": (
        {f"{ROUTING}.canaryStrategy": None, f"{ROUTING}.match": [{"headers": {"x-insider": {"exact": "yes"}}}]},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.match",
        "match needs analysisTimes",
    ),
    "two ways to match one header": (
        {f"{ROUTING}.match": [{"headers": {"x-insider": {"exact": "yes", "regex": ".*"}}}]},
        "<nil>",  # the API server names the field of a oneOf in the message only
        '.trafficRouting.match[0].headers.x-insider" must validate one and only one schema (oneOf)',
    ),
    "stepWeight and stepWeights": (
        {f"{ROUTING}.canaryStrategy.stepWeights": [10, 20]},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy",
        "set exactly one of stepWeight and stepWeights",
    ),
    "neither stepWeight nor stepWeights": (
        {f"{ROUTING}.canaryStrategy.stepWeight": None},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy",
        "set exactly one of stepWeight and stepWeights",
    ),
    "falling stepWeights": (
        {f"{ROUTING}.canaryStrategy": {"stepWeights": [10, 60, 30]}},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy.stepWeights",
        "stepWeights must rise from step to step",
    ),
    "repeated stepWeights": (
        {f"{ROUTING}.canaryStrategy": {"stepWeights": [10, 10]}},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy.stepWeights",
        "stepWeights must rise from step to step",
    ),
    "empty stepWeights": (
        {f"{ROUTING}.canaryStrategy": {"stepWeights": []}},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy.stepWeights",
        "should have at least 1 items",
    ),
    "a step weight of 0": (
        {f"{ROUTING}.canaryStrategy.stepWeight": 0},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy.stepWeight",
        "should be greater than or equal to 1",
    ),
    "a step weight of 101": (
        {f"{ROUTING}.canaryStrategy": {"stepWeights": [50, 101]}},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy.stepWeights[1]",
        "should be less than or equal to 100",
    ),
    "a highest weight of 101": (
        {f"{ROUTING}.canaryStrategy.maxWeight": 101},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficRouting.canaryStrategy.maxWeight",
        "should be less than or equal to 100",
    ),
    "no workload namespace": (
        {f"{ROLLOUT}.workload.namespace": None},
        "spec.syncPolicies[0].rollout.workload",
        "rollout.workload.namespace is required unless kustomization.targetNamespace is set",
    ),
    "an empty workload namespace": (
        {f"{ROLLOUT}.workload.namespace": ""},
        "spec.syncPolicies[0].rollout.workload",
        "rollout.workload.namespace is required unless kustomization.targetNamespace is set",
    ),
    "no workload": ({f"{ROLLOUT}.workload": None}, "spec.syncPolicies[0].rollout.workload", "Required value"),
    "no serviceName": ({f"{ROLLOUT}.serviceName": None}, "spec.syncPolicies[0].rollout.serviceName", "Required value"),
    "no port": ({f"{ROLLOUT}.port": None}, "spec.syncPolicies[0].rollout.port", "Required value"),
    "no rolloutPolicy": (
        {f"{ROLLOUT}.rolloutPolicy": None},
        "spec.syncPolicies[0].rollout.rolloutPolicy",
        "Required value",
    ),
    "a workload that Flagger cannot take": (
        {f"{ROLLOUT}.workload.kind": "StatefulSet"},
        "spec.syncPolicies[0].rollout.workload.kind",
        'Unsupported value: "StatefulSet"',
    ),
    "a Service whose -primary would be too long": (
        {f"{ROLLOUT}.serviceName": "s" * 56},
        "spec.syncPolicies[0].rollout.serviceName",
        "may not be more than 55",
    ),
    "a workload whose load tester would be too long": (
        {f"{ROLLOUT}.workload.name": "w" * 53},
        "spec.syncPolicies[0].rollout.workload.name",
        "with testLoader, workload.name may have 52 characters",
    ),
    "a metric of ones own that cannot be an object": (
        {
            f"{ANALYSIS}.metrics.0.name": "Error_Rate",
            f"{ANALYSIS}.metrics.0.customMetric": {"provider": {"type": "prometheus"}, "query": "1"},
        },
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficAnalysis.metrics[0].name",
        "the name of a metric of one's own becomes an object's",
    ),
    "a metrics system nobody knows": (
        {f"{ANALYSIS}.metrics.0.customMetric": {"provider": {"type": "abacus"}, "query": "1"}},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficAnalysis.metrics[0].customMetric.provider.type",
        'Unsupported value: "abacus"',
    ),
    "affinity without a cookie": (
        {f"{ANALYSIS}.sessionAffinity": {"maxAge": 60}},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficAnalysis.sessionAffinity.cookieName",
        "Required value",
    ),
    "a metric over no time": (
        {f"{ANALYSIS}.metrics.0.intervalSeconds": 0},
        "spec.syncPolicies[0].rollout.rolloutPolicy.trafficAnalysis.metrics[0].intervalSeconds",
        "should be greater than or equal to 1",
    ),
    "a name over 63 characters": (
        {"metadata.name": "a" * 64},
        "metadata.name",
        "may not be more than 63",
    ),
    "a policy name over 63 characters": (
        {f"{FIRST}.name": "a" * 64},
        "spec.syncPolicies[0].name",
        "may not be more than 63",
    ),
    "a policy name that cannot be part of an object's": (
        {f"{FIRST}.name": "my_policy"},
        "spec.syncPolicies[0].name",
        "should match",
    ),
    "a policy name twice": (
        {f"{FIRST}.name": "web", f"{SECOND}.name": "web"},
        "spec.syncPolicies",
        "policy names must differ",
    ),
    "a policy name twice but for case": (
        {f"{FIRST}.name": "web", f"{SECOND}.name": "Web"},
        "spec.syncPolicies",
        "policy names must differ",
    ),
    "a policy name that another gets by default": (
        {f"{FIRST}.name": "shop-1"},
        "spec.syncPolicies",
        "a policy has the name that a policy without name would get",
    ),
    "a password in the url": (
        {"spec.source.gitRepository.url": "https://me:secret@git.example.org/shop.git"},
        "spec.source.gitRepository.url",
        "url must not hold a user name or password; put them into a Secret and name it in secretRef",
    ),
    "a token in the url": (
        {"spec.source.gitRepository.url": "https://ghp_token@git.example.org/shop.git"},
        "spec.source.gitRepository.url",
        "url must not hold a user name or password",
    ),
    "a password in an ssh url": (
        {"spec.source.gitRepository.url": "ssh://git:secret@git.example.org/shop.git"},
        "spec.source.gitRepository.url",
        "url must not hold a password",
    ),
    "a local url": ({"spec.source.gitRepository.url": "file:///etc"}, "spec.source.gitRepository.url", "should match"),
    "an scp url": (
        {"spec.source.gitRepository.url": "git@git.example.org:shop.git"},
        "spec.source.gitRepository.url",
        "should match",
    ),
    "a control character in the url": (
        {"spec.source.gitRepository.url": "https://git.example.org/shop\n.git"},
        "spec.source.gitRepository.url",
        "should match",
    ),
    "an option as branch": (
        {"spec.source.gitRepository.ref.branch": "--upload-pack=touch"},
        "spec.source.gitRepository.ref.branch",
        "should match",
    ),
    "an interval without unit": (
        {"spec.source.gitRepository.interval": "60"},
        "spec.source.gitRepository.interval",
        "should match",
    ),
    "a selector without values": (
        {
            f"{FIRST}.destination.clusterSelector": {"matchExpressions": [{"key": "env", "operator": "In"}]},
        },
        "spec.syncPolicies[0].destination.clusterSelector.matchExpressions[0].values",
        "operator In and NotIn need values; Exists and DoesNotExist take none",
    ),
    "a selector with values too many": (
        {
            f"{FIRST}.destination.clusterSelector": {
                "matchExpressions": [{"key": "env", "operator": "Exists", "values": ["x"]}]
            },
        },
        "spec.syncPolicies[0].destination.clusterSelector.matchExpressions[0].values",
        "operator In and NotIn need values; Exists and DoesNotExist take none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_with_the_field_and_the_reason(case, application, refusal):
    changes, field, message = REFUSED[case]
    causes = await refusal(application(changes))
    assert any(where == field and message in text for where, text in causes), causes


async def test_an_unknown_field_is_refused_by_strict_clients(application, dry_run):
    with pytest.raises(ApiAnswer, match=r'unknown field "spec.syncPolicies\[0\].kustomization.postBuild"'):
        await dry_run(application({f"{FIRST}.kustomization.postBuild": {"substitute": {"a": "b"}}}))


async def test_a_spec_with_a_hundred_policies_stays_within_the_cost_of_the_rules(application, dry_run):
    policy = application({})["spec"]["syncPolicies"][0]
    policies = [{**policy, "name": f"policy-{number}"} for number in range(100)]
    stored = await dry_run(application({"spec.syncPolicies": policies}))
    assert len(stored["spec"]["syncPolicies"]) == 100
