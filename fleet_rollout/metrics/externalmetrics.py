"""The external metrics API, of the member or of an address: `<namespace>/<metric>?labelSelector=…`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from fleet_rollout.decide.canary.addresses import Dial, NotReached
from fleet_rollout.metrics.query import (
    Backend,
    Misconfigured,
    NoValues,
    Options,
    QueryFailed,
    Reply,
    address_of,
    at,
    base_of,
    header_credential,
)

GROUP = "external.metrics.k8s.io/v1beta1"
FORM = "<namespace>/<metric>?labelSelector=<%-encoded selector>"
NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
ONLINE = "kube-system/dummy-metric"
QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]{1,3}|[KMGTPE]i|[numkMGTPE])?")
DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
BINARY = {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)}


class Provider:
    """The external metrics of one member; where an address is given, nothing but the template's token goes there."""

    def __init__(
        self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial
    ) -> None:
        token = header_credential(spec, credentials, "token") if credentials and "token" in credentials else ""
        self._backend = Backend(dial, [token], verify=not spec.get("insecureSkipVerify"))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = base_of(address_of(spec)) if spec.get("address") else ""
        self._api = options.api
        self._only_namespace = options.only_namespace
        if token and not self._url:
            raise Misconfigured("externalmetrics has a token but no address to send it to")
        if not self._url and self._api is None:
            raise Misconfigured("externalmetrics needs the API server of the member, or an address")

    async def value(self, query: str) -> float:
        namespace, metric, selector = read_query(query)
        if self._only_namespace and namespace != self._only_namespace:
            raise QueryFailed(f"namespace {namespace} is not that of the template, {self._only_namespace}")
        reply = await self._asked(namespace, metric, selector)
        if not at(reply, "items"):
            raise NoValues("no external metrics found")
        return quantity(at(reply, "items", 0, "value"), reply)

    async def is_online(self) -> None:
        namespace, metric, _ = read_query(ONLINE)
        try:
            await self._asked(namespace, metric, "")
        except QueryFailed as error:
            raise QueryFailed(f"external metrics service unavailable: {error}") from None

    async def _asked(self, namespace: str, metric: str, selector: str) -> Reply:
        asked = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        path = f"/apis/{GROUP}/namespaces/{namespace}/{quote(metric, safe='')}{asked}"
        try:
            if self._url:
                return await self._backend.json("GET", self._url + path, self._headers)
            assert self._api is not None
            return Reply(await self._api.get(path), "")
        except (QueryFailed, NotReached) as error:
            raise QueryFailed(f"error querying external metrics API: {error}") from None


def read_query(text: str) -> tuple[str, str, str]:
    """Namespace (`default` where none is said), metric and label selector; QueryFailed where it has another form."""
    path, _, asked = text.strip().partition("?")
    namespace, _, metric = path.rpartition("/")
    namespace = namespace.strip("/") or "default"
    if not metric or metric in (".", "..") or not NAMESPACE.fullmatch(namespace):
        raise QueryFailed(f"error parsing metric query: expected {FORM}")
    return namespace, metric, parse_qs(asked).get("labelSelector", [""])[0]


def quantity(value: Any, reply: Reply) -> float:
    """The number that Kubernetes writes as 1500m, 2k or 1Gi."""
    found = QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise reply.unreadable
    number, suffix = float(found[1]), found[2] or ""
    if suffix[1:] and suffix[0] in "eE" and suffix != "Ei":
        return float(found[1] + suffix)
    return number * (BINARY.get(suffix) or DECIMAL.get(suffix) or 1.0)
