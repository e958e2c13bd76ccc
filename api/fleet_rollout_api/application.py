"""Application: one source, brought to the clusters of a fleet by one or more policies. Kurator's kind and fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fleet_rollout_api.helm import HelmSpec
from fleet_rollout_api.kustomization import KustomizationSpec
from fleet_rollout_api.meta import EmptyIsUnset, Model, ObjectMeta, Rule, checked
from fleet_rollout_api.rollout import RolloutConfig
from fleet_rollout_api.source import GitRef, GitRepositorySpec, Source

__all__ = [
    "Application",
    "ApplicationSpec",
    "ClusterSelector",
    "Destination",
    "GitRef",
    "GitRepositorySpec",
    "HelmSpec",
    "KustomizationSpec",
    "RolloutConfig",
    "SelectorRequirement",
    "Source",
    "SyncPolicy",
]

# The name of a policy becomes part of object names and a label value in the member.
POLICY_NAME_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?)?$"
MAX_POLICIES = 100


class SelectorRequirement(Model):
    """One condition on a label."""

    model_config = checked(
        Rule(
            "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0"
            " : !has(self.values) || size(self.values) == 0",
            "operator In and NotIn need values; Exists and DoesNotExist take none",
            ".values",
        )
    )

    key: Annotated[str, Field(min_length=1, max_length=317)] = Field(description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How to compare.")
    values: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=100)] | None = Field(
        None, description="Values to compare with."
    )


class ClusterSelector(Model):
    """Clusters of a fleet by the labels of their objects on the hub. Both parts have to hold."""

    match_labels: dict[str, str] | None = Field(None, description="Labels with exactly these values.")
    match_expressions: Annotated[list[SelectorRequirement], Field(max_length=100)] | None = Field(
        None, description="Conditions on labels; all have to hold."
    )


class Destination(Model):
    """Where to: a fleet, or the part of it that a selector picks."""

    fleet: Annotated[str, Field(max_length=253)] = Field(description="Name of the Fleet, in the same namespace.")
    cluster_selector: ClusterSelector | None = Field(None, description="Which clusters of it; all when left out.")


class SyncPolicy(Model):
    """What to make of the source, and where to bring it."""

    model_config = checked(
        Rule("has(self.kustomization) != has(self.helm)", "set exactly one of kustomization and helm"),
        Rule(
            "!has(self.rollout) || (has(self.rollout.workload.namespace) && size(self.rollout.workload.namespace) > 0)"
            " || (has(self.kustomization) && has(self.kustomization.targetNamespace))",
            "rollout.workload.namespace is required unless kustomization.targetNamespace is set",
            ".rollout.workload",
        ),
    )

    name: Annotated[Annotated[str, Field(max_length=63, pattern=POLICY_NAME_PATTERN)] | None, EmptyIsUnset] = Field(
        None, description="Name of the policy; the Application's name, a dash and its place from 0 when left out."
    )
    kustomization: KustomizationSpec | None = Field(None, description="Build with kustomize.")
    helm: HelmSpec | None = Field(None, description="Install a Helm chart (not carried out yet).")
    destination: Destination | None = Field(
        None, description="Where to bring it; replaces the Application's destination completely."
    )
    rollout: RolloutConfig | None = Field(None, description="Give new versions their traffic step by step.")

    def defaulted(self) -> SyncPolicy:
        """The policy with what left-out fields mean; see `RolloutConfig.defaulted`."""
        if self.rollout is None:
            return self
        target = self.kustomization.target_namespace if self.kustomization else None
        return self.model_copy(update={"rollout": self.rollout.defaulted(target)})


_APP_FLEET = "has(self.destination) && size(self.destination.fleet) > 0"
_POLICY_FLEET = "has(p.destination) && size(p.destination.fleet) > 0"


class ApplicationSpec(Model):
    """What to bring where."""

    model_config = checked(
        Rule(
            f"!({_APP_FLEET}) || self.syncPolicies.all(p, !({_POLICY_FLEET})"
            " || p.destination.fleet == self.destination.fleet)",
            "a policy's destination.fleet must equal spec.destination.fleet; leave it out to inherit it",
            ".syncPolicies",
        ),
        Rule(
            f"({_APP_FLEET}) || self.syncPolicies.all(p, {_POLICY_FLEET})"
            f" || !self.syncPolicies.exists(p, {_POLICY_FLEET})",
            "destination.fleet must be set in every policy, or in spec.destination, when one policy sets it",
            ".syncPolicies",
        ),
        Rule(
            f"({_APP_FLEET}) || self.syncPolicies.all(p, !({_POLICY_FLEET})"
            " || self.syncPolicies.all(q, !has(q.destination) || size(q.destination.fleet) == 0"
            " || q.destination.fleet == p.destination.fleet))",
            "destination.fleet must be the same in every policy: an Application has one fleet",
            ".syncPolicies",
        ),
        Rule(
            "self.syncPolicies.all(p, !has(p.name) || size(p.name) == 0 || self.syncPolicies.exists_one(q,"
            " has(q.name) && q.name.lowerAscii() == p.name.lowerAscii()))",
            "policy names must differ, in more than upper and lower case",
            ".syncPolicies",
        ),
    )

    source: Source = Field(description="Where the content comes from.")
    destination: Destination | None = Field(
        None, description="Where to bring it, for policies without one; the hub itself when nobody says."
    )
    sync_policies: Annotated[list[SyncPolicy], Field(min_length=1, max_length=MAX_POLICIES)] = Field(
        description="What to make of the content, and where to bring it."
    )


class Application(Model):
    """One source, brought to the clusters of a fleet by one or more policies."""

    model_config = checked(
        Rule(
            "self.spec.syncPolicies.all(p, !has(p.name) || !p.name.lowerAscii().startsWith(self.metadata.name + '-')"
            " || !p.name.substring(size(self.metadata.name) + 1).matches('^(0|[1-9][0-9]?)$')"
            " || int(p.name.substring(size(self.metadata.name) + 1)) >= size(self.spec.syncPolicies)"
            " || (has(self.spec.syncPolicies[int(p.name.substring(size(self.metadata.name) + 1))].name)"
            " && size(self.spec.syncPolicies[int(p.name.substring(size(self.metadata.name) + 1))].name) > 0))",
            "a policy has the name that a policy without name would get (<application>-<place from 0>); rename it",
            ".spec.syncPolicies",
        )
    )

    api_version: str = "apps.kurator.dev/v1alpha1"
    kind: Literal["Application"] = "Application"
    metadata: ObjectMeta
    spec: ApplicationSpec = Field(description="What to bring where.")
    status: dict[str, Any] | None = Field(None, description="What came of it; written by the service.")

    def defaulted(self) -> Application:
        """The Application with what left-out fields mean, as far as a CRD cannot say it. Names stay as given."""
        policies = [policy.defaulted() for policy in self.spec.sync_policies]
        return self.model_copy(update={"spec": self.spec.model_copy(update={"sync_policies": policies})})
