"""The live state of many objects of one cluster in few requests, and work on many of them at once.

Reads only. One LIST stands for all objects of a kind in a namespace; a single one is simply got.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from fleet_rollout.decide.inventory import Ref
from fleet_rollout.kube.client import ApiError, Cluster, NoSuchKind, Resource

Object = dict[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")
# Requests in flight where nobody says otherwise; the client of a cluster bounds all of them together.
AT_ONCE = 16
POLL_FIRST, POLL_LONGEST = 0.1, 2.0
# So many objects of a kind in a namespace are got rather than listed, by whether the list finds only ours.
_GOT_WITH_SELECTOR, _GOT_WITHOUT = 1, 8


async def each(work: Callable[[Item], Awaitable[Result]], items: Sequence[Item], at_once: int) -> list[Result]:
    """What `work` returns for every item, in their order. The first error cancels the rest and is raised as it is."""
    results: dict[int, Result] = {}
    waiting = iter(enumerate(items))

    async def take() -> None:
        for index, item in waiting:
            results[index] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(items))):
                group.create_task(take())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [results[index] for index in range(len(items))]


async def poll(is_done: Callable[[], Awaitable[bool]], patience: float) -> bool:
    """Ask until it is so, or until `patience` (seconds) is over; False then. Asks more rarely as time goes by."""
    pause = POLL_FIRST
    try:
        async with asyncio.timeout(patience):
            while not await is_done():
                await asyncio.sleep(pause)
                pause = min(pause * 2, POLL_LONGEST)
    except TimeoutError:
        return False
    return True


@dataclass(frozen=True)
class Reader:
    """Reads one cluster, as `impersonate` where that is given, with at most `at_once` requests in flight.

    With `any_version`, an object whose recorded version is served no longer is read in one that is.
    """

    cluster: Cluster
    at_once: int = AT_ONCE
    impersonate: str | None = None
    any_version: bool = False

    async def resource(self, ref: Ref) -> Resource:
        """How the API server names this kind; raises NoSuchKind where it does not serve it."""
        try:
            return await self.cluster.resource_for(ref.api_version, ref.kind)
        except NoSuchKind:
            # Discovery, which has just been read anew, may be read by every account; lists of CRDs may not.
            others = self.cluster.known_resources(ref.group, ref.kind) if self.any_version else []
            if not others:
                raise
            return others[0]

    async def get(self, ref: Ref) -> Object | None:
        resource = await self.resource(ref)
        return await self.cluster.get(resource, ref.name, ref.namespace, impersonate=self.impersonate)

    async def found(self, refs: Iterable[Ref], selector: str = "", *, metadata_only: bool = False) -> dict[Ref, Object]:
        """Those of `refs` that exist, with one LIST a kind and namespace.

        With a selector, what is not in the answer may yet exist without those labels. Kinds that the API server does
        not serve have no objects.
        """
        groups = [list(group) for _, group in groupby(sorted(refs, key=_place), key=_place)]

        async def of_one_place(group: list[Ref]) -> dict[Ref, Object]:
            return await self._of_one_place(group, selector, metadata_only)

        found: dict[Ref, Object] = {}
        for part in await each(of_one_place, groups, self.at_once):
            found |= part
        return found

    async def all(self, refs: Sequence[Ref], selector: str = "") -> dict[Ref, Object]:
        """As `found`, and what the selector does not match is got one by one."""
        found = await self.found(refs, selector)
        missing = [ref for ref in refs if ref not in found] if selector else []
        return found | await self._one_by_one(missing)

    async def _of_one_place(self, refs: list[Ref], selector: str, metadata_only: bool) -> dict[Ref, Object]:
        # An object that is got and is not there may be of a kind that is gone; only a list tells the two apart.
        got = _GOT_WITH_SELECTOR if selector else _GOT_WITHOUT
        if len(refs) <= got and not self.any_version:
            return await self._one_by_one(refs)
        try:
            items = await self._listed(refs[0], selector, metadata_only)
        except NoSuchKind:
            return {}
        except ApiError as error:
            # A service account may be allowed to get what it may not list.
            if error.is_forbidden:
                return await self._one_by_one(refs)
            raise
        by_name = {item["metadata"]["name"]: item for item in items}
        return {ref: by_name[ref.name] for ref in refs if ref.name in by_name}

    async def _listed(self, ref: Ref, selector: str, metadata_only: bool) -> list[Object]:
        """All of a kind in a namespace. Raises NoSuchKind also where the kind went after it was discovered."""
        for is_last in (False, True):
            resource = await self.resource(ref)
            try:
                items, _ = await self.cluster.list(
                    resource,
                    ref.namespace if resource.namespaced else None,
                    label_selector=selector,
                    impersonate=self.impersonate,
                    metadata_only=metadata_only,
                )
            except ApiError as error:
                if is_last or not error.is_not_found:
                    raise
                await self._discover_anew()
            else:
                return items
        raise AssertionError("the last round returns or raises")

    async def _discover_anew(self) -> None:
        # What is asked for cannot exist, and the client asks the server again for whatever it does not know.
        with contextlib.suppress(NoSuchKind):
            await self.cluster.resource_for("v1", "-")

    async def _one_by_one(self, refs: list[Ref]) -> dict[Ref, Object]:
        async def got(ref: Ref) -> Object | None:
            try:
                return await self.get(ref)
            except NoSuchKind:
                return None

        objects = await each(got, refs, self.at_once)
        return {ref: obj for ref, obj in zip(refs, objects, strict=True) if obj is not None}


def _place(ref: Ref) -> tuple[str, str, str, str]:
    return ref.group, ref.kind, ref.version, ref.namespace
