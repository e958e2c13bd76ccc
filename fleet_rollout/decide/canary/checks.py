"""Which metric is looked at when, what it asks, and what its value means.

Comparisons and texts are Flagger's to the letter. A value that is no number never passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.decide.go_numbers import fixed, milliseconds, number

SUCCESS_RATE: Final = "request-success-rate"
DURATION: Final = "request-duration"
BUILT_IN = (SUCCESS_RATE, DURATION)
# For every metric that names none, those with a template included (to Flagger only for the others: Q13).
DEFAULT_INTERVAL = "1m"
# What a duration may measure: Go's longest. Beyond it Flagger's numbers wrap around, and infinity passes as 0s.
LONGEST_MS = 9_223_372_036_854

NO_VALUES = "no values found"
UNUSABLE = "Metric query failed for no usable metrics template and query were configured"

Kind = Literal["built-in", "query", "template", "none"]


@dataclass(frozen=True)
class Model:
    """What the templates of queries can name. `variables` are the Canary author's words."""

    name: str
    namespace: str
    target: str
    service: str
    ingress: str
    route: str
    interval: str
    variables: Mapping[str, str] = field(default_factory=dict)


# What is asked


def in_order(metrics: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The checks of an analysis, each with one source: built-in ones and inline queries first, then templates.

    A metric that names several sources is as many checks, as it is for Flagger.
    """
    first: list[Mapping[str, Any]] = []
    second: list[Mapping[str, Any]] = []
    for metric in metrics:
        if metric["name"] in BUILT_IN:
            first.append(_without(metric, "query", "templateRef"))
        if metric.get("query"):
            first.append(_without(metric, "templateRef"))
        if metric.get("templateRef"):
            second.append(_without(metric, "query"))
        elif kind_of(metric) == "none":
            second.append(metric)
    return first + second


def _without(metric: Mapping[str, Any], *fields: str) -> Mapping[str, Any]:
    return {key: value for key, value in metric.items() if key not in fields}


def kind_of(metric: Mapping[str, Any]) -> Kind:
    """Where the value of a check comes from."""
    if metric.get("query"):
        return "query"
    if metric.get("templateRef"):
        return "template"
    return "built-in" if metric["name"] in BUILT_IN else "none"


def interval_of(metric: Mapping[str, Any]) -> str:
    """The window of a check, as its query is to spell it."""
    return str(metric.get("interval") or DEFAULT_INTERVAL)


def template_of(subject: Subject, metric: Mapping[str, Any]) -> tuple[str, str]:
    """Namespace and name of the MetricTemplate of a check."""
    ref = metric["templateRef"]
    return str(ref.get("namespace") or subject.namespace), str(ref["name"])


def metrics_provider(subject: Subject) -> str:
    """Whose built-in queries a Canary means; events name it, too."""
    default = subject.options.mesh_provider
    name = "crossover" if "crossover" in default else default
    if own := subject.spec.get("provider"):
        name = "linkerd" if "linkerd" in default else str(own)
    if subject.target_kind == "Service" and not subject.is_knative:
        name += ":service"
    return name


def is_about_revisions(subject: Subject) -> bool:
    """Its queries name the latest Knative revision as their route."""
    return "knative" in (subject.spec.get("provider"), subject.options.mesh_provider)


def model_of(subject: Subject, metric: Mapping[str, Any], *, revision: str = "") -> Model:
    """What the query of this check may name; `revision` is Knative's latest created one."""
    return Model(
        name=subject.name,
        namespace=subject.namespace,
        target=subject.target_name,
        service=subject.apex,
        ingress=_ref(subject, "ingressRef"),
        route=revision or _ref(subject, "routeRef"),
        interval=interval_of(metric),
        variables=metric.get("templateVariables") or {},
    )


def _ref(subject: Subject, field: str) -> str:
    return str((subject.spec.get(field) or {}).get("name") or subject.target_name)


# What the answer means


def measured(metric: Mapping[str, Any], value: float) -> float:
    """The value as it is compared and shown: durations in whole milliseconds."""
    return _whole(value) if _is_duration(metric) else value


def judge(subject: Subject, metric: Mapping[str, Any], value: float) -> str | None:
    """None where a value passes, else the event. Durations are in milliseconds; bounds are inclusive."""
    if math.isnan(value):
        return no_values(subject, metric)
    value = measured(metric, value)
    low, high = (None if bound is None else measured(metric, bound) for bound in _bounds(metric))
    if low is not None and value < low:
        return _halt(subject, metric, value, "<", low)
    if high is not None and value > high:
        return _halt(subject, metric, value, ">", high)
    return None


def _bounds(metric: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Least and greatest value; the old single threshold is a minimum only for the success rate."""
    found = metric.get("thresholdRange")
    if found is not None:
        return found.get("min"), found.get("max")
    threshold = metric.get("threshold") or 0.0
    if kind_of(metric) == "built-in" and metric["name"] == SUCCESS_RATE:
        return threshold, None
    return None, threshold


def _is_duration(metric: Mapping[str, Any]) -> bool:
    return kind_of(metric) == "built-in" and metric["name"] == DURATION


def _whole(value: float) -> int:
    return int(max(-LONGEST_MS, min(value, LONGEST_MS)))


def _halt(subject: Subject, metric: Mapping[str, Any], value: float, sign: str, bound: float) -> str:
    if _is_duration(metric):
        compared = f"request duration {milliseconds(int(value))} {sign} {milliseconds(int(bound))}"
    elif kind_of(metric) == "built-in":
        compared = f"success rate {fixed(value)}% {sign} {number(bound)}%"
    else:
        compared = f"{metric['name']} {fixed(value)} {sign} {number(bound)}"
    return f"Halt {subject.full_name} advancement {compared}"


# Where there is none


def no_values(subject: Subject, metric: Mapping[str, Any], error: str = NO_VALUES) -> str:
    """The event of a check that found nothing; `error` is what the provider said."""
    name = metric["name"]
    match kind_of(metric):
        case "built-in":
            about = f"for {metrics_provider(subject)} metric {name}"
            text = f"Halt advancement no values found {about} probably {subject.target} is not receiving traffic"
            return text if name == DURATION else f"{text}: {_traced(subject, metric, error)}"
        case "query":
            return f"Halt advancement no values found for metric: {name}"
        case _:
            return f"Halt advancement no values found for custom metric: {name}: {error}"


def query_failed(subject: Subject, metric: Mapping[str, Any], error: str) -> str:
    """The event of a check that could not be asked."""
    match kind_of(metric):
        case "built-in":
            return f"Prometheus query failed: {_traced(subject, metric, error)}"
        case "query":
            return f"Prometheus query failed for {metric['name']}: {error}"
        case "template":
            return f"Metric query failed for {metric['name']}: {error}"
        case _:
            return UNUSABLE


def _traced(subject: Subject, metric: Mapping[str, Any], error: str) -> str:
    """Flagger's words for a built-in query; one of its observers forgets them."""
    provider = metrics_provider(subject)
    is_plain = provider == "kubernetes" or provider.startswith("gatewayapi")
    return error if is_plain and metric["name"] == SUCCESS_RATE else f"running query failed: {error}"


def template_failed(subject: Subject, metric: Mapping[str, Any], error: str, *, part: str = "") -> str:
    """The event of a template that cannot be used. `part`: "secret x", "provider x", "query render", or all of it."""
    namespace, name = template_of(subject, metric)
    return f"Metric template {name}.{namespace} {part}{' ' if part else ''}error: {error}"


def offline(subject: Subject, metric: Mapping[str, Any], error: str, *, provider: str = "prometheus") -> str:
    """Why the backend of a check cannot be asked, for the event of the first tick."""
    if kind_of(metric) != "template":
        return f"prometheus not avaiable: {error}"  # Flagger's spelling
    namespace, name = template_of(subject, metric)
    return f"{provider} in metric template {name}.{namespace} not avaiable: {error}"
