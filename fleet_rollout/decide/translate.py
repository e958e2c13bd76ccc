"""What a policy's rollout means in one member: the objects to write, in order, or why none are written.

Kurator's translation without its defects. It reads nothing itself; what the member holds comes in as `Live`.
While there is a problem nothing of the rollout is written or removed: a Canary at work keeps what it works with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fleet_rollout.decide import translate_canary as canaries
from fleet_rollout.decide.inventory import object_id, stale
from fleet_rollout.decide.metric_names import names_refused
from fleet_rollout.decide.problems import Problem
from fleet_rollout.decide.traffic_names import private_tester_url, public_tester_url
from fleet_rollout.decide.translate_crd import incompatible
from fleet_rollout.decide.translate_ingress import IngressWrite, Rule, with_rule, without_rule
from fleet_rollout.decide.translate_namespace import prepare_namespace
from fleet_rollout.decide.translate_tester import LoadTester, tester_objects
from fleet_rollout_api.cluster_sync import Engine, InventoryEntry, RolloutRecord
from fleet_rollout_api.fleet import Fleet
from fleet_rollout_api.rollout import RolloutConfig, TrafficRouting

Object = dict[str, Any]


TEST_LOADER_MISSING = "TestLoaderMissing"


@dataclass(frozen=True)
class Wanted:
    """What is to be translated: a policy's rollout (with its defaults filled in) for one cluster.

    `only_namespace`: where references to other namespaces are forbidden, the one that may be named.
    """

    policy: str
    rollout: RolloutConfig
    cluster: str
    engine: Engine = "hub"
    public_tester: bool = False
    tester: LoadTester = field(default_factory=LoadTester)
    only_namespace: str = ""

    @property
    def namespace(self) -> str:
        return self.rollout.workload.namespace or ""


@dataclass(frozen=True)
class Live:
    """What the member holds, as read; None is absent.

    `scalers`: the HorizontalPodAutoscalers of the workload's namespace. `schemas`: by kind, the schema of a flagger.app
    CRD that is not ours; one that is ours, or that is still to be installed, is left out.
    """

    namespace: Mapping[str, Any] | None = None
    service: Mapping[str, Any] | None = None
    ingress: Mapping[str, Any] | None = None
    scalers: Sequence[Mapping[str, Any]] = ()
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Translation:
    """`namespace` is applied first, even while there are problems; then `ingress`; then `objects` in their order."""

    namespace: Object | None = None
    ingress: IngressWrite | None = None
    objects: tuple[Object, ...] = ()
    problems: tuple[Problem, ...] = ()
    record: RolloutRecord | None = None


def translate(wanted: Wanted, live: Live, previous: RolloutRecord | None = None) -> Translation:
    """What to write for `wanted`. `previous` is what an earlier translation had written for the same ClusterSync."""
    rollout = wanted.rollout
    if not wanted.namespace:
        return Translation(problems=(_about(wanted, _no_namespace()),))
    if wanted.only_namespace not in ("", wanted.namespace):
        return Translation(problems=(_about(wanted, _elsewhere(wanted)),))
    namespace, problems = prepare_namespace(
        rollout.traffic_routing_provider, wanted.namespace, wanted.policy, live.namespace
    )
    problems += tuple(_found_wrong(wanted, live))
    if problems:
        return Translation(namespace, problems=tuple(_about(wanted, problem) for problem in problems))
    objects = _objects(wanted, live.service or {}, live.scalers)
    ingress = _ingress(wanted, live, previous)
    refused = [found for obj in objects if (found := _schema_problem(obj, live))]
    refused += [ingress] if isinstance(ingress, Problem) else []
    if refused or isinstance(ingress, Problem):
        return Translation(namespace, problems=tuple(_about(wanted, problem) for problem in refused))
    return Translation(namespace, ingress, objects, record=_record(wanted, objects, previous))


def uses_public_tester(fleet: Fleet | None) -> bool:
    """Whether the Fleet's Flagger plug-in installs a load tester that all workloads of a cluster share."""
    plugin = ((fleet.spec.plugin if fleet else None) or {}).get("flagger")
    return isinstance(plugin, Mapping) and plugin.get("publicTestloader") is True


def tester_url(wanted: Wanted) -> str | None:
    """Where commands are sent; None where nobody takes them."""
    if wanted.rollout.test_loader:
        return private_tester_url(wanted.rollout.workload.name, wanted.namespace)
    if wanted.public_tester:
        return public_tester_url(wanted.rollout.traffic_routing_provider, wanted.cluster)
    return None


def ingress_rule(rollout: RolloutConfig) -> Rule | None:
    """The rule that the rollout needs in the shared Ingress; none where it has an Ingress of its own."""
    routing = rollout.rollout_policy.traffic_routing
    if rollout.traffic_routing_provider != "nginx" or routing is None or not routing.host or routing.ingress_ref:
        return None
    return Rule(routing.host, rollout.service_name, rollout.port)


def recorded_rule(record: RolloutRecord) -> Rule | None:
    """The rule that an earlier translation has written."""
    return Rule(record.host, record.service) if record.host else None


def objects_to_remove(previous: RolloutRecord | None, translation: Translation) -> tuple[InventoryEntry, ...]:
    """What was brought before and is no longer wanted, while the Canary stays; nothing while there is a problem."""
    if previous is None or translation.record is None:
        return ()
    return tuple(stale(previous.objects, translation.record.objects))


