"""Which object the running work is about, for every log line written meanwhile. A leaf: any layer may set it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_fields: ContextVar[dict[str, str]] = ContextVar("log_fields")


def current() -> dict[str, str]:
    """The fields in force here."""
    return _fields.get({})


@contextlib.contextmanager
def log_fields(**fields: str | None) -> Iterator[None]:
    """Add fields such as application, cluster and revision to the log lines of this task and those it starts."""
    token = _fields.set(current() | {name: value for name, value in fields.items() if value})
    try:
        yield
    finally:
        _fields.reset(token)
