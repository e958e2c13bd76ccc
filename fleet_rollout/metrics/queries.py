"""The built-in queries, as data: which series count the requests to a canary, and whose they are.

A label set is a template; every provider that is not listed means Istio's series, as it does to Flagger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from fleet_rollout.decide.canary.checks import SUCCESS_RATE, Model
from fleet_rollout.metrics.templates import render


@dataclass(frozen=True)
class Observer:
    """`requests` counts them all, and with the label matcher `fine` those that did not fail.

    `latency` is a histogram, or where `is_mean` the name before _sum and _count. `scale` is what the query's result
    is multiplied with for milliseconds, `in_query` what the query itself multiplies with.
    """

    requests: str
    fine: str
    latency: str
    labels: str
    latency_labels: str = ""
    scale: float = 1.0
    in_query: int = 1
    is_mean: bool = False
    has_word_names: bool = False  # in label values all else than letters, digits and _ is replaced by _

    @property
    def success_rate(self) -> str:
        """In percent, as a template."""
        return f"{_rate(self.requests, f'{self.labels}, {self.fine}')} / {_rate(self.requests, self.labels)} * 100"

    @property
    def duration(self) -> str:
        """The 99th percentile or the mean, as a template."""
        labels = self.latency_labels or self.labels
        if self.is_mean:
            value = f"{_rate(f'{self.latency}_sum', labels)} / {_rate(f'{self.latency}_count', labels)}"
        else:
            value = f"histogram_quantile(0.99, {_rate(self.latency, labels)} by (le))"
        return value if self.in_query == 1 else f"{value} * {self.in_query}"


def _rate(series: str, labels: str) -> str:
    return f"sum(rate({series}{{{labels}}}[{{{{ interval }}}}]))"


ENVOY = Observer(
    requests="envoy_cluster_upstream_rq",
    fine='envoy_response_code!~"5.*"',
    latency="envoy_cluster_upstream_rq_time_bucket",
    labels="",
)
PODS = 'kubernetes_namespace="{{ namespace }}", kubernetes_pod_name=~"{{ target }}-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)"'
TRAEFIK_SERVICE = 'service=~"{{ namespace }}-{{ target }}-canary-[0-9a-zA-Z-]+@kubernetescrd"'
SKIPPER_ROUTE = 'route=~"kube(ew)?_{{ namespace }}__{{ ingress }}_canary__.*__{{ service }}_canary(_[0-9]+)?"'
APISIX_ROUTE = 'route=~"{{ namespace }}_{{ route }}-{{ target }}-canary_.+"'

ISTIO = Observer(
    requests="istio_requests_total",
    fine='response_code!~"5.*"',
    latency="istio_request_duration_milliseconds_bucket",
    labels='reporter="destination", destination_workload_namespace="{{ namespace }}", '
    'destination_workload=~"{{ target }}"',
)
HTTP = Observer(
    requests="http_request_duration_seconds_count",
    fine='status!~"5.*"',
    latency="http_request_duration_seconds_bucket",
    labels=PODS,
    scale=1000.0,
)
OBSERVERS: Mapping[str, Observer] = {
    "istio": ISTIO,
    "linkerd": Observer(
        requests="response_total",
        fine='classification!="failure"',
        latency="response_latency_ms_bucket",
        labels='namespace="{{ namespace }}", deployment=~"{{ target }}", direction="inbound"',
    ),
    "kubernetes": HTTP,
    "contour": replace(ENVOY, labels='envoy_cluster_name=~"{{ namespace }}_{{ service }}-canary_[0-9a-zA-Z-]+"'),
    "kuma": replace(ENVOY, labels='service=~"{{ target }}-canary_{{ namespace }}_svc_[0-9a-zA-Z-]+"'),
    "knative": replace(ENVOY, labels='envoy_cluster_name=~"{{ namespace }}/{{ route }}"'),
    "nginx": Observer(
        requests="nginx_ingress_controller_requests",
        fine='status!~"5.*"',
        latency="nginx_ingress_controller_response_duration_seconds",
        labels='namespace="{{ namespace }}", ingress="{{ ingress }}", canary!=""',
        in_query=1000,
        is_mean=True,
    ),
    "osm": Observer(
        requests="osm_request_total",
        fine='response_code!~"5.*"',
        latency="osm_request_duration_ms_bucket",
        labels='destination_namespace="{{ namespace }}", destination_kind="Deployment", '
        'destination_name="{{ target }}"',
    ),
    "traefik": Observer(
        requests="traefik_service_request_duration_seconds_bucket",
        fine='code!~"5.."',
        latency="traefik_service_request_duration_seconds_bucket",
        labels=f'{TRAEFIK_SERVICE}, le="+Inf"',
        latency_labels=TRAEFIK_SERVICE,
        in_query=1000,
    ),
    "apisix": Observer(
        requests="apisix_http_status",
        fine='code!~"5.."',
        latency="apisix_http_latency_bucket",
        labels=APISIX_ROUTE,
        latency_labels=f'type=~"request", {APISIX_ROUTE}',
    ),
    "skipper": Observer(
        requests="skipper_response_duration_seconds_bucket",
        fine='code!~"5.."',
        latency="skipper_serve_route_duration_seconds",
        labels=f'{SKIPPER_ROUTE}, le="+Inf"',
        latency_labels=SKIPPER_ROUTE,
        in_query=1000,
        is_mean=True,
        has_word_names=True,
    ),
}
# Names with a version behind them.
PREFIXES: Mapping[str, Observer] = {
    "appmesh": replace(ENVOY, labels=PODS),
    "gloo": replace(
        ENVOY,
        labels='envoy_cluster_name=~"{{ namespace }}-{{ target }}-canaryupstream-[0-9a-zA-Z-]+_[0-9a-zA-Z-]+"',
    ),
    "gatewayapi": HTTP,
}


class Query(NamedTuple):
    """What to ask, and what the answer is multiplied with: durations are in milliseconds."""

    text: str
    scale: float = 1.0


def observer_of(provider: str) -> Observer:
    """The series that a provider's metrics are in."""
    if provider in OBSERVERS:
        return OBSERVERS[provider]
    return next((found for prefix, found in PREFIXES.items() if provider.startswith(prefix)), ISTIO)


def built_in(provider: str, metric: str, model: Model) -> Query:
    """The query of `request-success-rate` or `request-duration`."""
    observer = observer_of(provider)
    names = _in_words(model) if observer.has_word_names else model
    if metric == SUCCESS_RATE:
        return Query(_filled(observer.success_rate, names))
    return Query(_filled(observer.duration, names), observer.scale)


def _filled(template: str, model: Model) -> str:
    values = (model.name, model.namespace, model.target, model.service, model.ingress, model.route, model.interval)
    return _remembered(template, values)


@lru_cache(maxsize=4096)  # a Canary asks the same at every tick
def _remembered(template: str, values: tuple[str, str, str, str, str, str, str]) -> str:
    return render(template, Model(*values))


def _in_words(model: Model) -> Model:
    """As Skipper spells the names of its routes."""

    def plain(text: str) -> str:
        return re.sub(r"\W", "_", text, flags=re.ASCII)

    return replace(
        model,
        name=plain(model.name),
        namespace=plain(model.namespace),
        target=plain(model.target),
        service=plain(model.service),
        ingress=plain(model.ingress),
    )
