from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.intervals import (
    backoff,
    format_duration,
    jittered,
    parse_duration,
    parse_time,
    rfc3339,
    timeout_of,
)

chance = st.floats(0, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("30s", 30),
        ("250ms", 0.25),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("1h1m1s1ms", 3661.001),
        ("90m", 5400),
    ],
)
def test_durations_are_read_as_go_reads_them(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", " 5s", "5s ", "5s,3m", "1d", ".5s", "5m3", "x5s"])
def test_what_is_no_duration_is_refused_with_the_text(text):
    with pytest.raises(ValueError, match="not a duration") as failure:
        parse_duration(text)
    assert repr(text) in str(failure.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "0s"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (10, "10s"),
        (5.02, "5.02s"),
        (90, "1m30s"),
        (600, "10m0s"),
        (3600, "1h0m0s"),
        (3661.5, "1h1m1.5s"),
    ],
)
def test_durations_are_printed_as_go_prints_them(seconds, text):
    assert format_duration(seconds) == text


@given(st.integers(0, 10**9))
def test_a_printed_duration_reads_back_the_same(milliseconds):
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=0.0005)


@given(st.floats(0, 1e6), st.floats(0, 1), chance)
def test_jitter_stays_within_its_share(seconds, share, random01):
    assert seconds * (1 - share) - 1e-6 <= jittered(seconds, share, random01) <= seconds * (1 + share) + 1e-6


def test_jitter_goes_both_ways():
    assert [jittered(100, 0.05, r) for r in (0, 0.5, 1)] == pytest.approx([95, 100, 105])


@given(st.integers(-1, 10_000), chance, st.floats(0.1, 100), st.floats(1, 1000))
def test_backoff_never_leaves_its_bounds(failures, random01, first, factor):
    assert first <= backoff(failures, first, first * factor, random01) <= first * factor * (1 + 1e-9)


@given(st.integers(1, 100), chance)
def test_backoff_never_shrinks_with_another_failure(failures, random01):
    assert backoff(failures, 5, 300, random01) <= backoff(failures + 1, 5, 300, random01)


@pytest.mark.parametrize(
    ("failures", "low", "high"), [(0, 5, 6.25), (1, 5, 6.25), (2, 10, 12.5), (4, 40, 50), (7, 240, 300), (99, 240, 300)]
)
def test_backoff_doubles_and_is_spread_even_at_its_end(failures, low, high):
    assert backoff(failures, 5, 300, 0) == pytest.approx(low)
    assert backoff(failures, 5, 300, 1) == pytest.approx(high)


@pytest.mark.parametrize(
    ("interval", "timeout", "seconds"),
    [("10m", None, 570), ("1m", None, 30), ("5s", None, 30), ("0s", None, 30), ("10m", "2m", 120), ("10m", "5s", 30)],
)
def test_an_attempt_may_take_what_flux_gives_it(interval, timeout, seconds):
    assert timeout_of(interval, timeout) == seconds


def test_times_are_written_in_utc_to_the_second():
    moment = datetime(2025, 1, 1, 2, 3, 4, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2025-01-01T00:03:04Z"


@pytest.mark.parametrize(
    "text", ["2025-01-01T00:03:04Z", "2025-01-01T02:03:04+02:00", "2025-01-01T00:03:04.000000+00:00"]
)
def test_times_are_read_in_every_spelling_of_kubernetes(text):
    assert parse_time(text) == datetime(2025, 1, 1, 0, 3, 4, tzinfo=UTC)
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["2025-01-01T00:03:04", "yesterday", ""])
def test_a_time_without_offset_is_refused(text):
    with pytest.raises(ValueError, match=r"offset|isoformat"):
        parse_time(text)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_a_written_time_reads_back_to_the_second(moment):
    assert parse_time(rfc3339(moment)) == moment.replace(microsecond=0)
