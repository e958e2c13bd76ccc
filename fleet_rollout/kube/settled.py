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

    def holds(self, sent: Object, live: Object) -> bool:
        """Whether `live` is known to be as `sent` says: the manifest as it would be sent."""
        if self._clock() - self._looked > BELIEVED:
            return False
        known = self._known.get(ref_of(sent))
        return known is not None and known == (_content(sent), _version(live))

    def keep(self, sent: Iterable[Object], live: Mapping[Ref, Object]) -> None:
        """Take note of a whole pass: `live` are the objects that are as wanted now, `sent` what each has been sent."""
        if self._clock() - self._looked > BELIEVED:
            self._looked = self._clock()
        found = ((ref, obj, _version(live[ref])) for ref, obj in ((ref_of(each), each) for each in sent))
        self._known = {ref: (_content(obj), version) for ref, obj, version in found if all(version)}


def _version(live: Object) -> tuple[str, str]:
    metadata = live["metadata"]
    return metadata.get("uid", ""), metadata.get("resourceVersion", "")


def _content(obj: Object) -> bytes:
    text = orjson.dumps(obj, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()