def is_replaced(previous: RolloutRecord, wanted: Wanted | None) -> bool:
    """Whether the recorded rollout has to be removed as a whole first.

    So it is when it is gone or about another workload, and when another provider would leave the routes of the last.
    """
    if wanted is None:
        return True
    workload = wanted.rollout.workload
    if previous.provider not in ("", wanted.rollout.traffic_routing_provider):
        return True
    now = (wanted.namespace, workload.kind, workload.name, wanted.rollout.service_name)
    return now != (previous.namespace, previous.workload_kind, previous.workload, previous.service)


def _found_wrong(wanted: Wanted, live: Live) -> list[Problem]:
    rollout = wanted.rollout
    problems = []
    # Knative makes the Service of its own accord.
    if live.service is None and rollout.traffic_routing_provider != "knative":
        problems.append(_no_service(wanted))
    if canaries.commands(rollout) and tester_url(wanted) is None:
        problems.append(_no_tester(wanted.engine))
    if strategy := _strategy_problem(rollout):
        problems.append(strategy)
    return problems + names_refused(rollout)


def _objects(wanted: Wanted, service: Mapping[str, Any], scalers: Sequence[Mapping[str, Any]]) -> tuple[Object, ...]:
    rollout = wanted.rollout
    tester: tuple[Object, ...] = ()
    if rollout.test_loader:
        tester = tester_objects(rollout.workload.name, wanted.namespace, wanted.policy, wanted.tester)
    canary = canaries.canary(
        rollout,
        policy=wanted.policy,
        engine=wanted.engine,
        service=service,
        scalers=scalers,
        tester_url=tester_url(wanted),
    )
    return (*tester, *canaries.metric_templates(rollout, wanted.policy), canary)


def _ingress(wanted: Wanted, live: Live, previous: RolloutRecord | None) -> IngressWrite | Problem | None:
    rule = ingress_rule(wanted.rollout)
    before = recorded_rule(previous) if previous is not None else None
    if rule is None:
        return without_rule(live.ingress, before) if before is not None else None
    return with_rule(live.ingress, rule, namespace=wanted.namespace, policy=wanted.policy, previous=before)


def _record(wanted: Wanted, objects: Sequence[Object], previous: RolloutRecord | None) -> RolloutRecord:
    rollout, rule = wanted.rollout, ingress_rule(wanted.rollout)
    routing = rollout.rollout_policy.traffic_routing or TrafficRouting()
    what = {
        "namespace": wanted.namespace,
        "workload": rollout.workload.name,
        "workload_kind": rollout.workload.kind,
        "workload_version": rollout.workload.api_version,
        "service": rollout.service_name,
        "provider": rollout.traffic_routing_provider,
        "host": rule.host if rule else None,
        "ingress": routing.ingress_ref.name if routing.ingress_ref else None,
        "route": routing.route_ref.name if routing.route_ref else None,
        "objects": [object_id(obj) for obj in objects],
        "canary": rollout.workload.name,
    }
    return previous.model_copy(update=what) if previous is not None else RolloutRecord.model_validate(what)


def _schema_problem(obj: Mapping[str, Any], live: Live) -> Problem | None:
    schema = live.schemas.get(obj["kind"])
    return None if schema is None else incompatible(obj, schema)


def _strategy_problem(rollout: RolloutConfig) -> Problem | None:
    """Flagger's schema takes one strategy; the hub's CRD asks for the same, unless it is an older one."""
    routing = rollout.rollout_policy.traffic_routing
    weighted, counted = (routing.canary_strategy, routing.analysis_times) if routing else (None, None)
    if weighted is not None and counted:
        fact = "canaryStrategy and analysisTimes exclude each other; remove one of them"
    elif weighted is None and not counted and not rollout.rollout_policy.skip_traffic_analysis:
        fact = "set canaryStrategy (canary) or analysisTimes (blue/green, A/B testing)"
    else:
        return None
    return Problem("RolloutInvalid", f"rollout.rolloutPolicy.trafficRouting: {fact}", terminal=True)


def _no_namespace() -> Problem:
    message = "rollout.workload.namespace is empty; set it, or kustomization.targetNamespace"
    return Problem("RolloutInvalid", message, terminal=True)


def _elsewhere(wanted: Wanted) -> Problem:
    message = (
        f"rollout.workload.namespace is {wanted.namespace}, and this controller lets a rollout be in the Application's "
        f"own namespace alone (--no-cross-namespace-refs); have the workload in {wanted.only_namespace}"
    )
    return Problem("CrossNamespaceRef", message, terminal=True)


def _no_service(wanted: Wanted) -> Problem:
    subject = f"Service/{wanted.namespace}/{wanted.rollout.service_name}"
    fix = "add it to the source, or correct rollout.serviceName or rollout.workload.namespace"
    return Problem("ServiceNotFound", f"{subject} not found in the member; {fix}")


def _no_tester(engine: Engine) -> Problem:
    shared = ", or publicTestloader in the Fleet's spec.plugin.flagger" if engine == "flagger" else ""
    message = (
        "rollout.rolloutPolicy.trafficAnalysis.webhooks.command: there is no load tester to run the commands;"
        f" set rollout.testLoader: true{shared}"
    )
    return Problem(TEST_LOADER_MISSING, message)


def _about(wanted: Wanted, problem: Problem) -> Problem:
    return replace(problem, policy=wanted.policy)
