"""A policy's rollout as a Flagger Canary and its MetricTemplates. What a user left out stays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet_rollout.decide import names
from fleet_rollout.decide.metric_names import BUILT_IN_METRICS, metrics_of, templates_of
from fleet_rollout.decide.traffic_names import INGRESS, KUMA_MESH_ANNOTATION, kuma_protocol_annotation
from fleet_rollout_api.meta import Metadata
from fleet_rollout_api.rollout import Metric, RolloutConfig, TrafficAnalysis, TrafficRouting

Object = dict[str, Any]

API_VERSION = "flagger.app/v1beta1"
# What each provider reads of the route; what it does not read is left out, as Kurator leaves it out for nginx and kuma.
_SPLIT = ("gateways", "hosts")
READ: Mapping[str, tuple[str, ...]] = {
    "istio": ("gateways", "hosts", "retries", "headers", "corsPolicy"),
    "gatewayapi:v1": ("gatewayRefs", "hosts", "headers", "corsPolicy"),
    "gatewayapi:v1beta1": ("gatewayRefs", "hosts", "headers"),
    "contour": ("retries",),
    **dict.fromkeys(("smi:v1alpha1", "smi:v1alpha2", "smi:v1alpha3", "linkerd", "osm"), _SPLIT),
}
# Flagger's schema asks for an analysis even where it is skipped; this one is never run.
SKIPPED_INTERVAL, SKIPPED_THRESHOLD, SKIPPED_ITERATIONS = "60s", 1, 1


def canary(
    rollout: RolloutConfig,
    *,
    policy: str,
    engine: str,
    service: Mapping[str, Any],
    scalers: Sequence[Mapping[str, Any]],
    tester_url: str | None,
) -> Object:
    """The Canary, named after the workload. `service` is the live Service, for the port's target."""
    annotations = {names.ROLLOUT_ANNOTATION: policy, names.ENGINE_ANNOTATION: engine}
    if rollout.traffic_routing_provider == "kuma":
        annotations[KUMA_MESH_ANNOTATION] = "default"
    workload, course = rollout.workload, rollout.rollout_policy
    spec: Object = {
        "provider": rollout.traffic_routing_provider,
        "targetRef": {"apiVersion": workload.api_version, "kind": workload.kind, "name": workload.name},
        "autoscalerRef": autoscaler_ref(rollout, scalers),
        **_references(rollout),
        "service": _service(rollout, service),
        "analysis": _analysis(rollout, tester_url),
        "progressDeadlineSeconds": course.rollout_timeout_seconds,
        "skipAnalysis": course.skip_traffic_analysis,
        "revertOnDeletion": course.revert_on_deletion,
        "suspend": course.suspend,
    }
    metadata = {"name": workload.name, "namespace": workload.namespace, "annotations": annotations}
    return {"apiVersion": API_VERSION, "kind": "Canary", "metadata": metadata, "spec": _said(spec)}


def metric_templates(rollout: RolloutConfig, policy: str) -> list[Object]:
    """One MetricTemplate for each metric that brings a query of its own."""
    metadata = {"namespace": rollout.workload.namespace, "annotations": {names.ROLLOUT_ANNOTATION: policy}}
    return [
        {"apiVersion": API_VERSION, "kind": "MetricTemplate", "metadata": {"name": name} | metadata, "spec": spec}
        for name, spec in templates_of(rollout).items()
    ]


def commands(rollout: RolloutConfig) -> list[str]:
    """What the load tester is asked to run at each check."""
    analysis = rollout.rollout_policy.traffic_analysis
    return list((analysis.webhooks.command if analysis and analysis.webhooks else None) or ())


def autoscaler_ref(rollout: RolloutConfig, scalers: Sequence[Mapping[str, Any]]) -> Object | None:
    """The autoscaler that targets the workload, so that the promoted copy gets one too; KEDA's where KEDA made it.

    Knative scales its Services itself.
    """
    if not rollout.autoscaler or rollout.traffic_routing_provider == "knative":
        return None
    for scaler in sorted(scalers, key=lambda each: str(each["metadata"]["name"])):
        if _targets(scaler["spec"].get("scaleTargetRef") or {}, rollout):
            owners = scaler["metadata"].get("ownerReferences") or ()
            keda = next((owner for owner in owners if owner["kind"] == "ScaledObject"), None)
            if keda is not None:
                return {"apiVersion": keda["apiVersion"], "kind": keda["kind"], "name": keda["name"]}
            return {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "name": scaler["metadata"]["name"],
            }
    return None


def _targets(target: Mapping[str, Any], rollout: RolloutConfig) -> bool:
    workload = rollout.workload
    group = workload.api_version.rpartition("/")[0]
    found = (target.get("apiVersion", workload.api_version).rpartition("/")[0], target.get("kind"), target.get("name"))
    return found == (group, workload.kind, workload.name)


