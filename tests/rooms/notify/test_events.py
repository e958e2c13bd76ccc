from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from fleet_rollout.measures import EVENTS_DROPPED
from fleet_rollout.notify import events
from fleet_rollout.notify.events import BURST, QUEUE_LENGTH, Recorder, Throttle, Told, event, reference

START = datetime(2025, 1, 1, tzinfo=UTC)


def application(name: str = "web", **metadata) -> dict:
    return {
        "apiVersion": "apps.kurator.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": "apps", "uid": "u1", "resourceVersion": "7", **metadata},
        "spec": {"secret": "never copied"},
    }


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admit(clock):
    throttle = Throttle()

    def occur(obj=None, message="m", reason="R", type="Warning") -> Told | None:
        return throttle.admit(obj or application(), type, reason, message, now=clock.now(), clock=clock.seconds)

    return occur


def dropped() -> float:
    return EVENTS_DROPPED._value.get()


def test_an_event_says_who_what_and_when():
    told = Told(
        reference(application()),
        "Warning",
        "BuildFailed",
        "kustomize build failed",
        START,
        START + timedelta(seconds=9),
        3,
    )
    assert event(told, suffix="abc") == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "web.abc", "namespace": "apps"},
        "involvedObject": {
            "apiVersion": "apps.kurator.dev/v1alpha1",
            "kind": "Application",
            "namespace": "apps",
            "name": "web",
            "uid": "u1",
            "resourceVersion": "7",
        },
        "type": "Warning",
        "reason": "BuildFailed",
        "message": "kustomize build failed",
        "source": {"component": "fleet-rollout"},
        "reportingComponent": "fleet-rollout",
        "firstTimestamp": "2025-01-01T00:00:00Z",
        "lastTimestamp": "2025-01-01T00:00:09Z",
        "count": 3,
    }


def test_what_the_api_server_would_refuse_is_cut():
    told = Told(reference(application("x" * 253, namespace=None)), "Normal", "R", "m" * 5000, START, START, 1)
    made = event(told, suffix="0123456789abcdef")
    assert len(made["metadata"]["name"]) <= 253
    assert len(made["message"]) == 1024
    assert made["metadata"]["namespace"] == "default"
    assert "namespace" not in made["involvedObject"]


def test_t42_an_event_cannot_move_the_cursor_or_turn_the_text_of_who_reads_it():
    told = Told(reference(application()), "Normal", "NewArtifact", "stored '\x1b[31m\u202egnp'\nline", START, START, 1)
    assert event(told, suffix="a")["message"] == "stored '\\x1b[31m\\u202egnp'\nline"


def test_the_same_words_are_told_once_in_ten_minutes_and_then_with_a_count(admit, clock):
    assert admit().count == 1
    for clock.seconds in (5.0, 300.0, 599.0):
        assert admit() is None
    clock.seconds = 601.0
    again = admit()
    assert (again.count, again.first) == (4, START + timedelta(seconds=5))


@pytest.mark.parametrize(
    "change", [{"message": "other"}, {"reason": "Other"}, {"type": "Normal"}, {"obj": application("other")}]
)
def test_other_words_and_other_objects_are_told_at_once(admit, change):
    admit()
    assert admit(**change).count == 1


def test_a_new_resource_version_is_no_new_object(admit):
    admit()
    assert admit(obj=application(resourceVersion="8")) is None


def test_an_object_that_talks_too_much_is_cut_off_and_others_are_not(admit, clock):
    before = dropped()
    told = [admit(message=f"m{i}") for i in range(BURST + 5)]
    assert [each is not None for each in told] == [True] * BURST + [False] * 5
    assert dropped() - before == 5
    assert admit(obj=application("other")) is not None
    clock.seconds = 60.0
    assert admit(message="later") is not None
    assert admit(message="too soon") is None


def test_memory_of_who_said_what_is_bounded(admit, monkeypatch):
    monkeypatch.setattr(events, "MOST_REMEMBERED", 10)
    for i in range(100):
        admit(obj=application(f"a{i}"))
    assert admit(obj=application("a99")) is None
    assert admit(obj=application("a0")) is not None


def test_what_was_told_long_ago_needs_no_memory(clock):
    throttle = events.Throttle(repeat_after=10, burst=10_000)

    def say(message):
        return throttle.admit(application(), "Normal", "R", message, now=clock.now(), clock=clock.seconds)

    assert [told is not None for told in (say("often"), say("often"), say("often"))] == [True, False, False]
    for clock.seconds in range(1, 90):
        say(f"m{clock.seconds}")
    assert say("often").count == 3
    for clock.seconds in range(90, 1000):
        say(f"m{clock.seconds}")
    assert len(throttle._repeats) < 20


