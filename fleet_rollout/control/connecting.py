"""How a process of ours finds the hub."""

from __future__ import annotations

from fleet_rollout.kube.access import connection_from_file, in_cluster
from fleet_rollout.kube.client import Connection
from fleet_rollout.settings import Settings


def connect(settings: Settings) -> Connection:
    """The way to the hub: a kubeconfig file, else the Pod's service account."""
    return connection_from_file(settings.kubeconfig) if settings.kubeconfig else in_cluster()
