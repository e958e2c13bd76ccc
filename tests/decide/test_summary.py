from __future__ import annotations

from collections import Counter

import pytest

from fleet_rollout.decide.rows import RowState, Standing
from fleet_rollout.decide.summary import PHASES, phase_text, places, sentence, summary
from fleet_rollout_api.cluster_sync import ClusterReference
from fleet_rollout_api.flagger import CanaryStatus


def state(cluster, ready="True", policy="p", leaving=False):
    reference = ClusterReference(kind="AttachedCluster", name=cluster)
    return RowState(f"{policy}-{cluster}", policy, reference, None, Standing(ready, "R"), leaving=leaving)


@pytest.mark.parametrize(
    ("rows", "clusters", "syncs"),
    [
        ([], "0/0", (0, 0)),
        ([state("a"), state("b", "False"), state("c", "Unknown")], "1/3", (1, 3)),
        # A cluster is ready when all of its policies are.
        ([state("a"), state("a", "False", "q"), state("b")], "1/2", (2, 3)),
        ([state("a"), state("b", leaving=True)], "1/1", (1, 1)),
    ],
)
def test_clusters_and_rows_are_counted(rows, clusters, syncs):
    found = summary(rows)
    assert (found["clusters"], found["readySyncs"], found["totalSyncs"]) == (clusters, *syncs)
    assert "rollout" not in found


def test_phases_come_in_their_order_and_unknown_ones_last():
    phases = Counter({"Succeeded": 1, "Progressing": 2, "New": 1, "Pending": 1, "Failed": 3})
    assert phase_text(phases) == "1 Pending, 2 Progressing, 1 Succeeded, 3 Failed, 1 New"


def test_every_phase_of_the_api_has_its_place():
    import typing

    [phase, _none] = typing.get_args(CanaryStatus.model_fields["phase"].annotation)
    assert set(typing.get_args(phase)) - {""} <= set(PHASES)


def test_texts_name_a_few_and_count_the_rest():
    rows = [state(f"m{number}", policy=policy) for policy in ("p", "q") for number in range(7)]
    first = [f"AttachedCluster/m{number}" for number in range(5)]
    assert places(rows) == ", ".join([*first, "and 2 more"])
    assert places(rows[:1]) == "AttachedCluster/m0"
    assert sentence(rows[:1]) == "p on AttachedCluster/m0: R"
    assert sentence(rows).endswith("; and 9 more")
