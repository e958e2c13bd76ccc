"""What older guides' manifests need to work today: autoscalers of retired versions, and Canaries of Flagger's old one.

A manifest comes in as data and changes come out, each with its place, so that whoever has the text can leave the rest
of it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
Object = Mapping[str, Any]

SCALER = "HorizontalPodAutoscaler"
# Of these two the API server knows neither any more; the second has the fields of v2 already.
OLDEST_SCALER_API = "autoscaling/v2beta1"
OLD_SCALER_APIS = frozenset({OLDEST_SCALER_API, "autoscaling/v2beta2"})
SCALER_API = "autoscaling/v2"
FLAGGER_GROUP = "flagger.app/"
OLD_CANARY_API, CANARY_API = "flagger.app/v1alpha3", "flagger.app/v1beta1"


@dataclass(frozen=True)
class Replace:
    """Another value in the place of the one at `path`."""

    path: Path
    value: Any


@dataclass(frozen=True)
class Rename:
    """Another name for the field at `path`."""

    path: Path
    name: str


@dataclass(frozen=True)
class Exchange:
    """Another field, name and value, in the place of the one at `path`."""

    path: Path
    name: str
    value: Any


Change = Replace | Rename | Exchange


class Unmigratable(ValueError):
    """A manifest that cannot be rewritten; the text is the field, the fact and the fix."""

    def __init__(self, path: Path, fact: str) -> None:
        super().__init__(f"{field_text(path)}: {fact}")


@dataclass(frozen=True)
class _Form:
    """How one type of a v2beta1 metric is written: its field, and its targets with type and field of v2.

    `selector` is what goes into `metric` beside the name; None where the metric has no name of its own. Where several
    targets are set, only those of `both` may be together, and the first counts.
    """

    field: str
    targets: Mapping[str, tuple[str, str]]
    selector: str | None = None
    both: bool = False


_UTILIZATION, _AVERAGE, _VALUE = (
    ("Utilization", "averageUtilization"),
    ("AverageValue", "averageValue"),
    ("Value", "value"),
)
_BY_POD = {"targetAverageUtilization": _UTILIZATION, "targetAverageValue": _AVERAGE}
FORMS: Mapping[str, _Form] = {
    "Resource": _Form("resource", _BY_POD),
    "ContainerResource": _Form("containerResource", _BY_POD),
    "Pods": _Form("pods", {"targetAverageValue": _AVERAGE}, "selector"),
    "Object": _Form("object", {"averageValue": _AVERAGE, "targetValue": _VALUE}, "selector", both=True),
    "External": _Form("external", {"targetValue": _VALUE, "targetAverageValue": _AVERAGE}, "metricSelector"),
}


def changes_of(document: Any, at: Path = ()) -> list[Change]:
    """What brings a manifest, or each manifest of a list, up to date; nothing where it is so. Raises Unmigratable."""
    manifest = _map(document)
    kind, version = manifest.get("kind"), str(manifest.get("apiVersion") or "")
    found: list[Change] = []
    if kind == SCALER and version in OLD_SCALER_APIS:
        found.append(Replace((*at, "apiVersion"), SCALER_API))
    if kind == SCALER and version == OLDEST_SCALER_API:
        found += _scaler(manifest, at)
    if version == OLD_CANARY_API:
        found.append(Replace((*at, "apiVersion"), CANARY_API))
    if kind == "Canary" and version.startswith(FLAGGER_GROUP):
        found += _canary(manifest, at)
    for index, item in enumerate(_list(manifest.get("items"))):
        found += changes_of(item, (*at, "items", index))
    return found


def title_of(document: Any) -> str:
    """How messages name a manifest: kind, namespace and name, as far as it says them."""
    found = _map(document)
    metadata = _map(found.get("metadata"))
    name = "/".join(str(part) for part in (metadata.get("namespace"), metadata.get("name")) if part)
    return " ".join(str(part) for part in (found.get("kind"), name) if part)


def field_text(path: Path) -> str:
    """`spec.metrics[0].type`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _canary(canary: Object, at: Path) -> Iterator[Change]:
    spec = _map(canary.get("spec"))
    if "canaryAnalysis" in spec:
        path = (*at, "spec", "canaryAnalysis")
        if "analysis" in spec:
            raise Unmigratable(path, "spec.analysis is there too, which is its new name; remove one of them")
        yield Rename(path, "analysis")
    if _map(spec.get("autoscalerRef")).get("apiVersion") in OLD_SCALER_APIS:
        yield Replace((*at, "spec", "autoscalerRef", "apiVersion"), SCALER_API)


def _scaler(scaler: Object, at: Path) -> Iterator[Change]:
    for index, metric in enumerate(_list(_map(scaler.get("spec")).get("metrics"))):
        yield from _metric(_map(metric), (*at, "spec", "metrics", index))
    if "currentMetrics" in _map(scaler.get("status")):
        # What was observed, in fields that are gone; the controller writes it anew.
        yield Replace((*at, "status"), {})


def _metric(metric: Object, at: Path) -> Iterator[Change]:
    form = FORMS.get(str(metric.get("type")))
    if form is None:
        fact = f"{metric.get('type')!r} is no type of metric; use one of {', '.join(FORMS)}"
        raise Unmigratable((*at, "type"), fact)
    path = (*at, form.field)
    source = metric.get(form.field)
    if not isinstance(source, Mapping):
        raise Unmigratable(path, f"a metric of type {metric['type']} is described here; add it")
    if _is_new(source):
        return
    name, target = _target(source, form, path)
    if form.selector is None:
        yield Exchange((*path, name), "target", target)
    else:
        yield Replace(path, _rewritten(source, form.selector, path) | {"target": target})


def _is_new(source: Object) -> bool:
    """Whether somebody has written the fields of v2 under the old version."""
    return "metric" in source or "type" in _map(source.get("target"))


def _rewritten(source: Object, selector: str, path: Path) -> dict[str, Any]:
    """What a metric with a name of its own is and whom it describes."""
    name = source.get("metricName")
    if not name:
        raise Unmigratable((*path, "metricName"), "the metric has no name; set it")
    chosen = source.get(selector)
    described = {"describedObject": source["target"]} if "target" in source else {}
    return {**described, "metric": {"name": name} | ({"selector": chosen} if chosen is not None else {})}


def _target(source: Object, form: _Form, path: Path) -> tuple[str, dict[str, Any]]:
    """The field that says the target, and the target as v2 says it."""
    given = [name for name in form.targets if source.get(name) is not None]
    if not given:
        raise Unmigratable(path, f"there is no target; set {' or '.join(form.targets)}")
    if len(given) > 1 and not form.both:
        raise Unmigratable(path, f"{' and '.join(given)} exclude each other; remove one of them")
    kind, field = form.targets[given[0]]
    return given[0], {"type": kind, field: source[given[0]]}


def _map(value: Any) -> Object:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
