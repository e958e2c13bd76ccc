"""One set of verbs for every kind of target. Every `live` here holds exactly what `reads` names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleet_rollout.decide.canary import scalers, services, spec_hash, targets, tracking
from fleet_rollout.decide.canary.effects import Fingerprint
from fleet_rollout.decide.canary.objects import Ref, StepFailed, ref_of
from fleet_rollout.decide.canary.subject import EngineOptions
from tests.decide.canary.workloads import (
    FLAGGER_ID,
    Member,
    canary,
    config_map,
    daemon_set,
    deployment,
    live_object,
    names,
    pod_template,
    subject,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KNATIVE = "serving.knative.dev/v1"
WITH_CONFIG = pod_template(volumes=[{"name": "v", "configMap": {"name": "a"}}])


def plain_service():
    return live_object("v1", "Service", "podinfo", spec={"type": "ClusterIP", "ports": [{"port": 80}]})


def knative_service():
    status = {"latestCreatedRevisionName": "hello-00001"}
    metadata = {"annotations": {"flagger.app/primary-revision": "hello-00001"}}
    return live_object(KNATIVE, "Service", "podinfo", metadata=metadata, spec={"template": {}}, status=status)


def knative_revision():
    return live_object(KNATIVE, "Revision", "hello-00001", status={"conditions": [{"type": "Ready", "status": "True"}]})


ABOUT = {
    "Deployment": subject(),
    "DaemonSet": subject("DaemonSet"),
    "Service": subject("Service", api_version="v1"),
    "Knative": subject("Service", api_version=KNATIVE),
}
TARGETS = {
    "Deployment": [deployment(template=WITH_CONFIG), config_map("a", {"k": "v"})],
    "DaemonSet": [daemon_set(template=WITH_CONFIG), config_map("a", {"k": "v"})],
    "Service": [plain_service()],
    "Knative": [knative_service(), knative_revision()],
}
KINDS = list(ABOUT)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Deployment", ("apps/v1", "Deployment", "test", "podinfo")),
        ("DaemonSet", ("apps/v1", "DaemonSet", "test", "podinfo")),
        ("Service", ("v1", "Service", "test", "podinfo")),
        ("Knative", (KNATIVE, "Service", "test", "podinfo")),
    ],
)
def test_where_the_target_is(kind, expected):
    assert targets.target_ref(ABOUT[kind]) == expected


def inspected(raw, *objects, options=None):
    about = (
        ABOUT["Knative"]
        if raw["spec"]["targetRef"]["apiVersion"] == KNATIVE
        else subject(raw["spec"]["targetRef"]["kind"])
    )
    found = {targets.target_ref(about): objects[0] if objects else None}
    return targets.inspect(raw, options or EngineOptions(), found)


def test_label_and_ports_are_the_targets():
    template = pod_template()
    template["spec"]["containers"][0]["ports"].append({"containerPort": 9797, "name": "admin"})
    target = deployment(selector={"matchLabels": {"name": "web"}}, template=template)
    raw = canary(service={"portDiscovery": True})
    found = inspected(raw, target)
    assert (found.raw, found.label_key, found.label_value) == (raw, "name", "web")
    assert [port["name"] for port in found.ports] == ["admin"]
    assert inspected(canary(), target).ports == ()


def test_the_engine_says_which_labels_count():
    target = deployment(selector={"matchLabels": {"tier": "web"}})
    found = inspected(canary(), target, options=EngineOptions(selector_labels=("tier",)))
    assert (found.label_key, found.label_value) == ("tier", "web")
    with pytest.raises(StepFailed, match="must contain one of"):
        inspected(canary(), target)


@pytest.mark.parametrize("kind", ["Service", "Knative"])
def test_services_have_no_label(kind):
    found = inspected(dict(ABOUT[kind].raw), TARGETS[kind][0])
    assert (found.label_key, found.label_value, found.ports) == ("", "", ())


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_target_is_named(kind):
    with pytest.raises(
        StepFailed,
        match=r"podinfo\.test does not exist; create it, or correct spec\.targetRef of Canary podinfo\.test$",
    ):
        inspected(dict(ABOUT[kind].raw))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Deployment", ["Deployment", "Deployment", "Service", "Service", "Service", "ConfigMap", "ConfigMap"]),
        ("DaemonSet", ["DaemonSet", "DaemonSet", "Service", "Service", "Service", "ConfigMap", "ConfigMap"]),
        ("Service", ["Service"] * 3),
        ("Knative", ["Service", "Revision"]),
    ],
)
def test_everything_that_is_looked_at_is_read(kind, expected):
    read = targets.reads(ABOUT[kind], TARGETS[kind][0])
    assert [ref.kind for ref in read] == expected
    assert read[0] == targets.target_ref(ABOUT[kind])
    assert len(set(read)) == len(read)


def test_scalers_are_read_too():
    about = subject(autoscalerRef={"kind": "HorizontalPodAutoscaler", "name": "podinfo"})
    read = targets.reads(about, deployment())
    assert set(scalers.reads(about)) <= set(read)


HPA = live_object(
    "autoscaling/v2",
    "HorizontalPodAutoscaler",
    "podinfo",
    spec={"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"}, "maxReplicas": 4},
)
SCALED = live_object("keda.sh/v1alpha1", "ScaledObject", "podinfo", spec={"scaleTargetRef": {"name": "podinfo"}})


@pytest.mark.parametrize("scaler", [HPA, SCALED], ids=["HPA", "KEDA"])
@pytest.mark.parametrize(("version", "copied"), [("v1", True), (KNATIVE, False)])
def test_a_service_may_name_an_autoscaler(version, copied, scaler):
    """As Flagger: a copy for the primary of a plain Service. Knative scales by itself; what is named stays as it is."""
    about = subject("Service", api_version=version, autoscalerRef={"kind": scaler["kind"], "name": "podinfo"})
    member = Member(plain_service() if copied else knative_service(), knative_revision(), scaler)
    for verb in (
        scalers.create_scaler,
        scalers.pause_scaler,
        scalers.resume_scaler,
        targets.scale_up,
        scalers.sync_scaler,
        scalers.pause_scaler,
        scalers.resume_scaler,
        targets.revert_target,
    ):
        member.carry_out(verb(about, member.live(about)))
    ref = Ref(scaler["apiVersion"], scaler["kind"], "test", "podinfo")
    assert member.objects[ref]["spec"] == scaler["spec"]
    assert (ref._replace(name="podinfo-primary") in member.objects) is copied


@pytest.mark.parametrize("version", ["v1", KNATIVE])
def test_an_autoscaler_that_is_gone_holds_up_no_deletion(version):
    about = subject("Service", api_version=version, autoscalerRef={"kind": "ScaledObject", "name": "podinfo"})
    member = Member(plain_service() if version == "v1" else knative_service(), knative_revision())
    assert scalers.resume_scaler(about, member.live(about)) == []
    assert targets.revert_target(about, member.live(about)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_life(kind):
    """Every verb in the order of a rollout, each twice: the second time there is nothing to write."""
    about, member = ABOUT[kind], Member(*TARGETS[kind])
    written = []
    for verb in (
        services.reconcile_versions,
        lambda who, live: targets.create_primary(who, live, FLAGGER_ID),
        services.reconcile_apex,
        targets.scale_down,
        targets.scale_up,
        lambda who, live: targets.promote(who, live, FLAGGER_ID),
        targets.scale_down,
        targets.revert_target,
    ):
        writes = verb(about, member.live(about))
        member.carry_out(writes)
        written += names(writes)
        assert verb(about, member.live(about)) == []
    expected = {
        "Service": ["Put Service podinfo-canary", "Put Service podinfo-primary"],
        "Knative": ["Put Service podinfo"],
    }
    workload = [
        "Put Service podinfo-canary",
        "Put Service podinfo-primary",
        "Put ConfigMap a-primary",
        f"Put {kind} podinfo-primary",
        "Put Service podinfo",
        *[f"Put {kind} podinfo"] * 4,
    ]
    assert written == expected.get(kind, workload)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "Deployment",
            Fingerprint(
                spec_hash.template_hash(WITH_CONFIG), {"configmap/a": tracking.checksum(config_map("a", {"k": "v"}))}
            ),
        ),
        (
            "DaemonSet",
            Fingerprint(
                spec_hash.template_hash(WITH_CONFIG), {"configmap/a": tracking.checksum(config_map("a", {"k": "v"}))}
            ),
        ),
        ("Service", Fingerprint(spec_hash.canonical_hash(plain_service()["spec"]))),
        ("Knative", Fingerprint("79f999666f")),
    ],
)
def test_fingerprints(kind, expected):
    assert targets.fingerprint(ABOUT[kind], Member(*TARGETS[kind]).live(ABOUT[kind])) == expected


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_the_fingerprint_of_a_scaled_down_target_differs_in_that_alone(kind):
    about, member = ABOUT[kind], Member(*TARGETS[kind])
    before = targets.fingerprint(about, member.live(about))
    member.carry_out(targets.scale_down(about, member.live(about)))
    after = targets.fingerprint(about, member.live(about))
    assert (after.spec, after.configs, after.is_scaled_down) == (before.spec, before.configs, True)


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_a_changed_config_shows_while_the_spec_stays(kind):
    """S28: the rollout of a ConfigMap's change keeps one spec hash throughout."""
    about, member = ABOUT[kind], Member(*TARGETS[kind])
    before = targets.fingerprint(about, member.live(about))
    member.objects.update(Member(config_map("a", {"k": "w"})).objects)
    after = targets.fingerprint(about, member.live(about))
    assert (after.spec, after.configs == before.configs) == (before.spec, False)


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_a_config_that_is_gone_is_named_beside_the_spec(kind):
    about, member = ABOUT[kind], Member(*TARGETS[kind])
    before = targets.fingerprint(about, member.live(about))
    del member.objects[ref_of(config_map("a"))]
    after = targets.fingerprint(about, member.live(about))
    assert (after.spec, after.configs, before.missing) == (before.spec, None, None)
    assert after.missing == f"configmap a.test does not exist, and {kind.lower()} podinfo.test needs it"


