"""Knative: the user's Service itself divides the traffic between its latest revision and the promoted one."""

from __future__ import annotations

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import Subject
from fleet_rollout.traffic.objects import Labelled, dotted, found, over, update
from fleet_rollout.traffic.router import Moved, Routes

API = "serving.knative.dev/v1"
TITLE = "Knative Service"
PRIMARY_REVISION = "flagger.app/primary-revision"


class KnativeRouter:
    """The promoted revision's name is an annotation of the Service."""

    def reads(self, subject: Subject) -> list[Ref]:
        return [_ref(subject)]

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Where none is named, the latest revision is the promoted one; undivided traffic goes all to that."""
        service = found(live, _ref(subject), TITLE)
        status = service.get("status") or {}
        primary = _primary(service) or status.get("latestCreatedRevisionName")
        if not primary:
            raise StepFailed(f"{TITLE} {dotted(_ref(subject))} has no revision yet")
        spec = service.get("spec") or {}
        if not _is_divided(spec.get("traffic") or []):
            spec = over(spec, {"traffic": _traffic(spec.get("traffic") or [], primary, Routes(100, 0))})
        return update(service, Labelled(annotations={PRIMARY_REVISION: primary}), spec=spec)

    def routes(self, subject: Subject, live: Live) -> Routes:
        """What Knative has put into effect, which may be later than what it was told."""
        service = found(live, _ref(subject), TITLE)
        name = f"{TITLE} {dotted(_ref(subject))}"
        primary = _needed_primary(subject, service)
        traffic = (service.get("status") or {}).get("traffic") or []
        latest = _entry(traffic, latest=True)
        promoted = _entry(traffic, latest=False, revision=primary)
        if not latest or (not promoted and latest.get("revisionName") != primary):
            raise StepFailed(f"{name} traffic spec invalid")
        canary = latest.get("percent")
        if canary is None:
            raise StepFailed(f"{name} canary revision traffic percent does not exist")
        if not promoted:  # the latest revision has just been promoted, and still has the canary's share
            return Routes(100 - canary, canary)
        if promoted.get("percent") is None:
            raise StepFailed(f"{name} primary revision traffic percent does not exist")
        return Routes(promoted["percent"], canary)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        service = found(live, _ref(subject), TITLE)
        spec = service.get("spec") or {}
        traffic = _traffic(spec.get("traffic") or [], _needed_primary(subject, service), routes)
        return Moved(update(service, spec=over(spec, {"traffic": traffic})), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """A Knative Service of that name which is not the target is another Canary's."""
        service = live[_ref(subject)] if subject.is_knative else None
        return [] if service is None else update(service, Labelled(annotations={PRIMARY_REVISION: None}))


def _ref(subject: Subject) -> Ref:
    return Ref(API, "Service", subject.namespace, subject.target_name)


def _primary(service: Object) -> str:
    return str((service["metadata"].get("annotations") or {}).get(PRIMARY_REVISION) or "")


def _needed_primary(subject: Subject, service: Object) -> str:
    primary = _primary(service)
    if not primary:
        raise StepFailed(f"{TITLE} {dotted(_ref(subject))} annotation not found")
    return primary


def _entry(traffic: list[Object], *, latest: bool, revision: str | None = None) -> Object:
    """The target of that kind, rather with a share than without: a tag alone gives a revision an address of its own."""
    same = [
        each
        for each in traffic
        if bool(each.get("latestRevision")) is latest and revision in (None, each.get("revisionName"))
    ]
    return next((each for each in same if each.get("percent") is not None), same[0] if same else {})


def _is_divided(traffic: list[Object]) -> bool:
    """Whether the latest revision and another share the traffic; after a promotion that is the one before."""
    return all(_entry(traffic, latest=latest).get("percent") is not None for latest in (True, False))


def _traffic(old: list[Object], primary: str, routes: Routes) -> list[Object]:
    """Our two targets first; then the tags of others, which have no share."""
    latest, promoted = _entry(old, latest=True), _entry(old, latest=False, revision=primary)
    tags = [each for each in old if each.get("tag") and not each.get("percent") and each not in (latest, promoted)]
    return [
        over(latest, {"latestRevision": True, "percent": routes.canary}),
        over(promoted, {"revisionName": primary, "percent": routes.primary}),
        *tags,
    ]
