"""Which program builds: kustomize, or kubectl with kustomize inside; how it is called, and what its complaints mean."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleet_rollout.confinement import Confinement
from fleet_rollout.errors import Terminal, Transient
from fleet_rollout.processes import Completed, OutputTooLarge, ProgramTimeout, run
from fleet_rollout.render.discretion import reduced
from fleet_rollout.render.documents import printable
from fleet_rollout.render.kustomization_file import failed
from fleet_rollout.render.ledger import overdue
from fleet_rollout.settings import Settings

VARIABLE = "FLEET_ROLLOUT_KUSTOMIZE"
Restriction = Literal["LoadRestrictionsRootOnly", "LoadRestrictionsNone"]

# Go's runtime says it in these words when the address space is used up; it has no exit code of its own.
OUT_OF_MEMORY = re.compile(r"out of memory|cannot allocate memory|failed to (?:create new OS thread|reserve)")
# kubectl's log line around the same words; its time would make every message a new one.
LOGGED = re.compile(r'^E\d{4} \S+\s+\d+ \S+\] "command failed" err=(?:"(.*)"|<)$')
TWICE = re.compile(r"already registered id: ([^.\s]+)\.\S*?/(\S+)\.([^.\s:']+)")
NOISE = re.compile(r"^(?:# Warning:|Warning:|\d{4}/\d\d/\d\d )")


@dataclass(frozen=True)
class Program:
    """`path` is an executable; `kubectl` says that it is kubectl, not kustomize itself."""

    path: Path
    kubectl: bool = False

    def build_command(self, folder: Path, restriction: Restriction) -> list[str | Path]:
        verb = "kustomize" if self.kubectl else "build"
        return [self.path, verb, f"--load-restrictor={restriction}", folder]

    async def version(self) -> str:
        """Such as `kustomize v5.8.2`, for `fleet-rollout version`."""
        arguments = ["version", "--client", "-o", "json"] if self.kubectl else ["version"]
        done = await run([self.path, *arguments], timeout=20)
        if done.returncode:
            return f"{self.path.name} (unknown version)"
        text = done.stdout.decode("utf-8", "replace").strip()
        if not self.kubectl:
            return f"kustomize {text}"
        return f"kustomize {json.loads(text).get('kustomizeVersion', 'of unknown version')} (in kubectl)"


def locate() -> Program:
    """The program to build with: FLEET_ROLLOUT_KUSTOMIZE, PATH, the cache folder; kustomize before kubectl."""
    given = os.environ.get(VARIABLE)
    if given:
        path = shutil.which(given)
        if path is None:
            raise Transient("BuildFailed", f"{VARIABLE} names {given}, which is no executable")
        return Program(Path(path), kubectl=Path(path).name.startswith("kubectl"))
    cache = _cache_folder()
    for name in ("kustomize", "kubectl"):
        path = shutil.which(name) or shutil.which(name, path=str(cache))
        if path is not None:
            return Program(Path(path), kubectl=name == "kubectl")
    raise Transient(
        "BuildFailed", f"no kustomize and no kubectl: looked at {VARIABLE}, PATH and {cache}: install kustomize 5"
    )


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fleet-rollout" / "bin"


async def build(
    program: Program,
    settings: Settings,
    root: Path,
    folder: str,
    restriction: Restriction,
    names: Collection[str] | None = None,
) -> bytes:
    """What the program prints for `folder` below `root`, where `root/tree` holds the files and `root/home` is HOME.

    With `names` (of the files) complaints are told without what may be content of a Secret.
    """
    tree = root / "tree"
    command = program.build_command(tree / folder, restriction)
    try:
        done = await run(
            command,
            timeout=settings.render_timeout,
            cwd=tree,
            env=_environment(root / "home", settings.allow_remote_bases),
            output_cap=settings.render_output,
            memory_cap=settings.render_memory,
            confinement=_confinement(settings, root, program),
        )
    except (ExceptionGroup, OutputTooLarge, ProgramTimeout, FileNotFoundError) as error:
        raise _unfinished(error, settings, program) from None
    if done.returncode:
        raise _complaint(done, settings, tree, names)
    return done.stdout


def _confinement(settings: Settings, root: Path, program: Program) -> Confinement | None:
    """Remote bases are fetched by kustomize itself, which then needs git, a network and a folder."""
    is_free = settings.allow_unconfined_builds or settings.allow_remote_bases
    return None if is_free else Confinement((root, program.path))


def _unfinished(error: Exception, settings: Settings, program: Program) -> Exception:
    if isinstance(error, ExceptionGroup):
        return _unfinished(error.exceptions[0], settings, program)
    if isinstance(error, ProgramTimeout):
        return overdue(settings.render_timeout)
    if isinstance(error, OutputTooLarge):
        return too_long(settings)
    if isinstance(error, FileNotFoundError):
        return Transient("BuildFailed", f"{program.path.name} is no longer where it was found: install kustomize 5")
    return error


def too_long(settings: Settings) -> Terminal:
    """The error of a build whose output, of all its portions together, is too large."""
    fact = f"prints more than {settings.render_output} bytes: split the policy, or raise --render-output"
    return failed("", fact, "BuildLimit")


def _environment(home: Path, remote: bool) -> dict[str, str]:
    """A HOME of its own. Without remote bases also no git, and a proxy that nothing listens on, as a second lock."""
    private = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "TMPDIR": str(home)}
    if remote:
        return private | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    nowhere = "http://127.0.0.1:9"
    return private | {"PATH": str(home), "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}


def _complaint(done: Completed, settings: Settings, tree: Path, names: Collection[str] | None) -> Terminal:
    if OUT_OF_MEMORY.search(done.stderr):
        fact = f"needs more than {settings.render_memory} bytes of memory: split the policy, or raise --render-memory"
        return failed("", fact, "BuildLimit")
    if done.returncode < 0:
        return failed("", f"kustomize was ended by signal {-done.returncode}", "BuildLimit")
    lines = [line for line in done.stderr.splitlines() if line.strip() and not NOISE.match(line)]
    if twin := TWICE.search(done.stderr):
        kind, name, namespace = twin.groups()
        parts = (kind, name) if namespace == "[noNs]" else (kind, namespace, name)
        return failed("", printable(f"{'/'.join(parts)} is there twice: remove one of the two manifests"))
    lines = [LOGGED.sub(r"\1", line) for line in lines if line != " >"]
    text = " ".join(lines).removeprefix("Error: ").replace(f"{tree}/", "").replace(str(tree), ".")
    if names is not None:
        text = reduced(text, names)
    return failed("", printable(text) or f"kustomize ended with code {done.returncode}")
