"""Which kinds an API server serves: aggregated discovery, two requests for all of them.

Pure parsing of the answers, and a cache that asks again (not more than once a second) for a kind it
does not know, because its CRD may have been installed since.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from fleet_rollout.kube.errors import ApiError, NoSuchKind, Unread

AGGREGATED = ",".join(
    [f"application/json;g=apidiscovery.k8s.io;v={v};as=APIGroupDiscoveryList" for v in ("v2", "v2beta1")]
    + ["application/json"]
)
GROUPED = frozenset({"APIVersions", "APIGroupList"})
STALE = "Stale"
LEAST_PAUSE = 1.0
_PLAIN = re.compile(r"[-.a-z0-9]+")  # nearly every name; quoting takes longer than looking


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the URL names it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of one object, or of all in a namespace (or in the cluster)."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", _quoted(namespace)]
        parts += [self.plural, *(_quoted(part) for part in (name, subresource) if part)]
        return "/".join(parts)


def _quoted(part: str) -> str:
    return part if _PLAIN.fullmatch(part) else quote(part, safe="")


Kinds = dict[tuple[str, str], Resource]
Unreadable = dict[str, str]  # by group, a version of it that could not be read
Fetch = Callable[[str, str], Awaitable[Any]]  # path, accept header -> parsed JSON


class Discovery:
    """The kinds of one API server, kept until an unknown one is asked for."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kinds: Kinds = {}
        self._unread: Unreadable = {}
        self._started = 0
        self._finished = 0
        self._last = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, api_version: str, kind: str) -> Resource:
        """The resource of a kind; raises NoSuchKind where the server, asked anew, does not have it.

        What a group holds whose own server is down is not known: Unread.
        """
        wanted = (api_version, kind)
        if wanted not in self._kinds:
            await self._refresh(wanted)
        if wanted not in self._kinds:
            if (unread := self._unread.get(_group(api_version))) is not None:
                raise Unread(api_version, kind, unread)
            raise NoSuchKind(api_version, kind)
        return self._kinds[wanted]

    def known(self, group: str, kind: str) -> list[Resource]:
        """A kind in each version that the server had when it was asked last, the one that it prefers first."""
        return [found for found in self._kinds.values() if (found.group, found.kind) == (group, kind)]

    async def _refresh(self, wanted: tuple[str, str]) -> None:
        """Ask the server, unless what others asked meanwhile answers it: the kind, or a listing begun after now."""
        enough = self._started + 1
        async with self._lock:
            if wanted in self._kinds or self._finished >= enough:
                return
            await asyncio.sleep(max(0.0, self._last + LEAST_PAUSE - time.monotonic()))
            self._last = time.monotonic()
            self._started += 1
            number = self._started
            self._kinds, self._unread = await self._listed()
            self._finished = number

    async def _listed(self) -> tuple[Kinds, Unreadable]:
        kinds: Kinds = {}
        unread: Unreadable = {}
        for path in ("/api", "/apis"):
            answer = await self._fetch(path, AGGREGATED)
            if answer.get("kind") == "APIGroupDiscoveryList":
                kinds.update(aggregated(answer))
                unread.update(stale(answer))
            elif answer.get("kind") in GROUPED:
                found, failed = await self._one_by_one(answer)
                kinds.update(found)
                unread.update(failed)
            else:
                # An API without a kind would look like one whose CRDs are missing.
                raise TypeError("neither aggregated nor grouped discovery")
        return kinds, unread

    async def _one_by_one(self, answer: dict[str, Any]) -> tuple[Kinds, Unreadable]:
        """For servers before Kubernetes 1.26. A group whose own server is down is left out, as kubectl does."""
        core = [(version, f"/api/{version}") for version in answer.get("versions", []) if isinstance(version, str)]
        groups = [
            (version["groupVersion"], f"/apis/{version['groupVersion']}")
            for group in answer.get("groups", [])
            for version in group.get("versions", [])
        ]
        kinds: Kinds = {}
        unread: Unreadable = {}
        for api_version, path in core + groups:
            try:
                kinds.update(listed(api_version, await self._fetch(path, "application/json")))
            except ApiError:
                unread[_group(api_version)] = api_version
        return kinds, unread


@lru_cache(maxsize=8192)
def _served(group: str, version: str, kind: str, plural: str, namespaced: bool) -> tuple[tuple[str, str], Resource]:
    """A kind under its name. A thousand members serve the same hundreds of kinds, which need not be there for each."""
    resource = Resource(group, version, kind, plural, namespaced)
    return (resource.api_version, kind), resource


def aggregated(answer: dict[str, Any]) -> Kinds:
    """The kinds in an APIGroupDiscoveryList."""
    return dict(_aggregated(answer))


def _aggregated(answer: dict[str, Any]) -> Iterator[tuple[tuple[str, str], Resource]]:
    for group in answer.get("items", []):
        name = (group.get("metadata") or {}).get("name", "")
        for version in group.get("versions", []):
            for entry in version.get("resources", []):
                kind = (entry.get("responseKind") or {}).get("kind", "")
                if kind:
                    namespaced = entry.get("scope") == "Namespaced"
                    yield _served(name, version["version"], kind, entry["resource"], namespaced)


def stale(answer: dict[str, Any]) -> Unreadable:
    """The groups in an APIGroupDiscoveryList of which the API server says that it could not ask them lately.

    It serves what they said before it was started anew, which is nothing.
    """
    return {
        name: f"{name}/{version['version']}"
        for group in answer.get("items", [])
        if (name := (group.get("metadata") or {}).get("name", ""))
        for version in group.get("versions", [])
        if version.get("freshness") == STALE
    }


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def listed(api_version: str, answer: dict[str, Any]) -> Kinds:
    """The kinds in an APIResourceList."""
    group, _, version = api_version.rpartition("/")
    return dict(
        _served(group, version, entry["kind"], entry["name"], bool(entry["namespaced"]))
        for entry in answer.get("resources", [])
        if "/" not in entry["name"]
    )
