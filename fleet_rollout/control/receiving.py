"""The receiver's two ends on the hub: a Secret is read for the key, Applications are annotated as the only effect.

Every replica receives; a standby annotates as well as the leader, so that no announcement is lost in a hand-over. So
does `run`, a process that does nothing else but hand out artifacts, and has rights to nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from fleet_rollout.control.artifacts import secret_data
from fleet_rollout.control.connecting import connect
from fleet_rollout.control.standby import Standby
from fleet_rollout.control.stopping import until_stopped
from fleet_rollout.control.world import APPLICATIONS, SECRETS
from fleet_rollout.decide.announcements import concerns
from fleet_rollout.decide.gitrefs import canonical_repository
from fleet_rollout.decide.names import MANAGER_HUB, REQUESTED_AT
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import ApiError, kube_errors
from fleet_rollout.kube.lease import Leadership
from fleet_rollout.settings import Settings
from fleet_rollout.sources import Sources
from fleet_rollout.sources.receiver import Receiver, serve_receiver
from fleet_rollout_api.application import Application

log = logging.getLogger(__name__)

# Secrets that may not be read and are told of in the log, each once in so many seconds: paths come from strangers.
MOST_TOLD = 100
TOLD_ANEW = 3600.0


@dataclass
class ReceiverHealth:
    """What /healthz and /readyz answer from."""

    leadership: Leadership | None = None

    def complaint(self) -> str | None:
        """Why this process should be restarted; None while it works."""
        return None


async def run(settings: Settings, health: ReceiverHealth, stop: asyncio.Event) -> None:
    """Receive announcements and hand out artifacts, those of the leader too, until `stop` is set."""
    hub, sources = Cluster(connect(settings), settings), Sources(settings)
    leadership = Leadership(hub, settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(hub.close)
        stack.push_async_callback(sources.close)
        await sources.start(Standby(hub, leadership, settings))
        await stack.enter_async_context(Receiving(hub, settings).serve())
        health.leadership = leadership
        log.info("receiving")
        await until_stopped(leadership.follow(), stop, lambda: False, settings)


class Receiving:
    """`url` is where it listens, once `serve` was entered."""

    def __init__(self, hub: Cluster, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._settings = settings
        self._told: set[tuple[str, str]] = set()
        self._clock = clock
        self._forgotten = clock()
        self.url = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Listen until the block ends."""
        runner, self.url = await serve_receiver(Receiver(self._read_secret, self._announce), self._settings)
        try:
            yield
        finally:
            await runner.cleanup()

    async def _read_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        if self._settings.namespace not in (None, namespace):
            return None
        with kube_errors("ReceiverFailed", f"Secret/{namespace}/{name}"):
            try:
                secret = await self._hub.get(SECRETS, name, namespace)
            except ApiError as error:
                if error.status != 403:
                    raise
                self._tell(namespace, name)
                return None
        return secret_data(secret) if secret is not None else None

    def _tell(self, namespace: str, name: str) -> None:
        """Once an hour; whoever calls the hook is told that there is none."""
        if (now := self._clock()) - self._forgotten > TOLD_ANEW:
            self._told.clear()
            self._forgotten = now
        if (namespace, name) in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add((namespace, name))
        log.warning(
            "a hook asks for Secret/%s/%s, which may not be read; if it is yours, let the receiver's account get it",
            namespace,
            name,
        )

    async def _announce(self, namespace: str, urls: tuple[str, ...], ref: str, now: datetime) -> None:
        """Ask every Application of the namespace that uses this repository, and may use this ref, to look now.

        One that cannot be asked holds up no other; the host hears of it, and sends the announcement again.
        """
        patch = {"metadata": {"annotations": {REQUESTED_AT: now.isoformat()}}}
        failure: ApiError | None = None
        with kube_errors("ReceiverFailed", f"Applications of {namespace}"):
            objects, _ = await self._hub.list(APPLICATIONS, namespace)
            for name in (obj["metadata"]["name"] for obj in objects if _is_concerned(obj, urls, ref)):
                try:
                    await self._hub.patch(APPLICATIONS, name, namespace, patch, kind="merge", manager=MANAGER_HUB)
                except ApiError as error:
                    failure = failure if error.is_not_found else error
            if failure is not None:
                raise failure


def _is_concerned(obj: dict[str, Any], urls: tuple[str, ...], ref: str) -> bool:
    try:
        git = Application.model_validate(obj).spec.source.git_repository
    except ValidationError:
        return False  # its own worker says so in its status
    return git is not None and canonical_repository(git.url) in urls and concerns(git.ref, ref)