@pytest.fixture
async def running(clock):
    """A recorder at work; `sent` is what reached the API server, `fail` makes it refuse."""

    class Running:
        sent: list[dict] = []
        fail: Exception | None = None

        async def post(self, made: dict) -> None:
            if self.fail is not None:
                raise self.fail
            self.sent.append(made)

    state = Running()
    state.sent = []
    state.recorder = Recorder(state.post, now=clock.now, clock=clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(state.recorder.run())
        yield state
        task.cancel()


async def test_what_is_recorded_is_sent_in_order(running, eventually):
    running.recorder.normal(application(), "Succeeded", "one")
    running.recorder.warning(application(), "Failed", "two")

    async def arrived() -> bool:
        return len(running.sent) == 2

    await eventually(arrived)
    assert [(e["type"], e["reason"], e["message"]) for e in running.sent] == [
        ("Normal", "Succeeded", "one"),
        ("Warning", "Failed", "two"),
    ]
    assert len({e["metadata"]["name"] for e in running.sent}) == 2
    running.recorder.normal(application(), "Succeeded", "three")

    async def third() -> bool:
        return running.sent[-1]["message"] == "three"

    await eventually(third)


async def test_a_crowd_is_told_slowly_after_the_first_of_it(clock, monkeypatch, eventually):
    sent: list[dict] = []
    pauses: list[float] = []

    async def post(made: dict) -> None:
        sent.append(made)

    async def pause(seconds: float, sleep=asyncio.sleep) -> None:
        pauses.append(seconds)
        clock.seconds += seconds
        await sleep(0)

    recorder = Recorder(post, now=clock.now, clock=clock)
    for i in range(399):
        recorder.normal(application(f"a{i}"), "R", "m")
    recorder.warning(application("trouble"), "R", "m")
    monkeypatch.setattr(events.asyncio, "sleep", pause)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(recorder.run())
        await recorder.finished()
        task.cancel()
    assert len(sent) == 400
    turn = [made["type"] for made in sent].index("Warning")
    assert events.AT_ONCE <= turn <= events.AT_ONCE * 1.5, "out of turn as soon as they are told slowly"
    assert pauses[: events.AT_ONCE] == [events.PACE] * events.AT_ONCE
    assert pauses[-200:] == pytest.approx([events.SLOW_PACE] * 200)


@pytest.mark.parametrize("obj", [None, {}, {"metadata": None}, {"metadata": {"name": ""}}])
async def test_an_object_that_is_gone_is_passed_over(running, obj, eventually):
    running.recorder.warning(obj, "R", "about nobody")
    running.recorder.warning(application(), "R", "about somebody")

    async def arrived() -> bool:
        return bool(running.sent)

    await eventually(arrived)
    assert [e["message"] for e in running.sent] == ["about somebody"]


async def test_a_refused_event_is_counted_and_stops_nothing(running, eventually):
    before, running.fail = dropped(), RuntimeError("403")
    running.recorder.warning(application(), "R", "refused")

    async def counted() -> bool:
        return dropped() == before + 1

    await eventually(counted)
    running.fail = None
    running.recorder.warning(application(), "R", "accepted")

    async def arrived() -> bool:
        return [e["message"] for e in running.sent] == ["accepted"]

    await eventually(arrived)


async def test_what_is_left_at_the_end_is_counted(clock):
    async def post(_: dict) -> None:
        await asyncio.Event().wait()

    recorder, before = Recorder(post, now=clock.now, clock=clock), dropped()
    for i in range(5):
        recorder.normal(application(f"a{i}"), "R", "m")
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert dropped() - before == 4, "whether the first one arrived is not known"


async def test_a_storm_fills_the_queue_and_no_more(clock):
    async def post(_: dict) -> None:
        pytest.fail("nothing runs")

    recorder, before = Recorder(post, now=clock.now, clock=clock), dropped()
    for i in range(QUEUE_LENGTH + 50):
        recorder.warning(application(f"a{i}"), "R", "m")
    assert dropped() - before == 50


async def test_the_canary_engine_speaks_as_flagger_and_tells_what_it_says_at_every_tick_once_a_minute(
    clock, eventually
):
    sent: list[dict] = []

    async def post(made: dict) -> None:
        sent.append(made)

    recorder = events.engine_recorder(post, now=clock.now, clock=clock)
    canary = application("podinfo") | {"apiVersion": "flagger.app/v1beta1", "kind": "Canary"}
    for clock.seconds in range(0, 70, 10):
        recorder.normal(canary, events.ENGINE_REASON, "Rollback hook h not signaling a rollback")
    for step in range(90):
        recorder.normal(canary, events.ENGINE_REASON, f"Advance podinfo.apps canary iteration {step}/90")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(recorder.run())

        async def arrived() -> bool:
            return len(sent) == 92

        await eventually(arrived)
        task.cancel()
    assert {(e["reason"], e["source"]["component"], e["reportingComponent"]) for e in sent} == {
        ("Synced", "flagger", "flagger")
    }
    assert [(e["count"], e["firstTimestamp"]) for e in sent[:2]] == [
        (1, "2025-01-01T00:00:00Z"),
        (6, "2025-01-01T00:00:10Z"),
    ]
