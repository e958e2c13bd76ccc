"""What every kind shares: the camelCase base model, metadata, conditions, references, durations, CRD rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=64)]

# RFC 3339, as the API server checks it; kept as text, because only intervals.py does arithmetic with it.
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]

# Whole numbers stay whole on the way through, so that a 99 a user wrote does not become 99.0 in a member.
Number = Annotated[int | float, WithJsonSchema({"type": "number"})]

# Go programs drop empty text when they write an object, so for Kurator "" and absent are one.
EmptyIsUnset = BeforeValidator(lambda value: None if value == "" else value)
OptionalText = Annotated[str | None, EmptyIsUnset]
ObjectNameText = Annotated[Annotated[str, Field(max_length=253)] | None, EmptyIsUnset]
NamespaceText = Annotated[Annotated[str, Field(max_length=63)] | None, EmptyIsUnset]

# Anything the API server is to store as it came.
AnyJson = Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]

# What ends up in an argument, a path or a log line holds no line breaks and no terminal codes.
PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f]*$"


@dataclass(frozen=True)
class Rule:
    """A CEL rule of the CRD: what must hold, and what a user reads when it does not."""

    rule: str
    message: str
    path: str = ""

    def as_schema(self) -> dict[str, str]:
        """The rule as `x-kubernetes-validations` wants it."""
        base = {"rule": self.rule, "message": self.message}
        return base | {"fieldPath": self.path} if self.path else base


def checked(*rules: Rule, **schema: Any) -> ConfigDict:
    """The configuration of a model whose CRD schema carries these rules (and further schema keywords)."""
    extra: dict[str, Any] = dict(schema)
    if rules:
        extra["x-kubernetes-validations"] = [rule.as_schema() for rule in rules]
    return ConfigDict(json_schema_extra=extra)


class Model(BaseModel):
    """Reads and writes camelCase; unknown fields are ignored, so that a newer object never crashes an older hub.

    Strictness is the CRD's business. `dump()` is what goes over the wire.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def dump(self) -> dict[str, Any]:
        """The object as JSON-ready data, without unset and null fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: str


class ObjectMeta(Model):
    """The part of Kubernetes metadata that decisions read."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)
    owner_references: list[OwnerReference] = Field(default_factory=list)


class Condition(Model):
    """One observation about the object, as metav1.Condition. Times are RFC 3339 in UTC, to the second."""

    type: Annotated[str, Field(max_length=316)] = Field(description="What is observed, for example Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, Field(max_length=1024)] = Field(description="Why, in one word a program can compare.")
    message: Annotated[str, Field(max_length=32768)] = Field("", description="Why, for people, and what to do.")
    last_transition_time: Time = Field(description="Since when the condition reads as it does.")
    observed_generation: int | None = Field(None, description="The generation of the spec that was looked at.")


# Two writers of different condition types must not overwrite each other's entry.
Conditions = Annotated[
    list[Condition],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class LocalReference(Model):
    """A name in the namespace of the object that refers to it."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Name of the object.")


class ObjectName(Model):
    """A name, and a namespace that defaults to the one of the object that refers to it."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Name of the object.")
    namespace: NamespaceText = Field(None, description="Its namespace; the referring object's when left out.")


class Metadata(Model):
    """Labels and annotations to put on a generated object."""

    labels: dict[str, str] | None = Field(None, description="Labels to add.")
    annotations: dict[str, str] | None = Field(None, description="Annotations to add.")
