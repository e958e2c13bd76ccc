"""Where an Application's content comes from: Git, a Helm repository, or an OCI registry.

Kurator's fields, all of them; which ones are carried out is said in docs/kinds/application.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_rollout_api.meta import (
    PRINTABLE_PATTERN,
    Duration,
    EmptyIsUnset,
    LocalReference,
    Model,
    OptionalText,
    Rule,
    checked,
)

# No blanks, no control characters, no leading dash: the text becomes an argument of git.
REF_PATTERN = r"^([^-\x00-\x20\x7f][^\x00-\x20\x7f]*)?$"
GitName = Annotated[Annotated[str, Field(max_length=255, pattern=REF_PATTERN)] | None, EmptyIsUnset]
VersionRange = Annotated[Annotated[str, Field(max_length=255, pattern=PRINTABLE_PATTERN)] | None, EmptyIsUnset]

NO_PASSWORD_IN_URL = (
    Rule(
        "!self.url.matches('^https?://[^/?#]*@')",
        "url must not hold a user name or password; put them into a Secret and name it in secretRef",
        ".url",
    ),
    Rule(
        "!self.url.matches('^ssh://[^/?#@]*:[^/?#]*@')",
        "url must not hold a password; put the key into a Secret and name it in secretRef",
        ".url",
    ),
)


class GitRef(Model):
    """Which commit is wanted. Where several are set: commit, then name, tag, semver, branch."""

    branch: GitName = Field(None, description="Branch to follow; master when nothing at all is set.")
    tag: GitName = Field(None, description="Tag to use.")
    semver: VersionRange = Field(
        None, description="Range of versions; the highest tag within it is used, for example >=1.0.0 <2.0.0."
    )
    name: GitName = Field(None, description="Full reference, for example refs/pull/12/head.")
    commit: GitName = Field(None, description="Full hash of a commit; with branch, a commit of that branch.")


class GitVerification(Model):
    """Which keys a commit has to be signed with."""

    mode: Literal["head"] = Field(description="What is verified: the commit that was checked out.")
    secret_ref: LocalReference = Field(description="Secret with the public keys.")


class GitInclude(Model):
    """Content of another source to copy in."""

    repository: LocalReference = Field(description="The other source, in the same namespace.")
    from_path: str | None = Field(None, description="Folder there; its root when left out.")
    to_path: str | None = Field(None, description="Folder here; the other source's name when left out.")


class NamespaceSelector(Model):
    """Namespaces by label."""

    match_labels: dict[str, str] | None = Field(None, description="Labels the namespace has to have.")


class AccessFrom(Model):
    """Namespaces that may use the source. Read for compatibility; sources are used in their own namespace only."""

    namespace_selectors: list[NamespaceSelector] = Field(description="Any of these selectors admits a namespace.")


class GitRepositorySpec(Model):
    """A Git repository, over http, https or ssh."""

    model_config = checked(*NO_PASSWORD_IN_URL)

    url: Annotated[str, Field(pattern=r"^(http|https|ssh)://[^\x00-\x20\x7f]+$", max_length=2048)] = Field(
        description="Address of the repository: http://, https:// or ssh://. Without user name and password."
    )
    interval: Duration = Field(description="How often to look for a new commit; 0s: only when asked.")
    timeout: Duration = Field("60s", description="Longest time one fetch may take.")
    ref: GitRef | None = Field(None, description="Which commit is wanted; branch master when left out.")
    secret_ref: LocalReference | None = Field(None, description="Secret with the credentials, in the same namespace.")
    ignore: Annotated[str, Field(max_length=65536)] | None = Field(
        None, description="Files to leave out, in .gitignore's language; added after those of .sourceignore."
    )
    include: list[GitInclude] | None = Field(None, description="Content of other sources to copy in.")
    recurse_submodules: bool = Field(False, description="Fetch submodules too, with the same credentials.")
    suspend: bool = Field(False, description="Stop looking for new commits.")
    verify: GitVerification | None = Field(None, description="Accept only commits signed with a known key.")
    git_implementation: Literal["go-git", "libgit2"] = Field(
        "go-git", description="Kurator's choice of a Git library. Accepted; the git program does the work here."
    )
    access_from: AccessFrom | None = Field(None, description="Namespaces that may use the source.")


class HelmRepositorySpec(Model):
    """A repository of Helm charts. Accepted, and answered with the condition NotSupportedYet."""

    url: Annotated[str, Field(max_length=2048, pattern=PRINTABLE_PATTERN)] = Field(
        description="Address of the repository, http://, https:// or oci://."
    )
    interval: Duration = Field(description="How often to look for a new index.")
    timeout: Duration = Field("60s", description="Longest time one fetch may take.")
    type: Literal["default", "oci"] | None = Field(None, description="Kind of repository.")
    provider: Literal["generic", "aws", "azure", "gcp"] = Field("generic", description="Whose login is used.")
    secret_ref: LocalReference | None = Field(None, description="Secret with the credentials, in the same namespace.")
    pass_credentials: bool = Field(False, description="Send the credentials to other hosts the index names.")
    suspend: bool = Field(False, description="Stop looking for new charts.")
    access_from: AccessFrom | None = Field(None, description="Namespaces that may use the source.")


class OCIRef(Model):
    """Which artifact of a registry is wanted. Where several are set: digest, then semver, tag."""

    digest: OptionalText = Field(None, description="Digest of the artifact.")
    semver: OptionalText = Field(None, description="Range of versions; the highest tag within it is used.")
    tag: OptionalText = Field(None, description="Tag to use; latest when nothing is set.")


class OCILayer(Model):
    """Which layer of the artifact holds the content."""

    media_type: str | None = Field(None, description="Media type of the layer; the first layer when left out.")
    operation: Literal["extract", "copy"] | None = Field(None, description="Unpack the layer, or keep it packed.")


class OCIVerification(Model):
    """Who has to have signed the artifact."""

    provider: Literal["cosign"] = Field("cosign", description="The tool that signed.")
    secret_ref: LocalReference | None = Field(None, description="Secret with the public keys.")


class OCIRepositorySpec(Model):
    """An artifact in an OCI registry. Accepted, and answered with the condition NotSupportedYet."""

    url: Annotated[str, Field(pattern=r"^oci://[^\x00-\x20\x7f]*$", max_length=2048)] = Field(
        description="Address of the artifact without tag: oci://."
    )
    interval: Duration = Field(description="How often to look for a new artifact.")
    timeout: Duration = Field("60s", description="Longest time one fetch may take.")
    ref: OCIRef | None = Field(None, description="Which artifact is wanted; tag latest when left out.")
    layer_selector: OCILayer | None = Field(None, description="Which layer to use.")
    provider: Literal["generic", "aws", "azure", "gcp"] = Field("generic", description="Whose login is used.")
    secret_ref: LocalReference | None = Field(None, description="Secret with the registry's login.")
    cert_secret_ref: LocalReference | None = Field(None, description="Secret with TLS certificates.")
    service_account_name: OptionalText = Field(None, description="Service account with image pull secrets.")
    insecure: bool = Field(False, description="Speak HTTP to the registry.")
    ignore: str | None = Field(None, description="Files to leave out, in .gitignore's language.")
    verify: OCIVerification | None = Field(None, description="Accept only signed artifacts.")
    suspend: bool = Field(False, description="Stop looking for new artifacts.")


class Source(Model):
    """Where the content comes from: exactly one of the three."""

    model_config = checked(
        Rule(
            "[has(self.gitRepository), has(self.helmRepository), has(self.ociRepository)].exists_one(x, x)",
            "exactly one of gitRepository, helmRepository and ociRepository must be set",
        )
    )

    git_repository: GitRepositorySpec | None = Field(None, description="A Git repository.")
    helm_repository: HelmRepositorySpec | None = Field(None, description="A repository of Helm charts.")
    oci_repository: OCIRepositorySpec | None = Field(None, description="An artifact in an OCI registry.")