def test_without_tracking_there_are_no_configs_in_it():
    about = subject(options=EngineOptions(config_tracking=False))
    assert targets.fingerprint(about, Member(*TARGETS["Deployment"]).live(about)).configs is None
    assert targets.is_promoted(about, Member(*TARGETS["Deployment"]).live(about))


@pytest.mark.parametrize("kind", KINDS)
def test_configs_are_promoted_with_the_rest(kind):
    about, member = ABOUT[kind], Member(*TARGETS[kind])
    has_configs = kind in ("Deployment", "DaemonSet")
    assert targets.is_promoted(about, member.live(about)) is not has_configs
    member.carry_out(targets.create_primary(about, member.live(about), FLAGGER_ID))
    assert targets.is_promoted(about, member.live(about))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", [targets.require_primary, targets.require_canary])
def test_readiness(kind, verb):
    about = ABOUT[kind]
    behind = {"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}
    objects = {
        "Deployment": [deployment(**behind), deployment("podinfo-primary", **behind)],
        "DaemonSet": [daemon_set(**behind), daemon_set("podinfo-primary", **behind)],
    }.get(kind, TARGETS[kind])
    live = Member(*objects).live(about)
    if kind in ("Service", "Knative"):
        verb(about, live, NOW)
        return
    with pytest.raises(StepFailed, match="generation"):
        verb(about, live, NOW)
