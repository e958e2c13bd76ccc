"""What users change on the hub, as events: kopf watches, we only take notes.

kopf runs with `on.event` handlers alone, so it writes nothing into users' objects, and in a thread
with a loop of its own, because at its exit it cancels every task of the loop that it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import aiohttp
import kopf
from aiohttp.connector import AddrInfoType

log = logging.getLogger(__name__)

KINDS = (
    ("apps.kurator.dev", "v1alpha1", "applications"),
    ("fleet.kurator.dev", "v1alpha1", "fleets"),
    ("cluster.kurator.dev", "v1alpha1", "attachedclusters"),
    ("cluster.kurator.dev", "v1alpha1", "clusters"),
)
RESTART_DELAY = 2.0
JOIN_SECONDS = 10.0
END_SECONDS = 2.0
LAST_SECONDS = 8.0
# kopf would ask the system for the name of the user, which a uid in a container need not have.
IDENTITY: Any = "fleet-rollout"  # of a type that kopf keeps to itself
CLOSE_POLL = 0.02
CLOSE_LOOKS = 250

Notify = Callable[[str, str | None, dict[str, Any]], None]


class Sockets:
    """Makes the sockets of aiohttp sessions, and knows when all of them are closed.

    aiohttp ends TLS connections a little after its `close` has returned, and longer after on a busy machine.
    """

    def __init__(self) -> None:
        self._made: list[socket.socket] = []

    def make(self, address: AddrInfoType) -> socket.socket:
        """What TCPConnector asks of its `socket_factory`."""
        family, type_, protocol, *_ = address
        return self.noted(socket.socket(family, type_, protocol))

    def noted(self, made: socket.socket) -> socket.socket:
        self._made = [*self.open(), made]
        return made

    def open(self) -> list[socket.socket]:
        return [made for made in self._made if made.fileno() != -1]

    async def closed(self) -> None:
        """Wait until they are, or until that took too long."""
        for _ in range(CLOSE_LOOKS):
            if not self.open():
                return
            await asyncio.sleep(CLOSE_POLL)


class Stop:
    """Ends kopf from another thread, and whoever would start it again.

    kopf would wait for a flag of threads in a thread, which nothing can cancel: the loop of a kopf that has failed
    would never close, and its watches never be started again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flag = threading.Event()
        self._tell: Callable[[], object] = lambda: None

    def of_loop(self) -> asyncio.Event:
        """The flag for what runs in this loop."""
        loop, flag = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._tell = lambda: loop.call_soon_threadsafe(flag.set)
            if self._flag.is_set():
                flag.set()
        return flag

    def set(self) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # that loop is closed
            self._flag.set()
            self._tell()

    def is_set(self) -> bool:
        return self._flag.is_set()

    def wait(self, seconds: float) -> None:
        self._flag.wait(seconds)


def run_bounded(work: Coroutine[Any, Any, None]) -> None:
    """As asyncio.run does, but what does not end when it is cancelled is left behind.

    kopf's watches take a cancellation for a pause if their pause is cancelled with them, and go on for ever.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.set_exception_handler(_left_behind)
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        loop.run_until_complete(_end({loop.create_task(loop.shutdown_asyncgens())}, cancel=False))
        loop.close()


def _left_behind(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("kopf did not end: %s: %s", context["message"], context.get("exception"))


async def _end(tasks: set[asyncio.Task[Any]], *, cancel: bool = True) -> None:
    for task in tasks if cancel else ():
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_SECONDS)


async def run_to_the_end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """As kopf runs its tasks, but when one has ended the others have so many seconds; raises what ended it.

    kopf waits without an end: a watch that was cut in that moment asks for a login, which nobody is left to give.
    """
    ending = asyncio.create_task(kopf.run_tasks(tasks, ignored=asyncio.all_tasks() - set(tasks)))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait([ending], timeout=LAST_SECONDS)
    if not ending.done():
        raise TimeoutError(f"kopf has not ended within {LAST_SECONDS:g} s of the end of one of its tasks")
    ending.result()


class HubEvents:
    """Calls `notify(plural, event type, object)` on the caller's loop for every change of `KINDS`.

    `open_session` makes a session for kopf's loop with fresh credentials, over the sockets it is given; it is called
    again when the hub answers 401.
    `served` are the plurals that the hub has; `namespace` limits the view.
    """

    def __init__(
        self,
        server: str,
        open_session: Callable[[Sockets], aiohttp.ClientSession],
        notify: Notify,
        *,
        namespace: str | None,
        watch_timeout: float,
        served: frozenset[str],
    ) -> None:
        self._server = server
        self._open_session = open_session
        self._notify = notify
        self._namespace = namespace
        self._watch_timeout = watch_timeout
        self._served = served

    async def run(self) -> None:
        """Watch until cancelled; a watch that ends by an error is started again."""
        loop = asyncio.get_running_loop()
        stop = Stop()
        ended = asyncio.Event()

        def body() -> None:
            while not stop.is_set():
                try:
                    run_bounded(self._operate(loop, stop))
                except (Exception, asyncio.CancelledError):
                    log.exception("the hub's watches ended; starting them again")
                stop.wait(RESTART_DELAY)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=body, name="kopf", daemon=True)
        thread.start()
        try:
            await ended.wait()
        finally:
            stop.set()
            # kopf needs a moment to end; the process must not exit, nor a test end, under its feet.
            await asyncio.shield(asyncio.to_thread(thread.join, JOIN_SECONDS))

    async def _operate(self, loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
        def tell(plural: str, event: dict[str, Any]) -> None:
            # kopf gives read-only views and wrappers; `object` in the raw event is the plain dict.
            loop.call_soon_threadsafe(self._notify, plural, event["type"], event["object"])

        # kopf leaves sessions that it was given to whoever made them.
        sockets = Sockets()
        async with contextlib.AsyncExitStack() as sessions:
            sessions.push_async_callback(sockets.closed)
            tasks = await kopf.spawn_tasks(
                registry=self._registry(tell, sessions, sockets),
                settings=self._settings(),
                identity=IDENTITY,
                standalone=True,
                clusterwide=self._namespace is None,
                namespaces=[self._namespace] if self._namespace else [],
                stop_flag=stop.of_loop(),
            )
            await run_to_the_end(tasks)

    def _registry(
        self, tell: Callable[[str, dict[str, Any]], None], sessions: contextlib.AsyncExitStack, sockets: Sockets
    ) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = await sessions.enter_async_context(self._open_session(sockets))
            return kopf.AiohttpSession(server=self._server, aiohttp_session=session)

        for group, version, plural in KINDS:
            if plural in self._served:
                self._register(registry, group, version, plural, tell)
        return registry

    @staticmethod
    def _register(
        registry: kopf.OperatorRegistry,
        group: str,
        version: str,
        plural: str,
        tell: Callable[[str, dict[str, Any]], None],
    ) -> None:
        @kopf.on.event(group, version, plural, registry=registry, id=plural)
        async def seen(event: Any, **_: Any) -> None:
            tell(plural, event)

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.watching.server_timeout = int(self._watch_timeout)
        settings.watching.client_timeout = int(self._watch_timeout) + 40
        settings.watching.connect_timeout = 5
        settings.watching.chunk_size = 500
        settings.queueing.idle_timeout = 0.2
        settings.networking.error_backoffs = (0.5, 1, 2, 5)
        settings.process.ultimate_exiting_timeout = None
        return settings
