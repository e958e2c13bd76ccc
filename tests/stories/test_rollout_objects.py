"""What a rollout writes into a member, and what it says where it cannot."""

from __future__ import annotations

from typing import Any

import yaml

from tests.stories.rollouts import (
    NETWORKING,
    TESTER,
    Place,
    custom_metric,
    deployment,
    files,
    metric,
    policy,
    rollout,
    service,
)

SYNC = "web-0-attachedcluster-m2"
COMMANDS = ["hey -z 1m http://podinfo-canary/", "hey -z 1m http://podinfo-canary/other"]


async def begin(story: Any, content: dict[str, str], *policies: dict[str, Any], **settings: Any) -> Any:
    """A repository, a Fleet of m2, the service and the Application `web`."""
    repository = await story.git_repo(content)
    await story.fleet("m2")
    await story.start(loadtester_image=TESTER, **settings)
    await story.application(repository, *policies)
    return repository


async def test_a_weighted_rollout_brings_everything_that_the_engine_needs(story: Any) -> None:
    """G35: namespace, load tester, MetricTemplate and Canary as A.5 says, minus the defects of A.8 (10, 17)."""
    analysis = {
        "checkIntervalSeconds": 90,
        "checkFailedTimes": 2,
        "metrics": [metric("request-success-rate", intervalSeconds=90), custom_metric("err")],
        "webhooks": {"timeoutSeconds": 60, "command": COMMANDS},
    }
    rolled_out = rollout(story, analysis=analysis, testLoader=True)
    settled = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settled"}}
    content = files() | {"settled.yaml": yaml.safe_dump(settled)}
    await begin(story, content, policy(story, rolled_out), loadtester_cpu_limit="2", loadtester_memory_limit="")
    place = Place(story)
    canary = await place.appears()

    namespace = await place.cluster.api.get(f"/api/v1/namespaces/{story.namespace}")
    assert namespace["metadata"]["labels"]["istio-injection"] == "enabled"
    applied = await story.config_map("m2", "settled")
    # One etcd counts for both: the label was there before any object of the policy, Pods included.
    assert int(namespace["metadata"]["resourceVersion"]) < int(applied["metadata"]["resourceVersion"])

    assert canary["metadata"]["annotations"] == {
        "kurator.dev/rollout": "web-0",
        "apps.kurator.dev/engine": "flagger",
    }
    spec = canary["spec"]
    assert spec["provider"] == "istio"
    assert spec["targetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"}
    assert {key: spec["service"][key] for key in ("name", "port", "targetPort")} == {
        "name": "podinfo",
        "port": 9898,
        "targetPort": "http",
    }
    found = spec["analysis"]
    assert (found["interval"], found["threshold"], found["stepWeight"], found["maxWeight"]) == ("90s", 2, 10, 50)
    assert [each.get("templateRef") for each in found["metrics"]] == [
        None,
        {"name": "err", "namespace": story.namespace},
    ]
    hooks = [(hook["name"], hook["url"], hook["metadata"]["cmd"], hook["timeout"]) for hook in found["webhooks"]]
    url = f"http://podinfo-testloader.{story.namespace}/"
    assert hooks == [(f"generated-testload-{i}", url, command, "60s") for i, command in enumerate(COMMANDS)]

    template = await place.template("err")
    assert template is not None
    assert template["spec"]["query"] == "vector(100)"
    tester = await place.deployment("podinfo-testloader")
    assert tester is not None
    (container,) = tester["spec"]["template"]["spec"]["containers"]
    resources = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "2"}}
    assert (container["image"], container["resources"]) == (TESTER, resources)
    assert await place.find("/api/v1", "services", "podinfo-testloader") is not None
    await story.sync_condition(SYNC, "RolloutReady", "True", "Translated")


async def test_a_namespace_is_made_and_labelled_before_anything_is_in_it(story: Any) -> None:
    """A.5 step 1: istio with a namespace that neither Git nor the member has."""
    name = f"{story.namespace}-new"
    rolled_out = rollout(story)
    rolled_out["workload"]["namespace"] = name
    await begin(story, files(), policy(story, rolled_out, targetNamespace=name))
    place = Place(story, namespace=name)
    try:
        await place.appears()
        namespace = await place.cluster.api.get(f"/api/v1/namespaces/{name}")
        assert namespace["metadata"]["labels"]["istio-injection"] == "enabled"
        assert namespace["metadata"]["annotations"]["kurator.dev/rollout"] == "web-0"
    finally:
        await story.members["m2"].api.delete(f"/api/v1/namespaces/{name}")


def nginx(story: Any, name: str, **changes: Any) -> dict[str, Any]:
    routing = {"host": f"{name}.example.com"}
    return rollout(story, name, trafficRoutingProvider="nginx", routing=routing, **changes)


