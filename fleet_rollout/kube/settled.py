"""What was as wanted when it was last looked at: while neither side changes, a dry run would say so once more.

The outcome of a dry run follows from the manifest and the live object. What else may change it (an admission webhook,
a default) is looked at anew after a while.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from fleet_rollout.decide.inventory import Ref, ref_of
from fleet_rollout.decide.metadata import OWNER_LABELS, labels_of

Object = Mapping[str, Any]

# How long a look is believed, in seconds.
BELIEVED = 3600.0


_OF_THE_CLUSTER = frozenset({"namespace", "uid"})


class Change(NamedTuple):
    """Digests of what an object was sent last and of what is to be sent now: the same in every cluster of a fleet."""

    before: bytes
    after: bytes


class Settled:
    """Of the objects of one ClusterSync. `clock` gives seconds on a monotonic scale."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = float("-inf")
        self._known: dict[Ref, tuple[bytes, tuple[str, str]]] = {}

    def change(self, sent: Object, live: Object) -> Change | None:
        """From what `live` was sent to what is to be sent now; None where it is not known to be as it was sent."""
        content, version = self._known.get(ref_of(sent), (b"", ("", "")))
        if self._clock() - self._looked > BELIEVED or version != _version(live):
            return None
        return Change(content, _content(sent))

    def forget(self, ref: Ref) -> None:
        """Something is about to be done to it; whether that goes well, `keep` tells."""
        self._known.pop(ref, None)

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
    """Without what differs between the clusters of a fleet, and cannot change for one ClusterSync."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _OF_THE_CLUSTER}
    metadata["labels"] = {key: value for key, value in labels_of(obj).items() if key not in OWNER_LABELS}
    text = orjson.dumps({**obj, "metadata": metadata}, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()
