"""flux-and-kurator.md A.5 row by row, and what is told instead of written when something is missing."""

from __future__ import annotations

import pytest

from fleet_rollout.decide import names
from fleet_rollout.decide.canary.checks import judge
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.translate import (
    Live,
    Wanted,
    is_replaced,
    objects_to_remove,
    recorded_rule,
    translate,
    uses_public_tester,
)
from fleet_rollout.decide.translate_ingress import Rule
from fleet_rollout.decide.translate_tester import LoadTester, container_resources
from fleet_rollout_api.cluster_sync import InventoryEntry
from fleet_rollout_api.fleet import Fleet
from fleet_rollout_api.rollout import RolloutConfig

SERVICE = {
    "metadata": {"name": "cart"},
    "spec": {"ports": [{"port": 80}, {"port": 9898, "targetPort": "http"}, {"port": 9999, "targetPort": 9999}]},
}
WEIGHTS = {"canaryStrategy": {"maxWeight": 50, "stepWeight": 10}}
ANALYSIS = {"checkIntervalSeconds": 90, "checkFailedTimes": 2}


def rollout(provider="istio", *, routing=None, analysis=None, workload=None, course=None, **fields):
    given = {
        "trafficRoutingProvider": provider,
        "workload": {"name": "cart", "namespace": "shop"} | (workload or {}),
        "serviceName": "cart",
        "port": 9898,
        "rolloutPolicy": {
            "trafficRouting": WEIGHTS if routing is None else routing,
            "trafficAnalysis": ANALYSIS | (analysis or {}),
        }
        | (course or {}),
    } | fields
    return RolloutConfig.model_validate(given).defaulted(None)


def translated(config, live=None, previous=None, **wanted):
    return translate(Wanted("web-0", config, "m1", **wanted), live or Live(service=SERVICE), previous)


def canary(config=None, live=None, **wanted):
    found = translated(config or rollout(), live, **wanted)
    assert found.problems == ()
    return found.objects[-1]


def at(obj, path):
    for part in path.split("/"):
        obj = obj[int(part)] if isinstance(obj, list) else obj.get(part)
        if obj is None:
            return None
    return obj


HEADERS = {"request": {"add": {"x-a": "1"}, "remove": ["x-b"]}}
NGINX = WEIGHTS | {"host": "h"}
EVERYTHING = WEIGHTS | {
    "timeoutSeconds": 60,
    "gateways": ["g"],
    "hosts": ["h"],
    "retries": {"attempts": 3},
    "headers": HEADERS,
    "corsPolicy": {"maxAge": "24h"},
}
# Flagger has them, Kurator's API has no field for them.
NEVER = (
    *(f"spec/service/{field}" for field in ("portDiscovery", "match", "rewrite", "trafficPolicy", "mirror")),
    "spec/analysis/mirror",
    "spec/analysis/mirrorWeight",
)
MATCH = [{"headers": {"cookie": {"exact": "x"}}}]
CUSTOM = {"name": "err", "customMetric": {"provider": {"type": "prometheus", "address": "http://p"}, "query": "q"}}
HOOKS = {"webhooks": {"timeoutSeconds": 30, "command": ["hey a", "hey b"]}}


