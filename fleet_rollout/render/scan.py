"""What a build will read, found before it runs: every file that the kustomization names, directly or through bases.

kustomize gets copies of exactly these files, and kustomizations written anew from what was read here: it compares
field names without regard to case, so that its own reading of the original could differ from this one. What
would run a program, reach the network or leave the artifact is refused with the file and the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fleet_rollout.errors import Terminal
from fleet_rollout.render.documents import check, dump, load_strictly
from fleet_rollout.render.kustomization_file import Kustomization, failed, find, read
from fleet_rollout.render.ledger import SECRET, Ledger
from fleet_rollout.render.tree import FILE_LIMIT, Outside, Tree, join

# Overlays are a few deep, fleets have hundreds; kustomize visits a base once for every path that leads to it.
DEEPEST_BASE = 50
MOST_VISITS = 2_000

REFUSED = {
    "helmCharts": "render the chart into manifests, or use a helm policy",
    "helmGlobals": "render the chart into manifests, or use a helm policy",
    "helmChartInflationGenerator": "render the chart into manifests, or use a helm policy",
}
PLAIN_FIELDS = frozenset(
    {
        *("apiVersion", "kind", "metadata", "namePrefix", "nameSuffix", "namespace", "commonLabels", "labels"),
        *("commonAnnotations", "images", "imageTags", "replicas", "vars", "sortOptions", "generatorOptions"),
        "buildMetadata",
    }
)
PLAIN_BUILD = {"apiVersion", "kind", "metadata", "resources"}
# Fields whose values are names of files, or hold some; each has its own rule in `_fields`.
FILE_FIELDS = ("crds", "configurations")
FOLDER_FIELDS = ("components",)
BASE_FIELDS = ("resources", "bases")
PATCH_FIELDS = ("patches", "patchesJson6902", "replacements")
GENERATOR_FIELDS = ("configMapGenerator", "secretGenerator")
PLUGIN_FIELDS = ("generators", "transformers", "validators")

ENTRY_KEYS = {
    "patches": {"path", "patch", "target", "options"},
    "patchesJson6902": {"path", "patch", "target", "options"},
    "replacements": {"path", "source", "targets", "sourceValue"},
    "configMapGenerator": {"name", "namespace", "behavior", "literals", "files", "envs", "env", "options"},
    "secretGenerator": {"name", "namespace", "behavior", "literals", "files", "envs", "env", "options", "type"},
    "openapi": {"path", "version"},
}
# Built-in plugins by kind, with the keys of their configuration that name files.
PLUGINS: dict[str, tuple[str, ...]] = {
    "AnnotationsTransformer": (),
    "ConfigMapGenerator": ("files", "envs", "env"),
    "HashTransformer": (),
    "ImageTagTransformer": (),
    "LabelTransformer": (),
    "NamespaceTransformer": (),
    "PatchJson6902Transformer": ("path",),
    "PatchStrategicMergeTransformer": ("paths",),
    "PatchTransformer": ("path",),
    "PrefixTransformer": (),
    "ReplacementTransformer": ("replacements",),
    "ReplicaCountTransformer": (),
    "SecretGenerator": ("files", "envs", "env"),
    "SortOrderTransformer": (),
    "SuffixTransformer": (),
    "ValueAddTransformer": (),
}
FILE_KEYS = frozenset({"path", "paths", "files", "envs", "env", "replacements"})

REMOTE = re.compile(r"(?i)^(?:git::|https?:|gh:|github\.com[/:]|[a-z][a-z0-9-]*@)|://")


@dataclass
class Scan:
    """The result. `written` are files with new content, `copied` files taken as they are."""

    tree: Tree
    allow_remote: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    written: dict[str, bytes] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)
    remote: bool = False
    crosses_roots: bool = False  # a kustomization names a file above its own folder
    plain: bool = True  # only manifests, and changes of images at the top: no object depends on another
    manifests: dict[str, None] = field(default_factory=dict)  # of a plain build, in order
    images: list[Any] = field(default_factory=list)  # of a plain build
    plugins: dict[str, list[Any]] = field(default_factory=dict)  # the documents of each file, read once
    _visits: dict[str, int] = field(default_factory=dict)
    _size: int = 0

    def visit(self, folder: str, kustomization: Kustomization, file: str, depth: int = 0) -> int:
        """Look at one kustomization and all below it; the number of visits that kustomize will make."""
        if depth > DEEPEST_BASE:
            raise failed(file, f"bases refer to each other, or are more than {DEEPEST_BASE} deep", "BuildLimit")
        visits = 1
        if depth == 0:
            self.images = kustomization.get("images") or []
        for base in _Reader(self, folder, file, is_top=depth == 0).read(kustomization):
            if base not in self._visits:
                name = find(self.tree, base)
                if name is None:
                    raise failed(base, "no kustomization.yaml in this folder")
                self._visits[base] = self.visit(base, read(self.tree, name, self.ledger), name, depth + 1)
            visits += self._visits[base]
        if visits > MOST_VISITS:
            raise failed(file, f"stands for more than {MOST_VISITS} kustomizations", "BuildLimit")
        return visits

    def write(self, name: str, content: bytes) -> None:
        """Give the file `name` new content; all of these are in memory until they are laid out."""
        self.written[name] = content
        self.ledger.holds_secrets |= bool(SECRET.search(content.decode()))  # in a patch of the policy, too
        self._size += len(content)
        if self._size > FILE_LIMIT:
            fact = f"kustomizations and plugins are larger than {FILE_LIMIT} bytes together: put less into them"
            raise failed(name, fact, "BuildLimit")


@dataclass
class _Reader:
    """One kustomization under inspection; yields the folders it is based on."""

    scan: Scan
    folder: str
    file: str
    is_top: bool
    plugins: set[str] = field(default_factory=set)  # files that were looked at

    def read(self, kustomization: Kustomization) -> Iterator[str]:
        clean = dict(kustomization)
        for name, value in kustomization.items():
            if name in REFUSED:
                raise self.failed(name, f"is refused: {REFUSED[name]}", "BuildRefused")
            if name not in PLAIN_FIELDS and not value:
                clean.pop(name)
        self.scan.plain &= set(clean) <= PLAIN_BUILD | ({"images"} if self.is_top else set())
        for name in [name for name in clean if name not in PLAIN_FIELDS]:
            yield from self._field(name, clean)
        self.scan.write(self.file, dump(clean))

    def _field(self, name: str, clean: Kustomization) -> Iterator[str]:
        if name in BASE_FIELDS or name in FOLDER_FIELDS:
            for where, entry in self._texts(name, clean[name]):
                yield from self._base(where, entry, folders_only=name in FOLDER_FIELDS)
        elif name in FILE_FIELDS:
            self._files(self._texts(name, clean[name]))
        elif name == "openapi":
            self._paths([(name, self._entry(name, clean[name], ENTRY_KEYS[name]))])
        elif name in PATCH_FIELDS:
            self._paths(self._entries(name, clean[name]))
        elif name in GENERATOR_FIELDS:
            self.scan.ledger.holds_secrets |= name == "secretGenerator"
            for where, generator in self._entries(name, clean[name]):
                self._sources(where, generator)
        elif name == "patchesStrategicMerge":
            self._files((w, text) for w, text in self._texts(name, clean[name]) if not _is_inline(text))
        elif name in PLUGIN_FIELDS:
            clean[name] = [self._plugin(where, text) for where, text in self._texts(name, clean[name])]
        else:
            raise self.failed(name, "is no field of a kustomization (upper and lower case matter)")

    def _base(self, where: str, entry: str, *, folders_only: bool) -> Iterator[str]:
        if REMOTE.search(entry):
            self._remote(where, entry)
            return
        name = self._inside(where, entry)
        kind = self.scan.tree.kind(name)
        if kind == "folder":
            yield name
        elif folders_only or kind != "file":
            raise self._missing(where, entry, kind)
        else:
            self._take(name)
            self.scan.plain &= name not in self.scan.manifests  # a portion would hold it as often as it is named
            self.scan.manifests[name] = None

    def _remote(self, where: str, entry: str) -> None:
        if not self.scan.allow_remote or entry.lower().startswith("file:"):
            fix = "copy it into the repository"
            raise self.failed(where, f"{entry!r} is a remote base, which is off: {fix}", "BuildRefused")
        self.scan.remote, self.scan.plain = True, False

    def _paths(self, entries: Iterable[tuple[str, dict[str, Any]]]) -> None:
        for where, entry in entries:
            self._files(self._texts(f"{where}.path", entry.get("path") or []))

    def _files(self, entries: Iterable[tuple[str, str]], *, parsed: bool = True) -> None:
        for where, entry in entries:
            if REMOTE.search(entry):
                raise self.failed(where, f"{entry!r} is a remote file: copy it into the repository", "BuildRefused")
            name = self._inside(where, entry)
            kind = self.scan.tree.kind(name)
            if kind != "file":
                raise self._missing(where, entry, kind)
            self._take(name, parsed=parsed)

    def _take(self, name: str, *, parsed: bool = True) -> None:
        """Remember the file `name`; what kustomize will parse must be YAML within the limits."""
        if parsed and name not in self.scan.ledger.files:
            content = self.scan.tree.read(name)
            check(content.replace(b"\t", b" ") if name.endswith(".json") else content, name, self.scan.ledger)
            self.scan.ledger.files.add(name)
        self.scan.copied.add(name)
        self.scan.crosses_roots |= bool(self.folder) and not name.startswith(self.folder + "/")

    def _inside(self, where: str, entry: str) -> str:
        try:
            return join(self.folder, entry)
        except Outside as error:
            raise self.failed(where, f"{entry!r} {error}: name a file of the repository") from None

    def _sources(self, where: str, entry: dict[str, Any]) -> None:
        for key in ("files", "envs", "env"):
            texts = self._texts(f"{where}.{key}", entry.get(key) or [])
            named = ((w, text.partition("=")[2] if key == "files" and "=" in text else text) for w, text in texts)
            self._files(named, parsed=False)
        for place, text in self._texts(f"{where}.literals", entry.get("literals") or []):
            if text.find("=") < 1:
                raise self.failed(place, "is not of the form key=value")

    def _plugin(self, where: str, text: str) -> str:
        if not _is_inline(text):
            return self._plugin_file(where, text)
        documents = load_strictly(text.encode(), f"{self.file}: {where}", self.scan.ledger)
        self._plugin_documents(where, documents)
        return dump(*documents).decode()

    def _plugin_file(self, where: str, entry: str) -> str:
        self._files([(where, entry)], parsed=False)
        name = self._inside(where, entry)
        if name not in self.scan.plugins:
            self.scan.plugins[name] = load_strictly(self.scan.tree.read(name), name, self.scan.ledger)
            self.scan.write(name, dump(*self.scan.plugins[name]))
        if name not in self.plugins:  # what it names is seen from this folder
            self.plugins.add(name)
            self._plugin_documents(f"{where}: {entry}", self.scan.plugins[name])
        return entry

    def _plugin_documents(self, where: str, documents: list[Any]) -> None:
        for document in documents:
            if not isinstance(document, dict):
                raise self.failed(where, "must be the configuration of a built-in plugin")
            kind, version = document.get("kind"), document.get("apiVersion")
            if version != "builtin" or not isinstance(kind, str) or kind not in PLUGINS:
                fact = f"{version}/{kind} is refused: only kustomize's own plugins run here"
                raise self.failed(where, fact, "BuildRefused")
            self._plugin_names(f"{where}: {kind}", document, PLUGINS[kind])

    def _plugin_names(self, where: str, document: dict[str, Any], expected: tuple[str, ...]) -> None:
        for key in document:
            if key.casefold() in FILE_KEYS and key not in expected:
                raise self.failed(f"{where}.{key}", "is no field of this plugin (upper and lower case matter)")
        if "replacements" in expected:
            entries = self._entries("replacements", document.get("replacements") or [])
            self._paths((f"{where}.{place}", entry) for place, entry in entries)
        elif "files" in expected:
            self._sources(where, document)
        for key in ("path", "paths"):
            if key in expected:
                texts = self._texts(f"{where}.{key}", document.get(key) or [])
                self._files((w, text) for w, text in texts if key == "path" or not _is_inline(text))

    def _texts(self, where: str, value: Any) -> Iterator[tuple[str, str]]:
        """Each text of a list (or the text itself) with the place it has."""
        for index, text in enumerate(value if isinstance(value, list) else [value]):
            place = f"{where}[{index}]" if isinstance(value, list) else where
            if not isinstance(text, str) or not text:
                raise self.failed(place, "must be a text")
            yield place, text

    def _entries(self, name: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(value, list):
            raise self.failed(name, "must be a list")
        for index, entry in enumerate(value):
            yield f"{name}[{index}]", self._entry(f"{name}[{index}]", entry, ENTRY_KEYS[name])

    def _entry(self, where: str, entry: Any, known: set[str]) -> dict[str, Any]:
        if not isinstance(entry, dict):
            raise self.failed(where, "must be a mapping")
        for key in entry:
            if key not in known:
                raise self.failed(f"{where}.{key}", "is no field of a kustomization (upper and lower case matter)")
        return entry

    def _missing(self, where: str, entry: str, kind: str | None) -> Terminal:
        fact = {None: "no such file or directory", "link": "is a symbolic link", "folder": "is a folder"}
        return self.failed(where, f"{entry!r}: {fact.get(kind, 'is no regular file')}")

    def failed(self, where: str, fact: str, reason: str = "BuildFailed") -> Terminal:
        return failed(f"{self.file}: {where}", fact, reason)


def _is_inline(text: str) -> bool:
    """Whether an entry that may be a file's name or YAML is YAML: a name has no line break and no brace."""
    return "\n" in text.strip() or text.lstrip().startswith("{")
