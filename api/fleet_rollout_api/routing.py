"""Request matching and header rules in Istio's shape, which Kurator and Flagger both take from users as they are.

They pass through the service unread: what a user left out stays out, so that a member's Canary says what the user said.
"""

from __future__ import annotations

from pydantic import Field

from fleet_rollout_api.meta import Model, checked

# At most one way to match; Flagger's schema says the same, so a wrong one is refused on the hub and not in a member.
AT_MOST_ONE = {
    "oneOf": [
        {"not": {"anyOf": [{"required": [way]} for way in ("exact", "prefix", "suffix", "regex")]}},
        *({"required": [way]} for way in ("exact", "prefix", "suffix", "regex")),
    ]
}


class TextMatch(Model):
    """How a text has to look: exactly one of the four ways."""

    model_config = checked(**AT_MOST_ONE)

    exact: str | None = Field(None, description="The whole text, case-sensitive.")
    prefix: str | None = Field(None, description="How the text starts.")
    suffix: str | None = Field(None, description="How the text ends.")
    regex: str | None = Field(None, description="A regular expression for the whole text.")


class RequestMatch(Model):
    """Which requests are meant. All conditions of one entry have to hold; one entry of a list is enough."""

    name: str | None = Field(None, description="Name of the entry, for the mesh's statistics.")
    uri: TextMatch | None = Field(None, description="Path of the request.")
    scheme: TextMatch | None = Field(None, description="http or https.")
    method: TextMatch | None = Field(None, description="HTTP method.")
    authority: TextMatch | None = Field(None, description="Host the request was sent to.")
    headers: dict[str, TextMatch] | None = Field(None, description="Headers by lower-case name.")
    without_headers: dict[str, TextMatch] | None = Field(None, description="Headers that must not match.")
    query_params: dict[str, TextMatch] | None = Field(None, description="Query parameters by name.")
    port: int | None = Field(None, description="Port the request was sent to.")
    source_labels: dict[str, str] | None = Field(None, description="Labels of the workload that sends the request.")
    source_namespace: str | None = Field(None, description="Namespace of the workload that sends the request.")
    gateways: list[str] | None = Field(None, description="Gateways the entry applies to.")
    ignore_uri_case: bool | None = Field(None, description="Compare the path without regard to case.")


class HeaderChange(Model):
    """Headers to add, set and remove."""

    add: dict[str, str] | None = Field(None, description="Headers to append to what is there.")
    set: dict[str, str] | None = Field(None, description="Headers to overwrite.")
    remove: list[str] | None = Field(None, description="Names of headers to take away.")


class Headers(Model):
    """Changes to headers on the way to the workload and back."""

    request: HeaderChange | None = Field(None, description="Before the request is forwarded.")
    response: HeaderChange | None = Field(None, description="Before the response is returned.")


class Retries(Model):
    """How often and when a failed request is sent again."""

    attempts: int | None = Field(None, description="Highest number of retries.")
    per_try_timeout: str | None = Field(None, description="Time-out of each attempt, for example 2s.")
    retry_on: str | None = Field(None, description="Conditions that allow a retry, separated by commas.")


class CorsPolicy(Model):
    """Cross-origin rules that the route answers browsers with."""

    allow_origin: list[str] | None = Field(None, description="Origins by exact text; allowOrigins says more.")
    allow_origins: list[TextMatch] | None = Field(None, description="Origins that may call.")
    allow_methods: list[str] | None = Field(None, description="Methods that may be used.")
    allow_headers: list[str] | None = Field(None, description="Headers that may be sent.")
    expose_headers: list[str] | None = Field(None, description="Headers a browser may read.")
    max_age: str | None = Field(None, description="How long a preflight answer may be cached, for example 24h.")
    allow_credentials: bool | None = Field(None, description="Whether credentials may be sent.")
