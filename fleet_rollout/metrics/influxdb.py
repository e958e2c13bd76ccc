"""InfluxDB 2: a Flux query whose answer is annotated CSV, and of that the first record."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any
from urllib.parse import urlencode

import orjson

from fleet_rollout.decide.canary.addresses import Dial
from fleet_rollout.decide.canary.hooks import quoted
from fleet_rollout.metrics.query import (
    Backend,
    NoValues,
    Options,
    QueryFailed,
    address_of,
    base_of,
    credential,
    header_credential,
)

ONLINE = 'from(bucket: "default") |> range(start: -2h)'
TIMEOUT = 15.0  # Flux queries may scan much
DIALECT = {"annotations": ["datatype", "group", "default"], "delimiter": ",", "header": True}
Record = dict[str, tuple[str, str]]  # a column's type and value


class Provider:
    """One InfluxDB."""

    def __init__(self, spec: Mapping[str, Any], credentials: Mapping[str, bytes] | None, options: Options, dial: Dial):
        token = org = ""
        if credentials is not None:
            token = header_credential(spec, credentials, "token", "an authentication token")
            org = credential(spec, credentials, "org", "an organisation")
        self._url = f"{base_of(address_of(spec))}/api/v2/query?{urlencode({'org': org})}"
        self._headers = {"Accept": "application/csv", "Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Token {token}"
        self._backend = Backend(dial, [token], timeout=TIMEOUT)

    async def value(self, query: str) -> float:
        """The first record's value, which has to be a float; 0 where there is no record, as for Flagger."""
        record = next(records(await self._asked(query)), None)
        if record is None:
            return 0.0
        type_, value = record.get("_value", ("", ""))
        if not value:
            raise NoValues("invalid response: a record without value")
        if type_ != "double":
            raise QueryFailed(f"invalid response: the value is a {type_}; use toFloat()")
        try:
            number = float(value)
        except ValueError:
            raise QueryFailed(f"invalid response: {value[:50]!r} is not a number") from None
        if math.isnan(number):
            raise NoValues("invalid response: NaN")
        return number

    async def is_online(self) -> None:
        for _ in records(await self._asked(ONLINE)):
            return

    async def _asked(self, query: str) -> str:
        body = orjson.dumps({"query": query, "type": "flux", "dialect": DIALECT})
        try:
            answer = await self._backend.text("POST", self._url, self._headers, body)
        except QueryFailed as error:
            raise QueryFailed(f"error accessing influxdb query api: {error}") from None
        return answer.decode(errors="replace")


def records(text: str) -> Iterator[Record]:
    """The rows of annotated CSV; QueryFailed where the answer is one table of errors, or no CSV."""
    try:
        yield from _records(text)
    except csv.Error as error:
        raise QueryFailed(f"invalid response: not CSV: {quoted(str(error))}") from None


def _records(text: str) -> Iterator[Record]:
    types: list[str] = []
    defaults: list[str] = []
    names: list[str] | None = None
    for row in csv.reader(io.StringIO(text)):
        match row[:1]:
            case ["#datatype"]:
                types, names = row, None
            case ["#default"]:
                defaults = row
            case [mark] if mark.startswith("#"):
                continue
            case [_] if names is None:
                names = row
            case [_]:
                yield _record(names or [], types, defaults, row)


def _record(names: list[str], types: list[str], defaults: list[str], row: list[str]) -> Record:
    if "error" in names:
        raise QueryFailed(f"query error: {row[names.index('error')][:200]}")
    if not types or not len(names) == len(types) == len(row):
        raise QueryFailed("query error: the answer is not annotated CSV")
    filled = [value or default for value, default in zip_longest(row, defaults[: len(row)], fillvalue="")]
    return dict(zip(names, zip(types, filled, strict=True), strict=True))