def _references(rollout: RolloutConfig) -> Object:
    """The objects of the user's that the routes are made from, or the shared Ingress."""
    routing = _routing(rollout)
    shared = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": INGRESS}
    ingress = routing.ingress_ref.dump() if routing.ingress_ref else None
    return {
        "ingressRef": ingress or (shared if rollout.traffic_routing_provider == "nginx" else None),
        "routeRef": routing.route_ref.dump() if routing.route_ref else None,
        "upstreamRef": routing.upstream_ref.dump() if routing.upstream_ref else None,
    }


def _service(rollout: RolloutConfig, live: Mapping[str, Any]) -> Object:
    routing = _routing(rollout)
    said: Object = {
        "gateways": routing.gateways,
        "gatewayRefs": [reference.dump() for reference in routing.gateway_refs or ()],
        "hosts": routing.hosts,
        "retries": routing.retries.dump() if routing.retries else None,
        "headers": routing.headers.dump() if routing.headers else None,
        "corsPolicy": routing.cors_policy.dump() if routing.cors_policy else None,
    }
    service: Object = {
        "name": rollout.service_name,
        "port": rollout.port,
        "targetPort": target_port(live, rollout.port),
        "timeout": _seconds(routing.timeout_seconds),
        **{name: said[name] for name in READ.get(rollout.traffic_routing_provider, ())},
    }
    protocol: dict[str, str] = {}
    if rollout.traffic_routing_provider == "kuma":
        protocol = {kuma_protocol_annotation(rollout.port): routing.protocol or "http"}
    service |= {
        "apex": _metadata(rollout.primary, protocol),
        "primary": _metadata(rollout.primary, protocol),
        "canary": _metadata(rollout.preview, protocol),
    }
    return _said(service)


def target_port(service: Mapping[str, Any], port: int) -> int | str | None:
    """The container port behind the Service's `port`; None where the Service has no such port."""
    ports = service.get("spec", {}).get("ports") or ()
    return next((each.get("targetPort") for each in ports if each.get("port") == port), None)


def _metadata(given: Metadata | None, annotations: Mapping[str, str]) -> Object | None:
    own = given.dump() if given else {}
    merged = annotations | own.get("annotations", {})
    return _said({"labels": own.get("labels"), "annotations": merged}) or None


def _analysis(rollout: RolloutConfig, tester_url: str | None) -> Object:
    routing, analysis = _routing(rollout), rollout.rollout_policy.traffic_analysis
    spec: Object = {
        "interval": f"{analysis.check_interval_seconds}s" if analysis else SKIPPED_INTERVAL,
        "iterations": routing.analysis_times,
        "match": [match.dump() for match in routing.match or ()],
        "mirror": routing.mirror,
        "mirrorWeight": routing.mirror_weight,
        "metrics": [_metric(metric, rollout) for metric in metrics_of(rollout)],
        "webhooks": [_webhook(index, command, tester_url, analysis) for index, command in enumerate(commands(rollout))],
    }
    if routing.canary_strategy is not None:
        spec |= routing.canary_strategy.dump()
    elif not routing.analysis_times:
        spec["iterations"] = SKIPPED_ITERATIONS
    if analysis is not None and analysis.session_affinity is not None:
        spec["sessionAffinity"] = analysis.session_affinity.dump()
    # A threshold of 0 is a number the schema requires, not something left out.
    return _said(spec) | {"threshold": analysis.check_failed_times if analysis else SKIPPED_THRESHOLD}


def _metric(metric: Metric, rollout: RolloutConfig) -> Object:
    reference = {"name": metric.name, "namespace": rollout.workload.namespace}
    spec = {
        "name": metric.name,
        "interval": f"{metric.interval_seconds}s",
        "templateRef": reference if metric.name not in BUILT_IN_METRICS else None,
    }
    # An empty range passes everything; without one the old single threshold holds, and that is 0.
    return _said(spec) | {"thresholdRange": metric.threshold_range.dump() if metric.threshold_range else {}}


def _webhook(index: int, command: str, url: str | None, analysis: TrafficAnalysis | None) -> Object:
    timeout = analysis.webhooks.timeout_seconds if analysis and analysis.webhooks else None
    spec = {
        "name": f"generated-testload-{index}",
        "timeout": _seconds(timeout),
        "url": url,
        "metadata": {"type": "cmd", "cmd": command},
    }
    return _said(spec)


def _routing(rollout: RolloutConfig) -> TrafficRouting:
    return rollout.rollout_policy.traffic_routing or TrafficRouting()


def _seconds(value: int | None) -> str | None:
    return f"{value}s" if value else None


def _said(fields: Object) -> Object:
    """`fields` without what says nothing, as Go's omitempty: None, false, 0, empty lists and maps."""
    return {name: value for name, value in fields.items() if value}
