"""Kurator's Helm fields. They are accepted so that an Application stays valid, and answered with NotSupportedYet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.meta import AnyJson, Duration, Metadata, Model, ObjectName, OptionalText

CRDPolicy = Literal["Skip", "Create", "CreateReplace"]


class ChartSpec(Model):
    """Which chart, in which version."""

    chart: str = Field(description="Name of the chart, or its folder in a Git source.")
    version: str = Field("*", description="Range of chart versions.")
    interval: Duration | None = Field(None, description="How often to look for a new version.")
    reconcile_strategy: Literal["ChartVersion", "Revision"] = Field(
        "ChartVersion", description="What counts as new: a new chart version, or a new revision of the source."
    )
    values_files: list[str] | None = Field(None, description="Values files in the source, later ones win.")


class Chart(Model):
    """The chart of a release."""

    metadata: Metadata | None = Field(None, description="Labels and annotations of the generated chart object.")
    spec: ChartSpec = Field(description="Which chart.")


class Remediation(Model):
    """What to do after a failed action."""

    retries: int | None = Field(None, description="How often to try again; negative: without end.")
    ignore_test_failures: bool | None = Field(None, description="Do not count failed chart tests.")
    remediate_last_failure: bool | None = Field(None, description="Clean up after the last failure too.")


class UpgradeRemediation(Remediation):
    """What to do after a failed upgrade."""

    strategy: Literal["rollback", "uninstall"] | None = Field(None, description="How to clean up.")


class Action(Model):
    """What all actions of Helm share."""

    timeout: Duration | None = Field(None, description="Longest time for the action.")
    disable_hooks: bool | None = Field(None, description="Run no hooks.")
    disable_wait: bool | None = Field(None, description="Do not wait for readiness.")


class Install(Action):
    """Settings of an installation."""

    remediation: Remediation | None = Field(None, description="What to do after a failure.")
    disable_wait_for_jobs: bool | None = Field(None, description="Do not wait for Jobs.")
    disable_open_api_validation: bool | None = Field(
        None, alias="disableOpenAPIValidation", description="Do not validate against the cluster's schemas."
    )
    replace: bool | None = Field(None, description="Use a name that a failed release still holds.")
    skip_crds: bool | None = Field(None, alias="skipCRDs", description="Old form of crds: Skip.")
    crds: CRDPolicy | None = Field(None, description="What to do with the chart's CRDs.")
    create_namespace: bool | None = Field(None, description="Create the target namespace.")


class Upgrade(Action):
    """Settings of an upgrade."""

    remediation: UpgradeRemediation | None = Field(None, description="What to do after a failure.")
    disable_wait_for_jobs: bool | None = Field(None, description="Do not wait for Jobs.")
    disable_open_api_validation: bool | None = Field(
        None, alias="disableOpenAPIValidation", description="Do not validate against the cluster's schemas."
    )
    force: bool | None = Field(None, description="Replace what cannot be changed in place.")
    preserve_values: bool | None = Field(None, description="Start from the values of the last release.")
    cleanup_on_fail: bool | None = Field(None, description="Delete what a failed upgrade has created.")
    crds: CRDPolicy | None = Field(None, description="What to do with the chart's CRDs.")


class Rollback(Action):
    """Settings of a rollback."""

    disable_wait_for_jobs: bool | None = Field(None, description="Do not wait for Jobs.")
    recreate: bool | None = Field(None, description="Restart Pods.")
    force: bool | None = Field(None, description="Replace what cannot be changed in place.")
    cleanup_on_fail: bool | None = Field(None, description="Delete what a failed rollback has created.")


class Uninstall(Action):
    """Settings of a removal."""

    keep_history: bool | None = Field(None, description="Keep the records of the release.")


class ValuesReference(Model):
    """Values from a Secret or ConfigMap of the Application's namespace."""

    kind: Literal["Secret", "ConfigMap"] = Field(description="What holds the values.")
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Its name.")
    values_key: Annotated[str, Field(max_length=253, pattern=r"^[\-._a-zA-Z0-9]+$")] | None = Field(
        None, description="Key within it; values.yaml when left out."
    )
    target_path: Annotated[str, Field(max_length=250, pattern=r"^([a-zA-Z0-9_\-.\\\/]|\[[0-9]{1,5}\])+$")] | None = (
        Field(None, description="Where in the values the text goes; everywhere when left out.")
    )
    optional: bool | None = Field(None, description="Go on where it does not exist.")


class HelmSpec(Model):
    """A Helm release. Accepted, and answered with the condition NotSupportedYet."""

    chart: Chart = Field(description="The chart to install.")
    interval: Duration = Field(description="How often to look at the release.")
    suspend: bool = Field(False, description="Leave the release alone.")
    release_name: Annotated[str, Field(min_length=1, max_length=53)] | None = Field(
        None, description="Name of the release; targetNamespace and name when left out."
    )
    target_namespace: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        None, description="Namespace of the release."
    )
    depends_on: list[ObjectName] | None = Field(None, description="Releases that must be ready first.")
    timeout: Duration | None = Field(None, description="Longest time for one action.")
    max_history: int | None = Field(None, description="How many records of the release to keep.")
    service_account_name: OptionalText = Field(None, description="Service account to act as.")
    persistent_client: bool | None = Field(None, description="Keep the connection to the cluster.")
    install: Install | None = Field(None, description="Settings of an installation.")
    upgrade: Upgrade | None = Field(None, description="Settings of an upgrade.")
    rollback: Rollback | None = Field(None, description="Settings of a rollback.")
    uninstall: Uninstall | None = Field(None, description="Settings of a removal.")
    values_from: list[ValuesReference] | None = Field(None, description="Values from Secrets and ConfigMaps.")
    values: AnyJson = Field(None, description="Values of the release, over those of valuesFrom.")
