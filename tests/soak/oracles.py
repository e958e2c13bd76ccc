"""What must hold at the end of a soak, whatever happened in it, as the rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.faults.rules import Asked
from tests.soak.scene import Object, Scene
from tests.stories.oracles import HUB, is_carried_out, is_guarded, is_status, status_of
from tests.stories.scenario import entry_id, inventory

MOST_SHOWN = 3


class Row(NamedTuple):
    """One thing that must hold."""

    what: str
    holds: bool
    words: str


async def judge(scene: Scene) -> list[Row]:
    """Every oracle. Ends by deleting all Applications, which must leave nothing."""
    rows = [Row("acts", True, ", ".join(f"{count} x {name}" for name, count in sorted(scene.counted.items())))]
    rows.append(nothing("every Application is Ready at its last commit", await scene.unfinished()))
    rows.append(nothing("every Application that was replaced went first", scene.stuck))
    wanted = {name: value for values in scene.wanted.values() for name, value in values.items()}
    for member in scene.members:
        live = await scene.live(member)
        differing = [name for name in wanted.keys() | live.keys() if wanted.get(name) != live.get(name)]
        rows.append(nothing(f"{member} holds what Git says ({len(wanted)} objects)", differing))
        unrecorded = live.keys() ^ await scene.recorded(member)
        rows.append(nothing(f"{member}'s inventories are what is there", sorted(unrecorded)))
    rows.append(nothing("every delete names what was looked at", unguarded(scene.faults.writes)))
    rows.append(nothing("everything was on record before it was applied", before_the_inventory(scene.faults.writes)))
    rows.append(nothing("no error of the service's own in its log", mistakes(scene.words())))
    rows += [Row(f"controller: {name}", holds, words) for name, words, holds in scene.gauges.rows()]
    rows.append(nothing("deleted Applications go", await scene.remove_all()))
    for member in scene.members:
        rows.append(nothing(f"{member} holds nothing after that", sorted(await scene.live(member))))
    rows.append(nothing("no orphan is recorded", await scene.orphan_records()))
    return rows


def nothing(what: str, found: list[str]) -> Row:
    """A row that holds where nothing was found."""
    shown = ", ".join(found[:MOST_SHOWN])
    return Row(what, not found, f"{len(found)}: {shown}" if found else "")


def unguarded(writes: Iterable[Asked]) -> list[str]:
    """Deletes without UID, or in members without version, of what they are meant for."""
    return [str(asked.key) for asked in writes if asked.key.verb == "delete" and not is_guarded(asked)]


def before_the_inventory(writes: Iterable[Asked]) -> list[str]:
    """Objects that were sent to a member while no inventory named them."""
    recorded: dict[str, set[str]] = {}

    def is_recorded(asked: Asked) -> bool:
        return any(entry_id(asked.body) in ids for ids in recorded.values())

    found = []
    for asked in writes:
        if is_status(asked) and is_carried_out(asked):
            recorded[asked.key.name] = {entry["id"] for entry in inventory({"status": status_of(asked)})}
        elif asked.key.verb == "apply" and asked.key.cluster != HUB and not is_recorded(asked):
            found.append(str(asked.key))
    return found


def mistakes(words: Iterable[Object]) -> list[str]:
    """Tracebacks and "internal error": a fault from outside may never look like one of ours."""
    found = [word for word in words if word["level"] == "ERROR" or "internal error" in word["message"]]
    return [" ".join([word["message"], *word.get("exception", "").splitlines()[-1:]]) for word in found]
