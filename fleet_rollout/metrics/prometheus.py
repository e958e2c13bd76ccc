"""Prometheus, by its client library, which neither dials nor waits here: the network stays with the Dial.

The library is run twice: once to learn what it would send, and once more with the answer. It blocks where it dials, and
a thread for each question costs more than the question.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import orjson
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from fleet_rollout.decide.canary.addresses import Answer, NotReached
from fleet_rollout.decide.canary.hooks import shown
from fleet_rollout.metrics.query import (
    NEVER_SENT,
    TIMEOUT,
    Backend,
    NoValues,
    Options,
    QueryFailed,
    address_of,
    base_of,
    credential,
    header_credential,
    header_name,
    header_value,
)

BLANKS = re.compile(r"[\t\n\f\r ]+")
ONLINE = "vector(1)"
NO_RETRY = Retry(0)


class Provider:
    """One Prometheus, as one template or Canary names it."""

    def __init__(self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Any):
        url = address_of(spec)
        headers = _headers(spec, credentials)
        if url.authorization:
            headers.setdefault("Authorization", url.authorization)
        self._url = base_of(url)
        self._headers = headers
        self._bulkheads = options.bulkheads
        scheme, host, port = url.origin
        self._address = f"{options.scope} {scheme}://{host}:{port}".strip()
        self._backend = Backend(dial, headers.values(), verify=not spec.get("insecureSkipVerify"))

    async def value(self, query: str) -> float:
        exchange = _Exchange()
        client = PrometheusConnect(self._url, self._headers, retry=NO_RETRY, session=exchange, timeout=TIMEOUT)
        text = BLANKS.sub(" ", query)
        try:
            client.custom_query(text)
        except _Asked as asked:
            exchange.answer = await self._answer(asked)
        return last_value(self._read(client, text))

    async def is_online(self) -> None:
        try:
            value = await self.value(ONLINE)
        except (NoValues, QueryFailed) as error:
            raise QueryFailed(f"running query failed: {error}") from None
        if value != 1:
            raise QueryFailed(f"value is not 1 for query: {ONLINE}")

    async def _answer(self, asked: _Asked) -> Answer:
        backend = self._backend
        try:
            async with self._bulkheads.turn(self._address, timeout=TIMEOUT):
                answer = await backend.dial.request(
                    "GET", asked.url, headers=asked.headers, timeout=TIMEOUT, verify=backend.verify
                )
        except NotReached as error:
            raise QueryFailed(f"request failed: {shown(self._url)}: {error}") from None
        except TimeoutError:
            raise QueryFailed(f"request failed: {shown(self._url)}: no answer within {TIMEOUT:g} s") from None
        if answer.status >= 400:
            raise backend.refused(answer.status, answer.body)
        return answer

    def _read(self, client: PrometheusConnect, query: str) -> Any:
        """The `result` of the answer."""
        try:
            return client.custom_query(query)
        except PrometheusApiClientException as error:
            raise QueryFailed(f"error response: {self._backend.quote(str(error))}") from None
        except orjson.JSONDecodeError:
            raise QueryFailed("error unmarshaling result: the answer is not JSON; check the address") from None
        except (KeyError, TypeError):
            raise NoValues from None


class _Asked(Exception):
    """What the client would send. Redirects are the Dial's business."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        super().__init__(url)
        self.url = url
        self.headers = headers


class _Exchange:
    """In place of the client's session: nothing of the hub's own (proxies, passwords) can go along."""

    verify = cert = None

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def mount(self, prefix: str, adapter: Any) -> None:
        """The client's own way to the network, which is not taken."""

    def request(self, *, url: str, params: Mapping[str, str], headers: Mapping[str, str], **_: Any) -> _Response:
        if self.answer is None:
            raise _Asked(f"{url}?{_encoded(tuple(params.items()))}", headers)
        return _Response(self.answer)


@lru_cache(maxsize=4096)  # a Canary asks the same at every tick
def _encoded(params: tuple[tuple[str, str], ...]) -> str:
    return urlencode(params)


class _Response:
    """An answer, as the client reads it."""

    def __init__(self, answer: Answer) -> None:
        self.status_code, self.content = answer

    def json(self) -> Any:
        return orjson.loads(self.content)


def last_value(result: Any) -> float:
    """The value of the last series; infinity is one, NaN is none."""
    if result is None:
        raise NoValues
    if not isinstance(result, list):
        raise QueryFailed("error unmarshaling result: not a list of series")
    value: float | None = None
    for series in result:
        value = _value(series, value)
    if value is None or math.isnan(value):
        raise NoValues
    return value


def _value(series: Any, before: float | None) -> float | None:
    if not isinstance(series, Mapping):
        raise QueryFailed("error unmarshaling result: a scalar or a string, not series; use vector() around a scalar")
    if series.get("values") is not None:
        raise QueryFailed("query returned multiple values")
    pair = series.get("value")
    if not isinstance(pair, list) or len(pair) < 2:
        raise QueryFailed("error unmarshaling result: a series without value, such as a histogram")
    if not isinstance(pair[1], str):
        return before
    try:
        return float(pair[1])
    except ValueError:
        raise QueryFailed(f"error unmarshaling result: {pair[1][:50]!r} is not a number") from None


def _headers(spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None) -> dict[str, str]:
    """The template's own headers, and what its Secret gives."""
    headers: dict[str, str] = {}
    for name, values in (spec.get("headers") or {}).items():
        if name.lower() not in NEVER_SENT:
            headers[header_name(name)] = header_value(name, ", ".join(map(str, values)))
    if credentials is None:
        return headers
    headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    if "token" in credentials:
        return {**headers, "Authorization": f"Bearer {header_credential(spec, credentials, 'token')}"}
    user = credential(spec, credentials, "username", "a username")
    password = credential(spec, credentials, "password", "a password")
    return {**headers, "Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
