"""What is known of one member's objects: read once, kept while watches say that nothing has changed.

Watches are few (three kinds beside the Canaries) and carry metadata alone. What no watch covers is read again when it
is older than its age allows. An idle Canary therefore costs no request.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fleet_rollout.decide.canary.objects import Object, Ref
from fleet_rollout.kube.client import Cluster, Event
from fleet_rollout.kube.discovery import Resource
from fleet_rollout.kube.watch import Pulse, watch_forever
from fleet_rollout.settings import Settings

MOST_KINDS = 3
# Their changes are new revisions, which a Canary at rest must not learn of minutes later.
TELLING_KINDS = frozenset({"Deployment", "DaemonSet", "ConfigMap"})
# How old what nobody watches may be, in seconds: Secrets may not be watched by anybody's rights.
AGE_IN_ANALYSIS = 60.0
AGE_WHEN_IDLE = 600.0
SECRET_AGE = 60.0
# How long what nobody looks at is kept, for checks and alerts of other Canaries that read the same. Older than this it
# would be read again anyway.
UNUSED_AGE = 60.0
REWATCH_DELAY = 1.0

Kind = tuple[str, str]  # apiVersion, kind


@dataclass
class _Seen:
    """One object as it was read; `version` is its resourceVersion, 0 where there was none."""

    obj: Object | None
    version: int
    at: float


@dataclass
class _Watched:
    """The versions of all objects of one kind, as its watch tells them, and when it was last known to be deaf."""

    scope: str | None
    task: asyncio.Task[None] | None = None
    versions: dict[Ref, int] = field(default_factory=dict)
    horizon: int = 0
    is_synced: bool = False
    pulse: Pulse = field(default_factory=Pulse)
    deaf_at: float = float("-inf")

    def doubt(self) -> None:
        """Until it is heard again, there may be changes that it has not told."""
        self.deaf_at = time.monotonic()

    @property
    def hears(self) -> bool:
        return self.is_synced and time.monotonic() - self.pulse.age > self.deaf_at


class Sight:
    """`on_change` is told of every object that is no longer as it was read."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self.on_change: Callable[[Ref], None] = lambda _: None
        self._seen: dict[Ref, _Seen] = {}
        self._users: dict[Ref, set[object]] = defaultdict(set)
        self._used: dict[object, set[Ref]] = {}
        self._watched: dict[Kind, _Watched] = {}
        self._resources: dict[Kind, Resource] = {}
        self._rewatching: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._is_closed = False

    # Reading

    async def read(self, refs: Iterable[Ref], *, oldest: float = AGE_IN_ANALYSIS) -> dict[Ref, Object | None]:
        """The objects, from memory where they are known to be as they were; callers must not change them.

        One after the other: many at once would leave every member with a connection more than it needs.
        """
        found: dict[Ref, Object | None] = {}
        for ref in dict.fromkeys(refs):
            if not self._is_fresh(ref, oldest):
                await self._fetch(ref)
            found[ref] = self._seen[ref].obj
        return found

    async def reread(self, ref: Ref) -> Object | None:
        """The object, from the API server."""
        await self._fetch(ref)
        return self._seen[ref].obj

    async def refresh(self, refs: Iterable[Ref]) -> None:
        """Ask the API server for these now, whatever is known of them."""
        for ref in dict.fromkeys(refs):
            await self._fetch(ref)

    def known(self, ref: Ref) -> Object | None:
        """The object as it was last seen."""
        seen = self._seen.get(ref)
        return seen.obj if seen is not None else None

    def is_watched(self, ref: Ref) -> bool:
        """Whether its changes are told without asking."""
        return self._watching(ref) is not None

    def doubt(self) -> None:
        """The API server was not reached: a watch whose connection died without a word looks like one without news."""
        for watched in self._watched.values():
            watched.doubt()

    def keep(self, ref: Ref, obj: Object | None) -> None:
        """Remember the answer to a write of ours."""
        if obj is not None:
            obj["metadata"].pop("managedFields", None)
        self._seen[ref] = _Seen(obj, _version(obj), time.monotonic())
        if ref not in self._users:
            self._sweep_later()

    def drop(self, ref: Ref) -> None:
        """Forget an object again that nobody looks at."""
        if ref not in self._users:
            self._seen.pop(ref, None)

    def _sweep_later(self) -> None:
        if self._sweeping is None and not self._is_closed:
            self._sweeping = asyncio.get_running_loop().call_later(UNUSED_AGE, self._sweep)

    def _sweep(self) -> None:
        """Forget what was read for a check or an alert: Secrets above all."""
        self._sweeping = None
        now = time.monotonic()
        unused = {ref: seen for ref, seen in self._seen.items() if ref not in self._users}
        old = [ref for ref, seen in unused.items() if now - seen.at >= UNUSED_AGE]
        for ref in old:
            del self._seen[ref]
        if len(old) < len(unused):
            self._sweep_later()

    async def resource(self, ref: Ref) -> Resource:
        """Raises NoSuchKind."""
        kind = (ref.api_version, ref.kind)
        if kind not in self._resources:
            self._resources[kind] = await self._cluster.resource_for(*kind)
        return self._resources[kind]

    async def _fetch(self, ref: Ref) -> None:
        self.keep(ref, await self._cluster.get(await self.resource(ref), ref.name, ref.namespace))

    def _is_fresh(self, ref: Ref, oldest: float) -> bool:
        seen = self._seen.get(ref)
        if seen is None:
            return False
        watched = self._watching(ref)
        if watched is None:
            return time.monotonic() - seen.at <= (min(oldest, SECRET_AGE) if ref.kind == "Secret" else oldest)
        told = watched.versions.get(ref)
        if told is not None:
            return seen.version >= told
        return seen.obj is None or seen.version > watched.horizon

    def _watching(self, ref: Ref) -> _Watched | None:
        watched = self._watched.get((ref.api_version, ref.kind))
        if watched is None or not watched.hears or watched.scope not in (None, ref.namespace):
            return None
        return watched

    # Who looks at what

    def use(self, user: object, refs: Iterable[Ref]) -> None:
        """`user` looks at these objects and at no others; what nobody looks at is forgotten."""
        wanted = set(refs)
        before = self._used.get(user, set())
        for ref in before - wanted:
            self._users[ref].discard(user)
            if not self._users[ref]:
                del self._users[ref]
                self._seen.pop(ref, None)
        for ref in wanted - before:
            self._users[ref].add(user)
        self._used[user] = wanted
        if wanted != before and self._rewatching is None and not self._is_closed:
            # Many Canaries begin at once: their needs are looked at together.
            self._rewatching = asyncio.get_running_loop().call_later(REWATCH_DELAY, self._rewatch)

    def users(self, ref: Ref) -> set[object]:
        """Who looks at this object."""
        return self._users.get(ref, set())

    def leave(self, user: object) -> None:
        """`user` looks at nothing any more."""
        self.use(user, ())
        self._used.pop(user, None)

    def recheck_after(self, refs: Iterable[Ref]) -> float | None:
        """Seconds after which an idle Canary has to look again by itself; None where watches tell everything."""
        ages = [SECRET_AGE if ref.kind == "Secret" else AGE_WHEN_IDLE for ref in refs if self._watching(ref) is None]
        return min(ages, default=None)

    # Watching

    def _rewatch(self) -> None:
        """Watch the kinds that most Canaries need, where they are."""
        self._rewatching = None
        namespaces = {ref.namespace for ref in self._users if ref.namespace}
        scope = next(iter(namespaces)) if len(namespaces) == 1 else None
        wanted = self._chosen_kinds()
        for kind, watched in list(self._watched.items()):
            if kind not in wanted or watched.scope != scope:
                _end(watched)
                del self._watched[kind]
        for kind in wanted:
            if kind not in self._watched and kind in self._resources:
                watched = self._watched[kind] = _Watched(scope)
                watched.task = asyncio.create_task(self._follow(kind, watched))

    def _chosen_kinds(self) -> list[Kind]:
        """First what makes revisions, then the most used; those watched already stay at a tie. Secrets never."""
        counts = Counter((ref.api_version, ref.kind) for ref in self._users if ref.kind != "Secret" and ref.namespace)

        def rank(kind: Kind) -> tuple[bool, int, bool, Kind]:
            return kind[1] not in TELLING_KINDS, -counts[kind], kind not in self._watched, kind

        return sorted(counts, key=rank)[:MOST_KINDS]

    async def _follow(self, kind: Kind, watched: _Watched) -> None:
        def told(event: Event) -> None:
            self._told(kind, event)

        await watch_forever(
            self._cluster,
            self._resources[kind],
            settings=self._settings,
            on_event=told,
            namespace=watched.scope,
            metadata_only=True,
            age=watched.pulse,
            on_lost=watched.doubt,
        )

    def _told(self, kind: Kind, event: Event) -> None:
        watched = self._watched.get(kind)
        if watched is None:
            return
        if event.type == "SYNCED":
            watched.is_synced = True
            return
        metadata = event.obj["metadata"]
        ref = Ref(*kind, metadata.get("namespace", ""), metadata["name"])
        version = _version(event.obj)
        watched.horizon = max(watched.horizon, version)
        if event.type == "DELETED":
            watched.versions.pop(ref, None)
        else:
            watched.versions[ref] = version
        seen = self._seen.get(ref)
        if ref in self._users and (seen is None or seen.version < version):
            self.on_change(ref)

    async def close(self) -> None:
        """End all watches; whoever looks at something afterwards begins no new one."""
        self._is_closed = True
        for timer in (self._rewatching, self._sweeping):
            if timer is not None:
                timer.cancel()
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _end(watched: _Watched) -> None:
    if watched.task is not None:
        watched.task.cancel()


def _version(obj: Object | None) -> int:
    """resourceVersions of one API server are numbers that grow (KEP-5504)."""
    text = obj["metadata"].get("resourceVersion", "") if obj is not None else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
