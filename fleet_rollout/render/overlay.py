"""Lays out the private folder that kustomize works in: copies of the files a scan found, and nothing else.

A build of plain manifests is laid out in portions: kustomize needs quadratic time (5,000 ConfigMaps: 49 s at once,
3 s in portions of 200), and no object of such a build depends on another.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fleet_rollout.render.documents import dump
from fleet_rollout.render.kustomization_file import TYPE
from fleet_rollout.render.program import Restriction
from fleet_rollout.render.scan import Scan

PORTION = 200
# A line that starts a YAML document. Inside a document no line may begin so, not even in quoted text.
SEPARATOR = re.compile(rb"(?m)^---[ \t]*(?:#.*)?\r?$")


@dataclass(frozen=True)
class Layout:
    """The folders to build below `tree`, each on its own; their results together are the build.

    `names` are those of the files where one may hold a Secret: then kustomize's complaints are told in part.
    """

    folders: list[str]
    restriction: Restriction
    names: frozenset[str] | None = None


def lay_out(scan: Scan, folder: str, root: Path) -> Layout:
    """Write the files of `scan` below `root`; `folder` is the one the policy names."""
    (root / "home").mkdir()
    tree = root / "tree"
    tree.mkdir()
    holds_secrets = scan.ledger.holds_secrets or scan.remote  # what is fetched was not looked at
    names = frozenset(scan.copied | scan.written.keys()) if holds_secrets else None
    documents = list(islice(_documents(scan), PORTION + 1)) if scan.plain else []
    if len(documents) > PORTION:
        return Layout(list(_portions(scan, tree)), "LoadRestrictionsRootOnly", names)
    for name in scan.copied - scan.written.keys():
        scan.ledger.tick()
        target = _made(tree / name)
        shutil.copyfile(scan.tree.root / name, target, follow_symlinks=False)
    for name, content in scan.written.items():
        _made(tree / name).write_bytes(content)
    crossing = scan.crosses_roots and not scan.remote
    return Layout([folder], "LoadRestrictionsNone" if crossing else "LoadRestrictionsRootOnly", names)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _documents(scan: Scan) -> Iterator[tuple[str, bytes]]:
    for name in scan.manifests:
        scan.ledger.tick()
        for document in SEPARATOR.split(scan.tree.read(name)):
            if document.strip():
                yield name, document


def _portions(scan: Scan, tree: Path) -> Iterator[str]:
    documents = _documents(scan)
    shared = TYPE | ({"images": scan.images} if scan.images else {})
    number = 0
    while portion := list(islice(documents, PORTION)):
        folder = f"part-{number}"
        names = dict.fromkeys(name for name, _ in portion)
        for name in names:
            _write(tree / folder / name, (text for owner, text in portion if owner == name))
        _made(tree / folder / "kustomization.yaml").write_bytes(dump(shared | {"resources": list(names)}))
        yield folder
        number += 1


def _write(path: Path, documents: Iterable[bytes]) -> None:
    _made(path).write_bytes(b"\n---\n".join(documents))
