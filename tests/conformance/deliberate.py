"""Where our engine differs from Flagger on purpose, scenario by scenario. Everything else has to be equal.

Where a scenario has a trace of our own, it is that trace which counts from the first tick on that differs from
Flagger's. The rest is here: one row a difference, with the quirk's number, the ticks and the parts of the record.
A row whose difference is not found is stale and fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import BY_NAME

WHY = {
    "Q1": "a revision that appears while a Canary is Failed and cannot start at once is not forgotten",
    "Q2": "a broken primary delays a new revision instead of failing it",
    "Q3": "after a failed promotion the next revision gets no traffic before its analysis",
    "Q4": "the readiness of the canary does not matter any more once it is promoted",
    "Q5": "the return to the promoted revision ends an analysis, and a wait",
    "Q6": "a promotion whose traffic is back already goes on",
    "Q7": "a wish to mirror that the router cannot fulfil is told and passed over",
    "Q8": "weights that do not rise are refused; a weight that is not in the list goes on to the next larger one",
    "Q9": "fewer iterations than were counted promote by the normal switch",
    "Q10": "a refused promotion never goes back to iteration 0",
    "Q11": "rollback hooks are asked while waiting as well",
    "Q12": "a primary that gets stuck at first stays Initializing until it recovers",
    "Q13": "a template without interval has one of a minute",
    "Q14": "an alert without severity is one of info",
    "Q15": "every 2xx answer of a hook is a success",
    "Q16": "nothing is written where nothing has changed",
    "Q17": "a promoted Service stays the Canary's",
    "Q21": "after a failed promotion the promoted revision is the one that the primary has",
    "2.13": "weights survive changes of metadata",
    "alert": "a rollback for want of readiness is told by an alert",
    "clusterIPs": "a Service target may have an address of the cluster: both fields of it are left out of copies",
}
# No scenario shows these; tests/decide/canary has their tests.
WITHOUT_SCENARIO = {
    "Q18": "binaryData and immutable of ConfigMaps",
    "Q19": "labels of the primary's scaler follow the target's, where an option has them copied",
    "Q20": "a ScaledObject's pause is not copied",
    "Q22": "what arrives during a promotion that fails gets no traffic, and stays a new revision",
    "Q23": "A/B testing where the router cannot tell requests apart is blue/green",
    "Q24": "a missing config ends no analysis, and stops no rollback",
}


@dataclass(frozen=True)
class Difference:
    """`parts` of the record differ in each of these ticks of these scenarios."""

    quirk: str
    scenarios: tuple[str, ...]
    ticks: tuple[int, ...]
    parts: tuple[str, ...]


DIFFERENCES = (
    # A Failed Canary keeps the failed revision for the last one that was acted upon; checksums tell of it.
    Difference("Q1", ("S34",), (8,), ("status",)),
    Difference("Q1", ("S9", "S35"), (9,), ("event_payloads",)),
    Difference("Q1", ("Q5-failed",), (8, 9), ("status",)),
    Difference("Q1", ("Q5-failed",), (8, 10), ("event_payloads",)),
    Difference("Q1", ("Q5-failed",), (8, 9, 10), ("hooks",)),
    Difference("alert", ("S29", "S29-deadline", "S32"), (6,), ("alerts",)),
    Difference("Q12", ("S49",), (2,), ("events", "event_payloads")),
    Difference("Q13", ("S54",), (5, 6), ("queries",)),
    Difference("Q14", ("Q14",), (2, 3, 9), ("alerts",)),
    Difference("Q17", ("S57",), (7, 8, 9), ("objects",)),
    Difference("Q21", ("S30",), (8, 9), ("status",)),
)


def allowed(scenario: Scenario, tick: int) -> dict[str, str]:
    """Parts of the record that may differ then, and the quirk that says so."""
    return {
        part: row.quirk
        for row in DIFFERENCES
        if scenario.name in row.scenarios and tick in row.ticks
        for part in row.parts
    }


def parting(scenario: Scenario) -> int:
    """The first tick from which on only our own trace counts; beyond the last where there is none."""
    if not scenario.own:
        return scenario.last + 1
    pairs = zip(scenario.expected_steps, scenario.own_steps, strict=False)
    return next((scenario.first + i for i, (one, other) in enumerate(pairs) if one != other), scenario.last + 1)


def quirks_without_reason() -> set[str]:
    """Quirks that a scenario names and this page does not explain, and the other way round."""
    named = {quirk for scenario in BY_NAME.values() for quirk in scenario.quirks}
    return named ^ WHY.keys()
