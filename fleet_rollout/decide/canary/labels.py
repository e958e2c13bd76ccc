"""The label by which a target's Pods are selected, and its value on the primary's Pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fleet_rollout.decide.canary.live import described
from fleet_rollout.decide.canary.objects import StepFailed


class Label(NamedTuple):
    key: str
    value: str


def selector_label(target: Mapping[str, Any], keys: Sequence[str]) -> Label:
    """The first of `keys` that the target's selector names; StepFailed where it names none."""
    found = target["spec"].get("selector", {}).get("matchLabels") or {}
    for key in keys:
        if key in found:
            return Label(key, found[key])
    raise StepFailed(f"{described(target)} spec.selector.matchLabels must contain one of [{' '.join(keys)}]")


def primary_value(value: str) -> str:
    """The label's value on the primary's Pods."""
    return f"{value}-primary"
