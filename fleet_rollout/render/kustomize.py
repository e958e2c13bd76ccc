"""From an artifact and a policy to the objects to apply: built once per content and inputs, for all clusters.

Bad content ends in a Terminal error that names file, field and fix, and is remembered like a result.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import orjson

from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.measures import BUILD_DURATION
from fleet_rollout.render import program as programs
from fleet_rollout.render.cache import SingleFlight
from fleet_rollout.render.kustomization_file import NAMES, base, find, merge
from fleet_rollout.render.ledger import Ledger
from fleet_rollout.render.objects import Objects, compacted, parse, with_common_metadata
from fleet_rollout.render.overlay import Layout, lay_out
from fleet_rollout.render.scan import Scan
from fleet_rollout.render.tree import Tree, clamp
from fleet_rollout.settings import Settings
from fleet_rollout_api.kustomization import KustomizationSpec

P = ParamSpec("P")
T = TypeVar("T")

# The fields of a policy that change what is built; a change of any other needs no new build.
INPUTS = {
    *("path", "target_namespace", "name_prefix", "name_suffix", "patches", "images", "components"),
    "common_metadata",
}
# Rendered objects kept, as JSON. In memory they are some five times larger.
MOST_KEPT = 24 * 1024 * 1024
# The least that a value counts there: `[],` takes 80 bytes in memory, three as JSON.
VALUE_SIZE = 8


class Renderer:
    """Builds with the kustomize found on this machine, or with `program`, below `folder`; `close` when done.

    A killed process leaves its builds behind: `folder` is one that is emptied at the next start. What is held in
    memory is what `render_workers` builds take; the others wait for their turn.
    """

    def __init__(
        self, settings: Settings, program: programs.Program | None = None, *, folder: Path | None = None
    ) -> None:
        self._settings = settings
        self._program = program
        self._folder = folder
        self._turns = asyncio.Semaphore(settings.render_workers)
        self._slots = asyncio.Semaphore(settings.render_workers)
        self._threads = ThreadPoolExecutor(settings.render_workers, thread_name_prefix="render")
        self._builds: SingleFlight[Objects] = SingleFlight(MOST_KEPT)

    async def build(self, tree: Path, digest: str, spec: KustomizationSpec) -> Objects:
        """The objects of `spec` built from `tree`, whose content `digest` identifies. Shared: never change them."""
        key = f"{digest} {fingerprint(spec)}"
        return await self._builds.get(key, partial(self._build, tree, spec))

    async def version(self) -> str:
        """The program's version and where it was found, for `fleet-rollout version`."""
        program = self._located()
        return f"{await program.version()}, {program.path}"

    def close(self) -> None:
        """Give back the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _located(self) -> programs.Program:
        if self._program is None:
            self._program = programs.locate()
        return self._program

    async def _build(self, tree: Path, spec: KustomizationSpec) -> tuple[Objects, int]:
        started = time.monotonic()
        result = "failure"
        try:
            objects, size = await self._rendered(tree, spec)
            result = "success"
            return objects, size
        finally:
            BUILD_DURATION.labels(result=result).observe(time.monotonic() - started)

    async def _rendered(self, tree: Path, spec: KustomizationSpec) -> tuple[Objects, int]:
        private = tempfile.TemporaryDirectory(prefix="build-", dir=self._folder, ignore_cleanup_errors=True)
        with private as folder:
            root = Path(folder)
            async with self._turns:
                layout = await self._threaded(self._prepare, tree, spec, root)
                outputs = await self._run(layout, root)
                return await self._threaded(self._finish, outputs, spec)

    async def _threaded(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """`work` in a thread; waits for it even when cancelled: a thread must not write into a folder that is gone."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments, **named))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise

    def _prepare(self, tree: Path, spec: KustomizationSpec, root: Path) -> Layout:
        ledger = Ledger(self._settings.render_timeout)
        return prepare(Tree(tree), spec, root, ledger, allow_remote=self._settings.allow_remote_bases)

    def _finish(self, outputs: list[bytes], spec: KustomizationSpec) -> tuple[Objects, int]:
        ledger = Ledger(self._settings.render_timeout)
        objects = with_common_metadata(parse(outputs, ledger), spec.common_metadata)
        ledger.tick()
        kept, size = compacted(objects)
        return kept, max(size, ledger.values * VALUE_SIZE)

    async def _run(self, layout: Layout, root: Path) -> list[bytes]:
        printed = 0

        async def portion(folder: str) -> bytes:
            nonlocal printed
            output = await self._portion(layout, root, folder)
            printed += len(output)
            if printed > self._settings.render_output:
                raise programs.too_long(self._settings)
            return output

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(portion(each)) for each in layout.folders]
        except ExceptionGroup as errors:
            raise _first(errors) from None
        return [task.result() for task in tasks]

    async def _portion(self, layout: Layout, root: Path, folder: str) -> bytes:
        async with self._slots:
            return await programs.build(self._located(), self._settings, root, folder, layout.restriction, layout.names)


def fingerprint(spec: KustomizationSpec) -> str:
    """A hash of the fields that change what is built."""
    inputs = spec.model_dump(mode="json", by_alias=True, exclude_none=True, include=INPUTS)
    return hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()


def prepare(
    tree: Tree, spec: KustomizationSpec, root: Path, ledger: Ledger | None = None, *, allow_remote: bool = False
) -> Layout:
    """Find the folder, make its kustomization, scan all it reads, and lay that out below `root`."""
    ledger = ledger or Ledger()
    folder = _folder(tree, spec.path or "")
    kustomization = base(tree, folder, ledger)
    if kustomization is None and not spec.components:
        return Layout([], "LoadRestrictionsRootOnly")
    file = find(tree, folder) or f"{folder}/{NAMES[0]}".lstrip("/")
    scan = Scan(tree, allow_remote, ledger)
    scan.visit(folder, merge(kustomization or {}, spec), file)
    return lay_out(scan, folder, root)


def _folder(tree: Tree, path: str) -> str:
    folder = clamp(path)
    kind = tree.kind(folder)
    if kind == "link":
        raise Terminal(
            "PathEscape", f"kustomization path leads through a symbolic link: {path}: name the folder itself"
        )
    if kind is None:
        raise Transient("ArtifactFailed", f"kustomization path not found: stat {path}: no such file or directory")
    if kind != "folder":
        raise Transient("ArtifactFailed", f"kustomization path is no folder: {path}: name the folder that holds it")
    return folder


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to report for several portions: the first one."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
