"""Whom an engine alerts where a Canary names nobody: what the Fleet says, with its Secret on the hub."""

from __future__ import annotations

from fleet_rollout.control.engine.outside import Default
from fleet_rollout.control.world import SECRETS
from fleet_rollout.decide.canary.alerts import Destination, Unsendable, destination
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.kube.client import Cluster
from fleet_rollout.kube.errors import ApiError, Unreachable
from fleet_rollout.notify.recipients import secret_data
from fleet_rollout_api.fleet import Notifier


def default_notifier(hub: Cluster, namespace: str, notifier: Notifier) -> Default:
    """What `rolloutEngine.alerts` of a Fleet in `namespace` says; its Secret is read at delivery."""

    async def find() -> Destination:
        if notifier.secret_ref is None:
            return destination(notifier.dump())
        try:
            found = await hub.get(SECRETS, notifier.secret_ref.name, namespace)
        except (ApiError, Unreachable, FleetRolloutError) as error:
            raise Unsendable(error.message) from error
        return destination(notifier.dump(), secret_data(found))

    return Default(find, notifier.severity)
