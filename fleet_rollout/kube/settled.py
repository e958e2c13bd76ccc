"""What was as wanted when it was last looked at: while neither side changes, a dry run would say so once more.

The outcome of a dry run follows from the manifest and the live object. What else may change it (an admission webhook,
a default) is looked at anew after a while.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from fleet_rollout.decide.inventory import Ref, ref_of

Object = Mapping[str, Any]

# How long a look is believed, in seconds.
BELIEVED = 3600.0


class Settled:
    """Of the objects of one ClusterSync. `clock` gives seconds on a monotonic scale."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = float("-inf")
        self._known: dict[Ref, tuple[bytes, tuple[str, str]]] = {}

    def holds(self, desired: Object, live: Object | None) -> bool:
        """Whether `live` is known to be as `desired` says."""
        if live is None or self._clock() - self._looked > BELIEVED:
            return False
        known = self._known.get(ref_of(desired))
        return known is not None and known == (_content(desired), _version(live))

    def keep(self, desired: Iterable[Object], live: Mapping[Ref, Object]) -> None:
        """Take note of a whole pass: `live` are the objects that are as wanted now."""
        if self._clock() - self._looked > BELIEVED:
            self._looked = self._clock()
        found = {ref_of(obj): obj for obj in desired}
        versions = {ref: _version(obj) for ref, obj in live.items() if ref in found}
        self._known = {ref: (_content(found[ref]), version) for ref, version in versions.items() if all(version)}


def _version(live: Object) -> tuple[str, str]:
    metadata = live["metadata"]
    return metadata.get("uid", ""), metadata.get("resourceVersion", "")


def _content(obj: Object) -> bytes:
    text = orjson.dumps(obj, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()