@pytest.mark.parametrize(
    ("config", "path", "expected"),
    [
        (rollout(), "metadata/name", "cart"),
        (rollout(), "metadata/namespace", "shop"),
        (rollout(serviceName="front"), "metadata/name", "cart"),
        (rollout("kuma"), "spec/provider", "kuma"),
        (rollout(), "spec/targetRef", {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}),
        (rollout(workload={"kind": "DaemonSet"}), "spec/targetRef/kind", "DaemonSet"),
        (rollout(course={"rolloutTimeoutSeconds": 600}), "spec/progressDeadlineSeconds", 600),
        (rollout(), "spec/progressDeadlineSeconds", None),
        (rollout(course={"skipTrafficAnalysis": True}), "spec/skipAnalysis", True),
        (rollout(course={"revertOnDeletion": True}), "spec/revertOnDeletion", True),
        (rollout(course={"suspend": True}), "spec/suspend", True),
        (rollout(), "spec/suspend", None),
        (
            rollout("nginx", routing=NGINX),
            "spec/ingressRef",
            {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "nginx"},
        ),
        (rollout(), "spec/ingressRef", None),
        (rollout(serviceName="front"), "spec/service/name", "front"),
        (rollout(), "spec/service/port", 9898),
        (rollout(), "spec/service/targetPort", "http"),
        (rollout(port=9999), "spec/service/targetPort", 9999),
        (rollout(port=80), "spec/service/targetPort", None),
        (rollout(port=1234), "spec/service/targetPort", None),
        (rollout(routing=WEIGHTS | {"timeoutSeconds": 60}), "spec/service/timeout", "60s"),
        (rollout(routing=WEIGHTS | {"timeoutSeconds": 0}), "spec/service/timeout", None),
        (rollout(routing=WEIGHTS | {"gateways": ["g"]}), "spec/service/gateways", ["g"]),
        (rollout(routing=WEIGHTS | {"hosts": ["h"]}), "spec/service/hosts", ["h"]),
        (rollout(routing=WEIGHTS | {"retries": {"attempts": 3}}), "spec/service/retries", {"attempts": 3}),
        (rollout(routing=WEIGHTS | {"headers": HEADERS}), "spec/service/headers", HEADERS),
        (rollout(routing=WEIGHTS | {"corsPolicy": {"maxAge": "24h"}}), "spec/service/corsPolicy/maxAge", "24h"),
        (rollout("nginx", routing=NGINX | {"hosts": ["h"], "headers": HEADERS}), "spec/service/hosts", None),
        *(
            (rollout("kuma"), f"spec/service/{part}/annotations", {"9898.service.kuma.io/protocol": "http"})
            for part in ("apex", "primary", "canary")
        ),
        (
            rollout("kuma", port=9999, routing=WEIGHTS | {"protocol": "tcp"}),
            "spec/service/canary/annotations",
            {"9999.service.kuma.io/protocol": "tcp"},
        ),
        (rollout(), "spec/service/apex", None),
        (rollout(primary={"labels": {"a": "b"}}), "spec/service/primary", {"labels": {"a": "b"}}),
        (rollout(primary={"labels": {"a": "b"}}), "spec/service/apex", {"labels": {"a": "b"}}),
        (rollout(primary={"labels": {"a": "b"}}), "spec/service/canary", None),
        (
            rollout("kuma", preview={"annotations": {"c": "d"}}),
            "spec/service/canary/annotations",
            {"9898.service.kuma.io/protocol": "http", "c": "d"},
        ),
        *(
            (rollout(provider, routing=routing), path, None)
            for provider, routing in (("istio", EVERYTHING), ("kuma", WEIGHTS), ("nginx", NGINX))
            for path in NEVER
        ),
        (rollout(routing={"analysisTimes": 3}), "spec/analysis/iterations", 3),
        (rollout(), "spec/analysis/iterations", None),
        (rollout(), "spec/analysis/threshold", 2),
        (rollout(analysis={"checkFailedTimes": 0}), "spec/analysis/threshold", 0),
        (rollout(), "spec/analysis/interval", "90s"),
        (rollout(routing={"analysisTimes": 3, "match": MATCH}), "spec/analysis/match", MATCH),
        (
            rollout(analysis={"sessionAffinity": {"cookieName": "c", "maxAge": 60}}),
            "spec/analysis/sessionAffinity",
            {"cookieName": "c", "maxAge": 60},
        ),
        (rollout(), "spec/analysis/maxWeight", 50),
        (rollout(), "spec/analysis/stepWeight", 10),
        (
            rollout(routing={"canaryStrategy": {"stepWeights": [1, 5], "stepWeightPromotion": 25}}),
            "spec/analysis/stepWeights",
            [1, 5],
        ),
        (
            rollout(routing={"canaryStrategy": {"stepWeights": [1, 5], "stepWeightPromotion": 25}}),
            "spec/analysis/stepWeightPromotion",
            25,
        ),
        (
            rollout(
                analysis={
                    "metrics": [{"name": "request-duration", "intervalSeconds": 30, "thresholdRange": {"max": 500}}]
                }
            ),
            "spec/analysis/metrics",
            [{"name": "request-duration", "interval": "30s", "thresholdRange": {"max": 500}}],
        ),
        (
            rollout(analysis={"metrics": [{"name": "request-success-rate"}]}),
            "spec/analysis/metrics",
            [{"name": "request-success-rate", "interval": "60s", "thresholdRange": {}}],
        ),
        (
            rollout(analysis={"metrics": [{"name": "err"}]}),
            "spec/analysis/metrics/0/templateRef",
            {"name": "err", "namespace": "shop"},
        ),
        (
            rollout(testLoader=True, analysis=HOOKS),
            "spec/analysis/webhooks/1",
            {
                "name": "generated-testload-1",
                "timeout": "30s",
                "url": "http://cart-testloader.shop/",
                "metadata": {"type": "cmd", "cmd": "hey b"},
            },
        ),
        (
            rollout(testLoader=True, analysis={"webhooks": {"command": ["x"]}}),
            "spec/analysis/webhooks/0/timeout",
            "60s",
        ),
        (rollout(analysis={"webhooks": {}}), "spec/analysis/webhooks", None),
    ],
)
def test_a5_row(config, path, expected):
    assert at(canary(config), path) == expected


