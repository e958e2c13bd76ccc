"""A Canary, its target as an API server returns it, and a member in memory that keeps what is written."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet_rollout.decide.canary import targets
from fleet_rollout.decide.canary.objects import Object, Put, Ref, Write, ref_of
from fleet_rollout.decide.canary.subject import EngineOptions, Subject

FLAGGER_ID = "11111111-1111-4111-8111-111111111111"
OWNER = {
    "apiVersion": "flagger.app/v1beta1",
    "kind": "Canary",
    "name": "podinfo",
    "uid": "canary-uid",
    "controller": True,
    "blockOwnerDeletion": True,
}
FLUX = {
    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
    "helm.toolkit.fluxcd.io/driftDetection": "disabled",
}


def canary(
    kind: str = "Deployment",
    *,
    api_version: str = "apps/v1",
    service: Mapping[str, Any] | None = None,
    analysis: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Object:
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "podinfo", "namespace": "test", "uid": "canary-uid", **(metadata or {})},
        "spec": {
            "targetRef": {"apiVersion": api_version, "kind": kind, "name": "podinfo"},
            "service": {"port": 9898, **(service or {})},
            "analysis": {"interval": "10s", "threshold": 2, "stepWeight": 20, **(analysis or {})},
            **spec,
        },
        "status": dict(status or {}),
    }


def subject(kind: str = "Deployment", *, options: EngineOptions | None = None, **canary_fields: Any) -> Subject:
    return Subject(canary(kind, **canary_fields), options or EngineOptions(), "app", "podinfo")


def live_object(
    api_version: str, kind: str, name: str, *, metadata: Mapping[str, Any] | None = None, **parts: Any
) -> Any:
    """An object with what the API server adds to every one."""
    own = {"name": name, "namespace": "test", "uid": f"uid-of-{name}", "resourceVersion": "7", **(metadata or {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": own, **parts}


def pod_template(**changes: Any) -> Object:
    """Pod spec fields, and `labels` and `annotations` of the template."""
    metadata = {"labels": {"app": "podinfo", **changes.pop("labels", {})}}
    if annotations := changes.pop("annotations", None):
        metadata["annotations"] = annotations
    container = {"name": "podinfo", "image": "podinfo:1", "ports": [{"containerPort": 9898, "protocol": "TCP"}]}
    return {"metadata": metadata, "spec": {"containers": [container], "restartPolicy": "Always", **changes}}


def deployment(name: str = "podinfo", *, template: Object | None = None, **fields: Any) -> Object:
    """`metadata` and `status` of the object; everything else is of its spec."""
    spec = {
        "replicas": 2,
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "selector": {"matchLabels": {"app": name}},
        "template": template or pod_template(),
    }
    parts = {part: fields.pop(part) for part in ("metadata", "status") if part in fields}
    return live_object("apps/v1", "Deployment", name, spec={**spec, **fields}, **parts)


def daemon_set(name: str = "podinfo", *, template: Object | None = None, **fields: Any) -> Object:
    spec = {
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "selector": {"matchLabels": {"app": name}},
        "template": template or pod_template(),
    }
    parts = {part: fields.pop(part) for part in ("metadata", "status") if part in fields}
    return live_object("apps/v1", "DaemonSet", name, spec={**spec, **fields}, **parts)


def workload(kind: str, *arguments: Any, **fields: Any) -> Object:
    return deployment(*arguments, **fields) if kind == "Deployment" else daemon_set(*arguments, **fields)


def config_map(name: str, data: Mapping[str, str] | None = None, **fields: Any) -> Object:
    content = {"data": dict(data)} if data is not None else {}
    return live_object("v1", "ConfigMap", name, **content, **fields)


def secret(name: str, data: Mapping[str, str] | None = None, **fields: Any) -> Object:
    return live_object("v1", "Secret", name, **{"type": "Opaque", "data": dict(data or {}), **fields})


class Member:
    """What control sees of a member: what `reads` names, and None for what is not there.

    A verb that looks at something else gets a KeyError, so that every test is one of `reads` too.
    """

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[Ref, Object] = {}
        self._version = 100
        for obj in objects:
            self.objects[ref_of(obj)] = copy.deepcopy(obj)

    def live(self, about: Subject, *more: Ref) -> dict[Ref, Object | None]:
        first = self.objects.get(targets.target_ref(about))
        refs = targets.reads(about, first) if first is not None else [targets.target_ref(about)]
        return {ref: copy.deepcopy(self.objects.get(ref)) for ref in (*refs, *more)}

    def carry_out(self, writes: Iterable[Write]) -> None:
        for write in writes:
            self._version += 1
            found = self.objects.get(write.ref)
            if isinstance(write, Put):
                metadata = write.obj["metadata"]
                assert metadata.get("resourceVersion") == (found and found["metadata"]["resourceVersion"])
                given = {"uid": f"uid-{self._version}", **metadata, "resourceVersion": str(self._version)}
                self.objects[write.ref] = {**copy.deepcopy(write.obj), "metadata": given}
            else:
                assert found is not None
                assert (write.uid, write.resource_version) == identity(found)
                del self.objects[write.ref]


def identity(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def names(writes: Sequence[Write]) -> list[str]:
    return [f"{type(write).__name__} {write.ref.kind} {write.ref.name}" for write in writes]


def put(writes: Sequence[Write], kind: str, name: str) -> Object:
    """The one object of that kind and name that is put."""
    found = [
        write.obj for write in writes if isinstance(write, Put) and (write.ref.kind, write.ref.name) == (kind, name)
    ]
    assert len(found) == 1, names(writes)
    return found[0]
