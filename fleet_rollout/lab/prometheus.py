"""The Prometheus of a member: scrapes its Envoy and calls what it finds by Istio's names.

So the built-in Istio queries of a canary engine run unchanged. In the member it is the Service
`prometheus.istio-system:9090`, with a Pod that the lab plays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Object = dict[str, Any]

NAMESPACE = "istio-system"
IMAGE = "docker.io/prom/prometheus:v3"
PORT = 9090
ADDRESS = f"http://prometheus.{NAMESPACE}:{PORT}"
SCRAPE_INTERVAL = "1s"
# Only what has been used, and only the counters that are renamed: 10 KB instead of 100.
FILTER = "^cluster\\..*\\.upstream_rq_(time|[0-9]+)$"

REQUESTS = "envoy_cluster_upstream_rq"
DURATION = "envoy_cluster_upstream_rq_time_(bucket|sum|count)"


def configuration(envoy_admin: str) -> Object:
    """Prometheus' configuration for the Envoy whose admin interface is at `envoy_admin` (host:port)."""
    job = {
        "job_name": "envoy",
        "metrics_path": "/stats/prometheus",
        "params": {"usedonly": [""], "filter": [FILTER]},
        "static_configs": [{"targets": [envoy_admin]}],
        "metric_relabel_configs": _relabelling(),
    }
    interval = {"scrape_interval": SCRAPE_INTERVAL, "scrape_timeout": SCRAPE_INTERVAL}
    return {"global": interval, "scrape_configs": [job]}


def _relabelling() -> list[Object]:
    """From Envoy's names to Istio's; clusters are called `<namespace>/<workload>`."""
    name, workload = "__name__", "envoy_cluster_name"
    return [
        {"action": "keep", "source_labels": [name], "regex": f"{REQUESTS}|{DURATION}"},
        _set("destination_workload_namespace", workload, "([^/]+)/(.+)", "$1"),
        _set("destination_workload", workload, "([^/]+)/(.+)", "$2"),
        _set("response_code", "envoy_response_code", "(.+)", "$1"),
        {"action": "replace", "target_label": "reporter", "replacement": "destination"},
        _set(name, name, REQUESTS, "istio_requests_total"),
        _set(name, name, DURATION, "istio_request_duration_milliseconds_$1"),
        {"action": "labeldrop", "regex": "envoy_.*"},
    ]


def _set(target: str, source: str, pattern: str, value: str) -> Object:
    return {"source_labels": [source], "regex": pattern, "target_label": target, "replacement": value}


def write_configuration(path: Path, envoy_admin: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(configuration(envoy_admin)))


def argv(program: Path, configuration: Path, data: Path, port: int) -> list[str | Path]:
    """The command line; what it stores is gone with the lab."""
    return [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=6h",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def objects() -> list[Object]:
    """What the member holds of it, in the order of creation."""
    labels = {"app": "prometheus"}
    port = {"name": "http", "port": PORT, "targetPort": "http"}
    container = {
        "name": "prometheus",
        "image": IMAGE,
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "http"}},
    }
    metadata = {"name": "prometheus", "namespace": NAMESPACE, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": [port]}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    ]
