"""The status of an Application: Kurator's shape (its JSON keys to the letter), and beside it conditions and counts.

The service builds the status as data; these models are the schema it has to fit, for the CRD and for its tests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.cluster_sync import Inventory
from fleet_rollout_api.flagger import CanaryStatus
from fleet_rollout_api.meta import Condition, Conditions, Model, Time
from fleet_rollout_api.source import GitInclude, OCILayer

Generation = Annotated[int, Field(ge=-1)]


class ArtifactStatus(Model):
    """The content of a revision, as it was stored."""

    path: str = Field(description="Path in the store.")
    url: str = Field(description="Address to fetch it from.")
    revision: str = Field(description="What it was made from, for people.")
    last_update_time: Time = Field(description="When it was stored.")
    digest: str | None = Field(None, description="Digest of the stored file.")
    size: int | None = Field(None, description="Size of the stored file in bytes.")
    metadata: dict[str, str] | None = Field(None, description="More about it.")


class RepositoryStatus(Model):
    """What all kinds of source report."""

    observed_generation: Generation | None = Field(None, description="The generation of the spec it belongs to.")
    conditions: list[Condition] | None = Field(None, description="What was observed.")
    url: str | None = Field(None, description="Address of the content.")
    artifact: ArtifactStatus | None = Field(None, description="The content fetched last.")
    last_handled_reconcile_at: str | None = Field(None, description="The last request to look again.")


class GitRepositoryStatus(RepositoryStatus):
    """What the Git source reports."""

    included_artifacts: list[ArtifactStatus] | None = Field(None, description="Content copied in.")
    content_config_checksum: str | None = Field(None, description="Checksum of the settings that shape the content.")
    observed_ignore: str | None = Field(None, description="The ignore rules the artifact was made with.")
    observed_include: list[GitInclude] | None = Field(None, description="The includes it was made with.")
    observed_recurse_submodules: bool | None = Field(None, description="Whether it holds submodules.")


class OCIRepositoryStatus(RepositoryStatus):
    """What the OCI source reports."""

    content_config_checksum: str | None = Field(None, description="Checksum of the settings that shape the content.")
    observed_ignore: str | None = Field(None, description="The ignore rules the artifact was made with.")
    observed_layer_selector: OCILayer | None = Field(None, description="The layer it was made from.")


class SourceStatus(Model):
    """What the source reports, under the name of its kind."""

    git_repo_status: GitRepositoryStatus | None = Field(None, description="The Git source.")
    helm_repo_status: RepositoryStatus | None = Field(None, description="The Helm source.")
    oci_repo_status: OCIRepositoryStatus | None = Field(None, description="The OCI source.")


class KustomizationStatus(Model):
    """How one policy stands on one cluster, in the shape of Flux's Kustomization."""

    observed_generation: Generation | None = Field(None, description="The generation it belongs to.")
    conditions: list[Condition] | None = Field(None, description="What was observed.")
    last_applied_revision: str | None = Field(None, description="The revision that is applied.")
    last_attempted_revision: str | None = Field(None, description="The revision that was tried last.")
    last_handled_reconcile_at: str | None = Field(None, description="The last request to look again.")
    inventory: Inventory | None = Field(None, description="What is on the cluster; left out where it is long.")


class HelmReleaseStatus(Model):
    """How one policy stands on one cluster, in the shape of Flux's HelmRelease."""

    observed_generation: Generation | None = Field(None, description="The generation it belongs to.")
    conditions: list[Condition] | None = Field(None, description="What was observed.")
    last_handled_reconcile_at: str | None = Field(None, description="The last request to look again.")
    last_applied_revision: str | None = Field(None, description="The chart version that is installed.")
    last_attempted_revision: str | None = Field(None, description="The chart version that was tried last.")
    last_attempted_values_checksum: str | None = Field(None, description="Checksum of the values tried last.")
    last_release_revision: int | None = Field(None, description="Number of the release.")
    helm_chart: str | None = Field(None, description="The chart object.")
    failures: int | None = Field(None, description="Failures since the last success.")
    install_failures: int | None = Field(None, description="Failed installations.")
    upgrade_failures: int | None = Field(None, description="Failed upgrades.")


class RolloutStatus(Model):
    """How the canary of one policy stands on one cluster."""

    cluster_name: str | None = Field(None, description="The cluster.")
    rollout_name_in_cluster: str | None = Field(None, description="Name of the Canary there.")
    rollout_status_in_cluster: CanaryStatus | None = Field(None, description="Its status, as it is there.")


class SyncStatus(Model):
    """One row: one policy on one cluster."""

    name: str | None = Field(None, description="Kurator's name of the row: policy, kind of cluster, cluster.")
    policy: str | None = Field(None, description="Name of the policy.")
    cluster: str | None = Field(None, description="The cluster, as kind/name.")
    cluster_sync: str | None = Field(None, description="Name of the ClusterSync with all details.")
    ready: Literal["True", "False", "Unknown"] | None = Field(None, description="Whether the row is as wanted.")
    message: str | None = Field(None, description="Why not, where it is not.")
    kustomization_status: KustomizationStatus | None = Field(None, description="How the policy stands.")
    helm_release_status: HelmReleaseStatus | None = Field(
        None, alias="HelmReleaseStatus", description="How the policy stands, for Helm. Kurator's key has a capital H."
    )
    rollout_status: RolloutStatus | None = Field(None, description="How the canary stands.")


class Summary(Model):
    """The fleet in a few numbers; the texts are what `kubectl get` shows."""

    clusters: str | None = Field(None, description="Clusters that are as wanted, of all: 3/3.")
    rollout: str | None = Field(None, description="Canaries by phase: 2 Progressing, 1 Succeeded.")
    ready_clusters: int | None = Field(None, description="Clusters that are as wanted.")
    total_clusters: int | None = Field(None, description="Clusters that policies lead to.")
    ready_syncs: int | None = Field(None, description="Rows that are as wanted.")
    total_syncs: int | None = Field(None, description="Rows there are.")
    omitted_syncs: int | None = Field(None, description="Rows left out here to keep the object small.")
    phases: dict[str, int] | None = Field(None, description="Number of canaries by phase.")


class ApplicationStatus(Model):
    """What came of the Application."""

    observed_generation: Generation | None = Field(None, description="The generation of the spec that was looked at.")
    conditions: Conditions | None = Field(None, description="What was observed; Ready sums it up.")
    revision: str | None = Field(None, description="The revision that is wanted everywhere.")
    last_handled_reconcile_at: str | None = Field(None, description="The last request to look again.")
    summary: Summary | None = Field(None, description="The fleet in a few numbers.")
    source_status: SourceStatus | None = Field(None, description="What the source reports.")
    sync_status: list[SyncStatus] | None = Field(None, description="One row for each policy and cluster.")
