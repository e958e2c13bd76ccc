"""Grafana dashboards of rollouts, one for each family of meshes, made from the queries that analyses ask.

`python -m fleet_rollout.faces.dashboards config/grafana` writes them, `--check` says which are stale. Rollouts are read
from where the hub's metrics are collected, requests from the member's own Prometheus; both may be one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fleet_rollout.metrics.queries import Observer, observer_of

Panel = dict[str, Any]

ROLLOUTS, MESH = "rollouts", "mesh"
CANARY = 'cluster=~"$cluster", namespace="$namespace", name="$target"'
WORKLOADS = 'cluster=~"$cluster", namespace="$namespace", workload=~"$target(-primary)?"'
WIDTH, HEIGHT = 12, 8
# Grafana takes `$namespace_` for a variable of that name, so that queries of label values need the braces.
NAMES = {
    "namespace": "${namespace}",
    "target": "${target}",
    "service": "${service}",
    "ingress": "${ingress}",
    "route": "${route}",
    "interval": "$__rate_interval",
}
PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")
# Where people have another name than the target's, they type it.
OF_TARGET = 'label_values(flagger_canary_status{namespace="$namespace", name="$target"}, name)'


@dataclass(frozen=True)
class Variable:
    """A further choice that the queries of a mesh need: its values, and the part of them that counts."""

    name: str
    query: str
    source: str = MESH
    regex: str = ""
    descending: bool = False


@dataclass(frozen=True)
class Family:
    """`primary` is what differs in the labels of the promoted version: this, and what stands in its place."""

    title: str
    provider: str
    primary: tuple[str, str] | None = None
    variables: tuple[Variable, ...] = ()
    labels: str = ""  # instead of the analysis' own, where those cannot be written with variables
    names: Mapping[str, str] = field(default_factory=dict)


OF_WORKLOAD = ("{{ target }}", "{{ target }}-primary")
SERVICE = Variable("service", OF_TARGET, source=ROLLOUTS)
INGRESS = Variable("ingress", 'label_values(nginx_ingress_controller_requests{namespace="$namespace"}, ingress)')
REVISION = Variable(
    "route",
    'label_values(envoy_cluster_upstream_rq{envoy_cluster_name=~"${namespace}/${target}-.+"}, envoy_cluster_name)',
    regex="/.*\\/(.*)/",
    descending=True,
)
SKIPPER_ROUTE = Variable(
    "route",
    'label_values(skipper_serve_route_duration_seconds_count{route=~"kube(ew)?_.+__.+_canary_.+"}, route)',
)
FAMILIES: Mapping[str, Family] = {
    "apisix": Family("APISIX", "apisix", names={"route": ".+"}),
    "contour": Family("Contour", "contour", ("-canary_", "-primary_"), (SERVICE,)),
    "gateway-api": Family("Gateway API", "gatewayapi", OF_WORKLOAD),
    "gloo": Family("Gloo", "gloo", ("canaryupstream", "primaryupstream")),
    "istio": Family("Istio", "istio", OF_WORKLOAD),
    "knative": Family("Knative", "knative", variables=(REVISION,)),
    "kubernetes": Family("Kubernetes", "kubernetes", OF_WORKLOAD),
    "kuma": Family("Kuma", "kuma", ("-canary_", "-primary_")),
    "linkerd": Family("Linkerd", "linkerd", OF_WORKLOAD),
    "nginx": Family("NGINX", "nginx", ('canary!=""', 'canary=""'), (INGRESS,)),
    "skipper": Family("Skipper", "skipper", variables=(SKIPPER_ROUTE,), labels='route="$route"'),
    "traefik": Family("Traefik", "traefik", ("-canary-", "-primary-")),
}


def dashboard(name: str) -> dict[str, Any]:
    """The dashboard of one family, as Grafana imports it."""
    family = FAMILIES[name]
    panels = [_placed(number, panel) for number, panel in enumerate((*_rollout_panels(), *_mesh_panels(family)))]
    return {
        "uid": f"fleet-rollout-{name}",
        "title": f"Rollouts: {family.title}",
        "tags": ["fleet-rollout"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [*_common_variables(), *map(_variable, family.variables)]},
        "panels": panels,
    }


# Rollouts


def _rollout_panels() -> Iterator[Panel]:
    phase = _panel("stat", "Phase", ROLLOUTS, {"{{cluster}}: {{phase}}": f"fleet_rollout_canary_phase{{{CANARY}}}"})
    yield {**phase, "options": {"textMode": "name", "colorMode": "none"}}
    status = _panel("stat", "Analysis", ROLLOUTS, {"{{cluster}}": f"flagger_canary_status{{{CANARY}}}"})
    yield {**status, "options": {"colorMode": "background"}, "fieldConfig": {"defaults": _status_words()}}
    weights = {"{{cluster}} {{workload}}": f"flagger_canary_weight{{{WORKLOADS}}}"}
    yield _panel("timeseries", "Share of the traffic", ROLLOUTS, weights, unit="percent", most=100)
    measured = {"{{cluster}} {{metric}}": f"flagger_canary_metric_analysis{{{CANARY}}}"}
    yield _panel("timeseries", "Metrics as they were judged", ROLLOUTS, measured)
    ended = {
        f"{{{{cluster}}}} {word}": f"sum by (cluster) (increase(flagger_canary_{series}_total{{{CANARY}}}[$__range]))"
        for word, series in (("succeeded", "successes"), ("failed", "failures"))
    }
    yield _panel("stat", "Ended in this time", ROLLOUTS, ended)
    unmeasured = f"increase(fleet_rollout_canary_unmeasured_total{{{CANARY}}}[$__range])"
    by = "sum by (cluster, metric, reason)"
    yield _panel(
        "stat", "Checks without a value", ROLLOUTS, {"{{cluster}} {{metric}} {{reason}}": f"{by} ({unmeasured})"}
    )
    ticks = f"rate(flagger_canary_duration_seconds_bucket{{{CANARY}}}[$__rate_interval])"
    slowest = {"{{cluster}}": f"histogram_quantile(0.99, sum by (cluster, le) ({ticks}))"}
    yield _panel("timeseries", "Time that a check took, 99th percentile", ROLLOUTS, slowest, unit="s")
    engines = {
        "{{cluster}} {{mesh_provider}} {{version}}": 'flagger_info{cluster=~"$cluster"}',
        "{{cluster}} {{namespace}}": 'flagger_canary_total{cluster=~"$cluster", namespace="$namespace"}',
    }
    yield {
        **_panel("stat", "Engines, and Canaries that they drive", ROLLOUTS, engines),
        "options": {"textMode": "name"},
    }


def _status_words() -> Panel:
    words = {"0": ("in progress", "blue"), "1": ("not in progress", "green"), "2": ("failed", "red")}
    mapping = {value: {"text": text, "color": colour} for value, (text, colour) in words.items()}
    return {"mappings": [{"type": "value", "options": mapping}]}


# Requests


def _mesh_panels(family: Family) -> Iterator[Panel]:
    observer = observer_of(family.provider)
    if family.labels:
        inf = ', le="+Inf"' if 'le="+Inf"' in observer.labels else ""
        observer = replace(observer, labels=family.labels + inf, latency_labels=family.labels)
    sides = {"canary": observer}
    if family.primary is not None:
        sides["primary"] = _of_primary(observer, *family.primary)
    kind = "mean" if observer.is_mean else "99th percentile"
    for title, unit, query in (
        ("Requests a second", "reqps", _requests),
        ("Requests that succeeded", "percent", lambda each: each.success_rate),
        (f"Time of a request, {kind}", "ms", _milliseconds),
    ):
        queries = {side: _filled(query(each), family.names) for side, each in sides.items()}
        yield _panel("timeseries", title, MESH, queries, unit=unit)


def _of_primary(observer: Observer, canary: str, primary: str) -> Observer:
    labels, latency = (text.replace(canary, primary) for text in (observer.labels, observer.latency_labels))
    return replace(observer, labels=labels, latency_labels=latency)


def _requests(observer: Observer) -> str:
    return f"sum(rate({observer.requests}{{{observer.labels}}}[{{{{ interval }}}}]))"


def _milliseconds(observer: Observer) -> str:
    return observer.duration if observer.scale == 1 else f"{observer.duration} * {observer.scale:g}"


def _filled(template: str, own: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: {**NAMES, **own}[found[1]], template)


# Grafana's form


def _panel(
    kind: str, title: str, source: str, queries: Mapping[str, str], *, unit: str = "", most: int | None = None
) -> Panel:
    defaults = {name: value for name, value in (("unit", unit), ("max", most)) if value}
    targets = [
        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": _source(source)}
        for number, (legend, query) in enumerate(queries.items())
    ]
    return {
        "type": kind,
        "title": title,
        "datasource": _source(source),
        "fieldConfig": {"defaults": {**defaults, "min": 0}},
        "targets": targets,
    }


def _placed(number: int, panel: Panel) -> Panel:
    row, column = divmod(number, 2)
    place = {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT}
    return {"id": number + 1, "gridPos": place, **panel}


def _source(name: str) -> dict[str, str]:
    return {"type": "prometheus", "uid": f"${{{name}}}"}


def _common_variables() -> Iterator[Panel]:
    for name, label in ((ROLLOUTS, "Prometheus of the hub"), (MESH, "Prometheus of the member")):
        yield {"name": name, "label": label, "type": "datasource", "query": "prometheus"}
    all_clusters = {"includeAll": True, "multi": True, "allValue": ".*"}
    yield _variable(Variable("cluster", "label_values(flagger_canary_status, cluster)", ROLLOUTS)) | all_clusters
    namespaces = 'label_values(flagger_canary_status{cluster=~"$cluster"}, namespace)'
    yield _variable(Variable("namespace", namespaces, ROLLOUTS))
    targets = 'label_values(flagger_canary_status{cluster=~"$cluster", namespace="$namespace"}, name)'
    yield _variable(Variable("target", targets, ROLLOUTS))
    # For a Prometheus that holds the requests of many members: `cluster = m1`, or as it calls them.
    yield {"name": "filters", "label": "Only series with", "type": "adhoc", "datasource": _source(MESH)}


def _variable(variable: Variable) -> Panel:
    return {
        "name": variable.name,
        "type": "query",
        "datasource": _source(variable.source),
        "query": {"query": variable.query, "refId": variable.name},
        "definition": variable.query,
        "regex": variable.regex,
        "refresh": 2,  # when the time range changes
        "sort": 2 if variable.descending else 1,
        "allowCustomValue": True,
    }


# Files


def files() -> dict[str, str]:
    """All dashboards by file name."""
    return {f"{name}.json": json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n" for name in FAMILIES}


def stale(folder: Path) -> list[str]:
    """What in `folder` differs from what it should be: missing, changed, or left over."""
    wanted = files()
    found = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path) -> None:
    """Bring `folder` to what it should be."""
    wanted = files()
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale(folder):
        if name in wanted:
            (folder / name).write_text(wanted[name], "utf-8")
        else:
            (folder / name).unlink()


def main(arguments: Sequence[str]) -> int:
    """The command: write, or with --check say what is stale."""
    folders = [argument for argument in arguments if argument != "--check"]
    if len(folders) != 1:
        sys.stderr.write("usage: python -m fleet_rollout.faces.dashboards [--check] FOLDER\n")
        return 2
    folder = Path(folders[0])
    if "--check" not in arguments:
        write(folder)
        return 0
    names = stale(folder)
    for name in names:
        sys.stderr.write(f"{folder / name}: is stale: run `make dashboards`\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