@pytest.mark.parametrize("name", ["request-success-rate", "request-duration", "err"])
@pytest.mark.parametrize(
    ("given", "passes", "fails"),
    [
        ({}, (0, 5, 1e9, -3), ()),
        ({"thresholdRange": {}}, (0, 5, 1e9, -3), ()),
        ({"thresholdRange": {"min": 0}}, (0, 5), (-3,)),
        ({"thresholdRange": {"max": 0}}, (0, -3), (5,)),
    ],
)
def test_a_metric_without_a_range_passes_with_any_value(name, given, passes, fails):
    """Without any, the engine would hold a value against the old single threshold, which is 0."""
    [metric] = at(canary(rollout(analysis={"metrics": [{"name": name} | given]})), "spec/analysis/metrics")
    assert metric["thresholdRange"] == given.get("thresholdRange", {})
    subject = Subject(canary())
    assert [judge(subject, metric, value) for value in passes] == [None] * len(passes)
    assert all(judge(subject, metric, value) for value in fails)


GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}
ALL_ROUTING = WEIGHTS | {
    "gateways": ["g"],
    "gatewayRefs": [{"name": "public"}],
    "hosts": ["h"],
    "retries": {"attempts": 3},
    "headers": HEADERS,
    "corsPolicy": {"maxAge": "24h"},
    "timeoutSeconds": 60,
}
OWN_INGRESS = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "own"}


@pytest.mark.parametrize(
    ("provider", "read"),
    [
        ("istio", {"gateways", "hosts", "retries", "headers", "corsPolicy"}),
        ("gatewayapi:v1", {"gatewayRefs", "hosts", "headers", "corsPolicy"}),
        ("gatewayapi:v1beta1", {"gatewayRefs", "hosts", "headers"}),
        *((name, {"gateways", "hosts"}) for name in ("smi:v1alpha1", "smi:v1alpha2", "smi:v1alpha3", "linkerd", "osm")),
        ("contour", {"retries"}),
        *((name, set()) for name in ("kuma", "nginx", "kubernetes", "traefik", "apisix", "gloo", "skipper", "knative")),
    ],
)
def test_each_provider_gets_what_it_reads_of_the_route(provider, read):
    spec = canary(rollout(provider, routing=ALL_ROUTING))["spec"]
    assert spec["provider"] == provider
    always = {"name", "port", "targetPort", "timeout"} | (
        {"apex", "primary", "canary"} if provider == "kuma" else set()
    )
    assert set(spec["service"]) - always == read
    assert spec["service"].get("gatewayRefs", [GATEWAY]) == [GATEWAY]


