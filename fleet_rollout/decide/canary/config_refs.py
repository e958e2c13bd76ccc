"""Where a Pod names ConfigMaps and Secrets. One walk serves both to collect the names and to change them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from fleet_rollout.decide.canary.objects import Object

CONFIG_MAP, SECRET = "configmap", "secret"
PRIMARY_SUFFIX = "-primary"


class Place(NamedTuple):
    """`holder[field]` is the name of a config of this kind."""

    holder: Object
    field: str
    kind: str

    @property
    def key(self) -> str:
        """As the Canary's status names it: `configmap/<name>`."""
        return f"{self.kind}/{self.holder[self.field]}"


def references(pod: Mapping[str, Any]) -> dict[str, bool]:
    """The keys of all configs that a pod spec names, and whether it needs them; the last mention says so."""
    return {place.key: not place.holder.get("optional") for place in _places(pod)}


def with_primary_configs(pod: Mapping[str, Any], keys: Collection[str]) -> Object:
    """The pod spec with the primary's copies in place of the configs in `keys`."""
    result = copy.deepcopy(dict(pod))
    for place in _places(result):
        if place.key in keys:
            place.holder[place.field] += PRIMARY_SUFFIX
    return result


def _places(pod: Mapping[str, Any]) -> Iterator[Place]:
    for volume in pod.get("volumes") or ():
        yield from _chosen(volume, ("configMap", "name", CONFIG_MAP))
        yield from _chosen(volume, ("secret", "secretName", SECRET))
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _chosen(source, ("configMap", "name", CONFIG_MAP))
            yield from _chosen(source, ("secret", "name", SECRET))
    for container in (*(pod.get("containers") or ()), *(pod.get("initContainers") or ())):
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            yield from _chosen(source, ("configMapKeyRef", "name", CONFIG_MAP))
            yield from _chosen(source, ("secretKeyRef", "name", SECRET))
        for source in container.get("envFrom") or ():
            yield from _chosen(source, ("configMapRef", "name", CONFIG_MAP))
            yield from _chosen(source, ("secretRef", "name", SECRET))


def _chosen(source: Mapping[str, Any], way: tuple[str, str, str]) -> Iterator[Place]:
    """The config that `source` names in this way, if it does."""
    member, field, kind = way
    holder = source.get(member)
    if holder and holder.get(field):
        yield Place(holder, field, kind)
