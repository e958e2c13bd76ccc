"""Canaries for the tests of routers, and a member in memory: objects in, objects after the writes out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Live, Put, Ref, Write
from fleet_rollout.decide.canary.subject import EngineOptions, Subject
from fleet_rollout.traffic.router import Router, Routes

Object = dict[str, Any]
NAMESPACE = "test"


def subject(
    *,
    service: Mapping[str, Any] | None = None,
    analysis: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    options: EngineOptions | None = None,
    namespace: str = NAMESPACE,
    name: str = "podinfo",
    **spec: Any,
) -> Subject:
    """Canary `podinfo` of Deployment `podinfo`, port 9898, 20 percent a step."""
    raw = {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": name, "namespace": namespace, "uid": "canary-uid", "annotations": dict(annotations or {})},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "service": {"port": 9898, **(service or {})},
            "analysis": {"interval": "10s", "threshold": 2, "stepWeight": 20, **(analysis or {})},
            **spec,
        },
        "status": dict(status or {}),
    }
    return Subject(raw, options or EngineOptions(), "app", name)


def matching(**headers: Mapping[str, str]) -> dict[str, Any]:
    """The analysis of an A/B test; `x_canary` stands for the header `x-canary`."""
    return {"iterations": 2, "match": [{"headers": {name.replace("_", "-"): each for name, each in headers.items()}}]}


class Member:
    """Objects in memory, with a resourceVersion each that a write must name."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[Ref, Object] = {}
        self._version = 0
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object) -> None:
        self._version += 1
        stored = copy.deepcopy(obj)
        ref = Put(obj).ref
        stored["metadata"] |= {"resourceVersion": str(self._version), "uid": f"uid-{ref.kind}-{ref.name}"}
        self.objects[ref] = stored

    def live(self, router: Router, of: Subject) -> Live:
        return {ref: copy.deepcopy(self.objects.get(ref)) for ref in router.reads(of)}

    def carry_out(self, writes: Iterable[Write]) -> None:
        for write in writes:
            there = self.objects.get(write.ref)
            if isinstance(write, Put):
                assert write.obj["metadata"].get("resourceVersion") == (there and there["metadata"]["resourceVersion"])
                self.put(write.obj)
            else:
                assert there is not None
                assert (write.uid, write.resource_version) == (
                    there["metadata"]["uid"],
                    there["metadata"]["resourceVersion"],
                )
                del self.objects[write.ref]

    def reconcile(self, router: Router, of: Subject) -> list[Write]:
        """Reconcile until nothing is left to do; what was written. The second pass must write nothing."""
        writes = router.reconcile(of, self.live(router, of))
        self.carry_out(writes)
        assert router.reconcile(of, self.live(router, of)) == []
        return writes

    def routes(self, router: Router, of: Subject) -> Routes:
        return router.routes(of, self.live(router, of))

    def move(self, router: Router, of: Subject, primary: int, canary: int, *, mirrored: bool = False) -> list[Write]:
        """Move the traffic; a second move to the same place must write nothing."""
        routes = Routes(primary, canary, mirrored)
        moved = router.set_routes(of, self.live(router, of), routes, token="abcdefghij")
        self.carry_out(moved.writes)
        assert router.set_routes(of, self.live(router, of), routes, token="abcdefghij").writes == []
        return moved.writes

    def finalize(self, router: Router, of: Subject) -> list[Write]:
        writes = router.finalize(of, self.live(router, of))
        self.carry_out(writes)
        return writes

    def of_kind(self, kind: str, name: str) -> Object:
        [found] = [obj for ref, obj in self.objects.items() if (ref.kind, ref.name) == (kind, name)]
        return found

    def edit(self, kind: str, name: str, **parts: Any) -> None:
        """What a person changes: top-level parts, deep-merged."""
        self.put(_merged(self.of_kind(kind, name), parts))


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
