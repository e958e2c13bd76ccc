"""`fleet-rollout uninstall`: take the service off a hub, with what it brought or without it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from fleet_rollout.decide.printable import printable
from fleet_rollout.errors import FleetRolloutError


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path, exists=True), help="kubeconfig of the hub")
@click.option("--namespace", help="only Applications of this namespace; of all when left out")
@click.option("--own-namespace", default="fleet-rollout-system", show_default=True, help="namespace of the Lease")
@click.option("--lease-name", default="fleet-rollout", show_default=True, help="name of the Lease")
@click.option("--keep-workloads", is_flag=True, help="leave everything in the members as it is, Canaries included")
@click.option("--controller-gone", is_flag=True, help="with --keep-workloads: there is no Lease any more")
@click.option("--timeout", default=300.0, show_default=True, help="seconds to wait for members to be pruned")
def uninstall(keep_workloads: bool, controller_gone: bool, timeout: float, **place: Any) -> None:
    """Delete every Application.

    With --keep-workloads the members are not touched: stop the controller first. Without it the controller has to
    run, since it prunes. CRDs, Fleets and AttachedClusters stay; `kubectl delete -k config/default` comes after.
    """
    from fleet_rollout.control.uninstall import Uninstall
    from fleet_rollout.settings import Settings

    task = Uninstall(Settings(**place), click.echo)
    try:
        asyncio.run(task.run(keep_workloads=keep_workloads, timeout=timeout, controller_gone=controller_gone))
    except FleetRolloutError as error:
        raise click.ClickException(printable(error.message)) from error
