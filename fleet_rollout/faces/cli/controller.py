"""`fleet-rollout controller`: run the service, in the cluster or anywhere with `--kubeconfig FILE`.

Every field of Settings is a flag and an environment variable; nothing is listed twice.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

import click

from fleet_rollout.settings import Settings

ENVIRONMENT_PREFIX = "FLEET_ROLLOUT"


class Duration(click.FloatRange):
    """Seconds, or a share: finite and not negative."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return seconds


def _type_of(annotation: Any, choices: Sequence[str]) -> Any:
    """The click type of a field: `X | None` is X, a tuple of texts is an option that may be repeated."""
    if choices:
        return click.Choice(choices, case_sensitive=False)
    if annotation is int:
        return click.IntRange(min=1)
    if annotation is float:
        return Duration(min=0)
    if typing.get_origin(annotation) is tuple:
        return str
    if isinstance(annotation, UnionType):
        annotation = next(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return click.Path(path_type=Path) if annotation is Path else annotation


def settings_options(
    only: Collection[str] | None = None, helps: Mapping[str, str] | None = None, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds one option a field of Settings (those named in `only`), in the order of the file."""
    types = typing.get_type_hints(Settings)

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for field in reversed(dataclasses.fields(Settings)):
            if only is not None and field.name not in only:
                continue
            kind = _type_of(types[field.name], field.metadata["choices"])
            flag = f"--{field.name.replace('_', '-')}"
            function = click.option(
                f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
                field.name,
                type=kind,
                default=defaults.get(field.name, field.default),
                multiple=typing.get_origin(types[field.name]) is tuple,
                show_default=True,
                show_envvar=True,
                envvar=f"{ENVIRONMENT_PREFIX}_{field.name.upper()}",
                help=(helps or {}).get(field.name, field.metadata["help"]),
            )(function)
        return function

    return add


def check_lease(settings: Settings) -> None:
    """Two replicas would lead at once, or none for long: refused, by the names of the flags."""
    retry, deadline, duration = settings.lease_retry, settings.lease_renew_deadline, settings.lease_seconds
    if deadline >= duration:
        raise click.UsageError(f"--lease-renew-deadline ({deadline:g}) must be less than --lease-duration ({duration})")
    if retry >= deadline:
        raise click.UsageError(f"--lease-retry ({retry:g}) must be less than --lease-renew-deadline ({deadline:g})")


@click.command()
@settings_options()
def controller(**values: Any) -> None:
    """Run the service until SIGTERM."""
    from fleet_rollout.control.run import Health, run
    from fleet_rollout.faces.service import serve

    settings, health = Settings(**values), Health()
    check_lease(settings)
    raise SystemExit(serve(settings, health, lambda stop: run(settings, health=health, stop=stop)))
