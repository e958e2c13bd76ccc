"""`fleet-rollout receiver`: the service's doors as a process of its own; the controller then has none."""

from __future__ import annotations

from typing import Any

import click

from fleet_rollout.faces.cli.controller import settings_options

SHARED = (
    "kubeconfig",
    "namespace",
    "own_namespace",
    "data_dir",
    "artifact_address",
    "receiver_address",
    "telemetry_address",
    "lease_name",
    "lease_renew_deadline",
    "lease_retry",
    "shutdown_timeout",
    "log_format",
    "log_level",
)
HELPS = {
    "namespace": "only hooks and artifacts of this namespace; all when left out",
    "own_namespace": "namespace of the controller's Lease, which says who has the artifacts",
    "lease_name": "name of the controller's Lease",
    "lease_retry": "between looks at the Lease",
    "lease_renew_deadline": "twice what one look at the Lease may take",
}


@click.command()
@settings_options(SHARED, HELPS)
def receiver(**values: Any) -> None:
    """Receive announcements of pushes and serve artifacts until SIGTERM; several may run."""
    from fleet_rollout.control.receiving import ReceiverHealth, run
    from fleet_rollout.faces.service import serve
    from fleet_rollout.settings import Settings

    settings, health = Settings(**values), ReceiverHealth()
    raise SystemExit(serve(settings, health, lambda stop: run(settings, health, stop)))