@pytest.mark.parametrize(
    ("provider", "routing", "path", "expected"),
    [
        ("nginx", {"ingressRef": {"name": "own"}}, "spec/ingressRef", OWN_INGRESS),
        ("skipper", {"ingressRef": {"name": "own"}}, "spec/ingressRef", OWN_INGRESS),
        (
            "apisix",
            {"routeRef": {"name": "own"}},
            "spec/routeRef",
            {"apiVersion": "apisix.apache.org/v2", "kind": "ApisixRoute", "name": "own"},
        ),
        (
            "gloo",
            {"upstreamRef": {"name": "own", "namespace": "gloo-system"}},
            "spec/upstreamRef",
            {"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "name": "own", "namespace": "gloo-system"},
        ),
        ("gloo", {}, "spec/upstreamRef", None),
        ("istio", {"mirror": True, "mirrorWeight": 20}, "spec/analysis/mirrorWeight", 20),
        ("istio", {"mirror": True}, "spec/analysis/mirror", True),
        ("istio", {"mirror": False}, "spec/analysis/mirror", None),
    ],
)
def test_references_and_copies_of_requests_reach_the_canary(provider, routing, path, expected):
    assert at(canary(rollout(provider, routing=WEIGHTS | routing)), path) == expected


def test_a_knative_service_is_its_own_service():
    workload = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    found = translated(rollout("knative", workload=workload), Live())
    assert found.problems == ()
    spec = found.objects[-1]["spec"]
    assert spec["targetRef"] == {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "cart"}
    assert spec["service"] == {"name": "cart", "port": 9898}
    assert (found.record.workload_kind, found.record.workload_version) == ("Service", "serving.knative.dev/v1")


def test_only_meshes_that_kurator_knows_prepare_the_namespace_and_have_a_shared_tester():
    for provider in ("gatewayapi:v1", "linkerd", "kubernetes"):
        assert translated(rollout(provider)).namespace is None
        found = translated(rollout(provider, analysis=HOOKS), engine="flagger", public_tester=True)
        assert problem(found).reason == "TestLoaderMissing"


@pytest.mark.parametrize(
    ("provider", "routing", "namespace"),
    [("istio", WEIGHTS, "istio-system"), ("kuma", WEIGHTS, "kuma-system"), ("nginx", NGINX, "ingress-nginx")],
)
def test_a5_the_public_tester_is_found_by_the_providers_namespace(provider, routing, namespace):
    found = canary(rollout(provider, routing=routing, analysis=HOOKS), public_tester=True)
    url = at(found, "spec/analysis/webhooks/0/url")
    assert url == f"http://{namespace}-testloader-m1-loadtester.{namespace}/"


def test_a5_annotations_name_policy_and_engine_and_nothing_else():
    expected = {names.ROLLOUT_ANNOTATION: "web-0", names.ENGINE_ANNOTATION: "hub"}
    assert canary(rollout("nginx", routing=NGINX))["metadata"]["annotations"] == expected
    assert canary(rollout("kuma"))["metadata"]["annotations"] == expected | {"kuma.io/mesh": "default"}


def test_a5_metric_templates_hold_the_custom_metric_once():
    found = translated(rollout(analysis={"metrics": [CUSTOM, CUSTOM, {"name": "other"}]}))
    [template] = [obj for obj in found.objects if obj["kind"] == "MetricTemplate"]
    assert template == {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "MetricTemplate",
        "metadata": {"name": "err", "namespace": "shop", "annotations": {names.ROLLOUT_ANNOTATION: "web-0"}},
        "spec": CUSTOM["customMetric"],
    }


def test_g35_tester_templates_canary_in_this_order():
    found = translated(rollout(testLoader=True, analysis=HOOKS | {"metrics": [CUSTOM]}))
    assert [(obj["kind"], obj["metadata"]["name"]) for obj in found.objects] == [
        ("Deployment", "cart-testloader"),
        ("Service", "cart-testloader"),
        ("MetricTemplate", "err"),
        ("Canary", "cart"),
    ]
    assert found.namespace["metadata"]["labels"] == {"istio-injection": "enabled"}


def test_load_tester_image_and_resources_are_settings():
    settings = LoadTester(image="registry/x:1", resources={"limits": {"cpu": "2"}})
    found = translated(rollout(testLoader=True, analysis=HOOKS), tester=settings)
    [container] = at(found.objects[0], "spec/template/spec/containers")
    assert (container["image"], container["resources"]) == ("registry/x:1", {"limits": {"cpu": "2"}})


def test_a_resource_of_the_load_tester_that_is_empty_is_left_out():
    limits = {"cpu": "2", "memory": ""}
    assert container_resources(requests={"cpu": "", "memory": ""}, limits=limits) == {"limits": {"cpu": "2"}}


def test_a_long_workload_name_still_gives_a_service_name_and_the_url_that_matches():
    config = rollout(testLoader=True, analysis=HOOKS, workload={"name": "w" * 60})
    objects = translated(config).objects
    name = objects[1]["metadata"]["name"]
    assert len(name) <= 63
    assert at(objects[-1], "spec/analysis/webhooks/0/url") == f"http://{name}.shop/"


def test_skipped_analysis_needs_neither_routing_nor_analysis():
    config = rollout(course={"trafficRouting": None, "trafficAnalysis": None, "skipTrafficAnalysis": True})
    assert canary(config)["spec"]["analysis"] == {"interval": "60s", "iterations": 1, "threshold": 1}


def scaler(name, kind="Deployment", target="cart", owners=(), api_version="apps/v1"):
    reference = {"apiVersion": api_version, "kind": kind, "name": target}
    return {"metadata": {"name": name, "ownerReferences": list(owners)}, "spec": {"scaleTargetRef": reference}}


KEDA = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "cart"}


