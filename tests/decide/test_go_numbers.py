"""Numbers against what Go 1.26 printed for them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.go_numbers import fixed, milliseconds, number

PRINTED = [
    (0.0, "0", "0.00"),
    (1.0, "1", "1.00"),
    (99, "99", "99.00"),
    (99.5, "99.5", "99.50"),
    (0.1, "0.1", "0.10"),
    (1e6, "1e+06", "1000000.00"),
    (1e5, "100000", "100000.00"),
    (999999.0, "999999", "999999.00"),
    (1234567.0, "1.234567e+06", "1234567.00"),
    (123456789.0, "1.23456789e+08", "123456789.00"),
    (1e20, "1e+20", "100000000000000000000.00"),
    (1e22, "1e+22", "10000000000000000000000.00"),
    (0.0001, "0.0001", "0.00"),
    (0.00001, "1e-05", "0.00"),
    (1.2345e-05, "1.2345e-05", "0.00"),
    (1.5e-7, "1.5e-07", "0.00"),
    (-3.0, "-3", "-3.00"),
    (-0.25, "-0.25", "-0.25"),
    (1 / 3, "0.3333333333333333", "0.33"),
    (2.675, "2.675", "2.67"),
    (0.125, "0.125", "0.12"),
    (12345.678, "12345.678", "12345.68"),
    (5e-324, "5e-324", "0.00"),
    (math.inf, "+Inf", "+Inf"),
    (-math.inf, "-Inf", "-Inf"),
    (math.nan, "NaN", "NaN"),
]
DURATIONS = [
    (0, "0s"),
    (1, "1ms"),
    (500, "500ms"),
    (1000, "1s"),
    (1500, "1.5s"),
    (60000, "1m0s"),
    (61500, "1m1.5s"),
    (3600000, "1h0m0s"),
    (3723004, "1h2m3.004s"),
    (-1, "-1ms"),
    (-1500, "-1.5s"),
]


@pytest.mark.parametrize(("value", "shortest", "two_places"), PRINTED)
def test_a_number_is_printed_as_go_prints_it(value, shortest, two_places):
    assert number(value) == shortest
    assert fixed(value) == two_places


@pytest.mark.parametrize(("count", "printed"), DURATIONS)
def test_a_duration_is_printed_as_go_prints_it(count, printed):
    assert milliseconds(count) == printed


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_reads_back_as_itself(value):
    assert float(number(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_is_never_longer_than_pythons(value):
    digits = [character for character in number(value) if character.isdigit()]
    assert len(digits) <= len(repr(value)) + 3
