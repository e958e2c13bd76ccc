"""The body of a webhook call, as the load tester reads it. Whoever can reach the port may send anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

# Names of Kubernetes objects and of namespaces, and nothing that a ConfigMap's key may not hold.
NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LONGEST_KEY = 253
# As Go's strconv.ParseBool reads them.
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})


class Refused(Exception):
    """The request cannot be done; the text is the answer. `status` is that of HTTP."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True)
class Payload:
    """Which Canary calls, and what it asks for."""

    name: str = ""
    namespace: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def canary(self) -> str:
        return f"{self.name}.{self.namespace}"

    def says(self, flag: str) -> bool:
        """Whether a flag of the metadata is set."""
        return self.metadata.get(flag) in TRUE

    def gate(self, prefix: str = "") -> str:
        """The key of a gate; raises Refused for names that no Canary has."""
        key = f"{prefix}{self.canary}"
        if not (NAME.fullmatch(self.name) and NAMESPACE.fullmatch(self.namespace)) or len(key) > LONGEST_KEY:
            raise Refused("name and namespace are not those of a Canary")
        return key


def read_payload(body: bytes) -> Payload:
    """Raises Refused for what is no webhook payload."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused("the body is no JSON") from None
    if document is None:
        return Payload()
    if not isinstance(document, dict):
        raise Refused("the body is no JSON object")
    return Payload(_text(document, "name"), _text(document, "namespace"), _metadata(document.get("metadata")))


def _text(document: Mapping[str, Any], field: str) -> str:
    value = document.get(field)
    if value is not None and not isinstance(value, str):
        raise Refused(f"{field} is no text")
    return value or ""


def _metadata(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise Refused("metadata is no object of texts")
    return value