@pytest.mark.parametrize(
    ("scalers", "expected"),
    [
        ([], None),
        ([scaler("b"), scaler("a")], ("HorizontalPodAutoscaler", "a")),
        ([scaler("a", target="cart-primary")], None),
        ([scaler("a", kind="StatefulSet")], None),
        ([scaler("a", api_version="argoproj.io/v1")], None),
        ([scaler("keda-hpa-cart", owners=[{"kind": "X"}, KEDA])], ("ScaledObject", "cart")),
        ([{"metadata": {"name": "a"}, "spec": {}}], None),
    ],
)
def test_an_autoscaler_of_the_workload_is_named_so_that_the_primary_scales(scalers, expected):
    live = Live(service=SERVICE, scalers=scalers)
    found = canary(rollout(), live)["spec"].get("autoscalerRef")
    assert (found and (found["kind"], found["name"])) == expected
    assert "autoscalerRef" not in canary(rollout(autoscaler=False), live)["spec"]


def test_of_a_knative_service_no_autoscaler_is_named():
    """Neither engine takes such a Canary."""
    workload = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    live = Live(scalers=[scaler("a", kind="Service", api_version="serving.knative.dev/v1")])
    assert "autoscalerRef" not in canary(rollout("knative", workload=workload), live)["spec"]


def problem(found):
    assert found.objects == ()
    assert found.ingress is None
    assert {each.policy for each in found.problems} == {"web-0"}
    [only] = found.problems
    return only


def test_without_its_service_nothing_but_the_namespace_is_prepared():
    found = translated(rollout(), Live())
    assert problem(found).reason == "ServiceNotFound"
    assert problem(found).message.startswith("Service/shop/cart not found in the member; ")
    assert found.namespace is not None


def test_commands_without_a_tester_write_no_canary():
    found = problem(translated(rollout(analysis=HOOKS)))
    assert found.reason == "TestLoaderMissing"
    assert found.message.endswith("set rollout.testLoader: true")


def metric(name="err", query="q", address="http://p"):
    return {"name": name, "customMetric": {"provider": {"type": "prometheus", "address": address}, "query": query}}


METRICS = "rollout.rolloutPolicy.trafficAnalysis.metrics"


@pytest.mark.parametrize("other", [metric(query="other"), metric(address="http://other")])
def test_a_name_for_two_metrics_of_ones_own_is_refused(other):
    """Both would be judged by the query that is written last."""
    found = problem(translated(rollout(analysis={"metrics": [metric(), metric("fine"), other, metric(), other]})))
    assert (found.reason, found.terminal) == ("RolloutInvalid", True)
    assert found.message == f"{METRICS}: err has two different customMetrics; give one of them another name"


