"""design.md section 7, "Removing a rollout without an outage", on values; the stories show it under live traffic."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from fleet_rollout.decide.inventory import object_id
from fleet_rollout.decide.translate_removal import Delete, Done, Patch, Removal, Wait, WriteIngress, next_step
from fleet_rollout_api.cluster_sync import RolloutRecord

ENGINE = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled", "helm.toolkit.fluxcd.io/driftDetection": "disabled"}
OWNED = {"ownerReferences": [{"kind": "Canary", "name": "cart"}]}
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def obj(kind, name, spec=None, *, api_version="apps/v1", status=None, **metadata):
    metadata = {"name": name, "namespace": "shop", "resourceVersion": "1", "generation": 1, **metadata}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec or {}, "status": status or {}}


def canary(**metadata):
    return obj("Canary", "cart", {"suspend": False}, api_version="flagger.app/v1beta1", **metadata)


def suspended(**metadata):
    return obj("Canary", "cart", {"suspend": True}, api_version="flagger.app/v1beta1", **metadata)


def deployment(replicas, available=None, name="cart", seen=1, **metadata):
    ready = replicas if available is None else available
    status = {"observedGeneration": seen, "updatedReplicas": ready, "availableReplicas": ready}
    return obj("Deployment", name, {"replicas": replicas}, status=status, **metadata)


def daemon_set(ready, wanted=2, selector=None):
    status = {
        "observedGeneration": 1,
        "desiredNumberScheduled": wanted,
        "updatedNumberScheduled": ready,
        "numberAvailable": ready,
    }
    return obj("DaemonSet", "cart", {"template": {"spec": {"nodeSelector": selector}}}, status=status)


def service(selects="cart-primary", annotations=ENGINE, **metadata):
    return obj("Service", "cart", {"selector": {"app": selects}}, api_version="v1", annotations=annotations, **metadata)


def virtual_service(*rules, **metadata):
    return obj("VirtualService", "cart", {"http": list(rules)}, api_version="networking.istio.io/v1beta1", **metadata)


def split(**more):
    destinations = [
        {"destination": {"host": f"cart-{track}", "port": {"number": 80}}, "weight": 50}
        for track in ("primary", "canary")
    ]
    return {"route": destinations, "timeout": "60s", **more}


TURNED = {"timeout": "60s", "route": [{"destination": {"host": "cart", "port": {"number": 80}}}]}
TESTER = obj("Deployment", "cart-testloader")
RECORD = RolloutRecord(
    namespace="shop",
    workload="cart",
    service="cart",
    replicas=3,
    canary="cart",
    objects=[object_id(TESTER), object_id(canary())],
)


def removal(**given):
    return Removal(**{"record": RECORD} | given)


def released(**more):
    return removal(canary=suspended(), workload=deployment(3), service=service("cart", {}), **more)


def test_first_the_canary_is_suspended():
    step = next_step(removal(canary=canary(), workload=deployment(0), service=service()))
    assert isinstance(step, Patch)
    assert step.ref.subject == "Canary/shop/cart"
    assert step.patch == {"spec": {"suspend": True}, "metadata": {"resourceVersion": "1"}}


@pytest.mark.parametrize(
    ("state", "replicas"),
    [
        (removal(canary=suspended(), workload=deployment(0)), 3),
        (removal(canary=suspended(), workload=deployment(5)), 3),
        (removal(canary=suspended(), workload=deployment(0), record=RECORD.model_copy(update={"replicas": None})), 1),
        (
            removal(
                canary=suspended(),
                workload=deployment(0),
                primary=deployment(4, name="cart-primary"),
                record=RECORD.model_copy(update={"replicas": None}),
            ),
            4,
        ),
    ],
)
def test_then_gits_replicas_are_restored(state, replicas):
    step = next_step(state)
    assert step.ref.subject == "Deployment/shop/cart"
    assert step.patch["spec"] == {"replicas": replicas}


@pytest.mark.parametrize(("running", "expected"), [(0, {"replicas": 4}), (7, None)])
def test_what_an_autoscaler_runs_stays(running, expected):
    scaled = suspended()
    scaled["spec"]["autoscalerRef"] = {"kind": "HorizontalPodAutoscaler"}
    primary = deployment(4, name="cart-primary")
    step = next_step(removal(canary=scaled, workload=deployment(running), primary=primary, service=service()))
    assert (step.patch["spec"] if step.ref.kind == "Deployment" else None) == expected


@pytest.mark.parametrize(
    ("workload", "text"),
    [
        (deployment(3, available=1), "Deployment/shop/cart: 1 of 3 Pods are available"),
        (deployment(3, seen=0), "Deployment/shop/cart: 0 of 3 Pods are available"),
        (daemon_set(1), "DaemonSet/shop/cart: 1 of 2 Pods are available"),
    ],
)
def test_then_the_workload_is_awaited_however_long_it_takes(workload, text):
    for waited in (False, True):
        step = next_step(removal(canary=suspended(), workload=workload, service=service(), waited=waited))
        assert isinstance(step, Wait)
        assert step.message.startswith(text)


def test_a_workload_that_goes_too_is_not_awaited_for_ever():
    state = removal(canary=suspended(), workload=deployment(3, available=0), service=service(), leaving=True)
    assert isinstance(next_step(state), Wait)
    assert next_step(replace(state, waited=True)).ref.kind == "Service"


def test_a_daemon_set_loses_the_engines_node_selector():
    step = next_step(
        removal(canary=suspended(), workload=daemon_set(0, selector={"flagger.app/scale-to-zero": "true", "a": "b"}))
    )
    assert step.patch["spec"] == {"template": {"spec": {"nodeSelector": {"flagger.app/scale-to-zero": None}}}}
    ready = removal(canary=suspended(), workload=daemon_set(2, selector={"a": "b"}), service=service())
    assert next_step(ready).ref.kind == "Service"


NEWEST = {"latestRevision": True, "percent": 100}
SHARED = [{"latestRevision": True, "percent": 20}, {"revisionName": "cart-00001", "percent": 80}]
TAGGED = [
    {"latestRevision": True, "percent": 0, "tag": "next"},
    {"revisionName": "cart-00001", "percent": 100, "tag": "now"},
    {"revisionName": "cart-00000", "tag": "before"},
]
PRIMARY = {"flagger.app/primary-revision": "cart-00001"}


def knative(traffic=None, ready=True, annotations=PRIMARY):
    status = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    spec = {"traffic": traffic} if traffic else {}
    return obj("Service", "cart", spec, api_version="serving.knative.dev/v1", status=status, annotations=annotations)


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        (None, [NEWEST]),
        (SHARED, [NEWEST]),
        (SHARED[1:], [NEWEST]),
        (
            TAGGED,
            [
                NEWEST | {"tag": "next"},
                {"revisionName": "cart-00001", "tag": "now"},
                {"revisionName": "cart-00000", "tag": "before"},
            ],
        ),
    ],
)
def test_a_knative_service_gives_all_traffic_to_its_newest_revision(traffic, expected):
    step = next_step(removal(canary=suspended(), workload=knative(traffic)))
    assert step.ref.subject == "Service/shop/cart"
    assert step.patch == {
        "metadata": {"resourceVersion": "1", "annotations": {"flagger.app/primary-revision": None}},
        "spec": {"traffic": expected},
    }


def test_a_knative_service_that_no_engine_has_touched_is_left_alone():
    step = next_step(removal(canary=suspended(), workload=knative(SHARED, annotations={})))
    assert [ref.kind for ref in step.refs] == ["Canary"]


def test_a_knative_service_is_awaited_until_it_says_that_it_is_ready():
    assert isinstance(next_step(removal(canary=suspended(), workload=knative(ready=False, annotations={}))), Wait)
    silent = knative(annotations={})
    silent["status"]["conditions"] = None
    assert isinstance(next_step(removal(canary=suspended(), workload=silent)), Wait)


def test_then_the_service_selects_the_workload_and_may_be_written_again():
    step = next_step(removal(canary=suspended(), workload=deployment(3), service=service()))
    assert step.ref.subject == "Service/shop/cart"
    assert step.patch == {
        "metadata": {"resourceVersion": "1", "annotations": dict.fromkeys(ENGINE)},
        "spec": {"selector": {"app": "cart"}},
    }


def test_gits_selector_wins_and_what_git_itself_says_stays():
    given = service("x", {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"})
    given["spec"]["selector"] = {"name": "cart"}
    step = next_step(removal(canary=suspended(), workload=deployment(3), service=service(), git_service=given))
    assert step.patch["spec"] == {"selector": {"app": None, "name": "cart"}}
    assert step.patch["metadata"]["annotations"] == {"helm.toolkit.fluxcd.io/driftDetection": None}


def test_a_git_manifest_without_selector_says_nothing():
    given = service(annotations={})
    given["spec"] = {}
    step = next_step(removal(canary=suspended(), workload=deployment(3), service=service(), git_service=given))
    assert step.patch["spec"] == {"selector": {"app": "cart"}}


def test_annotations_alone_are_reason_enough():
    step = next_step(removal(canary=suspended(), workload=deployment(3), service=service("cart")))
    assert "spec" not in step.patch
    other = removal(canary=suspended(), workload=deployment(3), service=service("cart-primary", {"mine": "x"}))
    assert "annotations" not in next_step(other).patch["metadata"]


def test_a_service_of_the_engine_goes_with_the_canary():
    step = next_step(removal(canary=suspended(), workload=deployment(3), service=service(**OWNED)))
    assert isinstance(step, Delete)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([split()], [TURNED]),
        ([split(mirror={"host": "cart-canary"}, mirrorPercentage={"value": 5})], [TURNED]),
        (
            [
                split(match=[{"uri": {"prefix": "/a"}}]),
                {"route": [{"destination": {"host": "other"}}]},
                {"redirect": {}},
            ],
            [
                TURNED | {"match": [{"uri": {"prefix": "/a"}}]},
                {"route": [{"destination": {"host": "other"}}]},
                {"redirect": {}},
            ],
        ),
    ],
)
def test_then_the_route_leads_to_the_service_itself(rules, expected):
    step = next_step(released(routes=[virtual_service(*rules, annotations=ENGINE, **OWNED)]))
    assert step.patch == {"spec": {"http": expected}, "metadata": {"resourceVersion": "1"}}


def test_tcp_routes_are_turned_too():
    route = virtual_service(**OWNED)
    route["spec"]["tcp"] = [{"route": split()["route"]}]
    step = next_step(released(routes=[route]))
    assert step.patch["spec"] == {"tcp": [{"route": TURNED["route"]}]}


def test_routes_of_other_gateways_are_turned_too():
    backends = [{"name": f"cart-{track}", "port": 80, "weight": 50} for track in ("primary", "canary")]
    spec = {"rules": [{"backendRefs": backends}]}
    route = obj("HTTPRoute", "cart", spec, api_version="gateway.networking.k8s.io/v1", **OWNED)
    step = next_step(released(routes=[route]))
    assert step.patch["spec"] == {"rules": [{"backendRefs": [{"name": "cart", "port": 80, "weight": 1}]}]}


def test_a_users_own_route_may_be_written_again():
    step = next_step(released(routes=[virtual_service(annotations=ENGINE)]))
    assert step.patch["metadata"]["annotations"] == dict.fromkeys(ENGINE)


@pytest.mark.parametrize("kind", ["Ingress", "TrafficRoute", "TrafficSplit", "ApisixRoute"])
def test_routes_that_only_lead_to_the_canary_are_deleted(kind):
    step = next_step(released(routes=[obj(kind, "cart-canary", api_version="x/v1")]))
    assert isinstance(step, Delete)
    assert [ref.kind for ref in step.refs] == [kind]


@pytest.mark.parametrize(
    "route",
    [
        virtual_service(TURNED, **OWNED),
        virtual_service(split(), **OWNED, **GOING),
        obj("HTTPRoute", "cart"),
        obj("Ingress", "x", **GOING),
    ],
)
def test_a_route_without_need_is_left_alone(route):
    step = next_step(released(routes=[route]))
    assert [ref.kind for ref in step.refs] == ["Canary"]


def test_then_the_canary_is_deleted_and_awaited():
    step = next_step(released())
    assert (type(step), [ref.subject for ref in step.refs], step.entries) == (Delete, ["Canary/shop/cart"], ())
    going = replace(released(), canary=suspended(finalizers=["finalizer.flagger.app", "mine"], **GOING))
    assert isinstance(next_step(going), Wait)
    patch = next_step(replace(going, waited=True))
    assert patch.patch["metadata"]["finalizers"] == ["mine"]
    theirs = replace(going, canary=suspended(finalizers=["mine"], **GOING), waited=True)
    assert isinstance(next_step(theirs), Wait)


def test_a_late_write_of_the_engine_is_undone():
    late = replace(released(), canary=suspended(**GOING), service=service(), workload=deployment(3, available=0))
    assert next_step(late).ref.kind == "Service"
    assert next_step(replace(late, canary=None)).ref.kind == "Service"


def test_without_the_canary_the_service_is_put_right_before_anything_is_awaited():
    state = removal(workload=deployment(3, available=0), service=service())
    assert next_step(state).ref.kind == "Service"


def test_then_templates_and_tester_go_then_the_rule():
    state = removal(workload=deployment(3), service=service("cart", None))
    step = next_step(state)
    assert [ref.subject for ref in step.refs] == ["Deployment/shop/cart-testloader"]
    assert list(step.entries) == RECORD.objects
    record = RECORD.model_copy(update={"objects": [], "host": "h"})
    rule = {"host": "h", "http": {"paths": [{"path": "/", "backend": {"service": {"name": "cart"}}}]}}
    shared = obj("Ingress", "nginx", {"rules": [rule]}, annotations={"kurator.dev/rollout": "p"})
    step = next_step(replace(state, record=record, ingress=shared))
    assert isinstance(step, WriteIngress)
    assert step.write.action == "delete"
    assert next_step(replace(state, record=record)) == Done()


def test_nothing_in_the_member_is_done():
    assert next_step(Removal(record=RECORD.model_copy(update={"objects": []}))) == Done()
    gone = removal(workload=deployment(0, **GOING), service=None, record=RECORD.model_copy(update={"objects": []}))
    assert next_step(gone) == Done()


class Member:
    """A member that does what it is told, and whose engine still has one write under way."""

    def __init__(self):
        self.state = removal(
            canary=canary(finalizers=["finalizer.flagger.app"]),
            workload=deployment(0),
            primary=deployment(3, name="cart-primary"),
            service=service(),
            routes=[virtual_service(split(), **OWNED)],
        )
        self.late_write = True

    def serves(self):
        """Whether a request finds a Pod by every way that it may take: the route's destinations and the Service."""
        target = self.state.workload["status"]["availableReplicas"] > 0
        pods = {"cart": target, "cart-primary": self.state.primary is not None}
        selected = pods[self.state.service["spec"]["selector"]["app"]]
        services = {"cart": selected, "cart-primary": pods["cart-primary"], "cart-canary": True}
        [rule] = self.state.routes[0]["spec"]["http"]
        return selected and all(services[each["destination"]["host"]] for each in rule["route"])

    def carry_out(self, step):
        if isinstance(step, Delete) and step.entries:
            return self.set(record=self.state.record.model_copy(update={"objects": []}))
        if isinstance(step, Delete):
            return self.set(canary=suspended(finalizers=["finalizer.flagger.app"], **GOING))
        if isinstance(step, Wait):
            return self.move()
        name = {"Canary": "canary", "Deployment": "workload", "Service": "service"}.get(step.ref.kind)
        if name is None:
            return self.set(routes=[merged(self.state.routes[0], step.patch)])
        changed = merged(getattr(self.state, name), step.patch)
        if changed["metadata"].get("finalizers") == []:
            return self.set(canary=None, primary=None)
        return self.set(**{name: changed})

    def move(self):
        """Time passes: Pods become ready; the engine writes once more; the deleted Canary's copies go in any order."""
        if self.state.canary["metadata"].get("deletionTimestamp"):
            late = service() if self.late_write else self.state.service
            self.late_write = False
            return self.set(waited=True, service=late)
        count = self.state.workload["spec"]["replicas"]
        return self.set(workload=deployment(count))

    def set(self, **changes):
        self.state = replace(self.state, **changes)


def merged(value, patch):
    if not isinstance(patch, dict) or not isinstance(value, dict):
        return copy.deepcopy(patch)
    result = value | {key: merged(value.get(key), each) for key, each in patch.items()}
    return {key: each for key, each in result.items() if each is not None}


def test_no_request_fails_from_the_first_step_to_the_last():
    member = Member()
    steps = []
    while not isinstance(step := next_step(member.state), Done):
        steps.append(type(step).__name__)
        member.carry_out(step)
        assert member.serves(), steps
        assert len(steps) < 20
    assert steps == [
        "Patch",
        "Patch",
        "Wait",
        "Patch",
        "Patch",
        "Delete",
        "Wait",
        "Patch",
        "Patch",
        "Delete",
    ]
