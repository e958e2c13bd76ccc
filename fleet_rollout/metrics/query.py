"""What a metrics backend is to the engine: it answers a query with one number, says that it has none, or fails."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import orjson

from fleet_rollout.decide.canary.addresses import AddressRefused, Dial, NotReached, Url, parse_url
from fleet_rollout.decide.canary.checks import DEFAULT_INTERVAL, NO_VALUES
from fleet_rollout.decide.canary.hooks import quoted, shown
from fleet_rollout.decide.canary.subject import seconds_of
from fleet_rollout.metrics.bulkheads import Bulkheads

Object = dict[str, Any]

TIMEOUT = 5.0
# Shorter secrets would be found by chance in what others say.
SHORTEST_SECRET = 4
# Headers that belong to the exchange itself, whoever asks for them.
NEVER_SENT = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade"})
HEADER_NAME = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
# Windows that end now begin this many intervals ago.
INTERVALS = 10
REFUSING = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
REFUSED = "check the Secret of the MetricTemplate, or the credentials in the address"


class NoValues(Exception):
    """The query has no value; the text is what events say."""

    def __init__(self, about: str = "") -> None:
        super().__init__(f"{about}: {NO_VALUES}" if about else NO_VALUES)


class QueryFailed(Exception):
    """The query could not be asked, or its answer not be read; the text is what events say."""


class Misconfigured(Exception):
    """The provider cannot be used as its template or Secret has it."""


class Provider(Protocol):
    """Asks one backend."""

    async def value(self, query: str) -> float:
        """The number that answers the query; never NaN. Raises NoValues or QueryFailed."""
        ...

    async def is_online(self) -> None:
        """Raises QueryFailed where the backend cannot be asked."""
        ...


class MemberApi(Protocol):
    """The member's API server, for metrics that are Kubernetes objects. All raise NotReached."""

    async def get(self, path: str) -> Object: ...

    async def create(self, path: str, obj: Object) -> Object: ...

    async def delete(self, path: str) -> None: ...


@dataclass(frozen=True)
class Options:
    """What a provider needs beside its template. `scope` tells apart what has the same address in two members."""

    bulkheads: Bulkheads
    interval: str = DEFAULT_INTERVAL
    scope: str = ""
    api: MemberApi | None = None
    only_namespace: str = ""  # where references to other namespaces are forbidden, the one that may be named
    lends_identity: bool = True  # a query may go out with the cloud identity that the engine itself has
    now: Callable[[], float] = field(default=time.time)

    def check_lends(self, instead: str) -> None:
        """Misconfigured where a query may not be sent as the engine; `instead` is what may be written in its place."""
        if not self.lends_identity:
            raise Misconfigured(
                f"the hub does not ask with its own cloud identity for a member; {instead}let an engine in the member"
                " run the canary (mode Agent), or start the controller with --lend-cloud-identity"
            )


class Reply(NamedTuple):
    """Parsed JSON, and how events quote it."""

    data: Any
    text: str

    @property
    def without_values(self) -> NoValues:
        return NoValues(f"invalid response: {self.text}")

    @property
    def unreadable(self) -> QueryFailed:
        return QueryFailed(f"invalid response: {self.text}")