def test_a_metric_of_ones_own_may_be_held_against_several_ranges():
    metrics = [metric() | {"thresholdRange": {"max": 1}}, metric() | {"intervalSeconds": 300}, {"name": "err"}]
    assert len(canary(rollout(analysis={"metrics": metrics}))["spec"]["analysis"]["metrics"]) == 3


@pytest.mark.parametrize("name", ["request-success-rate", "request-duration"])
def test_a_metric_of_ones_own_may_not_have_the_name_of_a_built_in_one(name):
    """The built-in query would be asked instead of it."""
    found = problem(translated(rollout(analysis={"metrics": [metric(name), metric(name, "other")]})))
    assert (found.reason, found.terminal) == ("RolloutInvalid", True)
    assert found.message == (
        f"{METRICS}: {name} is the name of a built-in metric, so its customMetric would not be asked; "
        "give it another name, or remove customMetric"
    )


@pytest.mark.parametrize(("engine", "demanded"), [("hub", False), ("agent", False), ("flagger", True)])
def test_only_where_flagger_runs_the_canaries_its_shared_tester_is_a_way_out(engine, demanded):
    found = problem(translated(rollout(analysis=HOOKS), engine=engine))
    assert ("publicTestloader in the Fleet's spec.plugin.flagger" in found.message) is demanded
    assert canary(engine=engine)["metadata"]["annotations"][names.ENGINE_ANNOTATION] == engine


def test_a_workload_without_namespace_is_refused():
    found = problem(translated(rollout(workload={"namespace": ""})))
    assert (found.reason, found.terminal) == ("RolloutInvalid", True)


@pytest.mark.parametrize(
    ("routing", "text"),
    [(WEIGHTS | {"analysisTimes": 3}, "exclude each other"), ({}, "set canaryStrategy (canary) or analysisTimes")],
)
def test_exactly_one_strategy(routing, text):
    found = problem(translated(rollout(routing=routing)))
    assert found.reason == "RolloutInvalid"
    assert text in found.message


def test_a_namespace_that_says_the_opposite_stops_the_rollout():
    live = Live(service=SERVICE, namespace={"metadata": {"name": "shop", "labels": {"istio-injection": "disabled"}}})
    found = translated(rollout(), live)
    assert problem(found).reason == "NamespaceConflict"
    assert found.namespace is None


def test_all_that_is_wrong_is_said_at_once():
    found = translated(rollout(analysis=HOOKS), Live())
    assert [each.reason for each in found.problems] == ["ServiceNotFound", "TestLoaderMissing"]


CLOSED = {
    "properties": {
        "spec": {"properties": {"provider": {}, "targetRef": {"x-kubernetes-preserve-unknown-fields": True}}}
    }
}


def test_a_foreign_crd_without_a_field_we_need_names_the_field():
    found = problem(translated(rollout(), Live(service=SERVICE, schemas={"Canary": CLOSED})))
    assert found.reason == "CRDIncompatible"
    assert "Canary in the member lacks spec.service, spec.analysis;" in found.message


def test_a_foreign_crd_with_every_field_is_used():
    open_schema = {"properties": {"spec": {"x-kubernetes-preserve-unknown-fields": True}}}
    assert canary(live=Live(service=SERVICE, schemas={"Canary": open_schema}))


def test_a_host_that_another_service_has_stops_the_rollout():
    other = translated(rollout("nginx", routing=NGINX, serviceName="other")).ingress.object
    live = Live(service=SERVICE, ingress=other)
    assert problem(translated(rollout("nginx", routing=NGINX), live)).reason == "HostTaken"


