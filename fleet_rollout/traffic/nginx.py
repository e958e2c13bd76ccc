"""ingress-nginx: a second Ingress whose annotations say which share, header or cookie goes to the canary."""

from __future__ import annotations

from collections.abc import Mapping

from fleet_rollout.decide.canary.objects import Live, Object, Ref, StepFailed, Write
from fleet_rollout.decide.canary.subject import UNTOUCHED_BY_FLUX, Subject
from fleet_rollout.traffic import checks, conditions, ingresses
from fleet_rollout.traffic.objects import Labelled, create, dotted, update
from fleet_rollout.traffic.router import Moved, Routes

COOKIE = "cookie"
_HEADER_SUFFIX = {"exact": "canary-by-header-value", "regex": "canary-by-header-pattern"}


class NginxRouter:
    """The user's Ingress is never written."""

    def reads(self, subject: Subject) -> list[Ref]:
        return ingresses.reads(subject)

    def reconcile(self, subject: Subject, live: Live) -> list[Write]:
        """Rules and paths follow the user's Ingress; shares, headers and cookies stay as they are found."""
        source = ingresses.source(subject, live)
        spec = ingresses.copied(subject, source, lambda path: [ingresses.to_service(path, subject.canary)])
        _selectors(subject)
        ref = ingresses.ours(subject, live)
        if (there := live[ref]) is not None:
            keys = {**UNTOUCHED_BY_FLUX, _key(subject, "canary"): "true"}
            return update(there, Labelled(annotations=keys), spec=spec)
        metadata = source["metadata"]
        inherited = ingresses.inherited(metadata.get("annotations"), without=_key(subject, "canary"))
        annotations = {**inherited, **_annotations(subject, canary=0)}
        return [create(subject, ref, Labelled(metadata.get("labels") or {}, annotations), spec=spec)]

    def routes(self, subject: Subject, live: Live) -> Routes:
        ingress = ingresses.canary(subject, live)
        annotations = ingress["metadata"].get("annotations") or {}
        by_request = (_key(subject, "canary-by-cookie"), _key(subject, "canary-by-header"))
        if subject.match and any(key in annotations for key in by_request):
            return Routes(0, 100)
        weight = _weight(ingress, annotations.get(_key(subject, "canary-weight"), "0"))
        return Routes(100 - weight, weight)

    def set_routes(self, subject: Subject, live: Live, routes: Routes, *, token: str) -> Moved:
        ingress = ingresses.canary(subject, live)
        old = ingress["metadata"].get("annotations") or {}
        stale = {key: None for key in old if _key(subject, "canary") in key}
        labelled = Labelled(annotations={**stale, **_annotations(subject, canary=routes.canary)})
        return Moved(update(ingress, labelled), {})

    def finalize(self, subject: Subject, live: Live) -> list[Write]:
        """The canary's Ingress is owned by the Canary and goes with it."""
        return []


def _key(subject: Subject, suffix: str) -> str:
    return f"{subject.options.ingress_annotations_prefix}/{suffix}"


def _annotations(subject: Subject, *, canary: int) -> dict[str, str]:
    """What sends this share of the requests, or those of an A/B test, to the canary."""
    said = {"canary": "true", "canary-weight": "0"}
    if canary > 0 and subject.match:
        said |= _selectors(subject)
    elif canary > 0:
        said["canary-weight"] = str(canary)
    return {_key(subject, suffix): value for suffix, value in said.items()} | UNTOUCHED_BY_FLUX


def _selectors(subject: Subject) -> dict[str, str]:
    """A cookie and a header, the last one that is named; nginx knows one of each."""
    cookie: dict[str, str] = {}
    header: dict[str, str] = {}
    for each in conditions.headers(subject, tuple(_HEADER_SUFFIX)):
        if each.header != COOKIE:
            header = {"canary-by-header": each.header, _HEADER_SUFFIX[each.comparison]: each.text}
        elif each.comparison == "exact":
            cookie = {"canary-by-cookie": checks.checked(f"{each.field}.exact", each.text, checks.COOKIE)}
        else:
            raise StepFailed(f"{each.field}: nginx knows a cookie by its name alone; write exact: <name of the cookie>")
    if subject.match and not cookie and not header:
        raise StepFailed("spec.analysis.match: names no header; nginx tells requests apart by headers and a cookie")
    return cookie | header


def _weight(ingress: Mapping[str, Object], text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise StepFailed(f'failed to convert {text} to int: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) > 100:
        name = dotted(Ref(ingresses.API, "Ingress", ingress["metadata"]["namespace"], ingress["metadata"]["name"]))
        raise StepFailed(f"ingress {name} gives the canary the weight {text}: make it 100 at most")
    return int(text)
