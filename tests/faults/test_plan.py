"""The plan is a function of the clean run's writes and of the seed."""

from __future__ import annotations

from tests.faults.plan import Case, Write, planned, sample, table

WRITES = [
    Write("1 hub patch applications", 1),
    Write("1 m1 apply configmaps", 2),
    Write("1 m1 apply configmaps", 3),
    Write("2 m1 apply configmaps", 4),
]
FAULTS = ("killed before", "answered 409")


def test_equal_writes_are_merged_and_each_group_meets_each_fault():
    cases = planned("sync", WRITES, FAULTS, seed=1)
    assert [(case.fault, case.group) for case in cases] == [
        (fault, group)
        for group in ("1 hub patch applications", "1 m1 apply configmaps", "2 m1 apply configmaps")
        for fault in FAULTS
    ]
    assert {case.point for seed in range(20) for case in planned("sync", WRITES, FAULTS, seed)} == {1, 2, 3, 4}
    assert cases[0].name == "sync/killed before/1 hub patch applications"


def test_the_seed_replays_a_sample_with_every_fault_in_it():
    cases = planned("sync", WRITES, FAULTS, seed=1)
    assert sample(cases, 3, seed=5) == sample(cases, 3, seed=5)
    assert len({tuple(sample(cases, 3, seed)) for seed in range(20)}) > 1
    assert {case.fault for case in sample(cases, 2, seed=5)} == set(FAULTS)
    assert len(sample(cases, 100, seed=5)) == len(cases)


def test_the_table_counts():
    assert table({("sync", "killed before"): (3, 0), ("sync", "answered 409"): (2, 1)}).splitlines()[2:] == [
        "| sync | answered 409 | 2 | 1 |",
        "| sync | killed before | 3 | 0 |",
        "| all | | 5 | 1 |",
    ]
    assert table({}).splitlines()[-1] == "| all | | 0 | 0 |"
    assert Case("s", "f", "g", None).name == "s/f/g"
