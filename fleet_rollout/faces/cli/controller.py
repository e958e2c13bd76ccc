"""`fleet-rollout controller`: run the service, in the cluster or anywhere with `--kubeconfig FILE`.

Every field of Settings is a flag and an environment variable; nothing is listed twice.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any

import click

from fleet_rollout.settings import Settings

ENVIRONMENT_PREFIX = "FLEET_ROLLOUT"


def _type_of(annotation: Any) -> Any:
    """The click type of a field: `X | None` is X, a tuple of texts is an option that may be repeated."""
    if typing.get_origin(annotation) is tuple:
        return str
    if isinstance(annotation, UnionType):
        annotation = next(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return click.Path(path_type=Path) if annotation is Path else annotation


def settings_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add one option a field of Settings, in the order of the file."""
    types = typing.get_type_hints(Settings)
    for field in reversed(dataclasses.fields(Settings)):
        kind = _type_of(types[field.name])
        flag = f"--{field.name.replace('_', '-')}"
        function = click.option(
            f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
            field.name,
            type=kind,
            default=field.default,
            multiple=typing.get_origin(types[field.name]) is tuple,
            show_default=True,
            show_envvar=True,
            envvar=f"{ENVIRONMENT_PREFIX}_{field.name.upper()}",
            help=field.metadata["help"],
        )(function)
    return function


@click.command()
@settings_options
def controller(**values: Any) -> None:
    """Run the service until SIGTERM."""
    from fleet_rollout.faces.service import serve

    raise SystemExit(serve(Settings(**values)))
