"""ClusterSyncs, source and plan folded into an Application's status: Kurator's shape, conditions, counts.

Equal input gives an equal status, so that nothing is written when nothing changed. The status stays below its limit
by leaving out what the ClusterSyncs hold anyway; rows that need attention are the last to go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from fleet_rollout.decide import conditions as conds
from fleet_rollout.decide.engines import conflict_message
from fleet_rollout.decide.plan import SyncPlan
from fleet_rollout.decide.problems import Problem
from fleet_rollout.decide.rollout_phase import Verdict
from fleet_rollout.decide.rows import HAND_OVER, ROLLOUT_FAILED, RowState, Standing, compact, row_states, written
from fleet_rollout.decide.summary import places, sentence, summary
from fleet_rollout_api.application import Application
from fleet_rollout_api.cluster_sync import ClusterSync
from fleet_rollout_api.meta import Condition

Status = dict[str, Any]

# Bytes that an inventory entry takes at least: enough to see that all of them would not fit without writing them.
ENTRY_BYTES = 40
# Room for conditions (their messages are cut) and counts beside the rows.
RESERVED = 4096
FETCHING = Standing("Unknown", "Progressing", "the source is being fetched")
FAILED_VERDICTS = (Verdict.FAILED,)


@dataclass(frozen=True)
class _Whole:
    """All that conditions are decided from."""

    application: Application
    source: Mapping[str, Any] | None
    plan: SyncPlan
    rows: Sequence[RowState]

    @property
    def revision(self) -> str | None:
        artifact = (self.source or {}).get("artifact") or {}
        return artifact.get("revision")


def application_status(
    application: Application,
    *,
    source: Mapping[str, Any] | None,
    syncs: Sequence[ClusterSync],
    plan: SyncPlan | None,
    previous: Mapping[str, Any] | None,
    now: datetime,
    max_bytes: int,
) -> Status:
    """The whole status. `source` is the Git source's status in Flux's shape; None before it was looked at.

    Without a plan the rows are those of `syncs`, and the Application is not ready.
    """
    plan = plan if plan is not None else SyncPlan(complete=False)
    digest = ((source or {}).get("artifact") or {}).get("digest")
    whole = _Whole(application, source, plan, row_states(plan, syncs, digest))
    generation = application.metadata.generation
    status: Status = {
        "observedGeneration": generation,
        "conditions": _conditions(whole, previous, now),
        "revision": whole.revision,
        "lastHandledReconcileAt": (source or {}).get("lastHandledReconcileAt"),
        "sourceStatus": {"gitRepoStatus": dict(source)} if source else None,
    }
    status = {key: value for key, value in status.items() if value is not None}
    size = len(json.dumps(status)) + RESERVED
    rows, omitted = _fitting(whole.rows, max_bytes - size)
    return status | {"summary": summary(whole.rows, omitted), "syncStatus": rows}


def invalid_status(
    previous: Mapping[str, Any] | None, reason: str, message: str, *, generation: int, now: datetime
) -> Status:
    """The status of an object that cannot be read: what is known stays, and the fault is shown."""
    found = _known(previous)
    verdict = Standing("False", reason, message, stalled=True)
    return {**(previous or {}), "observedGeneration": generation} | {
        "conditions": _set(found, {conds.READY: verdict, **_pair(verdict)}, now, generation)
    }


def _conditions(whole: _Whole, previous: Mapping[str, Any] | None, now: datetime) -> list[dict[str, Any]]:
    ready = _ready(whole)
    wanted = {
        conds.READY: ready,
        **_pair(ready),
        conds.SOURCE_READY: _source_ready(whole),
        conds.ROLLOUT_HEALTHY: _rollout_healthy(whole.rows),
    }
    found = _known(previous)
    for type_, standing in _warnings(whole).items():
        if standing is None:
            found = conds.remove(found, type_)
        else:
            wanted[type_] = standing
    return _set(found, wanted, now, whole.application.metadata.generation)


def _set(
    found: list[Condition], wanted: Mapping[str, Standing], now: datetime, generation: int
) -> list[dict[str, Any]]:
    for type_, standing in wanted.items():
        found = conds.set_condition(
            found, type_, standing.ready, standing.reason, standing.message, now=now, generation=generation
        )
    return [condition.dump() for condition in found]


def _known(previous: Mapping[str, Any] | None) -> list[Condition]:
    """What is no condition is left out, and so replaced: one odd status must not stay for ever (trust row 43)."""
    conditions = (previous or {}).get("conditions")
    found = []
    for each in conditions if isinstance(conditions, list) else ():
        with suppress(ValidationError):
            found.append(Condition.model_validate(each))
    return found


def _pair(ready: Standing) -> dict[str, Standing]:
    """Reconciling and Stalled, which kstatus and every tool on it read: at most one of them is True."""
    if ready.ready == "True":
        doing, stuck = Standing("False", ready.reason), Standing("False", ready.reason)
    elif ready.stalled:
        doing, stuck = Standing("False", ready.reason), Standing("True", ready.reason, ready.message)
    else:
        retry = "ProgressingWithRetry" if ready.ready == "False" else "Progressing"
        doing, stuck = Standing("True", retry, ready.message), Standing("False", retry)
    return {conds.RECONCILING: doing, conds.STALLED: stuck}


def _ready(whole: _Whole) -> Standing:
    """The first rule that speaks, in this order."""
    for rule in (_deleting, _refused, _without_content, _unfinished, _rolled_back, _hindered, _failed):
        found = rule(whole)
        if found is not None:
            return found
    counted = [row for row in whole.rows if not row.leaving]
    if not counted:
        return Standing("True", "NoClusters", "no policy leads to a cluster")
    clusters = len({row.place for row in counted})
    return Standing("True", "ReconciliationSucceeded", f"Applied revision: {whole.revision}; clusters: {clusters}")


def _deleting(whole: _Whole) -> Standing | None:
    if whole.application.metadata.deletion_timestamp is None:
        return None
    left = [row for row in whole.rows if row.sync is not None]
    return Standing("Unknown", "Deleting", f"to be cleaned up: {sentence(left)}" if left else "")


def _refused(whole: _Whole) -> Standing | None:
    """Problems that only an edit can end, and that are about more than one member."""
    found = [problem for problem in whole.plan.problems if problem.terminal and not problem.spares_others]
    if not found:
        return None
    rolled_back = [row for row in whole.rows if row.verdict in FAILED_VERDICTS]
    return Standing("False", found[0].reason, _joined(*_messages(found), sentence(rolled_back)), stalled=True)


def _without_content(whole: _Whole) -> Standing | None:
    """The source cannot say what is wanted now: never yet, or not since the last edit."""
    source = whole.source or {}
    ready, stalled = _source_conditions(source)
    if ready is None or ready.status != "False":
        return None if source.get("artifact") and not _is_older(whole) else FETCHING
    if source.get("artifact") and not stalled and not _is_older(whole):
        return None  # the host is away for a while; what it had is still what is wanted
    return Standing("False", ready.reason, ready.message, stalled)


def _is_older(whole: _Whole) -> bool:
    """Whether the source was edited since it was looked at."""
    return int((whole.source or {}).get("observedGeneration", -1)) < whole.application.metadata.generation


def _unfinished(whole: _Whole) -> Standing | None:
    found = [row for row in whole.rows if row.standing.ready == "Unknown"]
    if whole.plan.problems or any(row.standing.ready == "False" for row in whole.rows):
        found = [row for row in found if row.standing.reason != HAND_OVER]  # it waits for what has failed or is missing
    if found:
        return Standing("Unknown", "Progressing", _joined(sentence(found), *_messages(whole.plan.problems)))
    if not whole.plan.complete:
        return Standing("Unknown", "Progressing", "not everything has been read yet")
    return None


def _rolled_back(whole: _Whole) -> Standing | None:
    """Where a new version was given up, that is the news; problems of the plan are told after it."""
    rolled_back = [row for row in whole.rows if row.verdict in FAILED_VERDICTS]
    if not rolled_back:
        return None
    found, problems = _failing(whole), whole.plan.problems
    message = _joined(f"{places(rolled_back)}: {sentence(found)}", *_messages(problems))
    stalled = all(row.standing.stalled for row in found) and all(problem.terminal for problem in problems)
    return Standing("False", ROLLOUT_FAILED, message, stalled)


def _hindered(whole: _Whole) -> Standing | None:
    """Problems of the plan: those of single members that need an edit first, then those that may end by themselves."""
    found = sorted(whole.plan.problems, key=lambda problem: not problem.terminal)
    return Standing("False", found[0].reason, _joined(*_messages(found)), found[0].terminal) if found else None


def _failed(whole: _Whole) -> Standing | None:
    found = _failing(whole)
    if not found:
        return None
    reasons = {row.standing.reason for row in found}
    reason = reasons.pop() if len(reasons) == 1 else "ClustersNotReady"
    return Standing("False", reason, sentence(found), all(row.standing.stalled for row in found))


def _failing(whole: _Whole) -> list[RowState]:
    return [row for row in whole.rows if row.standing.ready == "False"]


def _messages(problems: Sequence[Problem]) -> list[str]:
    return list(dict.fromkeys(problem.message for problem in problems))


def _joined(*sentences: str) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)


def _source_conditions(source: Mapping[str, Any]) -> tuple[Condition | None, bool]:
    found = _known(source)
    return conds.get(found, conds.READY), conds.is_true(found, conds.STALLED)


def _source_ready(whole: _Whole) -> Standing:
    spec = whole.application.spec.source
    if spec.git_repository is None:
        found = next(
            (each for each in whole.plan.problems if each.reason == "NotSupportedYet" and not each.policy), None
        )
        return Standing("False", "NotSupportedYet", found.message if found else "only gitRepository is carried out yet")
    ready, _ = _source_conditions(whole.source or {})
    if ready is None or (ready.status == "True" and _is_older(whole)):
        return FETCHING
    return Standing(ready.status, ready.reason, ready.message)


def _rollout_healthy(rows: Sequence[RowState]) -> Standing:
    rollouts = [row for row in rows if row.verdict is not None]
    if not rollouts:
        return Standing("True", "NoRollouts")
    failed = [row for row in rollouts if row.verdict in FAILED_VERDICTS]
    if failed:
        return Standing("False", ROLLOUT_FAILED, sentence(failed))
    hindered = [row for row in rollouts if row.standing.ready == "False"]
    if hindered:
        return Standing("False", hindered[0].standing.reason, sentence(hindered))
    unfinished = [row for row in rollouts if row.verdict is not Verdict.SUCCEEDED]
    if unfinished:
        return Standing("Unknown", "RolloutProgressing", f"unfinished in {places(unfinished)}")
    return Standing("True", "RolloutSucceeded")


def _warnings(whole: _Whole) -> dict[str, Standing | None]:
    """What holds up nothing and is there only while it is so."""
    return {conds.ENGINE_MISSING: _engine_missing(whole), conds.ENGINE_CONFLICT: _engine_conflict(whole)}


def _engine_missing(whole: _Whole) -> Standing | None:
    """Where a Fleet wants Flagger to be installed and nothing in the member acts on the Canary."""
    fleets = whole.plan.uninstalled
    missing = [
        row
        for row in whole.rows
        if (row.policy, row.cluster) in fleets and row.verdict is not None and row.engine_says is None
    ]
    if not missing:
        return None
    named = ", ".join(dict.fromkeys(fleets[row.policy, row.cluster] for row in missing))
    message = f"{named} spec.plugin.flagger is not carried out yet; install Flagger by hand in {places(missing)}"
    return Standing("True", "NotSupportedYet", message)


def _engine_conflict(whole: _Whole) -> Standing | None:
    conflicts = whole.plan.conflicts
    return Standing("True", "FleetsDisagree", conflict_message(conflicts)) if conflicts else None


def _fitting(rows: Sequence[RowState], room: int) -> tuple[list[Status], int]:
    """The rows as far as they fit, and how many are left out: first inventories go, then details, then whole rows."""
    entries = sum(len(row.sync.status.inventory.entries) for row in rows if row.sync and row.sync.status.inventory)
    for inventories in (True, False) if entries * ENTRY_BYTES <= room else (False,):
        found = [written(row, with_inventory=inventories) for row in rows]
        if len(json.dumps(found)) <= room:
            return found, 0
    return _chosen(rows, room)


def _chosen(rows: Sequence[RowState], room: int) -> tuple[list[Status], int]:
    """Compact rows in their order; where they do not fit, those that are as wanted are left out first."""
    short = [compact(row) for row in rows]
    chosen: set[int] = set()
    for index in sorted(range(len(rows)), key=lambda at: (rows[at].standing.ready == "True", at)):
        room -= len(json.dumps(short[index])) + 2
        if room < 0:
            break
        chosen.add(index)
    return [short[index] for index in sorted(chosen)], len(rows) - len(chosen)
