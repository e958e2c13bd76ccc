"""`fleet-rollout loadtester`: answer the webhooks of Canaries with load and with gates, in a Pod or anywhere.

Flags only: Kubernetes itself sets variables such as FLEET_ROLLOUT_LOADTESTER_PORT, after the name of a Service.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from pathlib import Path
from typing import Any

import click

from fleet_rollout.decide.intervals import parse_duration
from fleet_rollout.loadtester.options import ALLOWED, EXTRA_TASKS, PORT, Options


class Duration(click.ParamType[float]):
    """Such as 30s, 5m or 1h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Expression(click.ParamType[re.Pattern[str]]):
    """A regular expression."""

    name = "regexp"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> re.Pattern[str]:
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(f"not a regular expression: {error}", param, ctx)


@click.command(context_settings={"show_default": True})
@click.option("--host", default="", help="address to listen on; all when left out")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, help="port to listen on")
@click.option("--timeout", type=Duration(), default="1h", help="longest time for one task")
@click.option("--namespace-regexp", type=Expression(), help="only Canaries of namespaces that it finds itself in")
@click.option("--allow", multiple=True, help=f"one more program for cmd tasks, beside {', '.join(ALLOWED)}")
@click.option("--allow-shell", is_flag=True, help="give cmd tasks to sh, and offer bash tasks")
@click.option(
    "--enable-task", "extra_tasks", multiple=True, type=click.Choice(EXTRA_TASKS), help="one more type of tasks"
)
@click.option(
    "--concord-keys",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="folder of API keys for concord tasks",
)
@click.option("--proxy", default="", help="HTTP proxy of the built-in load generator (host:port)")
@click.option("--max-tasks", default=Options.most_tasks, help="tasks at the same time")
@click.option("--persistence/--no-persistence", default=True, help="keep gates in a ConfigMap, or only in memory")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="of the ConfigMap's cluster; else the Pod's account"
)
@click.option("--namespace", help="of the ConfigMap; the Pod's own when left out")
@click.option("--config-map", default="loadtester-gates", help="name of the ConfigMap")
@click.option("--log-format", type=click.Choice(["json", "text"]), default="json")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def loadtester(**values: Any) -> None:
    """Answer the webhooks of Canaries until SIGTERM: load, gates and rollback switches, on Flagger's paths."""
    from fleet_rollout.control.loadtesting import Persistence
    from fleet_rollout.faces.telemetry import configure_logging

    configure_logging(values["log_format"], values["log_level"])
    options = Options(
        host=values["host"],
        port=values["port"],
        timeout=values["timeout"],
        namespaces=values["namespace_regexp"],
        allowed=frozenset((*ALLOWED, *values["allow"])),
        allow_shell=values["allow_shell"],
        extra_tasks=frozenset(values["extra_tasks"]),
        concord_keys=values["concord_keys"],
        proxy=values["proxy"],
        most_tasks=values["max_tasks"],
    )
    kept = Persistence(values["kubeconfig"], values["namespace"], values["config_map"])
    raise SystemExit(_serve(options, kept if values["persistence"] else None))


def _serve(options: Options, persistence: Any) -> int:
    import uvloop

    from fleet_rollout.control.loadtesting import run
    from fleet_rollout.errors import FleetRolloutError

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run(options, persistence, stop)

    try:
        uvloop.run(until_signal())
    except FleetRolloutError as error:
        logging.getLogger(__name__).error(error.message, extra={"reason": error.reason})
        return 1
    return 0
