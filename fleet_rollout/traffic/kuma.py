"""Kuma: a TrafficRoute that splits the traffic of the apex Service. The kind has no namespace, and so no owner.

Two Canaries of the same apex in different namespaces would share one; the second is told to take another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic import checks
from fleet_rollout.traffic.objects import by_primary, create, found, kept, like_apex, over, update
from fleet_rollout.traffic.router import Moved, Routes

API = "kuma.io/v1alpha1"
KIND = "TrafficRoute"
SERVICE = "kuma.io/service"
MESH_ANNOTATION = "kuma.io/mesh"


class KumaRouter:
    """Kuma names a Service `<name>_<namespace>_svc_<port>`."""

    def reads(self, subject: Subject) -> list[Ref]:
        return [_ref(subject)]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Shares stay as they are found; a new TrafficRoute sends everything to the primary."""
        ref = _ref(subject)
        there = live[ref]
        old = (there or {}).get("spec") or {}
        _refuse_other_namespace(subject, old)
        conf = old.get("conf") or {}
        primary, canary = kept(_entry(conf, subject.primary), _entry(conf, subject.canary))
        ours = {
            "sources": [{"match": {SERVICE: "*"}}],
            "destinations": [{"match": {SERVICE: _service(subject, subject.apex)}}],
            "conf": over(conf, {"split": _split(subject, conf, primary, canary)}),
        }
        if there is None:
            return [create(subject, ref, like_apex(subject), owned=False, mesh=_mesh(subject), spec=ours)]
        return update(there, like_apex(subject), spec=over(old, ours))

    def routes(self, subject: Subject, live: Live) -> Routes:
        spec = found(live, _ref(subject), KIND).get("spec") or {}
        primary = _entry(spec.get("conf") or {}, subject.primary)
        if not primary:
            pair = f"{subject.primary} and {subject.canary}"
            raise StepFailed(f"{KIND} {subject.apex} does not contain routes for {pair}")
        return by_primary(primary, subject.primary, KIND, _ref(subject))

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        there = found(live, _ref(subject), KIND)
        spec = there.get("spec") or {}
        _refuse_other_namespace(subject, spec)
        conf = spec.get("conf") or {}
        split = _split(subject, conf, routes.primary, routes.canary)
        return Moved(update(there, spec=over(spec, {"conf": over(conf, {"split": split})})), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """As Flagger: it stays."""
        return []


def _ref(subject: Subject) -> Ref:
    return Ref(API, KIND, "", subject.apex)


def _service(subject: Subject, name: str) -> str:
    return f"{name}_{subject.namespace}_svc_{subject.port}"


def _mesh(subject: Subject) -> str:
    mesh = str((subject.raw["metadata"].get("annotations") or {}).get(MESH_ANNOTATION, "default"))
    return checks.checked(f"metadata.annotations[{MESH_ANNOTATION}]", mesh, checks.MESH)


def _split(subject: Subject, conf: Mapping[str, Any], primary: Any, canary: Any) -> list[Object]:
    return [
        over(_entry(conf, name), {"weight": weight, "destination": {SERVICE: _service(subject, name)}})
        for name, weight in ((subject.primary, primary), (subject.canary, canary))
    ]


def _entry(conf: Mapping[str, Any], name: str) -> Object:
    """The part of the split that goes to a Service, whatever its port was."""
    return next((each for each in conf.get("split") or () if _names(each.get("destination"))[0] == name), {})


def _names(tags: Mapping[str, str] | None) -> list[str]:
    """Name, namespace and more of the Service that tags select."""
    return str((tags or {}).get(SERVICE, "")).split("_")


def _refuse_other_namespace(subject: Subject, spec: Mapping[str, Any]) -> None:
    destinations: Iterable[Any] = spec.get("destinations") or ()
    for name, *rest in (_names(each.get("match")) for each in destinations):
        if name == subject.apex and len(rest) == 3 and rest[0] != subject.namespace:
            told = f"{KIND} {subject.apex} routes the Service of that name in namespace {rest[0]}"
            raise StepFailed(f"{told}, and the kind has no namespaces; choose another spec.service.name")
