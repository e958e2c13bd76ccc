"""Sends alerts to chat systems, in the background: a tick only leaves a letter, and never waits for anybody.

Each recipient has a lane of its own, in order, and all take turns letter by letter, so that those that hang hold up
nobody else. Letters that find no room are dropped and counted, of whoever has most of them; what cannot be delivered
after three attempts is told to the caller.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import orjson
from prometheus_client import Counter

from fleet_rollout.decide.canary.addresses import AddressRefused, Dial, NotReached, Reach, parse_url
from fleet_rollout.decide.canary.alerts import Destination, Unsendable
from fleet_rollout.decide.canary.hooks import is_success, is_worth_repeating, quoted
from fleet_rollout.decide.intervals import backoff
from fleet_rollout.measures import REGISTRY
from fleet_rollout.notify.chats import Message, Posting, posting
from fleet_rollout.notify.guard import Guard, Resolve, resolve

log = logging.getLogger(__name__)

TIMEOUT = 5.0
ATTEMPTS = 3
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
# Letters waiting for one recipient, and for all of them.
LANE_LENGTH, MOST_WAITING = 100, 1000
LANES_AT_ONCE = 16
ANSWER_LIMIT = 4096
IN_MEMBER = (".svc", ".svc.cluster.local")

ALERTS_DROPPED = Counter(
    "fleet_rollout_alerts_dropped_total",
    "Alerts not sent: too many at once, or not taken by the chat system.",
    registry=REGISTRY,
)

Sleep = Callable[[float], Awaitable[None]]
# Reads the AlertProvider and its Secret; raises Unsendable.
Find = Callable[[], Awaitable[Destination]]


@dataclass(frozen=True)
class Letter:
    """`who` names the recipient in messages. `dial` reaches Services of the Canary's cluster (`….svc` addresses)."""

    who: str
    find: Find = field(repr=False)
    message: Message
    dial: Dial | None = None


Failed = Callable[[Letter, str], None]


def only_log(letter: Letter, problem: str) -> None:
    """What becomes of an undeliverable letter where the caller has no better place for it."""
    log.warning("alert not sent: %s: %s", letter.who, problem, extra={"canary": letter.message.canary})


