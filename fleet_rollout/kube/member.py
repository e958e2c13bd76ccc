"""The member clusters: for each its own client, breaker, limits and watches, made from its kubeconfig Secret.

No lock spans two members, so that one that hangs holds up nobody. What they share is what was accepted (rehearsals.py).
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from fleet_rollout import measures
from fleet_rollout.errors import FleetRolloutError, Terminal, Transient, Waiting
from fleet_rollout.kube.access import connection_from_kubeconfig, expired
from fleet_rollout.kube.breaker import REASON, Breaker
from fleet_rollout.kube.client import Cluster, Connection, Event, Resource
from fleet_rollout.kube.errors import BAD_CREDENTIALS, ApiError, Unreachable
from fleet_rollout.kube.transport import Fence
from fleet_rollout.kube.watch import Pulse, watch_forever
from fleet_rollout.settings import Settings

NAMESPACES = Resource("", "v1", "Namespace", "namespaces", False)
CANARIES = Resource("flagger.app", "v1beta1", "Canary", "canaries", True)
HOST_KIND = "currentCluster"
DEFAULT_KEY = "value"
OTHER_DEFAULT_KEY = "value.yaml"
# One namespace is watched by itself, more by one watch of the whole cluster: a member has at most four watches, and the
# engine needs three of them for other kinds.
MOST_WATCHES = 1

OnEvent = Callable[[Event], None]


class MemberKey(NamedTuple):
    """The cluster object on the hub."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


