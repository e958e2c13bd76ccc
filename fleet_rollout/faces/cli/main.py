"""The `fleet-rollout` command: one file a sub-command beside this one."""

from __future__ import annotations

import importlib
from typing import ClassVar

import click


class LazyGroup(click.Group):
    """Imports a sub-command when it is used, so that `version` does not load the controller."""

    commands_by_module: ClassVar[dict[str, str]] = {
        "agent": "fleet_rollout.faces.cli.agent",
        "controller": "fleet_rollout.faces.cli.controller",
        "lab": "fleet_rollout.faces.cli.lab",
        "loadtester": "fleet_rollout.faces.cli.loadtester",
        "migrate": "fleet_rollout.faces.cli.migrate",
        "receiver": "fleet_rollout.faces.cli.receiver",
        "uninstall": "fleet_rollout.faces.cli.uninstall",
        "version": "fleet_rollout.faces.cli.version",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands_by_module)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self.commands_by_module.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command


@click.group(cls=LazyGroup)
def main() -> None:
    """Ship one Git commit to many Kubernetes clusters, each judging it with its own metrics."""
