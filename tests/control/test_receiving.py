"""What the receiver's log says of Secrets that it may not read."""

from __future__ import annotations

from fleet_rollout.control.receiving import MOST_TOLD, TOLD_ANEW, Receiving
from fleet_rollout.kube.errors import ApiError
from fleet_rollout.settings import Settings


class Forbidding:
    """A hub that lets nobody read a Secret."""

    async def get(self, *_: object) -> None:
        raise ApiError(403, "Forbidden", "no")


async def test_each_secret_is_told_once_an_hour_and_strangers_cannot_fill_the_log(caplog):
    now = 1000.0
    endpoint = Receiving(Forbidding(), Settings(), clock=lambda: now)
    for number in (0, 0, *range(MOST_TOLD + 50)):
        assert await endpoint._read_secret("apps", f"s{number}") is None
    assert [record.args[1] for record in caplog.records] == [f"s{number}" for number in range(MOST_TOLD)]

    caplog.clear()
    now += TOLD_ANEW + 1
    await endpoint._read_secret("apps", "late")
    assert [record.args[1] for record in caplog.records] == ["late"]