class Member:
    """One member. `cluster` sends every request through the breaker and the limit of requests in flight."""

    def __init__(self, connection: Connection, settings: Settings, *, fence: Fence | None = None) -> None:
        self.name = connection.name
        self.connection = connection
        self._settings = settings
        self._breaker = Breaker(connection.name, settings)
        self.cluster = Cluster(connection, settings, fence=fence, attempt=self._breaker.attempt)
        self.since: datetime | None = None  # unreachable since then
        self._watches: dict[str | None, tuple[asyncio.Task[None], Pulse]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._on_event: OnEvent | None = None
        # By namespace and name, the UID of every Canary that was told of, by whichever watch.
        self.told: dict[tuple[str, str], str] = {}

    @property
    def state(self) -> Literal["ready", "unreachable"]:
        return "unreachable" if self.since is not None or self._breaker.is_open else "ready"

    def require(self) -> None:
        """Raise what a request would get, where it is known not to be made."""
        if self._breaker.is_open:
            raise self._breaker.refusal()

    async def check(self) -> str | None:
        """Ask whether the cluster is there, whatever the breaker says; None, or what is wrong."""
        self._breaker.permit_probe()
        failure = await self._look()
        if failure is None:
            self.since = None
        else:
            self.since = self.since or datetime.now(UTC)
        measures.MEMBER_UP.labels(cluster=self.name).set(failure is None)
        return failure

    async def _look(self) -> str | None:
        try:
            found = await self.cluster.get(NAMESPACES, "kube-system")
        except Unreachable as error:
            return f"{error.fact}; {error.fix}" if error.fix else error.fact
        except Transient:
            return self._breaker.fact
        except ApiError as error:
            if error.is_unauthorized:
                return BAD_CREDENTIALS
            if error.is_forbidden:
                return f"{error.message}; grant the rights of config/member/base"
            return error.message
        return None if found is not None else "has no namespace kube-system; check the kubeconfig's server"

    def watch_canaries(self, namespaces: Iterable[str] | None, on_event: OnEvent) -> None:
        """Watch the Canaries of these namespaces, of all where they are many or None; an empty set ends all watches.

        A watch of all tells of every namespace: one that is asked for later would not be told again.
        """
        wanted = frozenset(namespaces) if namespaces is not None else frozenset()
        self._on_event = on_event
        scopes: set[str | None] = {None} if namespaces is None or len(wanted) > MOST_WATCHES else set(wanted)
        for scope in [scope for scope, (task, _) in self._watches.items() if scope not in scopes or task.done()]:
            self._end_watch(scope)
        for scope in scopes - self._watches.keys():
            pulse = Pulse()
            self._watches[scope] = (asyncio.create_task(self._watch(scope, pulse)), pulse)

    @property
    def watch_age(self) -> float:
        """Seconds since the quietest watch heard anything; 0 where there is none. May be asked from a thread."""
        return max((pulse.age for _, pulse in list(self._watches.values())), default=0.0)

    def _end_watch(self, scope: str | None) -> None:
        task, _ = self._watches.pop(scope)
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _watch(self, scope: str | None, pulse: Pulse) -> None:
        known: set[tuple[str, str]] = set()

        def seen(event: Event) -> None:
            if event.type == "SYNCED":
                self._tell_vanished(scope, known)
            self._note(event, known)
            if self._on_event is not None:
                self._on_event(event)

        settings = self._settings
        await watch_forever(self.cluster, CANARIES, namespace=scope, settings=settings, on_event=seen, age=pulse)

    def _note(self, event: Event, known: set[tuple[str, str]]) -> None:
        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
            return
        metadata = event.obj["metadata"]
        key = (metadata.get("namespace", ""), metadata.get("name", ""))
        if event.type == "DELETED":
            known.discard(key)
            self.told.pop(key, None)
        else:
            known.add(key)
            self.told[key] = metadata.get("uid", "")

    def _tell_vanished(self, scope: str | None, known: set[tuple[str, str]]) -> None:
        """What went between two watches: the one had told of it, and the other does not find it."""
        for (namespace, name), uid in list(self.told.items()):
            if scope not in (None, namespace) or (namespace, name) in known:
                continue
            del self.told[namespace, name]
            metadata = {"namespace": namespace, "name": name, "uid": uid}
            if self._on_event is not None:
                obj = {"apiVersion": CANARIES.api_version, "kind": CANARIES.kind, "metadata": metadata}
                self._on_event(Event("DELETED", obj))

    async def close(self) -> None:
        """End the watches and cut what is in flight."""
        for scope in list(self._watches):
            self._end_watch(scope)
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self.cluster.close()


@dataclass
class _Place:
    """What is known of one cluster object: its member, or why there is none; and what is to be watched."""

    member: Member | None = None
    digest: str = ""
    refusal: FleetRolloutError | None = None
    namespaces: frozenset[str] | None = frozenset()
    on_event: OnEvent | None = None
    told: dict[tuple[str, str], str] = field(default_factory=dict)  # by any member of this place


class Members:
    """All members, by cluster object."""

    def __init__(self, settings: Settings, *, fence: Fence | None = None, host: Connection | None = None) -> None:
        """`host`: the way to the hub, which is a member of itself where an Application names no fleet."""
        self._settings = settings
        self._fence = fence
        self._host = host
        self._places: dict[MemberKey, _Place] = {}
        self._leaving: dict[Member, asyncio.Task[None]] = {}

    async def update(self, kind: str, name: str, namespace: str, secret: dict[str, Any], key: str) -> Member:
        """The member that this kubeconfig Secret describes: the one there is, or a new one where the content changed.

        Raises Terminal with the reason of access.py, or KubeconfigMissing; an earlier member is then given up.
        """
        place = self._places.setdefault(MemberKey(kind, namespace, name), _Place())
        try:
            content = _content(f"{kind}/{name}", secret, key)
            digest = hashlib.sha256(content).hexdigest()
            if place.member is None or place.digest != digest:
                self._replace(place, self._made(f"{kind}/{name}", content), digest)
            elif (end := place.member.connection.expires) is not None and end <= datetime.now(UTC):
                raise expired(f"{kind}/{name}", end)
        except Terminal as error:
            self.refuse(kind, name, namespace, error)
            raise
        assert place.member is not None
        place.refusal = None
        return place.member

    def _made(self, label: str, content: bytes) -> Member:
        connection = connection_from_kubeconfig(label, content, allow_insecure=self._settings.allow_insecure_kubeconfig)
        return Member(connection, self._settings, fence=self._fence)

    def _replace(self, place: _Place, member: Member | None, digest: str) -> None:
        old, place.member, place.digest = place.member, member, digest
        if old is not None:
            self._leaving[old] = asyncio.create_task(self._retire(old))
            measures.forget_cluster(old.name)
        if member is not None:
            member.told = place.told
            measures.WATCH_AGE.labels(cluster=member.name).set_function(lambda: member.watch_age)
            self._follow(place)

    async def _retire(self, member: Member) -> None:
        """Let requests in flight end with the old credentials: a rotation is no reason for a failed apply."""
        member.watch_canaries((), lambda event: None)
        await member.cluster.drain()
        await member.close()
        del self._leaving[member]

    def refuse(self, kind: str, name: str, namespace: str, error: FleetRolloutError) -> None:
        """There is no usable kubeconfig. A Terminal error gives up the member there was; another keeps it."""
        place = self._places.setdefault(MemberKey(kind, namespace, name), _Place())
        place.refusal = error
        if isinstance(error, Terminal):
            self._replace(place, None, "")

    def ready(self, kind: str, name: str, namespace: str) -> Member:
        """The member, if it is worth trying; else raises Transient with the reason why not."""
        place = self._known(kind, name, namespace)
        if place.member is not None:
            place.member.require()
            return place.member
        if place.refusal is not None:
            raise Transient(place.refusal.reason, place.refusal.message)
        raise Waiting(REASON, f"{kind}/{name}: not connected yet", retry_after=self._settings.health_poll)

    def _known(self, kind: str, name: str, namespace: str) -> _Place:
        """What is known of a cluster; the hub itself is always there, once for each namespace that means it."""
        key = MemberKey(kind, namespace, name)
        place = self._places.get(key, _Place())
        if kind == HOST_KIND and place.member is None and self._host is not None:
            place.member = Member(self._host, self._settings, fence=self._fence)
            self._places[key] = place
        return place

    def state(self, kind: str, name: str, namespace: str) -> Literal["ready", "unreachable", "refused", "unknown"]:
        """How it stands, for status and people."""
        place = self._places.get(MemberKey(kind, namespace, name), _Place())
        if place.member is not None:
            return place.member.state
        return "refused" if place.refusal is not None else "unknown"

    def lost_since(self, kind: str, name: str, namespace: str) -> datetime | None:
        """Since when its checks fail, as far as this process knows; None where it answers."""
        member = self._places.get(MemberKey(kind, namespace, name), _Place()).member
        return member.since if member is not None else None

    def watch_canaries(
        self, kind: str, name: str, namespace: str, namespaces: Iterable[str] | None, on_event: OnEvent
    ) -> None:
        """Watch these namespaces of the member, now or when it comes, also after its kubeconfig was rotated."""
        place = self._known(kind, name, namespace)
        self._places[MemberKey(kind, namespace, name)] = place
        place.namespaces = None if namespaces is None else frozenset(namespaces)
        place.on_event = on_event
        self._follow(place)
        self._forget_unused(MemberKey(kind, namespace, name))

    @staticmethod
    def _follow(place: _Place) -> None:
        if place.member is not None and place.on_event is not None:
            place.member.watch_canaries(place.namespaces, place.on_event)

    def _forget_unused(self, key: MemberKey) -> None:
        """Of a cluster that is not there nothing is kept, unless somebody waits for its Canaries."""
        place = self._places[key]
        if place.member is None and place.refusal is None and place.namespaces == frozenset():
            del self._places[key]

    async def drop(self, kind: str, name: str, namespace: str) -> None:
        """The cluster object is gone. What is to be watched is watched again when one of its name comes."""
        place = self._places.get(MemberKey(kind, namespace, name))
        if place is None:
            return
        member, place.member, place.digest, place.refusal, place.told = place.member, None, "", None, {}
        self._forget_unused(MemberKey(kind, namespace, name))
        if member is not None:
            measures.forget_cluster(member.name)
            await member.close()

    async def close(self) -> None:
        """Cut everything: the process ends, or leads no more."""
        members = [place.member for place in self._places.values() if place.member is not None]
        leaving = dict(self._leaving)
        self._places.clear()
        for task in leaving.values():
            task.cancel()
        await asyncio.gather(*leaving.values(), return_exceptions=True)
        await asyncio.gather(*(member.close() for member in [*members, *leaving]))


def _content(label: str, secret: dict[str, Any], key: str) -> bytes:
    """The kubeconfig in a Secret, under `key` (Flux's second default is known, too)."""
    data = secret.get("data") or {}
    found = data.get(key)
    if found is None and key == DEFAULT_KEY:
        found = data.get(OTHER_DEFAULT_KEY)
    if not found:
        metadata = secret["metadata"]
        where = f"Secret {metadata['namespace']}/{metadata['name']}"
        raise Terminal("KubeconfigMissing", f"{label}: {where} has no key {key}; put the kubeconfig there")
    return b64decode(found)
