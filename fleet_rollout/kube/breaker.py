"""Stops asking a cluster that does not answer: after some failures in a row requests fail at once for a while.

Then one request is let through to see; its outcome closes the breaker or doubles the pause.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet_rollout.decide.intervals import backoff
from fleet_rollout.errors import Transient
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.settings import Settings

REASON = "ClusterUnreachable"


class Breaker:
    """Of one cluster. An answer of any kind is a success; only Unreachable is a failure."""

    def __init__(self, name: str, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._pauses = 0
        self._until = 0.0
        self._probing = False
        self.fact = ""  # what the last failure was

    @property
    def is_open(self) -> bool:
        """Whether requests fail at once (or wait for the outcome of the one that was let through)."""
        return self._pauses > 0 and (self._probing or self._clock() < self._until)

    @property
    def is_failing(self) -> bool:
        """Whether the last request had no answer."""
        return self._failures > 0

    def refusal(self) -> Transient:
        """What a request gets while the breaker is open."""
        pause = max(self._until - self._clock(), self._settings.member_breaker_min if self._probing else 0.0)
        return Transient(REASON, f"{self._name}: {self.fact}", retry_after=pause)

    def permit_probe(self) -> None:
        """Let the next request through, however long the pause would still last."""
        self._until = min(self._until, self._clock())

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one request. Raises Transient("ClusterUnreachable") where it is not to be made."""
        if self.is_open:
            raise self.refusal()
        is_probe = self._probing = self._pauses > 0
        try:
            yield
        except Unreachable as error:
            self._failed(error.fact, is_probe)
            raise
        except ApiError:
            self._succeeded()
            raise
        else:
            self._succeeded()
        finally:
            if is_probe:
                self._probing = False

    def _succeeded(self) -> None:
        self._failures = self._pauses = 0
        self._until = 0.0

    def _failed(self, fact: str, is_probe: bool) -> None:
        self._failures += 1
        self.fact = fact
        # Requests that were already on their way when it opened say nothing new.
        if is_probe or (self._pauses == 0 and self._failures >= self._settings.member_breaker_failures):
            self._pauses += 1
            first, longest = self._settings.member_breaker_min, self._settings.member_breaker_max
            self._until = self._clock() + backoff(self._pauses, first, longest, random.random())  # noqa: S311