async def hosts(place: Place) -> list[tuple[str, str]]:
    """The shared Ingress's rules, as host and Service."""
    found = await place.ingress()
    assert found is not None
    assert found["metadata"]["annotations"]["kubernetes.io/ingress.class"] == "nginx"
    return [
        (rule["host"], path["backend"]["service"]["name"])
        for rule in found["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]


async def test_an_application_that_goes_takes_its_rule_out_of_the_shared_ingress(story: Any) -> None:
    """G36 and A.5 clean-up: only its own; the last one takes the Ingress along."""
    content = files(folder="one/") | files("other", folder="two/")
    repository = await begin(story, content, policy(story, nginx(story, "podinfo"), path="./one"))
    await story.application(repository, policy(story, nginx(story, "other"), path="./two"), name="second")
    place = Place(story)
    await place.appears()
    await place.appears("other")
    assert len(await hosts(place)) == 2
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await hosts(place) == [("other.example.com", "other")]
    assert await place.canary() is None
    assert await place.canary("other") is not None
    await story.delete("applications", "second")
    await story.gone("applications", "second")
    assert await place.ingress() is None


async def test_the_shared_ingress_gets_one_rule_a_host(story: Any) -> None:
    """G36: reconciled five times one rule; a second Application in the namespace; removal takes its own rule only."""
    analysis = {"metrics": [custom_metric("err")]}
    content = files(folder="one/") | files("other", folder="two/")
    repository = await begin(story, content, policy(story, nginx(story, "podinfo", analysis=analysis), path="./one"))
    await story.application(repository, policy(story, nginx(story, "other"), path="./two"), name="second")
    place = Place(story)
    canary = await place.appears()
    await place.appears("other")
    assert canary["spec"]["ingressRef"] == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "name": "nginx",
    }
    both = [("other.example.com", "other"), ("podinfo.example.com", "podinfo")]
    assert sorted(await hosts(place)) == both
    for number in range(5):
        await story.request(f"again-{number}")

        async def is_handled(number: int = number) -> bool:
            sync = await story.sync(SYNC)
            return bool(sync["status"].get("lastHandledReconcileAt") == f"again-{number}")

        await story.until(is_handled)
        assert sorted(await hosts(place)) == both

    await story.application(repository, policy(story, None, path="./one"))
    await place.goes()

    async def is_only_the_other() -> bool:
        return await hosts(place) == [both[0]] and await place.template("err") is None

    await story.until(is_only_the_other)
    assert await place.deployment() is not None
    await story.application(repository, policy(story, None, path="./two"), name="second")

    async def has_no_ingress() -> bool:
        return await place.ingress() is None

    await story.until(has_no_ingress)


async def test_a_namespace_that_says_the_opposite_is_a_conflict(story: Any) -> None:
    """A.5 step 1: the message names the key and the way out; nothing is overwritten; it goes on when it is gone."""
    path = f"/api/v1/namespaces/{story.namespace}"
    member = story.members["m2"]
    await member.api.merge(path, {"metadata": {"labels": {"istio-injection": "disabled"}}})
    await begin(story, files(), policy(story, rollout(story)))
    found = await story.sync_condition(SYNC, "RolloutReady", "False", "NamespaceConflict")
    assert "label key conflict: istio-injection is 'disabled'" in found["message"]
    ready = await story.condition("Ready", "False", "NamespaceConflict")
    assert "remove the label" in ready["message"]
    place = Place(story)
    assert await place.deployment() is not None
    assert await place.canary() is None
    await member.api.merge(path, {"metadata": {"labels": {"istio-injection": None}}})
    await place.appears()
    assert (await member.api.get(path))["metadata"]["labels"]["istio-injection"] == "enabled"


async def test_a_missing_service_is_named_and_waited_for(story: Any) -> None:
    """Bad input "Service missing": the rest is applied, other policies go on, and the Service ends it."""
    content = {"one/deployment.yaml": deployment("podinfo")} | files("other", folder="two/")
    policies = (
        policy(story, rollout(story), path="./one"),
        policy(story, rollout(story, "other"), path="./two", name="second"),
    )
    repository = await begin(story, content, *policies)
    found = await story.sync_condition(SYNC, "RolloutReady", "False", "ServiceNotFound")
    assert f"Service/{story.namespace}/podinfo not found" in found["message"]
    assert "rollout.serviceName" in found["message"]
    place = Place(story)
    await place.appears("other")  # defect 24: a failing rollout held up the policies after it
    assert await place.deployment() is not None
    ready = await story.condition("RolloutHealthy", "False", "ServiceNotFound")
    assert "web-0 on AttachedCluster/m2" in ready["message"]

    await story.apply(service("podinfo"), story.members["m2"])  # somebody else's Service will do
    await place.appears()
    await story.sync_condition(SYNC, "RolloutReady", "True")
    assert await repository.commit_of() in (await story.sync(SYNC))["status"]["lastAppliedRevision"]


async def test_commands_without_a_load_tester_are_refused(story: Any) -> None:
    """Design section 2: TestLoaderMissing, and no Canary is written; the Fleet's shared tester is one."""
    analysis = {"webhooks": {"timeoutSeconds": 60, "command": COMMANDS}}
    await begin(story, files(), policy(story, rollout(story, analysis=analysis)))
    found = await story.sync_condition(SYNC, "RolloutReady", "False", "TestLoaderMissing")
    assert "testLoader: true" in found["message"]
    place = Place(story)
    assert await place.canary() is None
    plugin = {"flagger": {"publicTestloader": True, "trafficRoutingProvider": "istio"}}
    await story.set_fleet(["m2"], plugin=plugin)
    canary = await place.appears()
    urls = {hook["url"] for hook in canary["spec"]["analysis"]["webhooks"]}
    assert urls == {"http://istio-system-testloader-m2-loadtester.istio-system/"}


async def test_a_plug_in_that_is_not_installed_is_named_and_holds_up_nothing(story: Any) -> None:
    """Design section 2: spec.plugin.flagger gives EngineMissing until an engine works on the Canary."""
    await begin(story, files(), policy(story, rollout(story)))
    place = Place(story)
    await place.appears()
    await story.set_fleet(["m2"], plugin={"flagger": {"trafficRoutingProvider": "istio"}})
    found = await story.condition("EngineMissing", "True", "NotSupportedYet")
    fleet = f"Fleet/{story.namespace}/fleet"
    assert found["message"] == (
        f"{fleet} spec.plugin.flagger is not carried out yet; install Flagger by hand in AttachedCluster/m2"
    )
    await place.judge("Initialized", "first")
    await story.condition("Ready", "True")
    conditions = (await story.read())["status"]["conditions"]
    assert "EngineMissing" not in [each["type"] for each in conditions]


async def test_the_fleet_says_what_runs_the_canary_and_the_older_of_two_has_the_say(story: Any) -> None:
    """Design section 2: the engine is written on the Canary; EngineConflict on Applications of the newer Fleet."""
    content = files(folder="one/") | files("other", folder="two/")
    repository = await begin(story, content, policy(story, rollout(story), path="./one"))
    place = Place(story)
    await place.appears()
    await story.set_fleet(["m2"], rolloutEngine={"mode": "Agent"})

    async def is_run_by_an_agent(name: str) -> bool:
        canary = await place.canary(name)
        return canary is not None and canary["metadata"]["annotations"]["apps.kurator.dev/engine"] == "agent"

    await story.until(lambda: is_run_by_an_agent("podinfo"))
    await story.set_fleet(["m2"], name="newer", rolloutEngine={"mode": "Flagger"})
    second = policy(story, rollout(story, "other"), path="./two")
    await story.application(repository, second, name="second", fleet="newer")
    await story.until(lambda: is_run_by_an_agent("other"))
    found = await story.condition("EngineConflict", "True", "FleetsDisagree", name="second")
    assert found["message"] == (
        f"AttachedCluster/m2: Fleet/{story.namespace}/fleet is older and has engine Agent,"
        f" Fleet/{story.namespace}/newer wants Flagger; set spec.rolloutEngine.mode alike,"
        " or take the cluster out of one of them"
    )
    conditions = (await story.read())["status"]["conditions"]
    assert "EngineConflict" not in [each["type"] for each in conditions]
    await story.set_fleet(["m2"], name="newer", rolloutEngine={"mode": "Agent"})

    async def is_settled() -> bool:
        types = [each["type"] for each in (await story.read("second"))["status"]["conditions"]]
        return "EngineConflict" not in types

    await story.until(is_settled)


async def test_another_provider_gets_a_canary_of_its_own(story: Any) -> None:
    """Routes of the last provider would stay otherwise: its rollout is removed first, traffic and all."""
    repository = await begin(story, files(), policy(story, rollout(story)))
    place = Place(story)
    before = await place.appears()
    await story.application(repository, policy(story, rollout(story, trafficRoutingProvider="linkerd")))

    async def is_another() -> bool:
        found = await place.canary()
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    await story.until(is_another)
    after = await place.canary()
    assert after is not None
    assert after["spec"]["provider"] == "linkerd"


async def test_the_autoscaler_of_the_workload_is_named_unless_it_is_turned_off(story: Any) -> None:
    """Part 9: autoscalerRef where an HPA targets the workload (Kurator leaves it out); a field turns it off."""
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "scale-podinfo"},
        "spec": {
            "minReplicas": 1,
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
        },
    }
    content = files() | {"scaler.yaml": yaml.safe_dump(scaler)}
    repository = await begin(story, content, policy(story, rollout(story)))
    place = Place(story)
    canary = await place.appears()
    assert canary["spec"]["autoscalerRef"] == {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "name": "scale-podinfo",
    }
    await story.application(repository, policy(story, rollout(story, autoscaler=False)))

    async def is_left_out() -> bool:
        found = await place.canary()
        return found is not None and "autoscalerRef" not in found["spec"]

    await story.until(is_left_out)


