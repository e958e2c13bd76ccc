"""`fleet-rollout lab`: real API servers, a Git server and played Pods on this machine, to look around and to test."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from fleet_rollout.lab import binaries, builder, state
from fleet_rollout.lab.lab import Lab
from fleet_rollout.lab.programs import NEEDED, PROGRAMS
from fleet_rollout.lab.repository import Content, GitFailed
from fleet_rollout.lab.state import LabError, LabState

DEFAULT_NAME = "default"

lab_name = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the lab.")
member_count = click.option("--members", default=3, show_default=True, help="Number of member clusters.")


@click.group()
def lab() -> None:
    """Real API servers on this machine: a hub, members, a Git server."""


@lab.command()
@lab_name
@member_count
@click.option("--keep", is_flag=True, help="Return and leave the lab running; `down` ends it.")
@click.option("--audit", is_flag=True, help="Let the API servers write audit.log.")
def up(name: str, members: int, keep: bool, audit: bool) -> None:
    """Start a lab; it ends with Ctrl-C."""
    with _told():
        if state.is_alive(state.folder_of(name)):
            raise LabError(f"lab {name} is running already: `fleet-rollout lab status` shows it")
        if binaries.missing():
            builder.ensure()
        try:
            asyncio.run(_up(Lab(members, name=name, keep=keep, audit=audit), keep))
        except KeyboardInterrupt:
            click.echo(f"lab {name} has ended")


@lab.command()
@lab_name
def down(name: str) -> None:
    """End a lab and remove what it wrote."""

    async def end() -> None:
        await (await Lab(name=name, keep=True).attach()).down()

    with _told():
        asyncio.run(end())
        click.echo(f"lab {name} has ended")


@lab.command()
def status() -> None:
    """Show the labs that run."""
    with _told():
        found = state.running()
        if not found:
            click.echo("no lab is running")
        for recorded in found:
            asyncio.run(_show(recorded))


@lab.command()
@click.argument("cluster")
@lab_name
@click.option("--raw", is_flag=True, help="Print the content instead of the path.")
def kubeconfig(cluster: str, name: str, raw: bool) -> None:
    """Print where the administrator's kubeconfig of CLUSTER (hub, m1, ...) is."""
    with _told():
        recorded = _running(name)
        folders = {known.name: Path(known.folder) for known in recorded.clusters}
        if cluster not in folders:
            raise LabError(f"lab {name} has no cluster {cluster!r}: there are {', '.join(folders)}")
        path = folders[cluster] / "kubeconfig"
        click.echo(path.read_text() if raw else path)


@lab.command()
@click.argument("repository", required=False)
@click.option("--from", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Its files.")
@lab_name
def git(repository: str | None, folder: Path | None, name: str) -> None:
    """Print the Git server's URL; with REPOSITORY make that repository, or commit the files of --from to it.

    Repositories can be cloned from and pushed to by anybody on this machine.
    """
    with _told():
        _running(name)
        if repository is None:
            click.echo(_running(name).git)
        else:
            files = _files(folder) if folder else {}
            click.echo(asyncio.run(_commit(name, repository, files)))


@lab.command(name="binaries")
@click.argument("names", nargs=-1)
def binaries_command(names: tuple[str, ...]) -> None:
    """Find the lab's programs, download or build those that are missing."""
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(PROGRAMS)}")
    with _told():
        found = builder.ensure(names or NEEDED)
    width = max(len(name) for name in found)
    for name, at in found.items():
        click.echo(f"{name:{width}}  {at.source:17}  {at.path}")


@lab.command()
@member_count
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, to look around.")
@click.option(
    "--engine",
    type=click.Choice(["hub", "flagger"]),
    default="hub",
    show_default=True,
    help="What runs the canaries: this service from the hub, or Flagger in every member.",
)
def demo(members: int, keep: bool, engine: str) -> None:
    """Show three commits in every member: one promoted, one rolled back, one that fails in a single member."""
    with _told():
        if binaries.missing():
            builder.ensure()
        # Imported here: it needs the extra `lab`, which the other commands do without.
        run = importlib.import_module("fleet_rollout.lab.demo").run
        sys.exit(asyncio.run(run(members=members, keep=keep, engine=engine)))


async def _up(started: Lab, keep: bool) -> None:
    try:
        async with started:
            recorded = LabState.read(started.folder)
            assert recorded is not None
            await _show(recorded)
            if not keep:
                click.echo("Ctrl-C ends it")
                await asyncio.Event().wait()
    finally:
        if not keep:
            await state.wait_gone(started.folder)


async def _show(recorded: LabState) -> None:
    click.echo(f"lab {recorded.name} (process {recorded.pid})")
    click.echo(f"  git: {recorded.git}")
    attached = await Lab(name=recorded.name).attach()
    try:
        for cluster in attached.clusters.values():
            ready = "ready" if await cluster.api.is_ready() else "not ready"
            click.echo(f"  {cluster.name}: {ready}, {cluster.server}, kubeconfig {cluster.kubeconfig}")
    finally:
        await attached.close()


async def _commit(name: str, repository: str, files: Mapping[str, Content]) -> str:
    attached = await Lab(name=name).attach()
    try:
        known = attached.git.repository(repository)
        made = known if known.path.exists() else await attached.git.create(repository)
        if files:
            await made.commit(files, message="Files of a folder", replace=True)
        return made.url
    finally:
        await attached.close()


def _files(folder: Path) -> dict[str, Content]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if ".git" not in path.parts}


def _running(name: str) -> LabState:
    recorded = LabState.read(state.folder_of(name))
    if recorded is None:
        raise LabError(f"no lab {name!r} is running: `fleet-rollout lab up` starts one")
    return recorded


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong is told in a line, without a traceback."""
    try:
        yield
    except (LabError, GitFailed) as error:
        raise click.ClickException(str(error)) from None
