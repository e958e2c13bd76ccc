"""What the fault proxies see, and what they are told to do about it: requests, rules, and the log they share.

A test makes one `Faults`, gives it to the proxy of the hub and of each member, and adds rules at any time,
from any thread. Writes are numbered from 1 in the order in which they arrive at any of the proxies.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Cut(Exception):
    """The client's connection is to be reset."""


WRITES = frozenset({"create", "update", "patch", "apply", "delete", "deletecollection"})
# They depend on time and not on the work, so that counting them would number a run differently each time.
UNCOUNTED = frozenset({"leases", "events"})
NAMESPACE_PARTS = frozenset({"status", "finalize"})


class Key(NamedTuple):
    """What a request is about, the same in every run: cluster, verb, plural (with its group), namespace, name, part."""

    cluster: str
    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass
class Asked:
    """One request at a proxy. `number` is its place among the counted writes, 0 for everything else."""

    key: Key
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    number: int = 0
    epoch: int = 0  # how often the caller had been started anew
    status: int = 0  # of the API server's answer; 0 while there is none
    is_of_the_past: bool = False  # answered by what was true once

    @property
    def is_dry_run(self) -> bool:
        return "dryRun" in self.query

    @property
    def is_write(self) -> bool:
        return self.key.verb in WRITES and not self.is_dry_run and self.key.resource.split(".")[0] not in UNCOUNTED


@dataclass(frozen=True)
class Reply:
    """Answer in the API server's place; it never hears of the request."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CutBefore:
    """Reset the connection; the API server never hears of the request. `then` is called first (to kill the caller)."""

    then: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class CutAfter:
    """Let the API server carry the request out, read its whole answer, call `then`, and reset the connection."""

    then: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class CutInside:
    """Reset the connection in the middle of the answer; of a watch, in the middle of its next event."""


@dataclass(frozen=True)
class Slow:
    """Send the answer at so many bytes a second."""

    rate: float


@dataclass(frozen=True)
class Past:
    """Answer a read with what was true at `revision` (true past state, from etcd); a watch starts there.

    What the API server does not remember any more is answered as it is now.
    """

    revision: str


@dataclass(frozen=True)
class Delay:
    """Send the request on after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Lag:
    """Send every event of a watch so many seconds after it came."""

    seconds: float


class Hold:
    """Keep the request until `release()`; `then` is called and `arrived` set when one, `asked`, is held."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self._then = then
        self.arrived = threading.Event()
        self.asked: Asked | None = None
        self._released = threading.Event()

    def take(self, asked: Asked) -> None:
        """The proxy calls this."""
        self._then()
        self.asked = asked
        self.arrived.set()

    @property
    def is_released(self) -> bool:
        return self._released.is_set()

    def release(self) -> None:
        self._released.set()


@dataclass(frozen=True)
class Events:
    """Change what a watch sends: `change(event)` gives the events to send in its place, none to drop it.

    It may raise `Cut`: the event is lost with its connection.
    """

    change: Callable[[dict[str, Any]], Iterable[dict[str, Any]]]


Action = Reply | CutBefore | CutAfter | CutInside | Slow | Past | Delay | Lag | Hold | Events

REASONS = {
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


def refusal(status: int, *, retry_after: int | None = None) -> Reply:
    """What an API server says when it refuses so."""
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
    body |= {"reason": REASONS[status], "message": f"the fault proxy says {REASONS[status]}"}
    if retry_after is None:
        return Reply(status, body)
    return Reply(status, body | {"details": {"retryAfterSeconds": retry_after}}, {"Retry-After": str(retry_after)})


def dropped(name: str) -> Events:
    """A watch that loses every event about objects of this name."""
    return Events(lambda event: [] if _subject(event) == name else [event])


def repeated() -> Events:
    """A watch that tells every event twice."""
    return Events(lambda event: [event, event])


def lost_once() -> Events:
    """Watches whose connection breaks with every event that comes for the first time, before it arrives."""
    lost: set[tuple[str, ...]] = set()

    def change(event: dict[str, Any]) -> list[dict[str, Any]]:
        metadata = event["object"].get("metadata") or {}
        this = (event["type"], metadata.get("uid", ""), metadata.get("resourceVersion", ""))
        if event["type"] != "BOOKMARK" and this not in lost:
            lost.add(this)
            raise Cut
        return [event]

    return Events(change)


def without_bookmarks() -> Events:
    return Events(lambda event: [] if event["type"] == "BOOKMARK" else [event])


def _subject(event: Mapping[str, Any]) -> str:
    return str((event["object"].get("metadata") or {}).get("name", ""))


@dataclass
class Rule:
    """Do `action` to requests that `matches`: from the `nth` one on, `times` times (None: for ever)."""

    matches: Callable[[Asked], bool]
    action: Action
    nth: int = 1
    times: int | None = 1
    seen: int = 0
    done: int = 0

    def takes(self, asked: Asked) -> bool:
        """Whether it is this rule's turn; counts."""
        if not self.matches(asked):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.done >= self.times):
            return False
        self.done += 1
        return True


