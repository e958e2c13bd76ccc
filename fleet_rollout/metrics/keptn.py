"""Keptn's metrics and analyses, which are objects of the member: `keptnmetric/<namespace>/<name>`, `analysis/…`."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.decide.canary.addresses import Dial, NotReached
from fleet_rollout.metrics.query import MemberApi, Misconfigured, NoValues, Object, Options, QueryFailed

GROUP = "metrics.keptn.sh/v1beta1"
METRICS, ANALYSES = ("keptnmetric", "keptnmetrics"), ("analysis", "analyses")
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
DEFAULT_WINDOW = "1m"
# Keptn works through an analysis meanwhile.
LIMIT, PAUSE = 10.0, 1.0
FORM = "<keptnmetric|analysis>/<namespace>/<name>[/<duration>[/<key>=<value>;…]]"


@dataclass(frozen=True)
class Query:
    """What is asked for."""

    is_analysis: bool
    namespace: str
    name: str
    window: str = DEFAULT_WINDOW
    arguments: Mapping[str, str] = field(default_factory=dict)


def read_query(text: str) -> Query:
    """QueryFailed where it has another form."""
    kind, *rest = text.lower().strip().split("/")
    if len(rest) < 2 or not all(NAME.fullmatch(part) for part in rest[:2]):
        raise QueryFailed(f"unexpected query format; it has to be {FORM}")
    if kind in METRICS:
        return Query(False, rest[0], rest[1])
    if kind not in ANALYSES:
        raise QueryFailed(f"unexpected kind {kind[:50]!r}; the query has to be {FORM}")
    window = rest[2] if len(rest) > 2 else DEFAULT_WINDOW
    pairs = (pair.split("=") for pair in (rest[3].split(";") if len(rest) > 3 else ()))
    return Query(True, rest[0], rest[1], window, {pair[0]: pair[1] for pair in pairs if len(pair) == 2})


class Provider:
    """The Keptn of one member."""

    def __init__(
        self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial
    ) -> None:
        if options.api is None:
            raise Misconfigured("keptn needs the API server of the member")
        self._api: MemberApi = options.api
        self._only_namespace = options.only_namespace

    async def value(self, query: str) -> float:
        asked = read_query(query)
        if self._only_namespace and asked.namespace != self._only_namespace:
            raise QueryFailed(f"namespace {asked.namespace} is not that of the template, {self._only_namespace}")
        return await (self._analysis(asked) if asked.is_analysis else self._metric(asked))

    async def is_online(self) -> None:
        """Whether Keptn is there shows only when it is asked."""

    async def _metric(self, asked: Query) -> float:
        about = f"KeptnMetric {asked.namespace}/{asked.name}"
        try:
            found = await self._api.get(f"{_path(asked.namespace, METRICS[1])}/{asked.name}")
        except NotReached as error:
            raise QueryFailed(f"could not retrieve {about}: {error}") from None
        text = (found.get("status") or {}).get("value")
        if not isinstance(text, str) or not text:
            raise QueryFailed(f"could not retrieve {about}: no value found")
        try:
            value = float(text)
        except ValueError:
            raise QueryFailed(f"could not parse value of {about}") from None
        if math.isnan(value):
            raise NoValues(about)
        return value

    async def _analysis(self, asked: Query) -> float:
        """Have Keptn analyse, and take the object away again: 1 where it passes, else 0."""
        about = f"Analysis {asked.namespace}/{asked.name}"
        path = _path(asked.namespace, ANALYSES[1])
        try:
            made = await self._api.create(path, _object(asked))
        except NotReached as error:
            raise QueryFailed(f"could not create {about}: {error}") from None
        own = f"{path}/{made['metadata']['name']}"
        try:
            async with asyncio.timeout(LIMIT):
                return await self._verdict(own)
        except NotReached as error:
            raise QueryFailed(f"could not check {about}: {error}") from None
        except TimeoutError:
            raise QueryFailed(f"{about} was not finished within {LIMIT:g} s") from None
        finally:
            await self._remove(own)

    async def _verdict(self, path: str) -> float:
        while True:
            status = (await self._api.get(path)).get("status") or {}
            if status.get("state") == "Completed" and isinstance(status.get("pass"), bool):
                return 1.0 if status["pass"] else 0.0
            await asyncio.sleep(PAUSE)

    async def _remove(self, path: str) -> None:
        try:
            await self._api.delete(path)
        except NotReached:
            return  # Keptn removes old analyses itself


def _path(namespace: str, resource: str) -> str:
    return f"/apis/{GROUP}/namespaces/{namespace}/{resource}"


def _object(asked: Query) -> Object:
    return {
        "apiVersion": GROUP,
        "kind": "Analysis",
        "metadata": {"name": f"{asked.name[:246]}-{secrets.token_hex(3)}", "namespace": asked.namespace},
        "spec": {
            "analysisDefinition": {"name": asked.name},
            "timeframe": {"recent": asked.window},
            "args": dict(asked.arguments),
        },
    }
