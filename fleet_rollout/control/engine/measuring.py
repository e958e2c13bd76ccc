"""Measures for a Canary: its query, asked of the right backend, judged by its thresholds."""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet_rollout.control.engine.sight import Sight
from fleet_rollout.decide.canary import checks, targets
from fleet_rollout.decide.canary.addresses import Dial, NotReached
from fleet_rollout.decide.canary.knative import latest_revision
from fleet_rollout.decide.canary.objects import Object, Ref, StepFailed, Unasked
from fleet_rollout.decide.canary.subject import CANARY_API, Subject
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.measures import CANARY_METRIC, CANARY_UNMEASURED
from fleet_rollout.metrics.bulkheads import Bulkheads
from fleet_rollout.metrics.factory import prometheus_of, provider_for
from fleet_rollout.metrics.queries import built_in
from fleet_rollout.metrics.query import Misconfigured, NoValues, Options, Provider, QueryFailed
from fleet_rollout.metrics.templates import TemplateError, render

Metric = Mapping[str, Any]
ApiFailure = (ApiError, Unreachable, FleetRolloutError)

log = logging.getLogger(__name__)


class _Refused(Exception):
    """A template cannot be used; the text is the whole event."""


class _Question(NamedTuple):
    """What to ask whom, and what the answer is multiplied with."""

    provider: Provider
    query: str
    scale: float = 1.0


