from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.conditions import MESSAGE_LIMIT, get, is_true, remove, set_condition
from fleet_rollout_api.meta import Condition

NOW = datetime(2025, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)

settings = st.tuples(
    st.sampled_from(["Ready", "Stalled", "Reconciling", "Healthy", "SourceReady", "RolloutHealthy"]),
    st.sampled_from(["True", "False", "Unknown"]),
    st.sampled_from(["Succeeded", "Failed"]),
    st.sampled_from(["", "a", "b"]),
    st.integers(0, 3),
)


def ready(conditions=(), status="True", reason="Succeeded", message="done", now=NOW, generation=1):
    return set_condition(conditions, "Ready", status, reason, message, now=now, generation=generation)


def test_a_new_condition_carries_time_and_generation():
    assert ready() == [
        Condition(
            type="Ready",
            status="True",
            reason="Succeeded",
            message="done",
            last_transition_time="2025-01-01T12:00:00Z",
            observed_generation=1,
        )
    ]


@pytest.mark.parametrize("change", [{"status": "False"}, {"reason": "Failed"}, {"message": "other"}])
def test_the_transition_time_moves_with_status_reason_and_message(change):
    assert ready(ready(), now=LATER, **change)[0].last_transition_time == "2025-01-01T12:05:00Z"


def test_a_new_generation_alone_does_not_move_the_transition_time():
    (condition,) = ready(ready(), now=LATER, generation=2)
    assert (condition.last_transition_time, condition.observed_generation) == ("2025-01-01T12:00:00Z", 2)


def test_stalled_reconciling_ready_come_first_then_the_newest_generation_then_the_name():
    conditions = []
    for type, generation in [("A", 1), ("C", 2), ("B", 2), ("Ready", 3), ("Stalled", 1), ("Reconciling", 2)]:
        conditions = set_condition(conditions, type, "True", "R", now=NOW, generation=generation)
    assert [c.type for c in conditions] == ["Stalled", "Reconciling", "Ready", "B", "C", "A"]


def test_a_condition_of_another_writer_without_generation_goes_last():
    foreign = Condition(type="A", status="True", reason="R", last_transition_time="2025-01-01T12:00:00Z")
    assert [c.type for c in set_condition([foreign], "B", "True", "R", now=NOW, generation=1)] == ["B", "A"]


def test_a_long_message_is_cut_and_still_counts_as_unchanged():
    once = ready(message="x" * 50_000)
    assert len(once[0].message) == MESSAGE_LIMIT
    assert once[0].message.endswith("…")
    assert ready(once, message="x" * 50_000, now=LATER) == once


def test_conditions_are_found_and_removed_by_type():
    conditions = set_condition(ready(), "Healthy", "False", "R", now=NOW, generation=1)
    assert is_true(conditions, "Ready")
    assert not is_true(conditions, "Healthy")
    assert not is_true(conditions, "Stalled")
    assert get(conditions, "Stalled") is None
    assert [c.type for c in remove(conditions, "Ready", "Stalled")] == ["Healthy"]
    assert remove(conditions, "Ready", "Healthy") == []


@given(st.lists(settings, max_size=12))
def test_each_type_is_there_once_and_setting_it_again_changes_nothing(steps):
    conditions: list[Condition] = []
    for type, status, reason, message, generation in steps:
        before = list(conditions)
        after = set_condition(conditions, type, status, reason, message, now=NOW, generation=generation)
        again = set_condition(after, type, status, reason, message, now=LATER, generation=generation)
        assert conditions == before
        assert again == after
        assert len({c.type for c in after}) == len(after)
        conditions = after


def test_t42_a_message_cannot_move_the_cursor_of_who_reads_it():
    once = ready(message="at \x1b[2J\u202e")
    assert once[0].message == "at \\x1b[2J\\u202e"
    assert ready(once, message="at \x1b[2J\u202e", now=LATER) == once
