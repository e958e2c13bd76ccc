"""What the event loop tells of errors that nobody waited for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fleet_rollout.faces.service import told


class Connection:
    def __init__(self, *, is_closing: bool) -> None:
        self.is_closing = lambda: is_closing


CLOSED = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


@pytest.mark.parametrize(
    ("context", "is_told"),
    [
        ({"exception": CLOSED, "transport": Connection(is_closing=True)}, False),
        ({"exception": CLOSED, "transport": Connection(is_closing=False)}, False),
        ({"exception": RuntimeError("a bug"), "transport": Connection(is_closing=False)}, True),
        ({"exception": ValueError("a bug"), "transport": Connection(is_closing=True)}, True),
        ({"exception": RuntimeError("a bug")}, True),
        ({}, True),
    ],
    ids=["cut", "cut before it was closing", "open", "another error", "no connection", "nothing"],
)
async def test_only_the_end_of_a_connection_that_was_cut_is_no_error(
    context: dict[str, Any], is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    told(asyncio.get_running_loop(), {"message": "Fatal error on SSL protocol", **context})
    assert ["Fatal error on SSL protocol" in record.message for record in caplog.records] == ([True] if is_told else [])
