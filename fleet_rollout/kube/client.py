"""What can be asked of one API server: get, list, watch, create, apply, patch, replace, delete, discovery.

Objects are dicts, in and out; nothing of a user's manifest passes through a model. The only client of
the service, for the hub and for members.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, nullcontext
from typing import Any, Literal, NamedTuple

from aiohttp import ClientWebSocketResponse

from fleet_rollout.decide.intervals import jittered
from fleet_rollout.kube import answers
from fleet_rollout.kube.discovery import Discovery, Resource
from fleet_rollout.kube.errors import ApiError, NoSuchKind, Unreachable
from fleet_rollout.kube.transport import (
    HUB,
    JSON,
    LIST_LIMIT,
    OBJECT_LIMIT,
    Connection,
    Fence,
    Limits,
    Request,
    Transport,
)
from fleet_rollout.settings import Settings

__all__ = ["ApiError", "Cluster", "Connection", "Event", "NoSuchKind", "Resource", "Unreachable"]

APPLY = "application/apply-patch+yaml"
PATCH_TYPES = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE = 500
# Of a member. The hub is trusted, and 10,000 clusters have many ClusterSyncs.
MOST_PAGES = 1000
LISTING_LIMIT = 128 * 1024**2
WATCH_SPREAD = 0.1  # so that a thousand watches opened together do not end together

Object = dict[str, Any]
Operations = list[Any]  # `list` is a verb inside Cluster


class Event(NamedTuple):
    """A change. SYNCED (obj is {}) follows each full listing; BOOKMARK only carries a resourceVersion."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED", "BOOKMARK"]
    obj: Object