class Sender:
    """`post` from anywhere on the loop; `run` delivers until cancelled. `reach` is what may be dialled directly."""

    def __init__(
        self,
        reach: Reach,
        *,
        failed: Failed = only_log,
        timeout: float = TIMEOUT,
        sleep: Sleep = asyncio.sleep,
        random01: Callable[[], float] = random.random,
        resolve: Resolve = resolve,
    ) -> None:
        self._guard = Guard(reach, resolve)
        self._failed = failed
        self._timeout = timeout
        self._sleep = sleep
        self._random01 = random01
        self._lanes: dict[str, deque[Letter]] = {}
        self._without_worker: deque[str] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._at_once = asyncio.Semaphore(LANES_AT_ONCE)

    def post(self, letter: Letter) -> None:
        """Leave a letter; where too many wait already, one is dropped of the recipient for whom most of them do."""
        lane = self._lanes.get(letter.who, ())
        if len(lane) >= LANE_LENGTH:
            ALERTS_DROPPED.inc()
            return
        if sum(map(len, self._lanes.values())) >= MOST_WAITING:
            ALERTS_DROPPED.inc()
            longest = max(self._lanes.values(), key=len)
            if len(longest) <= len(lane) + 1:
                return
            longest.pop()
        if letter.who not in self._lanes:
            self._lanes[letter.who] = deque()
            self._without_worker.append(letter.who)
            self._emptied.clear()
            self._filled.set()
        self._lanes[letter.who].append(letter)

    async def finished(self) -> None:
        """Returns when everything that was posted has been delivered, or given up; `run` has to go on meanwhile."""
        await self._emptied.wait()

    async def run(self) -> None:
        """Deliver what was posted; never ends by itself. Most engines never send a letter, and need no session."""
        await self._filled.wait()
        async with self._guard.session() as session, asyncio.TaskGroup() as group:
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._without_worker:
                    group.create_task(self._drain(self._without_worker.popleft(), session))

    async def _drain(self, who: str, session: aiohttp.ClientSession) -> None:
        lane = self._lanes[who]
        try:
            while lane:
                async with self._at_once:
                    if lane:
                        await self._deliver(lane.popleft(), session)
        finally:
            del self._lanes[who]
            if not self._lanes:
                self._emptied.set()

    async def _deliver(self, letter: Letter, session: aiohttp.ClientSession) -> None:
        try:
            problem = await self._attempts(letter, session)
        except (Unsendable, NotReached) as error:
            problem = str(error)
        except Exception as error:  # whatever it is, an alert stops nothing
            log.exception("alert not sent: %s", letter.who)
            problem = type(error).__name__
        if problem:
            ALERTS_DROPPED.inc()
            self._failed(letter, problem)

    async def _attempts(self, letter: Letter, session: aiohttp.ClientSession) -> str:
        """Why nothing was delivered, or an empty text."""
        to = await letter.find()
        request = posting(to, letter.message)
        problem, attempt = "", 0
        for attempt in range(1, ATTEMPTS + 1):
            problem, is_final = await self._once(letter, to, request, session)
            if is_final:
                break
            if attempt < ATTEMPTS:
                await self._sleep(backoff(attempt, FIRST_PAUSE, LONGEST_PAUSE, self._random01()))
        return problem and f"{masked(problem, to, request)} ({attempt} attempt(s))"

    async def _once(
        self, letter: Letter, to: Destination, request: Posting, session: aiohttp.ClientSession
    ) -> tuple[str, bool]:
        """What went wrong, and whether that is the last word."""
        try:
            status, body = await self._exchange(letter, to, request, session)
        except AddressRefused as error:
            return str(error), True
        except NotReached as error:
            return str(error), False
        except (aiohttp.ClientError, OSError) as error:
            return _network_problem(error, self._timeout), False
        if is_success(status):
            return "", True
        said = quoted(
            masked(body.decode("utf-8", "replace"), to, request)
        )  # masked first: a cut would leave half a token
        return f"answered {status} {said}".rstrip(), not is_worth_repeating(status)

    async def _exchange(
        self, letter: Letter, to: Destination, request: Posting, session: aiohttp.ClientSession
    ) -> tuple[int, bytes]:
        url = parse_url(request.url)
        headers = {"Content-Type": "application/json", **request.headers}
        body = orjson.dumps(request.body)
        if letter.dial is not None and not to.proxy and url.bare_host.endswith(IN_MEMBER):
            return await letter.dial.request(
                "POST", request.url, headers=headers, body=body, timeout=self._timeout, verify=True
            )
        self._guard.check_literal(url)
        if to.proxy:
            self._guard.check_literal(parse_url(to.proxy))
        # A chat webhook that redirects is a wrong address: following would turn the alert into a GET.
        async with (
            asyncio.timeout(self._timeout),
            session.post(
                request.url, data=body, headers=headers, proxy=to.proxy or None, allow_redirects=False
            ) as answer,
        ):
            return answer.status, await answer.content.read(ANSWER_LIMIT)


def masked(text: str, to: Destination, request: Posting) -> str:
    """`text` without the credentials of its recipient, which a chat system may well repeat."""
    credentials = {to.address, request.url, urlsplit(request.url).path, to.token, to.proxy} - {"", "/"}
    for credential in sorted(credentials, key=len, reverse=True):
        text = text.replace(credential, "***")
    return text


def _network_problem(error: Exception, timeout: float) -> str:
    """Without the error's own text, which may hold the address."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g}s"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    fact = cause.strerror if isinstance(cause, OSError) else None
    return f"not reached: {quoted(fact) if fact else type(error).__name__}"
