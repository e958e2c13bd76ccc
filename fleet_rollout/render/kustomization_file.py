"""The kustomization that is built for a policy: the folder's own or a generated one, with the policy merged in.

The rules are Flux's (its kustomize generator), field by field. Nothing is written here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any

import yaml

from fleet_rollout.errors import Terminal
from fleet_rollout.render.documents import load_strictly, printable, roots
from fleet_rollout.render.ledger import Ledger
from fleet_rollout.render.tree import Tree
from fleet_rollout_api.kustomization import Image, KustomizationSpec

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
MANIFESTS = (".yaml", ".yml")
TYPE = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
# Without any field kustomize calls the file empty and fails; this one changes no object.
NOT_EMPTY = ["originAnnotations"]
MOST_FILES = 20_000
DEEPEST_FOLDER = 64

Kustomization = dict[str, Any]


def failed(where: str, fact: str, reason: str = "BuildFailed") -> Terminal:
    """The error of a build: `where` names file and field, `fact` says what is wrong and what would be right."""
    return Terminal(reason, f"kustomize build failed: {printable(f'{where}: {fact}' if where else fact)}")


def find(tree: Tree, folder: str) -> str | None:
    """The kustomization file in `folder`; more than one is an error, as in kustomize."""
    found = [name for name in NAMES if tree.kind(posixpath.join(folder, name)) in ("file", "link")]
    if len(found) > 1:
        raise failed(folder or ".", f"found multiple kustomization files: {', '.join(found)}")
    return posixpath.join(folder, found[0]) if found else None


def read(tree: Tree, name: str, ledger: Ledger) -> Kustomization:
    """The kustomization in the file `name`."""
    if tree.kind(name) == "link":
        raise failed(name, "is a symbolic link: put a regular file there")
    documents = load_strictly(tree.read(name), name, ledger)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise failed(name, "must hold one YAML mapping")
    return documents[0]


def base(tree: Tree, folder: str, ledger: Ledger | None = None) -> Kustomization | None:
    """What `folder` is built from before the policy is merged in; None where it holds nothing to build."""
    ledger = ledger or Ledger()
    own = find(tree, folder)
    if own is not None:
        return TYPE | read(tree, own, ledger)
    resources = list(_walk(tree, folder, "", ledger))
    if len(resources) > MOST_FILES:
        raise failed(folder or ".", f"holds more than {MOST_FILES} manifests", "BuildLimit")
    return TYPE | {"resources": resources} if resources else None


def _walk(tree: Tree, folder: str, below: str, ledger: Ledger) -> Iterable[str]:
    if below.count("/") >= DEEPEST_FOLDER:
        raise failed(posixpath.join(folder, below), f"is more than {DEEPEST_FOLDER} folders deep", "BuildLimit")
    for entry in tree.names(posixpath.join(folder, below)):
        relative = posixpath.join(below, entry)
        name = posixpath.join(folder, relative)
        kind = tree.kind(name)
        if kind == "folder" and find(tree, name) is not None:
            yield f"./{relative}"
        elif kind == "folder":
            yield from _walk(tree, folder, relative, ledger)
        elif kind == "file" and entry.endswith(MANIFESTS):
            _check_manifest(tree, name, ledger)
            yield f"./{relative}"


def _check_manifest(tree: Tree, name: str, ledger: Ledger) -> None:
    """A folder without kustomization is all manifests; a stray Helm values.yaml must not become part of it."""
    for root in roots(tree.read(name), name, ledger):
        fields = {k.value: v for k, v in root.value} if isinstance(root, yaml.MappingNode) else {}
        metadata = fields.get("metadata")
        named = isinstance(metadata, yaml.MappingNode) and any(k.value == "name" for k, _ in metadata.value)
        kind = getattr(fields.get("kind"), "value", "")
        missing = "kind" if not kind else "" if named or kind.endswith("List") else "metadata.name"
        if missing:
            raise failed(
                "",
                f"failed to decode Kubernetes YAML from {name}: {missing} is missing: "
                "remove the file, or list the manifests in a kustomization.yaml",
            )
    ledger.files.add(name)


def merge(kustomization: Kustomization, spec: KustomizationSpec) -> Kustomization:
    """`kustomization` with the policy's fields, as Flux merges them."""
    merged = dict(kustomization)
    for field, value in (
        ("namespace", spec.target_namespace),
        ("namePrefix", spec.name_prefix),
        ("nameSuffix", spec.name_suffix),
    ):
        if value:
            merged[field] = value
    if spec.patches:
        merged["patches"] = [*_list(merged, "patches"), *(patch.dump() for patch in spec.patches)]
    if spec.components:
        merged["components"] = [*_list(merged, "components"), *map(_component, spec.components)]
    if spec.images:
        merged["images"] = _images(_list(merged, "images"), spec.images)
    if not merged.get("resources") and not merged.get("bases"):
        merged["buildMetadata"] = NOT_EMPTY
    return merged


def _list(kustomization: Kustomization, field: str) -> list[Any]:
    value = kustomization.get(field) or []
    if not isinstance(value, list):
        raise failed(field, "must be a list")
    return value


def _component(path: str) -> str:
    if posixpath.isabs(path) or "://" in path or path.startswith(("git@", "github.com/")):
        raise failed("", f"component path '{path}' must be local and relative")
    return path


def _images(own: list[Any], images: Iterable[Image]) -> list[Any]:
    result = [dict(image) if isinstance(image, dict) else image for image in own]
    for image in images:
        same = next((i for i in result if isinstance(i, dict) and i.get("name") == image.name), None)
        if same is None:
            result.append(image.dump())
            continue
        if image.new_name:
            same["newName"] = image.new_name
        if image.new_tag or image.digest:
            same.pop("newTag", None)
            same.pop("digest", None)
            same |= {k: v for k, v in (("newTag", image.new_tag), ("digest", image.digest)) if v}
    return result
