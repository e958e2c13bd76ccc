"""Prometheus, by its client library: that one blocks, so it runs in threads, but the network stays with the Dial.

What the library sends is handed back to the event loop, where the rules about addresses are; it never dials itself.
"""

from __future__ import annotations

import asyncio
import base64
import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import BaseAdapter
from urllib3.util.retry import Retry

from fleet_rollout.decide.canary.addresses import NotReached
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
    header_name,
    header_value,
)

BLANKS = re.compile(r"[\t\n\f\r ]+")
ONLINE = "vector(1)"
# The thread waits a little longer than the loop, whose error says more.
GRACE = 1.0


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
        self._address = f"{options.scope} {'/'.join(map(str, url.origin))}"
        self._backend = Backend(dial, headers.values(), verify=not spec.get("insecureSkipVerify"))

    async def value(self, query: str) -> float:
        ask = partial(self._ask, BLANKS.sub(" ", query), asyncio.get_running_loop())
        try:
            result = await self._bulkheads.run(self._address, ask, timeout=TIMEOUT)
        except TimeoutError:
            raise QueryFailed(f"request failed: no answer within {TIMEOUT:g} s") from None
        return last_value(result)

    async def is_online(self) -> None:
        try:
            value = await self.value(ONLINE)
        except (NoValues, QueryFailed) as error:
            raise QueryFailed(f"running query failed: {error}") from None
        if value != 1:
            raise QueryFailed(f"value is not 1 for query: {ONLINE}")

    def _ask(self, query: str, loop: asyncio.AbstractEventLoop) -> Any:
        """In a thread: the `result` of the answer."""
        with requests.Session() as session:
            session.trust_env = False  # neither proxies nor passwords of the hub's own
            session.headers.clear()
            client = PrometheusConnect(self._url, self._headers, retry=Retry(0), session=session, timeout=TIMEOUT)
            adapter = _DialAdapter(self._backend, loop)
            for prefix in (self._url, "http://", "https://"):  # the client has just mounted one that dials itself
                session.mount(prefix, adapter)
            try:
                return client.custom_query(query)
            except PrometheusApiClientException as error:
                raise QueryFailed(f"error response: {self._backend.quote(str(error))}") from None
            except requests.JSONDecodeError:
                raise QueryFailed("error unmarshaling result: the answer is not JSON; check the address") from None
            except requests.RequestException as error:
                raise QueryFailed(f"request failed: {self._backend.quote(str(error))}") from None
            except (KeyError, TypeError):
                raise NoValues from None


class _DialAdapter(BaseAdapter):
    """What `requests` would send, sent by a Dial. Redirects are followed there, too."""

    def __init__(self, backend: Backend, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._backend = backend
        self._loop = loop

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        asked = asyncio.run_coroutine_threadsafe(self._send(request), self._loop)
        try:
            return asked.result(TIMEOUT + GRACE)
        except TimeoutError:
            asked.cancel()
            raise QueryFailed(f"request failed: no answer within {TIMEOUT:g} s") from None

    async def _send(self, request: requests.PreparedRequest) -> requests.Response:
        headers = {str(name): str(value) for name, value in request.headers.items()}
        backend = self._backend
        try:
            answer = await backend.dial.request(
                "GET", str(request.url), headers=headers, timeout=TIMEOUT, verify=backend.verify
            )
        except NotReached as error:
            raise QueryFailed(f"request failed: {error}") from None
        if answer.status >= 400:
            raise backend.refused(answer.status, answer.body)
        response = requests.Response()
        response.status_code, response.url, response.request = answer.status, str(request.url), request
        response._content, response.encoding = answer.body, "utf-8"
        return response

    def close(self) -> None:
        """Nothing of its own is open."""


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
        return {**headers, "Authorization": f"Bearer {credential(spec, credentials, 'token')}"}
    user = credential(spec, credentials, "username", "a username")
    password = credential(spec, credentials, "password", "a password")
    return {**headers, "Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
