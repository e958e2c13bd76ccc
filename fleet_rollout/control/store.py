"""The hub's objects as last seen, by kind; what reconcilers read instead of asking the API server.

Watches and our own writes both land here. An older resourceVersion never replaces a newer one, so
that a reconciler sees what it wrote although its watch is behind.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fleet_rollout.control.loop import Key
from fleet_rollout_api.meta import Model

Listener = Callable[[str, Key, dict[str, Any] | None, dict[str, Any] | None], None]

TOMBSTONES = 10_000

M = TypeVar("M", bound=Model)


class Store:
    """Objects are shared, not copied: nobody changes what it gets from here."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[Key, dict[str, Any]]] = {}
        self._models: dict[tuple[str, Key], tuple[dict[str, Any], Model]] = {}
        self._gone: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._listeners: list[Listener] = []
        self._synced: set[str] = set()

    def listen(self, listener: Listener) -> None:
        """Call `listener(kind, key, before, after)` for every change; `after` is None for a deletion."""
        self._listeners.append(listener)

    def put(self, kind: str, obj: dict[str, Any]) -> None:
        """Take in `obj` unless something newer is known, or the object with its UID was seen deleted."""
        key = key_of(obj)
        objects = self._kinds.setdefault(kind, {})
        before = objects.get(key)
        if (kind, _uid(obj)) in self._gone or (before is not None and not _newer(obj, before)):
            return
        objects[key] = obj
        self._tell(kind, key, before, obj)

    def remove(self, kind: str, obj: dict[str, Any]) -> None:
        """Take out the object with this name and UID."""
        self._gone[kind, _uid(obj)] = None
        if len(self._gone) > TOMBSTONES:
            self._gone.popitem(last=False)
        key = key_of(obj)
        before = self._kinds.get(kind, {}).get(key)
        if before is not None and _uid(before) == _uid(obj):
            del self._kinds[kind][key]
            self._models.pop((kind, key), None)
            self._tell(kind, key, before, None)

    def replace_all(self, kind: str, objects: list[dict[str, Any]], version: str) -> None:
        """Take in a full listing made at resourceVersion `version`: what it lacks and was there before it is gone."""
        listed = {key_of(obj): obj for obj in objects}
        for key, before in list(self._kinds.get(kind, {}).items()):
            if key not in listed and _version(before) <= int(version or 0):
                self.remove(kind, before)
        for obj in objects:
            self.put(kind, obj)
        self._synced.add(kind)

    def _tell(self, kind: str, key: Key, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        for listener in self._listeners:
            listener(kind, key, before, after)

    def get(self, kind: str, key: Key) -> dict[str, Any] | None:
        """The object as last seen, or None."""
        return self._kinds.get(kind, {}).get(key)

    def all(self, kind: str, namespace: str | None = None) -> Iterator[dict[str, Any]]:
        """Every object of `kind`, of one namespace if given."""
        for key, obj in list(self._kinds.get(kind, {}).items()):
            if namespace is None or key.namespace == namespace:
                yield obj

    def model(self, kind: str, obj: dict[str, Any], type_: type[M]) -> M:
        """`obj`, which came from here, as a model; read only once while it stays the same object.

        Raises pydantic's ValidationError.
        """
        place = (kind, key_of(obj))
        source, model = self._models.get(place, (None, None))
        if source is obj and isinstance(model, type_):
            return model
        made = type_.model_validate(obj)
        if self._kinds.get(kind, {}).get(place[1]) is obj:
            self._models[place] = (obj, made)
        return made

    def is_synced(self, *kinds: str) -> bool:
        """True when each kind was listed in full at least once."""
        return self._synced.issuperset(kinds)


def key_of(obj: dict[str, Any]) -> Key:
    """Namespace and name of an object."""
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def _uid(obj: dict[str, Any]) -> str:
    return str(obj["metadata"].get("uid", ""))


def _newer(obj: dict[str, Any], before: dict[str, Any]) -> bool:
    """Resource versions of one kind are ordered integers (promised by the API since Kubernetes 1.35)."""
    return _version(obj) > _version(before)


def _version(obj: dict[str, Any]) -> int:
    try:
        return int(obj["metadata"].get("resourceVersion") or 0)
    except ValueError:
        return 0