async def test_a_metric_that_is_taken_out_takes_its_template_along(story: Any) -> None:
    """Rule 6: what an earlier translation brought and is no longer wanted is pruned; the Canary stays."""
    metrics = [custom_metric("err"), custom_metric("late")]
    repository = await begin(story, files(), policy(story, rollout(story, analysis={"metrics": metrics})))
    place = Place(story)
    before = await place.appears()
    assert await place.template("late") is not None
    await story.application(repository, policy(story, rollout(story, analysis={"metrics": metrics[:1]})))

    async def is_pruned() -> bool:
        return await place.template("late") is None

    await story.until(is_pruned)
    assert await place.template("err") is not None
    after = await place.canary()
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [each["name"] for each in after["spec"]["analysis"]["metrics"]] == ["err"]


async def test_a_template_of_two_policies_goes_with_the_last_that_asks_it(story: Any) -> None:
    """Dropped by both in one edit, and by one after the other."""
    names = ("one", "two")
    content = files("one", folder="one/") | files("two", folder="two/")

    def policies(*asking: str) -> list[dict[str, Any]]:
        metrics = {name: [metric("request-duration"), *([custom_metric("err")] * (name in asking))] for name in names}
        return [
            policy(story, rollout(story, name, analysis={"metrics": metrics[name]}), name=name, path=f"./{name}")
            for name in names
        ]

    async def asked(*asking: str) -> None:
        await story.application(repository, *policies(*asking))

        async def is_carried_out() -> bool:
            counts = [len((await place.canary(name))["spec"]["analysis"]["metrics"]) for name in names]
            kept = (await place.template("err")) is not None
            return counts == [1 + (name in asking) for name in names] and kept is bool(asking)

        await story.until(is_carried_out)

    repository = await begin(story, content, *policies(*names))
    place = Place(story)
    for name in names:
        await place.appears(name)
    for asking in ((), names, ("two",), (), names, ("one",), ()):
        await asked(*asking)


