from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.selectors import matches
from fleet_rollout_api.application import ClusterSelector, SelectorRequirement

LABELS = {"env": "prod", "zone": "a"}


def requirement(operator, *values, key="env"):
    return ClusterSelector(match_expressions=[{"key": key, "operator": operator, "values": list(values) or None}])


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        (ClusterSelector(), True),
        (ClusterSelector(match_labels={}), True),
        (ClusterSelector(match_labels={"env": "prod"}), True),
        (ClusterSelector(match_labels={"env": "dev"}), False),
        (ClusterSelector(match_labels={"env": "prod", "tier": "x"}), False),
        (ClusterSelector(match_labels={"missing": ""}), False),
        (requirement("In", "dev", "prod"), True),
        (requirement("In", "dev"), False),
        (requirement("In", "dev", key="tier"), False),
        (requirement("NotIn", "dev"), True),
        (requirement("NotIn", "prod"), False),
        (requirement("NotIn", "prod", key="tier"), True),
        (requirement("Exists"), True),
        (requirement("Exists", key="tier"), False),
        (requirement("DoesNotExist"), False),
        (requirement("DoesNotExist", key="tier"), True),
        (
            ClusterSelector(
                match_labels={"env": "prod"}, match_expressions=[{"key": "zone", "operator": "In", "values": ["b"]}]
            ),
            False,
        ),
    ],
)
def test_selector_follows_kubernetes(selector, expected):
    assert matches(selector, LABELS) is expected


def test_an_unknown_operator_selects_nothing():
    odd = SelectorRequirement.model_construct(key="env", operator="Gt", values=["1"])
    assert not matches(ClusterSelector.model_construct(match_labels=None, match_expressions=[odd]), LABELS)


@given(
    labels=st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")),
    values=st.lists(st.sampled_from("xyz"), min_size=1),
)
def test_each_operator_and_its_opposite_split_all_clusters(labels, values):
    assert matches(requirement("In", *values, key="a"), labels) is not matches(
        requirement("NotIn", *values, key="a"), labels
    )
    assert matches(requirement("Exists", key="a"), labels) is not matches(requirement("DoesNotExist", key="a"), labels)
