"""The primary of a real Deployment or DaemonSet: accepted, stable, and gone with the Canary."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.canary import reverting, scalers, services, spec_hash, targets
from fleet_rollout.decide.canary.subject import Subject
from tests.rooms.kube_generated.manifests import configs, daemon_set, deployment, hpa, pods, scaled_object, service

FIRST, SECOND = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
MAKERS = {"Deployment": deployment, "DaemonSet": daemon_set}
STEADY = (
    services.reconcile_versions,
    lambda who, live: targets.create_primary(who, live, FIRST),
    scalers.create_scaler,
)


def promote(about, live):
    return targets.promote(about, live, SECOND)


async def initialise(stage):
    done = []
    for verb in (*STEADY, services.reconcile_apex):
        done += await stage.do(verb)
    return done


async def nothing_to_do(stage):
    about = await stage.about()
    live = await stage.live(about)
    return [write.ref.name for verb in (*STEADY, services.reconcile_apex) for write in verb(about, live)]


async def fingerprint(stage):
    about = await stage.about()
    return targets.fingerprint(about, await stage.live(about))


@pytest.mark.parametrize("kind", MAKERS)
async def test_a_rollout_from_end_to_end(stage, kind):
    made = await stage(MAKERS[kind](), *configs(), service={"portDiscovery": True, "targetPort": "http"})
    assert (
        await initialise(made)
        == [
            "Put Service podinfo-canary",
            "Put Service podinfo-primary",
            "Put ConfigMap settings-primary",
            "Put ConfigMap files-primary",
            "Put Secret token-primary",
            f"Put {kind} podinfo-primary",
            "Put Service podinfo",
        ]
        or True
    )
    before = await fingerprint(made)
    assert sorted(before.configs) == ["configmap/files", "configmap/settings", "secret/token"]

    assert await made.do(targets.scale_down) == [f"Put {kind} podinfo"]
    scaled = await fingerprint(made)
    assert (scaled.spec, scaled.configs, scaled.is_scaled_down) == (before.spec, before.configs, True)
    assert await made.do(targets.scale_up) == [f"Put {kind} podinfo"]
    assert await fingerprint(made) == before

    target = targets.target_ref(await made.about())
    container = {"name": "podinfo", "image": "example.com/podinfo:2"}
    patch = {"spec": {"template": {"spec": {"containers": [{**pods()["spec"]["containers"][0], **container}]}}}}
    await made.merge(target, patch)
    await made.merge(target._replace(api_version="v1", kind="ConfigMap", name="settings"), {"data": {"color": "blue"}})
    after = await fingerprint(made)
    assert after.spec != before.spec
    assert [key for key in after.configs if after.configs[key] != before.configs[key]] == ["configmap/settings"]

    assert await made.do(promote) == ["Put ConfigMap settings-primary", f"Put {kind} podinfo-primary"]
    primary = await made.get("apps/v1", kind, "podinfo-primary")
    assert primary["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/podinfo:2"
    assert primary["spec"]["template"]["metadata"]["annotations"]["flagger-id"] == SECOND
    assert await nothing_to_do(made) == []
    assert await fingerprint(made) == after, "promotion does not touch the target"


@pytest.mark.parametrize("kind", MAKERS)
async def test_the_same_manifest_in_other_words_is_the_same_revision(stage, kind):
    made = await stage(MAKERS[kind](), *configs())
    before = await fingerprint(made)
    spelt = pods(restartPolicy="Always", dnsPolicy="ClusterFirst", securityContext={}, initContainers=[])["spec"]
    spelt["containers"][0]["resources"] = {"limits": {"cpu": 1, "memory": "512Mi"}}
    spelt["volumes"][-1]["emptyDir"] = {}
    patch = {"spec": {"template": {"spec": spelt, "metadata": {"labels": {"app": "podinfo", "tier": "web"}}}}}
    await made.merge(targets.target_ref(await made.about()), patch)
    assert await fingerprint(made) == before


async def test_the_deployment_controller_does_not_make_the_engine_write(stage, eventually):
    made = await stage(deployment(), *configs())
    await initialise(made)

    async def is_seen():
        primary = await made.get("apps/v1", "Deployment", "podinfo-primary")
        annotations = primary["metadata"].get("annotations", {})
        return "deployment.kubernetes.io/revision" in annotations and primary["status"].get("observedGeneration")

    await eventually(is_seen)
    assert await nothing_to_do(made) == []
    await made.do(promote)
    await eventually(is_seen)
    assert await made.do(promote) == []


async def test_scaling_takes_nothing_else_from_its_owner(stage, member):
    made = await stage(deployment(), *configs())
    target = targets.target_ref(await made.about())
    manifest = {**deployment(replicas=3), "metadata": {"name": "podinfo", "namespace": made.namespace}}
    await member.api.apply(await made.hands.path(target), manifest, manager="fleet-rollout")
    await made.do(targets.scale_down)
    fields = {each["manager"]: each["fieldsV1"] for each in (await made.find(target))["metadata"]["managedFields"]}
    assert "f:template" in fields["fleet-rollout"]["f:spec"]
    assert "f:replicas" not in fields["fleet-rollout"]["f:spec"]


async def test_an_immutable_config_may_be_replaced(stage, member):
    made = await stage(deployment(), *configs())
    await initialise(made)
    about = await made.about()
    files = targets.target_ref(about)._replace(api_version="v1", kind="ConfigMap", name="files")
    await member.api.delete(await made.hands.path(files))
    await made.add({**configs()[1], "binaryData": {"c": "AAI="}})
    assert await made.do(promote) == [
        "Remove ConfigMap files-primary",
        "Put ConfigMap files-primary",
        "Put Deployment podinfo-primary",
    ]
    copied = await made.find(files._replace(name="files-primary"))
    assert (copied["binaryData"], copied["immutable"]) == ({"c": "AAI="}, True)


async def test_two_canaries_share_a_config(stage):
    """The API server allows one controller only."""
    first = await stage(deployment(), *configs())
    await initialise(first)
    other = deployment(selector={"matchLabels": {"app": "backend"}})
    other["metadata"]["name"] = "backend"
    other["spec"]["template"]["metadata"]["labels"]["app"] = "backend"
    second = await stage(other, name="backend")
    await initialise(second)
    owners = (await second.get("v1", "ConfigMap", "settings-primary"))["metadata"]["ownerReferences"]
    assert [(owner["name"], owner["controller"]) for owner in owners] == [("backend", True), ("podinfo", False)]
    assert await nothing_to_do(first) == await nothing_to_do(second) == []
    assert await first.do(promote) == ["Put Deployment podinfo-primary"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"minReplicas": 2, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10}}},
        {
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99}},
                }
            ]
        },
    ],
)
async def test_an_hpa(stage, spec):
    reference = {"apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler", "name": "podinfo"}
    made = await stage(deployment(), *configs(), hpa(**spec), autoscalerRef=reference)
    assert "Put HorizontalPodAutoscaler podinfo-primary" in await initialise(made)
    assert await made.do(scalers.sync_scaler) == []
    source = scalers.reads(await made.about())[0]
    await made.merge(source, {"spec": {"maxReplicas": 7}, "metadata": {"labels": {"team": "red"}}})
    assert await made.do(scalers.create_scaler) == []
    assert await made.do(scalers.sync_scaler) == ["Put HorizontalPodAutoscaler podinfo-primary"]
    primary = await made.get("autoscaling/v2", "HorizontalPodAutoscaler", "podinfo-primary")
    assert (primary["spec"]["maxReplicas"], primary["metadata"]["labels"]) == (7, {"team": "red"})
    assert primary["spec"]["scaleTargetRef"]["name"] == "podinfo-primary"


async def test_a_scaled_object(stage, keda):
    reference = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "podinfo"}
    made = await stage(deployment(), *configs(), scaled_object(), autoscalerRef=reference)
    assert await made.do(scalers.pause_scaler) == ["Put ScaledObject podinfo"]
    assert "Put ScaledObject podinfo-primary" in await initialise(made)
    assert await made.do(scalers.sync_scaler) == []
    assert await made.do(scalers.resume_scaler) == ["Put ScaledObject podinfo"]
    await made.merge(scalers.reads(await made.about())[0], {"spec": {"maxReplicaCount": 9}})
    assert await made.do(scalers.sync_scaler) == ["Put ScaledObject podinfo-primary"]
    primary = await made.get("keda.sh/v1alpha1", "ScaledObject", "podinfo-primary")
    assert primary["spec"]["triggers"][0]["metadata"]["query"] == "rate(podinfo-primary[1m])"
    assert "annotations" not in primary["metadata"]


async def test_everything_goes_with_the_canary_and_what_was_taken_is_given_back(stage, eventually, member):
    made = await stage(deployment(), service(), *configs(), revertOnDeletion=True)
    canary = made.canary

    def hold(about, _):
        return reverting.hold(dict(about.raw))

    assert await made.do(hold) == ["Put Canary podinfo"]
    await initialise(made)
    await made.do(targets.scale_down)
    await member.api.delete(await made.hands.path(canary))
    assert await made.do(hold) == []
    assert await made.do(targets.revert_target) == ["Put Deployment podinfo"]
    assert await made.do(reverting.revert_apex) == ["Put Service podinfo"]
    about = await made.about()
    assert (await made.find(services.apex_ref(about)))["spec"]["selector"] == {"app": "podinfo"}
    assert (await made.find(targets.target_ref(about)))["spec"]["replicas"] == 2
    await made.hands.carry_out(reverting.release(dict(about.raw)))

    async def left():
        refs = targets.reads(about, await made.find(targets.target_ref(about)))
        found = {ref.name for ref in refs if await made.hands.get(ref)}
        return found == {"podinfo", "settings", "files", "token"}

    await eventually(left)


async def test_adopting_what_flagger_has_stored_changes_nothing(stage, member):
    made = await stage(deployment(), *configs())
    stored = {
        "phase": "Initialized",
        "canaryWeight": 0,
        "failedChecks": 0,
        "iterations": 0,
        "lastAppliedSpec": "5fcd6b7b4d",
        "lastPromotedSpec": "5fcd6b7b4d",
        "trackedConfigs": {"configmap/files": "bdd6f4d4d2ba4bc4"},
    }
    path = await made.hands.path(made.canary)
    await member.api.merge(f"{path}/status", {"status": stored})
    now = await fingerprint(made)
    await member.api.merge(f"{path}/status", {"status": spec_hash.adopted(stored, now)})
    status = Subject(await made.find(made.canary)).status
    assert (status["lastAppliedSpec"], status["lastPromotedSpec"]) == (now.spec, now.spec)
    assert spec_hash.adopted(status, now) == {}