def test_the_record_names_what_was_brought_and_keeps_what_was_learned():
    first = translated(rollout("nginx", routing=NGINX, testLoader=True, analysis=HOOKS)).record
    assert [entry.id for entry in first.objects] == [
        "shop_cart-testloader_apps_Deployment",
        "shop_cart-testloader__Service",
        "shop_cart_flagger.app_Canary",
    ]
    assert (first.canary, first.host, first.provider) == ("cart", "h", "nginx")
    assert recorded_rule(first) == Rule("h", "cart")
    learned = first.model_copy(update={"replicas": 3, "canary_status": {"phase": "Succeeded"}})
    again = translated(rollout(), previous=learned)
    assert (again.record.replicas, again.record.canary_status) == (3, {"phase": "Succeeded"})
    assert recorded_rule(again.record) is None
    assert objects_to_remove(learned, again) == (
        InventoryEntry(id="shop_cart-testloader_apps_Deployment", v="v1"),
        InventoryEntry(id="shop_cart-testloader__Service", v="v1"),
    )


def test_nothing_is_removed_for_the_first_time_or_while_there_is_a_problem():
    first = translated(rollout())
    assert objects_to_remove(None, first) == ()
    assert objects_to_remove(first.record, translated(rollout(), Live())) == ()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (rollout(), False),
        (rollout(port=80, course={"suspend": True}), False),
        (rollout(workload={"name": "other"}), True),
        (rollout(workload={"kind": "DaemonSet"}), True),
        (rollout(workload={"namespace": "other"}), True),
        (rollout(serviceName="other"), True),
        (rollout("kuma"), True),
    ],
)
def test_a_rollout_of_another_workload_replaces_the_recorded_one(config, expected):
    record = translated(rollout()).record
    assert is_replaced(record, Wanted("web-0", config, "m1")) is expected
    assert is_replaced(record, None)
    # A record that an interrupted first translation has left.
    assert not is_replaced(record.model_copy(update={"provider": ""}), Wanted("web-0", rollout("kuma"), "m1"))


def test_the_rule_of_a_host_goes_when_the_rollout_takes_an_ingress_of_its_own():
    first = translated(rollout("nginx", routing=NGINX))
    own = rollout("nginx", routing=WEIGHTS | {"ingressRef": {"name": "own"}})
    again = translated(own, Live(service=SERVICE, ingress=first.ingress.object), first.record)
    assert again.ingress.action == "delete"
    assert (again.record.host, again.record.ingress, again.record.route) == (None, "own", None)
    assert translated(own, Live(service=SERVICE), again.record).ingress is None
    routed = translated(rollout("apisix", routing=WEIGHTS | {"routeRef": {"name": "r"}}))
    assert (routed.ingress, routed.record.route) == (None, "r")


@pytest.mark.parametrize(("only", "reasons"), [("", []), ("shop", []), ("team", ["CrossNamespaceRef"])])
@pytest.mark.parametrize("named", ["shop", None])
def test_t30_in_lockdown_a_rollout_stays_in_its_applications_namespace(only, reasons, named):
    given = rollout()
    workload = given.workload.model_copy(update={"namespace": named})
    config = given.model_copy(update={"workload": workload}).defaulted("shop")
    found = translated(config, only_namespace=only)
    assert [problem.reason for problem in found.problems] == reasons
    assert bool(found.objects) is not bool(reasons)
    assert not reasons or (found.namespace, found.ingress) == (None, None)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (" shop", "CrossNamespaceRef"),
        ("shop ", "CrossNamespaceRef"),
        ("Shop", "CrossNamespaceRef"),
        ("", "RolloutInvalid"),
    ],
)
def test_t30_in_lockdown_a_namespace_that_is_written_otherwise_is_another(named, reason):
    given = rollout()
    config = given.model_copy(update={"workload": given.workload.model_copy(update={"namespace": named})})
    found = translated(config.defaulted("shop"), only_namespace="shop")
    assert [problem.reason for problem in found.problems] == [reason]
    assert not found.objects


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (None, False),
        ({}, False),
        ({"flagger": {}}, False),
        ({"flagger": None}, False),
        ({"flagger": "x"}, False),
        ({"flagger": {"publicTestloader": False}}, False),
        ({"flagger": {"publicTestloader": True}}, True),
    ],
)
def test_the_fleet_says_whether_there_is_a_public_tester(plugin, expected):
    fleet = Fleet.model_validate({"metadata": {"name": "f"}, "spec": {"plugin": plugin}})
    assert uses_public_tester(fleet) is expected
    assert not uses_public_tester(None)