class Backend:
    """Asks by HTTP on behalf of one template, and keeps its secrets out of what it says."""

    def __init__(
        self, dial: Dial, secrets: Iterable[str] = (), *, verify: bool = True, timeout: float = TIMEOUT
    ) -> None:
        self.dial = dial
        self.verify = verify
        self.timeout = timeout
        self._secrets: set[str] = set()
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: str) -> None:
        """Never say this."""
        if len(secret) >= SHORTEST_SECRET:
            self._secrets.add(secret)

    async def text(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
        """The body of an answer below 400."""
        try:
            answer = await self.dial.request(
                method, url, headers=headers, body=body, timeout=self.timeout, verify=self.verify
            )
        except NotReached as error:
            raise QueryFailed(f"request failed: {error}") from None
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise self.refused(answer.status, answer.body)
        return answer.body

    async def json(self, method: str, url: str, headers: Mapping[str, str], body: Any = None) -> Reply:
        """The parsed body of an answer below 400; `body` is sent as JSON."""
        sent = None if body is None else orjson.dumps(body)
        typed = headers if sent is None else {"Content-Type": "application/json", **headers}
        found = await self.text(method, url, typed, sent)
        text = self.quote(found)
        try:
            return Reply(orjson.loads(found), text)
        except orjson.JSONDecodeError:
            raise QueryFailed(f"error unmarshaling result: not JSON: {text!r}") from None

    def refused(self, status: int, body: bytes) -> QueryFailed:
        """An answer of 400 and above."""
        told = f"error response: Status {status} {phrase(status)}: {self.quote(body)}"
        return QueryFailed(f"{told}; {REFUSED}" if status in REFUSING else told)

    def quote(self, said: bytes | str) -> str:
        """Somebody else's words, short and without the template's secrets."""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        for secret in sorted(self._secrets, key=len, reverse=True):  # one may hold another
            text = text.replace(secret, "***")
        return quoted(text)


def phrase(status: int) -> str:
    """Its name, as HTTP has it."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def number_of(value: Any, reply: Reply) -> float:
    """A JSON number; null and NaN are no values (to Flagger null is 0, which many bounds let pass)."""
    if value is None:
        raise reply.without_values
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise reply.unreadable
    if math.isnan(value):
        raise reply.without_values
    return float(value)


def at(reply: Reply, *path: str | int) -> Any:
    """What is at a place in the answer: NoValues where a list is too short, QueryFailed where a type is wrong."""
    found = reply.data
    for step in path:
        if isinstance(step, int) and isinstance(found, list):
            if not -len(found) <= step < len(found):
                raise reply.without_values
            found = found[step]
        elif isinstance(step, str) and isinstance(found, Mapping):
            found = found.get(step)
        elif found is None:
            raise reply.without_values
        else:
            raise reply.unreadable
    return found


# What templates and Secrets say


def address_of(spec: Mapping[str, Any], default: str = "", schemes: tuple[str, ...] = ("http", "https")) -> Url:
    """The address of a provider; Misconfigured where there is none that can be used."""
    text = str(spec.get("address") or default)
    try:
        return parse_url(text, schemes)
    except AddressRefused as error:
        raise Misconfigured(f"{spec.get('type')} address {shown(text)} is not a valid URL: {error}") from None


def base_of(url: Url) -> str:
    """The address without a final slash and without a query, to append a path to."""
    return url.text.partition("?")[0].rstrip("/")


def credential(spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, key: str, what: str = "") -> str:
    """A value of the template's Secret, to be encoded in some way; Misconfigured where it is missing."""
    if credentials is None or key not in credentials:
        raise Misconfigured(f"{spec.get('type')} credentials does not contain {what or key}")
    return header_value(key, credentials[key].decode(errors="replace").strip())


def header_credential(
    spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, key: str, what: str = ""
) -> str:
    """A value of the template's Secret that stands in a header as it is."""
    found = credential(spec, credentials, key, what)
    if not found.isascii():
        raise Misconfigured(
            f"{spec.get('type')} credentials: {key} has characters other than ASCII, such as a byte order mark;"
            " write it into the Secret anew"
        )
    return found


def header_name(name: str) -> str:
    """Misconfigured where HTTP has no such header."""
    if not HEADER_NAME.fullmatch(name):
        raise Misconfigured(f"header {name[:50]!r} is not a name")
    return name


def header_value(name: str, value: str) -> str:
    """A text that can stand in a header; Misconfigured where it would begin another one."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise Misconfigured(f"{name} has control characters")
    return value


def interval_seconds(interval: str) -> float:
    """Misconfigured where it is no duration."""
    seconds = seconds_of(interval, -1.0)
    if seconds < 0:
        raise Misconfigured(f"error parsing metric interval: {interval[:50]!r} is not a duration such as 1m")
    return seconds
