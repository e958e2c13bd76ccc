"""A watch that never ends: lists, follows, resumes where it was, and tells what vanished while it was away.

The caller's picture is right after every SYNCED, whatever was missed in between. Silence counts as a
lost connection, since a connection that died without a word looks like a cluster without news.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import aclosing

from fleet_rollout.decide.intervals import backoff
from fleet_rollout.errors import Transient
from fleet_rollout.kube.client import Cluster, Event, Object, Resource
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.settings import Settings

__all__ = ["Event", "Pulse", "watch_forever"]

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
# A kind that is not served may be on its way; it is asked for more often than a server that fails.
LONGEST_PAUSE_ABSENT = 5.0
# Objects that one watch knows of. A member that tells of more is not worth the hub's memory.
MOST_KNOWN = 500_000
# A stream that lived this long was a good one, also when nothing happened on it.
GOOD_STREAM = 5.0

Key = tuple[str, str]
Known = tuple[str, str]  # uid, resourceVersion


class Pulse:
    """When a watch last heard anything, bookmarks included."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        self._last = self._clock()

    @property
    def age(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock() - self._last


async def watch_forever(
    cluster: Cluster,
    resource: Resource,
    *,
    settings: Settings,
    on_event: Callable[[Event], None],
    namespace: str | None = None,
    label_selector: str = "",
    metadata_only: bool = False,
    age: Pulse | None = None,
    on_lost: Callable[[], None] = lambda: None,
) -> None:
    """Call `on_event` for every change until cancelled: ADDED, MODIFIED, DELETED, and SYNCED after a full listing.

    An object that vanished unseen is DELETED with its type, name, namespace, uid and last resourceVersion only.
    `on_lost` is called where nothing can be heard: until the next sign of life there may be changes unheard.
    """
    follower = _Follower(cluster, resource, namespace, label_selector, metadata_only, on_event, age or Pulse())
    failures = 0
    while True:
        started = time.monotonic()
        failure = await follower.follow()
        if failure is None or follower.heard or time.monotonic() - started >= GOOD_STREAM:
            failures = 0
        if failure is None:
            continue
        failures += 1
        on_lost()
        log.debug("watch of %s in %s: %s", resource.plural, cluster.name, failure)
        await asyncio.sleep(_pause(failure, failures, settings))


def _pause(failure: Exception, failures: int, settings: Settings) -> float:
    absent = isinstance(failure, ApiError) and failure.is_not_found
    longest = LONGEST_PAUSE_ABSENT if absent else settings.member_breaker_max
    pause = backoff(failures, FIRST_PAUSE, longest, random.random())  # noqa: S311
    asked = getattr(failure, "retry_after", None) or 0.0
    return max(pause, asked + random.random() * FIRST_PAUSE)  # noqa: S311


class _Follower:
    """What is known of one listing, and the next connection to keep it so."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        namespace: str | None,
        label_selector: str,
        metadata_only: bool,
        on_event: Callable[[Event], None],
        pulse: Pulse,
    ) -> None:
        self._cluster = cluster
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._metadata_only = metadata_only
        self._on_event = on_event
        self._pulse = pulse
        self._known: dict[Key, Known] = {}
        self._version = ""
        self.heard = False

    async def follow(self) -> Exception | None:
        """List if there is nothing to resume from, then watch until the connection ends; what went wrong, if it did."""
        self.heard = False
        started = time.monotonic()
        try:
            if not self._version:
                await self._list()
            await self._watch()
        except ApiError as error:
            if error.is_expired or error.status == 400:  # 400: the server was restored to before this version
                self._version = ""
            return error
        except (Unreachable, Transient) as error:
            return error
        if not self.heard and time.monotonic() - started < GOOD_STREAM:
            return Unreachable(self._cluster.name, "a watch ended as soon as it began", maybe_sent=False)
        return None

    async def _list(self) -> None:
        objects, version = await self._cluster.list(
            self._resource, self._namespace, label_selector=self._label_selector, metadata_only=self._metadata_only
        )
        self._pulse.beat()
        listed = {_key(obj): obj for obj in objects}
        for key, (uid, _) in list(self._known.items()):
            if key not in listed or listed[key]["metadata"].get("uid", "") != uid:
                self._vanished(key)
        for key, obj in listed.items():
            self._seen(key, obj)
        self._version = version
        self._on_event(Event("SYNCED", {}))

    async def _watch(self) -> None:
        events = self._cluster.watch(
            self._resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            metadata_only=self._metadata_only,
            resource_version=self._version,
        )
        async with aclosing(events):
            async for event in events:
                self.heard = True
                self._pulse.beat()
                self._take(event)

    def _take(self, event: Event) -> None:
        self._version = event.obj["metadata"].get("resourceVersion") or self._version
        key = _key(event.obj)
        if event.type == "DELETED":
            self._known.pop(key, None)
            self._on_event(event)
        elif event.type != "BOOKMARK":
            self._seen(key, event.obj)

    def _seen(self, key: Key, obj: Object) -> None:
        metadata = obj["metadata"]
        now = (metadata.get("uid", ""), metadata.get("resourceVersion", ""))
        before = self._known.get(key)
        if before == now:
            return
        if before is None and len(self._known) >= MOST_KNOWN:
            fact = f"has more than {MOST_KNOWN} {self._resource.plural}; delete those that nobody needs"
            raise Unreachable(self._cluster.name, fact, maybe_sent=False)
        self._known[key] = now
        self._on_event(Event("ADDED" if before is None else "MODIFIED", obj))

    def _vanished(self, key: Key) -> None:
        uid, version = self._known.pop(key)
        namespace, name = key
        metadata = {"name": name, "uid": uid, "resourceVersion": version}
        if namespace:
            metadata["namespace"] = namespace
        obj = {"apiVersion": self._resource.api_version, "kind": self._resource.kind, "metadata": metadata}
        self._on_event(Event("DELETED", obj))


def _key(obj: Object) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata.get("name", "")
