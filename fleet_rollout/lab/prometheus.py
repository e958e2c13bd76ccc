"""The Prometheus of a member: scrapes its Envoy and calls what it finds by Istio's names.

So the built-in Istio queries of a canary engine run unchanged. In the member it is the Service
`prometheus.istio-system:9090`, with a Pod that the lab plays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleet_rollout.lab import binaries, gateway
from fleet_rollout.lab.gateway import NAMESPACE
from fleet_rollout.lab.pods import PodContext, Program, Recipe
from fleet_rollout.lab.programs import PROMETHEUS

Object = dict[str, Any]

IMAGE = f"docker.io/prom/prometheus:v{PROMETHEUS}"
PORT = 9090
ADDRESS = f"http://prometheus.{NAMESPACE}:{PORT}"
SCRAPE_INTERVAL = "1s"
# Only what has been used, and only the counters that are renamed: 10 KB instead of 100.
FILTER = "^cluster\\..*\\.upstream_rq_(time|[0-9]+)$"

REQUESTS = "envoy_cluster_upstream_rq"
DURATION = "envoy_cluster_upstream_rq_time_(bucket|sum|count)"


def configuration(targets: Path) -> Object:
    """Prometheus' configuration; `targets` is the file in which the gateway says where its Envoy's metrics are."""
    job = {
        "job_name": "envoy",
        "metrics_path": "/stats/prometheus",
        "params": {"usedonly": [""], "filter": [FILTER]},
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
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


def argv(program: Path, folder: Path, targets: Path, port: int) -> list[str | Path]:
    """Write the configuration into `folder` and give the command line; what is stored there is gone with the lab."""
    (folder / "prometheus.json").write_text(json.dumps(configuration(targets)))
    return [
        program,
        f"--config.file={folder / 'prometheus.json'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=6h",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def play(context: PodContext) -> Program:
    program = binaries.require("prometheus")
    targets = gateway.targets_file(context.kubeconfig.parent)
    return Program(argv(program, context.folder, targets, context.port(PORT)), ready="/-/ready")


def objects() -> list[Object]:
    """What the member holds of it."""
    container = {
        "image": IMAGE,
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "http"}},
    }
    return gateway.deployment_and_service("prometheus", container)


RECIPES: dict[str, Recipe] = {"docker.io/prom/prometheus": play, "prom/prometheus": play}
