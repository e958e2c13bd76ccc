"""From the provider of a MetricTemplate to something that can be asked; each kind is imported when it is first used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from fleet_rollout.decide.canary.addresses import Dial
from fleet_rollout.metrics.query import Options, Provider

log = logging.getLogger(__name__)

DEFAULT = "prometheus"
KINDS = frozenset(
    {
        "cloudwatch",
        "datadog",
        "dynatrace",
        "externalmetrics",
        "graphite",
        "influxdb",
        "keptn",
        "newrelic",
        "prometheus",
        "splunk",
        "stackdriver",
    }
)


def provider_for(
    spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial
) -> Provider:
    """The provider of `MetricTemplate.spec.provider`; `credentials` is its Secret's data, None where it names none.

    Raises Misconfigured. An unknown type means Prometheus.
    """
    kind = str(spec.get("type") or "")
    if kind not in KINDS:
        log.warning("unknown metrics provider %r, using %s", kind, DEFAULT)
        kind = DEFAULT
    found: Provider = import_module(f"fleet_rollout.metrics.{kind}").Provider(spec, credentials, options, dial)
    return found


def prometheus_of(address: str, options: Options, dial: Dial) -> Provider:
    """The Prometheus of built-in and inline queries: the Canary's metricsServer, or the engine's."""
    return provider_for({"type": DEFAULT, "address": address}, None, options, dial)