class Faults:
    """The rules and the log of all proxies of a test."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._log: list[Asked] = []
        self._writes = 0
        self.epoch = 0

    def on(
        self, action: Action, *, nth: int = 1, times: int | None = 1, epoch: int | None = None, **wanted: str
    ) -> Rule:
        """Add a rule for requests whose key has these fields: `on(CutAfter(), verb="apply", name="a")`."""
        assert wanted.keys() <= set(Key._fields), f"a key has {Key._fields}"

        def matches(asked: Asked) -> bool:
            is_its_time = epoch is None or asked.epoch == epoch
            return is_its_time and all(getattr(asked.key, field) == value for field, value in wanted.items())

        return self.when(matches, action, nth=nth, times=times)

    def on_write(self, number: int, action: Action) -> Rule:
        """Add a rule for the write with this number."""
        return self.when(lambda asked: asked.number == number, action)

    def when(self, matches: Callable[[Asked], bool], action: Action, *, nth: int = 1, times: int | None = 1) -> Rule:
        """Add a rule; the first that takes a request has it."""
        rule = Rule(matches, action, nth, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Let everything pass from now on; what is held stays held."""
        with self._lock:
            self._rules.clear()

    def arrived(self, asked: Asked) -> Action | None:
        """Note a request (the proxies call this); what is to be done to it."""
        with self._lock:
            if asked.is_write:
                self._writes += 1
                asked.number = self._writes
            asked.epoch = self.epoch
            self._log.append(asked)
            return next((rule.action for rule in self._rules if rule.takes(asked)), None)

    @property
    def log(self) -> list[Asked]:
        """Every request so far, reads and dry runs too."""
        with self._lock:
            return list(self._log)

    @property
    def writes(self) -> list[Asked]:
        """The counted writes so far, in the order of their numbers."""
        return [asked for asked in self.log if asked.number]


def key_of(cluster: str, method: str, path: str, query: Mapping[str, str], content_type: str, body: bytes) -> Key:
    """What a request is about."""
    parts = [part for part in path.split("/") if part]
    group, rest = ("", parts[2:]) if parts[:1] == ["api"] else (parts[1] if len(parts) > 1 else "", parts[3:])
    if parts[:1] not in (["api"], ["apis"]) or not rest:
        return Key(cluster, "get", "/".join(parts))
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in NAMESPACE_PARTS:
        namespace, rest = rest[1], rest[2:]
    resource = f"{rest[0]}.{group}" if group else rest[0]
    name = rest[1] if len(rest) > 1 else ""
    verb = _verb(method, name, query, content_type)
    if verb == "create" and not name:
        with contextlib.suppress(ValueError):  # a binary form: Go clients send built-in kinds so
            metadata = json.loads(body or b"{}").get("metadata") or {}
            name = metadata.get("name") or metadata.get("generateName", "")
    return Key(cluster, verb, resource, namespace, name, "/".join(rest[2:]))


def _verb(method: str, name: str, query: Mapping[str, str], content_type: str) -> str:
    if method == "GET":
        return "watch" if query.get("watch") in ("1", "true") else "get" if name else "list"
    if method == "PATCH":
        return "apply" if content_type.startswith("application/apply-patch") else "patch"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return {"POST": "create", "PUT": "update"}.get(method, method.lower())
