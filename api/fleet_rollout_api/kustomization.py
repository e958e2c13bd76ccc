"""How a policy turns the source's content into objects: kustomize, with Flux's fields and names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.meta import PRINTABLE_PATTERN, Duration, Metadata, Model, ObjectName, ObjectNameText

NamespaceName = Annotated[str, Field(min_length=1, max_length=63)]
FolderPath = Annotated[str, Field(max_length=1024, pattern=PRINTABLE_PATTERN)]
CelText = Annotated[str, Field(max_length=4096)]
NamePart = Annotated[str, Field(min_length=1, max_length=200)]


class PatchTarget(Model):
    """Which objects a patch is for; what is left out matches all."""

    group: str | None = Field(None, description="API group, as a regular expression.")
    version: str | None = Field(None, description="API version, as a regular expression.")
    kind: str | None = Field(None, description="Kind, as a regular expression.")
    name: str | None = Field(None, description="Name, as a regular expression.")
    namespace: str | None = Field(None, description="Namespace, as a regular expression.")
    label_selector: str | None = Field(None, description="Labels, for example app=web.")
    annotation_selector: str | None = Field(None, description="Annotations, in the language of labelSelector.")


class Patch(Model):
    """A change to built objects: a strategic merge patch, or a list of JSON 6902 operations."""

    patch: str = Field(description="The patch as YAML or JSON text.")
    target: PatchTarget | None = Field(None, description="Objects it is for; a merge patch names its own.")


class Image(Model):
    """A change of image name, tag or digest."""

    name: str = Field(description="The image as manifests name it, without tag.")
    new_name: str | None = Field(None, description="The name to use instead.")
    new_tag: str | None = Field(None, description="The tag to use instead.")
    digest: str | None = Field(None, description="The digest to use instead; wins over newTag.")


class HealthCheck(Model):
    """An object whose health is waited for."""

    api_version: str | None = Field(None, description="Its API version, for example apps/v1.")
    kind: str = Field(description="Its kind.")
    name: str = Field(description="Its name.")
    namespace: str | None = Field(None, description="Its namespace; none for cluster-wide kinds.")


class HealthCheckExpr(Model):
    """How to read the health of a kind that does not follow the usual conventions: CEL over the object."""

    api_version: str = Field(description="API version of the objects.")
    kind: str = Field(description="Kind of the objects.")
    in_progress: CelText | None = Field(None, description="True while the object is on its way.")
    failed: CelText | None = Field(None, description="True when the object has failed.")
    current: CelText = Field(description="True when the object is as wanted.")


class KustomizationSpec(Model):
    """Build a folder of the source with kustomize, apply the result, keep it so."""

    interval: Duration = Field(
        description="How often to look for drift and undo it; 0s: never, only new content is applied."
    )
    prune: bool = Field(description="Delete what this policy had brought and the source no longer holds.")
    path: FolderPath | None = Field(None, description="Folder to build; the root when left out.")
    retry_interval: Duration | None = Field(None, description="How soon to try again after a failure.")
    timeout: Duration | None = Field(
        None, description="Longest time for build, apply and health; interval less 30s when left out, at least 30s."
    )
    target_namespace: NamespaceName | None = Field(None, description="Namespace to put all namespaced objects into.")
    name_prefix: NamePart | None = Field(None, description="Text to put before every name.")
    name_suffix: NamePart | None = Field(None, description="Text to put after every name.")
    force: bool = Field(False, description="Delete and create again what cannot be changed in place.")
    suspend: bool = Field(False, description="Apply nothing; what is there stays.")
    patches: list[Patch] = Field(default_factory=list, description="Changes to the built objects.")
    images: list[Image] = Field(default_factory=list, description="Changes of images.")
    common_metadata: Metadata | None = Field(None, description="Labels and annotations for every object.")
    depends_on: list[ObjectName] = Field(
        default_factory=list,
        description="Policies of this Application that must be applied on the same cluster first, by policy name.",
    )
    components: list[FolderPath] = Field(default_factory=list, description="Kustomize components to add, by folder.")
    wait: bool = Field(False, description="Wait until everything applied is healthy.")
    health_checks: list[HealthCheck] = Field(
        default_factory=list, description="Objects to wait for; not needed where wait is set."
    )
    health_check_exprs: list[HealthCheckExpr] = Field(
        default_factory=list, description="How to read the health of kinds with conventions of their own."
    )
    service_account_name: ObjectNameText = Field(
        None, description="Service account in the member to apply as; the kubeconfig's own user when left out."
    )
    deletion_policy: Literal["MirrorPrune", "Delete", "WaitForTermination", "Orphan"] | None = Field(
        None,
        description="What happens to the objects when this policy goes: as prune says (MirrorPrune), delete, "
        "delete and wait until they are gone, or leave them.",
    )
    allow_empty: bool = Field(
        False, description="Accept a build without objects where there were some, and prune them all."
    )