class Cluster:
    """One API server. Raises ApiError for its refusals and Unreachable where there is no answer.

    `fence` is asked directly before every changing request leaves; what it raises passes through.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        *,
        fence: Fence | None = None,
        attempt: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.name = connection.name
        limits = Limits(
            connect=settings.member_connect_timeout,
            request=settings.member_request_timeout,
            silence=settings.watch_silence,
            in_flight=settings.member_in_flight,
        )
        self._watch_seconds = settings.watch_timeout
        self._transport = Transport(connection, limits, fence=fence, attempt=attempt)
        self._discovery = Discovery(self._fetch)

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        impersonate: str | None = None,
        metadata_only: bool = False,
    ) -> Object | None:
        """The object, or None where there is none."""
        path, accept = resource.path(namespace, name), METADATA if metadata_only else JSON
        request = Request("GET", path, accept=accept, impersonate=impersonate, repeatable=True)
        try:
            return await self._one(resource, request)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        impersonate: str | None = None,
        metadata_only: bool = False,
    ) -> tuple[list[Object], str]:
        """All objects, with apiVersion and kind, and the resourceVersion to watch from.

        A member's list that is too long to be kept is Unreachable, as a list without end would be.
        """
        params = {"limit": str(PAGE)}
        if label_selector:
            params["labelSelector"] = label_selector
        accept = METADATA_LIST if metadata_only else JSON
        path = resource.path(namespace)
        found: list[Object] = []
        pages = size = 0
        while True:
            request = Request("GET", path, dict(params), None, JSON, accept, impersonate, True, LIST_LIMIT)
            _, answer, length = await self._transport.send_sized(request)
            items, metadata = answers.page(answer, resource, self.name)
            pages, size = pages + 1, size + length
            self._refuse_endless(resource, pages, size, is_last=not metadata.get("continue"))
            found += [_typed(item, resource) for item in items]
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion", ""))
            params["continue"] = str(metadata["continue"])

    def _refuse_endless(self, resource: Resource, pages: int, size: int, *, is_last: bool) -> None:
        if self.name == HUB:
            return
        if size > LISTING_LIMIT:
            fact = f"its list of {resource.plural} is larger than {LISTING_LIMIT >> 20} MiB"
            raise Unreachable(self.name, fact, maybe_sent=False)
        if pages >= MOST_PAGES and not is_last:
            fact = f"its list of {resource.plural} does not end after {pages} pages; {answers.CHECK_SERVER}"
            raise Unreachable(self.name, fact, maybe_sent=False)

    async def create(self, resource: Resource, obj: Object, *, manager: str) -> Object:
        """Create; the name being taken is an ApiError that `is_already_exists`."""
        path = resource.path(_namespace(obj))
        return await self._one(resource, Request("POST", path, {"fieldManager": manager}, obj))

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        impersonate: str | None = None,
        subresource: str = "",
    ) -> tuple[Object, bool]:
        """Server-side apply. The object as it stands now, and whether it is new."""
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        if dry_run:
            params["dryRun"] = "All"
        path = resource.path(_namespace(obj), obj["metadata"]["name"], subresource)
        request = Request("PATCH", path, params, obj, APPLY, impersonate=impersonate, repeatable=True)
        status, answer = await self._transport.send(request)
        return answers.one(answer, resource, self.name, changed=True), status == 201

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Object | Operations,
        *,
        kind: Literal["merge", "json"],
        subresource: str = "",
        manager: str = "",
        impersonate: str | None = None,
    ) -> Object:
        """A merge patch (dict) or a JSON patch (list of operations)."""
        params = {"fieldManager": manager} if manager else {}
        path = resource.path(namespace, name, subresource)
        request = Request("PATCH", path, params, patch, PATCH_TYPES[kind], impersonate=impersonate)
        return await self._one(resource, request)

    async def replace(self, resource: Resource, obj: Object, *, subresource: str = "", manager: str) -> Object:
        """Put the whole object; with a resourceVersion in it, only where nobody changed it meanwhile."""
        path = resource.path(_namespace(obj), obj["metadata"]["name"], subresource)
        return await self._one(resource, Request("PUT", path, {"fieldManager": manager}, obj))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str = "Background",
        impersonate: str | None = None,
    ) -> bool:
        """False where it was gone already. A failed precondition is an ApiError that `is_conflict`."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        wanted = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {field: value for field, value in wanted.items() if value is not None}:
            options["preconditions"] = preconditions
        path = resource.path(namespace, name)
        try:
            await self._transport.send(
                Request("DELETE", path, {}, options, impersonate=impersonate, repeatable=uid is not None)
            )
        except ApiError as error:
            if error.is_not_found:
                return False
            raise
        return True

    async def resource_for(self, api_version: str, kind: str) -> Resource:
        """The resource of a kind, asked of the server once and again for unknown ones; else NoSuchKind."""
        try:
            return await self._discovery.find(api_version, kind)
        except (AttributeError, KeyError, TypeError) as error:
            fact = f"its list of kinds is not one of a Kubernetes API; {answers.CHECK_SERVER}"
            raise Unreachable(self.name, fact, maybe_sent=False) from error

    def known_resources(self, group: str, kind: str) -> Sequence[Resource]:
        """A kind in each version that `resource_for` has seen, the server's preferred one first; without a request."""
        return self._discovery.known(group, kind)

    async def server_version(self) -> str:
        """Such as `v1.37.2`."""
        return str((await self._object(Request("GET", "/version", repeatable=True))).get("gitVersion", ""))

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        metadata_only: bool = False,
        resource_version: str = "",
    ) -> AsyncGenerator[Event]:
        """Changes since `resource_version` over one connection, until the server ends it.

        Raises ApiError for an ERROR event too (410: list again).
        """
        seconds = int(jittered(self._watch_seconds, WATCH_SPREAD, random.random())) or 1  # noqa: S311
        params = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        params |= {"resourceVersion": resource_version} if resource_version else {}
        params |= {"labelSelector": label_selector} if label_selector else {}
        accept = METADATA if metadata_only else JSON
        request = Request("GET", resource.path(namespace), params, accept=accept)
        async with self._transport.stream(request) as lines, aclosing(lines):
            async for line in lines:
                kind, obj = answers.event(line, self.name)
                yield Event(kind, _typed(obj, resource))

    async def ask(self, method: str, path: str, obj: Object | None = None) -> Object:
        """An object by its path, for kinds that only the caller knows; POST creates, DELETE deletes."""
        return await self._object(Request(method, path, body=obj, repeatable=method == "GET"))

    async def relay(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None = None, timeout: float
    ) -> tuple[int, bytes]:
        """Call a Service or Pod through the API server's proxy; the status and bytes of its answer."""
        return await self._transport.relay(method, path, headers, body, timeout=timeout, limit=OBJECT_LIMIT)

    def websocket(
        self, path: str, protocol: str, *, timeout: float
    ) -> AbstractAsyncContextManager[ClientWebSocketResponse]:
        """Open a websocket to something behind the API server. Raises ApiError, with a status and no words of it."""
        return self._transport.websocket(path, protocol, timeout=timeout)

    async def drain(self) -> None:
        """Wait until every request in flight has its answer."""
        await self._transport.drain()

    async def close(self) -> None:
        """Cut what is in flight; every later request is Unreachable."""
        await self._transport.close()

    async def _object(self, request: Request) -> Object:
        _, answer = await self._transport.send(request)
        if not isinstance(answer, dict):
            raise Unreachable(self.name, "answered with JSON that is no object", maybe_sent=True)
        return answer

    async def _one(self, resource: Resource, request: Request) -> Object:
        """The answer, which is an object of this kind."""
        _, answer = await self._transport.send(request)
        return answers.one(answer, resource, self.name, changed=request.method != "GET")

    async def _fetch(self, path: str, accept: str) -> Any:
        return await self._object(Request("GET", path, accept=accept, repeatable=True, limit=LIST_LIMIT))


def _namespace(obj: Object) -> str:
    return str(obj["metadata"].get("namespace") or "")


def _typed(item: Object, resource: Resource) -> Object:
    """Items of a list carry no type, those of a metadata list a type of their own."""
    return {**item, "apiVersion": resource.api_version, "kind": resource.kind}