async def test_a_load_tester_goes_and_comes_with_its_field(story: Any) -> None:
    """A.5 step 2: false takes Deployment and Service away; the workload's Canary stays the one it was."""
    repository = await begin(story, files(), policy(story, rollout(story, testLoader=True)))
    place = Place(story)
    before = await place.appears()
    await place.judge("Initialized", "first")
    await story.condition("Ready", "True")

    async def tester() -> list[Any]:
        name = "podinfo-testloader"
        return [await place.deployment(name), await place.find("/api/v1", "services", name)]

    async def is_gone() -> bool:
        return await tester() == [None, None]

    async def is_there() -> bool:
        return None not in await tester()

    assert await is_there()
    await story.application(repository, policy(story, rollout(story, testLoader=False)))
    await story.until(is_gone)
    await story.condition("Ready", "True")
    await story.application(repository, policy(story, rollout(story, testLoader=True)))
    await story.until(is_there)
    after = await place.canary()
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]


async def test_another_workload_gets_its_canary_after_the_old_one_is_removed(story: Any) -> None:
    """Design section 7, removing a rollout: the old workload is led back first, and its tester goes with it."""
    content = files(folder="a/", replicas=2) | files("other", folder="b/")
    content["kustomization.yaml"] = yaml.safe_dump({"resources": sorted(content)})
    repository = await begin(story, content, policy(story, rollout(story, testLoader=True)))
    place = Place(story)
    await place.appears()
    await story.condition("Ready", "Unknown")
    # As the engine does.
    await place.cluster.kubectl("scale", "deployment", "podinfo", "--replicas=0", "-n", story.namespace)
    await story.application(repository, policy(story, rollout(story, "other", testLoader=True)))
    await place.appears("other")
    assert await place.canary() is None
    restored = await place.deployment()
    assert restored is not None
    assert restored["spec"]["replicas"] == 2
    assert await place.deployment("podinfo-testloader") is None
    assert await place.deployment("other-testloader") is not None
    assert await place.find(NETWORKING, "ingresses", "nginx") is None
    await place.judge("Initialized", "other", name="other")
    await story.condition("Ready", "True")
