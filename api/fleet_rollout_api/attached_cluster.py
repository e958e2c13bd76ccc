"""AttachedCluster: a member that exists already, reached by a kubeconfig in a Secret. Kurator's kind and fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.meta import Conditions, Model, ObjectMeta

SECRET_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"  # noqa: S105


class KubeconfigReference(Model):
    """The Secret, in the same namespace, and the key in it."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=SECRET_NAME_PATTERN)] = Field(
        description="Name of the Secret."
    )
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = Field(
        "value", description="Key whose value is the kubeconfig."
    )


class AttachedClusterSpec(Model):
    """How to reach the cluster."""

    kubeconfig: KubeconfigReference = Field(description="Where its kubeconfig is.")


class AttachedClusterStatus(Model):
    """Whether the cluster answers; checked at an interval."""

    ready: bool | None = Field(None, description="The cluster answered the last check.")
    observed_generation: int | None = Field(None, description="The generation of the spec that was looked at.")
    conditions: Conditions = Field(default_factory=list, description="What was observed.")


class AttachedCluster(Model):
    """A cluster that exists already."""

    api_version: str = "cluster.kurator.dev/v1alpha1"
    kind: Literal["AttachedCluster"] = "AttachedCluster"
    metadata: ObjectMeta
    spec: AttachedClusterSpec = Field(description="How to reach the cluster.")
    status: AttachedClusterStatus = Field(default_factory=AttachedClusterStatus, description="Whether it answers.")
