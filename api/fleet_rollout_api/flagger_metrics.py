"""Flagger's MetricTemplate: how a number is asked from a metrics system."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fleet_rollout_api.meta import Model, Number, ObjectMeta


class ThresholdRange(Model):
    """Values that pass: from min to max, both inclusive; an end left out is open."""

    min: Number | None = Field(None, description="Lowest value that passes.")
    max: Number | None = Field(None, description="Highest value that passes.")


class SecretReference(Model):
    """A Secret in the namespace of the object that refers to it."""

    name: str = Field(description="Its name.")


class MetricProvider(Model):
    """A metrics system and how to reach it."""

    type: Literal[
        "prometheus",
        "influxdb",
        "datadog",
        "externalmetrics",
        "stackdriver",
        "cloudwatch",
        "newrelic",
        "graphite",
        "dynatrace",
        "keptn",
        "splunk",
    ] = Field(description="Kind of the metrics system.")
    address: str | None = Field(None, description="Its address; providers with a fixed one need none.")
    headers: dict[str, list[str]] | None = Field(None, description="Headers to send with a query (prometheus).")
    secret_ref: SecretReference | None = Field(None, description="Secret with credentials, beside the template.")
    region: str | None = Field(None, description="Region of the provider, where it has some.")
    insecure_skip_verify: bool | None = Field(None, description="Accept any TLS certificate.")


class MetricTemplateSpec(Model):
    """A query and whom to ask."""

    provider: MetricProvider = Field(description="Whom to ask.")
    query: str = Field(description="The query; {{ interval }}, {{ target }}, {{ namespace }} and more are filled in.")


class MetricTemplate(Model):
    """A metric by name, for the analyses of Canaries."""

    api_version: str = "flagger.app/v1beta1"
    kind: Literal["MetricTemplate"] = "MetricTemplate"
    metadata: ObjectMeta
    spec: MetricTemplateSpec = Field(description="The query and whom to ask.")
