"""`fleet-rollout version`: this program and those it runs."""

from __future__ import annotations

import asyncio
import importlib.metadata

import click

from fleet_rollout import processes
from fleet_rollout.errors import FleetRolloutError
from fleet_rollout.render.kustomize import Renderer
from fleet_rollout.settings import Settings


@click.command()
def version() -> None:
    """Print the versions of this program, of git and of kustomize (or kubectl in its stead), and where it lies."""
    asyncio.run(_print())


async def _print() -> None:
    click.echo(f"fleet-rollout {importlib.metadata.version('fleet-rollout')}")
    click.echo(await _git())
    click.echo(await _kustomize())
    click.echo(f"builds: {'; '.join(processes.confinement_gaps()) or 'confined to their files, without network'}")


async def _git() -> str:
    try:
        done = await processes.run(["git", "--version"], timeout=10)
    except FileNotFoundError:
        return "git: not found on the PATH; install it"
    return done.stdout.decode().strip()


async def _kustomize() -> str:
    renderer = Renderer(Settings())
    try:
        return await renderer.version()
    except FleetRolloutError as error:
        return f"kustomize: {error.message}"
    finally:
        renderer.close()
