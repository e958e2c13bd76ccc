"""CloudWatch's GetMetricData, signed with the credentials that the engine's own surroundings give (ambient ones).

These never leave for an address that a user wrote: the host follows from the region alone.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import orjson
from awscrt.auth import AwsCredentialsProvider, AwsSigningAlgorithm, AwsSigningConfig, aws_sign_request
from awscrt.exceptions import AwsCrtError
from awscrt.http import HttpHeaders, HttpRequest

from fleet_rollout.decide.canary.addresses import Answer, Dial, NotReached
from fleet_rollout.metrics.query import (
    INTERVALS,
    TIMEOUT,
    Backend,
    Misconfigured,
    Options,
    QueryFailed,
    Reply,
    at,
    interval_seconds,
    number_of,
)

REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}")
TARGET = "GraniteServiceVersion20100801.GetMetricData"
MOST_POINTS = 20
# Keys of queries, whose case Go does not mind.
KEYS = (
    "Id Expression Label MetricStat Metric Namespace MetricName Dimensions Name Value Period Stat Unit "
    "ReturnData AccountId"
)
SPELLED = {key.lower(): key for key in KEYS.split()}


class Provider:
    """One region. `endpoint` is for tests."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        credentials: Mapping[str, bytes] | None,
        options: Options,
        dial: Dial,
        *,
        endpoint: str = "",
    ) -> None:
        self._region = str(spec.get("region") or "")
        if not REGION.fullmatch(self._region):
            raise Misconfigured(
                f"region {self._region!r} is not one of AWS" if self._region else "region not specified"
            )
        options.check_lends("")
        domain = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        self._url = endpoint or f"https://monitoring.{self._region}.{domain}/"
        self._window = INTERVALS * interval_seconds(options.interval)
        self._now = options.now
        self._backend = Backend(dial)

    async def value(self, query: str) -> float:
        """A query is a JSON list of MetricDataQuery; the value is the newest of the first result."""
        try:
            queries = orjson.loads(query)
        except orjson.JSONDecodeError as error:
            raise QueryFailed(f"error unmarshaling query: {error}") from None
        answer = await self._asked(spelled(queries), MaxDatapoints=MOST_POINTS)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise QueryFailed(f"error requesting cloudwatch: {self._backend.refused(answer.status, answer.body)}")
        text = self._backend.quote(answer.body)
        try:
            reply = Reply(orjson.loads(answer.body), text)
        except orjson.JSONDecodeError:
            raise QueryFailed(f"error requesting cloudwatch: not JSON: {text!r}") from None
        return number_of(at(reply, "MetricDataResults", 0, "Values", 0), reply)

    async def is_online(self) -> None:
        """An empty query is a bad request to whoever may ask."""
        answer = await self._asked([])
        if answer.status >= HTTPStatus.BAD_REQUEST and answer.status != HTTPStatus.BAD_REQUEST:
            raise QueryFailed(f"unexpected status code: {self._backend.refused(answer.status, answer.body)}")

    async def _asked(self, queries: Any, **limits: int) -> Answer:
        now = int(self._now())
        asked = {"StartTime": now - self._window, "EndTime": now, "MetricDataQueries": queries, **limits}
        body = orjson.dumps(asked)
        try:
            headers = await self._signed(body)
            return await self._backend.dial.request("POST", self._url, headers=headers, body=body, timeout=TIMEOUT)
        except NotReached as error:
            raise QueryFailed(f"error requesting cloudwatch: {error}") from None

    async def _signed(self, body: bytes) -> dict[str, str]:
        headers = HttpHeaders([("Host", urlsplit(self._url).netloc), ("X-Amz-Target", TARGET)])
        headers.add("Content-Type", "application/x-amz-json-1.0")
        request = HttpRequest("POST", "/", headers, io.BytesIO(body))
        config = AwsSigningConfig(
            algorithm=AwsSigningAlgorithm.V4,
            credentials_provider=ambient(),
            region=self._region,
            service="monitoring",
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.wrap_future(aws_sign_request(request, config))
        except AwsCrtError as error:
            raise QueryFailed(f"error requesting cloudwatch: no AWS credentials: {error.name}") from None
        except TimeoutError:
            raise QueryFailed(f"error requesting cloudwatch: no AWS credentials within {TIMEOUT:g} s") from None
        return {name: value for name, value in headers if name.lower() != "host"}


@cache
def ambient() -> Any:
    """Where the engine runs: environment, profile, web identity, container or instance; kept until they expire."""
    return AwsCredentialsProvider.new_default_chain()


def spelled(queries: Any) -> Any:
    """Keys as CloudWatch has them."""
    if isinstance(queries, list):
        return [spelled(found) for found in queries]
    if isinstance(queries, dict):
        return {SPELLED.get(key.lower(), key): spelled(found) for key, found in queries.items()}
    return queries
