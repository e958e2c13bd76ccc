"""Google Cloud Monitoring: an MQL query, with a service account's key from the Secret or the engine's own account.

Google's library makes the tokens. Where the key is a user's, its token address is dialled by the rules for users.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

import google.auth
import orjson
from google.auth.exceptions import GoogleAuthError
from google.auth.transport import Request as GoogleRequest
from google.auth.transport import Response as GoogleResponse
from google.auth.transport.requests import Request as OwnRequest
from google.oauth2.service_account import Credentials as KeyCredentials

from fleet_rollout.decide.canary.addresses import Answer, Dial, NotReached
from fleet_rollout.metrics.query import (
    TIMEOUT,
    Backend,
    Misconfigured,
    Options,
    QueryFailed,
    at,
    credential,
    number_of,
)

API = "https://monitoring.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/monitoring.read",)
PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]*")
MOST_KEYS = 64
_from_key: Any = KeyCredentials.from_service_account_info
GRACE = 1.0

# Tokens are good for an hour; asking for one at every check would double the requests.
_known: OrderedDict[str, Any] = OrderedDict()


class Provider:
    """One project. `api` is for tests."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        credentials: Mapping[str, bytes] | None,
        options: Options,
        dial: Dial,
        *,
        api: str = API,
    ) -> None:
        self._project = ""
        self._key: Any = None  # the library's credentials, whose methods have no types
        if credentials is not None:
            self._project = credential(spec, credentials, "project", "a project id")
            if not PROJECT.fullmatch(self._project):
                raise Misconfigured(f"{self._project[:50]!r} is not a project id")
            if "serviceAccountKey" in credentials:
                self._key = key_credentials(credentials["serviceAccountKey"])
        if self._key is None:
            options.check_lends("put a `serviceAccountKey` into the template's Secret, ")
        self._api = api
        self._bulkheads = options.bulkheads
        self._backend = Backend(dial)

    async def value(self, query: str) -> float:
        reply = await self._backend.json("POST", *await self._request(), {"query": query})
        if not at(reply, "timeSeriesData"):
            raise reply.without_values
        found = at(reply, "timeSeriesData", 0, "pointData", 0, "values", 0)
        if not isinstance(found, Mapping):
            raise reply.unreadable
        # Whole numbers travel as text; Flagger reads them as 0.
        whole = found.get("int64Value")
        if isinstance(whole, str) and re.fullmatch(r"-?[0-9]+", whole):
            return float(whole)
        return number_of(found.get("doubleValue"), reply)

    async def is_online(self) -> None:
        """An empty query is a bad request to whoever may ask."""
        url, headers = await self._request()
        try:
            answer = await self._backend.dial.request(
                "POST", url, headers={"Content-Type": "application/json", **headers}, body=b"{}", timeout=TIMEOUT
            )
        except NotReached as error:
            raise QueryFailed(f"unexpected error: {error}") from None
        if answer.status > 400:
            raise QueryFailed(f"unexpected status code: {self._backend.refused(answer.status, answer.body)}")

    async def _request(self) -> tuple[str, dict[str, str]]:
        """Address and headers of a query."""
        loop = asyncio.get_running_loop()
        try:
            token, own_project = await self._bulkheads.run("google", lambda: self._token(loop), timeout=TIMEOUT)
        except TimeoutError:
            raise QueryFailed(f"error requesting stackdriver: no token within {TIMEOUT:g} s") from None
        self._backend.hide(token)
        project = self._project or own_project
        if not project:
            raise QueryFailed("error requesting stackdriver: no project; put `project` into the template's Secret")
        url = f"{self._api}/v3/projects/{quote(project, safe=':')}/timeSeries:query"
        return url, {"Authorization": f"Bearer {token}"}

    def _token(self, loop: asyncio.AbstractEventLoop) -> tuple[str, str]:
        """In a thread: a token, and the project of the engine's own account."""
        try:
            if self._key is not None:
                if not self._key.valid:
                    self._key.refresh(_DialRequest(self._backend.dial, loop))
                return str(self._key.token), ""
            own, project = ambient()
            if not own.valid:
                own.refresh(OwnRequest())
            return str(own.token), project
        except GoogleAuthError as error:
            said = self._backend.quote(str(error.args[0] if error.args else error))
            raise QueryFailed(f"error requesting stackdriver: no token: {said}") from None


class _DialRequest(GoogleRequest):
    """What Google's library sends, sent by a Dial."""

    def __init__(self, dial: Dial, loop: asyncio.AbstractEventLoop) -> None:
        self._dial = dial
        self._loop = loop

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _DialResponse:
        sent = self._dial.request(method, url, headers=dict(headers or {}), body=body, timeout=TIMEOUT)
        asked = asyncio.run_coroutine_threadsafe(_awaited(sent), self._loop)
        try:
            return _DialResponse(asked.result(TIMEOUT + GRACE))
        except (NotReached, TimeoutError) as error:
            asked.cancel()
            raise QueryFailed(f"error requesting stackdriver: no token: {error}") from None


async def _awaited(sent: Any) -> Answer:
    answer: Answer = await sent
    return answer


class _DialResponse(GoogleResponse):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    @property
    def data(self) -> bytes:
        return self._answer.body


def key_credentials(key: bytes) -> Any:
    """A service account's key; Misconfigured for kinds of keys that read files or run programs."""
    known = hashlib.sha256(key).hexdigest()
    if known in _known:
        return _known[known]
    try:
        info = orjson.loads(key)
        if info.get("type") != "service_account":
            raise Misconfigured("serviceAccountKey is not the key of a service account")
        found = _from_key(info, scopes=SCOPES)
    except (ValueError, TypeError, AttributeError, GoogleAuthError):
        raise Misconfigured("serviceAccountKey is not the JSON key of a service account") from None
    _known[known] = found
    if len(_known) > MOST_KEYS:
        _known.popitem(last=False)
    return found


@cache
def ambient() -> tuple[Any, str]:
    """The account that the engine itself has, and its project."""
    found, project = google.auth.default(scopes=SCOPES)
    return found, project or ""