class Measuring:
    """The metrics of the Canaries of one cluster."""

    def __init__(self, cluster: Cluster, sight: Sight, bulkheads: Bulkheads) -> None:
        self._cluster = cluster
        self._sight = sight
        self._bulkheads = bulkheads

    async def measure(self, subject: Subject, metric: Metric, dial: Dial) -> str | None:
        """None where the metric passes, else the text of the event."""
        try:
            return await self._measure(subject, metric, dial)
        except (StepFailed, *ApiFailure):  # nothing was learned of the metric: for the tick to tell
            raise
        except Exception as error:
            CANARY_UNMEASURED.labels(**_labels(subject, metric), reason="error").inc()
            return checks.query_failed(subject, metric, _mistake(subject, metric, error))

    async def _measure(self, subject: Subject, metric: Metric, dial: Dial) -> str | None:
        try:
            question = await self._question(subject, metric, dial)
            value = question.scale * await question.provider.value(question.query)
        except NoValues as error:
            CANARY_UNMEASURED.labels(**_labels(subject, metric), reason="no_values").inc()
            return checks.no_values(subject, metric, str(error))
        except (QueryFailed, TemplateError, _Refused) as error:
            CANARY_UNMEASURED.labels(**_labels(subject, metric), reason="error").inc()
            return str(error) if isinstance(error, _Refused) else checks.query_failed(subject, metric, str(error))
        shown = value / 1000 if metric["name"] == checks.DURATION else value
        CANARY_METRIC.labels(**_labels(subject, metric)).set(shown)
        return checks.judge(subject, metric, value)

    async def probe(self, subject: Subject, dial: Dial) -> str | None:
        """None where every backend of the Canary answers. As with Flagger, inline queries are no reason to ask one."""
        for metric in checks.in_order(subject.analysis.get("metrics") or []):
            if checks.kind_of(metric) in ("none", "query"):
                continue
            try:
                provider = await self._provider(subject, metric, dial)
                await provider.is_online()
            except _Refused as error:
                return str(error)
            except (QueryFailed, Unasked) as error:  # the tick goes on, whoever could not be asked
                return checks.offline(subject, metric, str(error))
            except ApiFailure:
                raise
            except Exception as error:
                return checks.offline(subject, metric, _mistake(subject, metric, error))
        return None

    async def _question(self, subject: Subject, metric: Metric, dial: Dial) -> _Question:
        provider = await self._provider(subject, metric, dial)
        model = checks.model_of(subject, metric, revision=await self._revision(subject))
        match checks.kind_of(metric):
            case "built-in":
                query = built_in(checks.metrics_provider(subject), metric["name"], model)
                return _Question(provider, query.text, query.scale)
            case "query":
                return _Question(provider, render(metric["query"], model))
            case "template":
                template = await self._template(subject, metric)
                try:
                    return _Question(provider, render(template["spec"]["query"], model))
                except TemplateError as error:
                    text = checks.template_failed(subject, metric, str(error), part="query render")
                    raise _Refused(text) from None
        raise _Refused(checks.UNUSABLE)

    async def _provider(self, subject: Subject, metric: Metric, dial: Dial) -> Provider:
        options = Options(
            self._bulkheads,
            interval=checks.interval_of(metric),
            scope=self._cluster.name,
            api=_Api(self._cluster),
            only_namespace=subject.namespace if subject.options.no_cross_namespace_refs else "",
            lends_identity=subject.options.lends_identity,
        )
        if checks.kind_of(metric) != "template":
            address = subject.spec.get("metricsServer") or subject.options.metrics_server
            try:
                return prometheus_of(str(address), options, dial)
            except Misconfigured as error:
                raise QueryFailed(str(error)) from None
        spec = (await self._template(subject, metric))["spec"]["provider"]
        credentials = await self._credentials(subject, metric, spec)
        try:
            return provider_for(spec, credentials, options, dial)
        except Misconfigured as error:
            part = f"provider {spec.get('type')}"
            raise _Refused(checks.template_failed(subject, metric, str(error), part=part)) from None

    async def _template(self, subject: Subject, metric: Metric) -> Object:
        namespace, name = checks.template_of(subject, metric)
        if subject.options.no_cross_namespace_refs and namespace != subject.namespace:
            text = "templates of other namespaces are not allowed by this engine"
            raise _Refused(checks.template_failed(subject, metric, text))
        found = await self._read(subject, metric, Ref(CANARY_API, "MetricTemplate", namespace, name), "")
        if found is None:
            missing = f'metrictemplates.flagger.app "{name}" not found'
            text = f"{missing}; create it, or correct templateRef"
            raise _Refused(checks.template_failed(subject, metric, text))
        return found

    async def _credentials(self, subject: Subject, metric: Metric, spec: Metric) -> dict[str, bytes] | None:
        name = (spec.get("secretRef") or {}).get("name")
        if not name:
            return None
        namespace, _ = checks.template_of(subject, metric)
        found = await self._read(subject, metric, Ref("v1", "Secret", namespace, name), f"secret {name}")
        if found is None:
            text = f'secrets "{name}" not found; create it, or take secretRef out of the MetricTemplate'
            raise _Refused(checks.template_failed(subject, metric, text, part=f"secret {name}"))
        return {key: b64decode(value) for key, value in (found.get("data") or {}).items()}

    async def _read(self, subject: Subject, metric: Metric, ref: Ref, part: str) -> Object | None:
        try:
            return (await self._sight.read([ref]))[ref]
        except ApiFailure as error:
            raise _Refused(checks.template_failed(subject, metric, error.message, part=part)) from None

    async def _revision(self, subject: Subject) -> str:
        if not (subject.is_knative and checks.is_about_revisions(subject)):
            return ""
        ref = targets.target_ref(subject)
        return latest_revision((await self._sight.read([ref]))[ref] or {})


def _mistake(subject: Subject, metric: Metric, error: Exception) -> str:
    """What nobody has thought of is a failed check as any other; the error's own text may hold a secret."""
    log.error("metric %s of Canary %s was not measured", metric["name"], subject.full_name, exc_info=error)
    return f"unexpected {type(error).__name__}; the log of the engine says more"


def _labels(subject: Subject, metric: Metric) -> dict[str, str]:
    return {
        "name": subject.target_name,
        "namespace": subject.namespace,
        "metric": metric["name"],
        "cluster": subject.options.cluster_name,
    }


class _Api:
    """The member's API server, for metrics that are Kubernetes objects."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def get(self, path: str) -> Object:
        return await self._asked("GET", path)

    async def create(self, path: str, obj: Object) -> Object:
        return await self._asked("POST", path, obj)

    async def delete(self, path: str) -> None:
        await self._asked("DELETE", path)

    async def _asked(self, method: str, path: str, obj: Object | None = None) -> Object:
        try:
            return await self._cluster.ask(method, path, obj)
        except ApiFailure as error:
            raise NotReached(error.message) from error
