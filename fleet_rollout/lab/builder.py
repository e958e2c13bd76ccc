"""Gets the programs that are nowhere on the machine: the official release where it can be reached, else a build.

What it gets goes into the user's cache, whole or not at all, and once however many processes ask for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fleet_rollout.lab import binaries, golang
from fleet_rollout.lab.binaries import Found
from fleet_rollout.lab.programs import NEEDED, OLDEST_GO, PROGRAMS, ProgramFile, Release
from fleet_rollout.lab.state import LabError

# The sums come first: where their host does not answer soon, nothing else is tried.
CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 60.0
CHUNK = 1024 * 1024

Report = Callable[[str], None]


class NotAvailable(Exception):
    """The official release cannot be used; the message says why."""


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def ensure(names: Sequence[str] = NEEDED, report: Report = to_stderr) -> dict[str, Found]:
    """Find, download or build every program of `names`. Raises LabError naming the first that cannot be had."""
    found: dict[str, Found] = {}
    for name in names:
        at = binaries.locate(name) or get(PROGRAMS[name], report)
        report(f"{name}: {at.path} ({at.source})")
        found[name] = at
    return found


def get(program: ProgramFile, report: Report) -> Found:
    """Put one program into the cache."""
    target = binaries.cached(program)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _turn(program, report):
        if os.access(target, os.X_OK):  # another process was faster
            return Found(target, "cache")
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as scratch:
            new = Path(scratch) / program.name
            source = _download_or_build(program, new, report)
            new.chmod(0o755)
            new.replace(target)
    return Found(target, source)


def _download_or_build(program: ProgramFile, new: Path, report: Report) -> str:
    label = f"{program.name} {program.version}"
    why_not = "there is no official release"
    if program.release is not None:
        try:
            report(f"{label}: looking for the official release")
            download(program.release, new)
        except NotAvailable as reason:
            why_not = str(reason)
        else:
            return "downloaded"
    report(f"{label}: building ({why_not}); expect {_expectation(program.minutes)}")
    started = time.monotonic()
    try:
        golang.build(program.build, new, lambda line: report(f"{label}: building, {line}"))
    except LabError as error:
        raise LabError(_where_it_ends(program, why_not, error)) from None
    report(f"{label}: built in {time.monotonic() - started:.0f}s")
    return "built"


def download(release: Release, target: Path) -> None:
    """Fetch the release's program into `target` and check its published hash. Raises NotAvailable."""
    names = dict(zip(("os", "arch"), binaries.system(), strict=True))
    url, sums = release.url.format(**names), release.sums.format(**names)
    host = urlsplit(url).hostname
    try:
        wanted = published_sum(_read(sums).decode(), urlsplit(url).path.rpartition("/")[2])
        archive = target.with_suffix(".download")
        found = _fetch(url, archive)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise NotAvailable(f"{host} cannot be reached: {reason}") from None
    if found != wanted:
        raise NotAvailable(f"what {host} sent has the SHA-256 {found}, and is to have {wanted}")
    if release.member is None:
        archive.replace(target)
    else:
        _unpack(archive, release.member.format(**names), target)


def published_sum(sums: str, file: str) -> str:
    """The SHA-256 of `file` in a list of sums (`<sum>  <file>` a line), or the one sum that stands there alone."""
    lines = [line.split() for line in sums.splitlines() if line.strip()]
    for words in lines:
        if len(words) == 1 and len(lines) == 1:
            return words[0]
        if len(words) >= 2 and words[1].lstrip("*") == file:
            return words[0]
    raise NotAvailable(f"the published sums do not name {file}")


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT) as answer:
        content: bytes = answer.read(CHUNK)
        return content


def _fetch(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=READ_TIMEOUT) as answer, target.open("wb") as file:
        while chunk := answer.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _unpack(archive: Path, member: str, target: Path) -> None:
    with tarfile.open(archive) as content:
        try:
            file = content.extractfile(member)
        except KeyError:
            file = None
        if file is None:
            raise NotAvailable(f"the release does not contain {member}")
        with target.open("wb") as out:
            shutil.copyfileobj(file, out)


@contextmanager
def _turn(program: ProgramFile, report: Report) -> Iterator[None]:
    """One process gets a program at a time; a second one waits and then finds it."""
    with (binaries.cached(program).parent / f".{program.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{program.name}: another process is getting it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _expectation(minutes: float) -> str:
    return f"about {minutes:g} minutes on 2 cores" if minutes >= 1 else f"about {minutes * 60:.0f} seconds on 2 cores"


def _where_it_ends(program: ProgramFile, why_not: str, error: LabError) -> str:
    assets = os.environ.get(binaries.ASSETS)
    on_path = shutil.which(program.name)
    tried = [
        f"{binaries.ASSETS}: {'not set' if not assets else f'nothing in {assets}'}",
        f"PATH: {'nothing' if not on_path else f'{on_path} is not of a version that will do'}",
        f"cache: nothing at {binaries.cached(program)}",
        f"official release: {why_not}",
        f"build: {error}",
    ]
    lines = "\n".join(f"  - {line}" for line in tried)
    return (
        f"{program.name} {program.version} cannot be had. Tried:\n{lines}\n"
        f"Put {program.name} into a folder and set {binaries.ASSETS} to it, or install Go "
        f"{'.'.join(map(str, OLDEST_GO))} or later and allow its module proxy."
    )
