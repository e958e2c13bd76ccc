"""Classes of bugs of controllers by their numbers in trust.md 2, where no other test has them (docs/reliability.md)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.proxy import FaultProxy
from tests.faults.rules import Events, Hold, Slow, lost_once, refusal
from tests.stories.oracles import SYNCS
from tests.stories.plain import fleet
from tests.stories.replicas import Launcher
from tests.stories.scenario import GENERATIONS, VOLATILE, Run, guarded, in_thread, proxied, without

Object = dict[str, Any]
DEADLINE = 120.0
SCHEMA = Path(__file__).parents[2] / "config" / "crd" / "apps.kurator.dev_applications.yaml"


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def new_run(
    crds: None, hub: Any, members: Any, namespace: Any, git_repo: Any, launcher: Launcher, tmp_path: Path
) -> Callable[..., Awaitable[Run]]:
    async def make(**fields: Any) -> Run:
        name = await namespace("class", on=[hub])
        return Run(hub, members["m2"], name, tmp_path / name, launcher, git_repo, **fields)

    return make


@pytest.fixture
def done(eventually: Any) -> Callable[[Run], Awaitable[None]]:
    """Waits until the present act of a run has come to its end."""

    async def wait(run: Run) -> None:
        await eventually(run.is_done, DEADLINE)

    return wait


async def test_class_3_nothing_is_made_twice_while_its_own_writes_are_unseen(new_run: Any, done: Any) -> None:
    """Every watch of ClusterSyncs is held: what it wrote itself is known from the answers."""
    run = await new_run()
    hold = Hold()
    run.faults.on(hold, times=None, verb="watch", resource=SYNCS)
    async with proxied(run):
        await run.first_commit()
        await done(run)
        assert hold.arrived.is_set()
        await run.second_commit()
        await done(run)
        hold.release()
        run.act = 2
        await run.removal()
        await done(run)
    run.check()
    created = Counter(asked.key.name for asked in run.faults.writes if asked.key.verb == "create")
    assert created == {"web-0-attachedcluster-m1": 1}


async def test_class_4_events_twice_no_bookmarks_and_watches_that_break(new_run: Any) -> None:
    """The last state suffices: it ends as without, and nothing is written more often."""
    model = await new_run()
    async with proxied(model):
        await model.play(None)
    run = await new_run()

    def told(event: Object) -> list[Object]:
        return [] if event["type"] == "BOOKMARK" else [event, event]

    # Of each watch the first answer is that its version is forgotten; from the second on it tells everything twice.
    forgotten: set[Any] = set()

    def is_first(asked: Any) -> bool:
        is_new = asked.key.verb == "watch" and asked.key not in forgotten
        forgotten.update({asked.key} if is_new else ())
        return is_new

    run.faults.when(is_first, refusal(410), times=None)
    run.faults.on(Events(told), times=None, verb="watch")
    hub = FaultProxy("hub", run.hub.server, run.hub.ca, run.faults)
    member = FaultProxy("m1", run.member.server, run.member.ca, run.faults)

    async def breaking() -> None:
        """A cut after every fifth write."""
        count = 0
        while True:
            await asyncio.sleep(0.05)
            if len(run.faults.writes) >= count + 5:
                count = len(run.faults.writes)
                hub.cut_all()
                member.cut_all()

    async with in_thread(hub), in_thread(member):
        await run.begin(hub, member)
        try:
            await guarded(run.play(model.pictures), breaking())
        finally:
            await run.end()
    run.check()
    assert run.restarts == 0


async def test_class_4_each_event_lost_once_with_its_connection(new_run: Any) -> None:
    """Hub and member: the next connection begins where the last event was that arrived."""
    model, run = await new_run(), await new_run()
    async with proxied(model):
        await model.play(None)
    run.faults.on(lost_once(), times=None, verb="watch")
    async with proxied(run):
        await run.play(model.pictures)
    run.check()
    assert run.restarts == 0


async def test_class_9_a_status_is_written_beside_the_spec(new_run: Any, done: Any) -> None:
    """On real API servers: what the user wrote stays as it is, and only users move the generation."""
    run = await new_run()
    async with proxied(run):
        await run.first_commit()
        before = await run.hub.api.get(run.path("applications", "web"))
        await done(run)
        after = await run.hub.api.get(run.path("applications", "web"))
        (sync,) = await run.hub.api.items(run.path("clustersyncs"))
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] == 1
    assert sync["metadata"]["generation"] == 1
    assert sync["status"]["observedGeneration"] == after["status"]["observedGeneration"] == 1
    for asked in run.faults.writes:
        if asked.key.cluster == "hub" and asked.key.verb == "patch":
            paths = {op["path"].split("/")[1] for op in asked.body} if isinstance(asked.body, list) else {*asked.body}
            assert paths <= ({"status", "metadata"} if asked.key.subresource else {"metadata", "spec"}), asked


async def test_class_10_a_member_that_trickles_holds_up_itself_and_is_seen(
    new_run: Any, members: Any, eventually: Any
) -> None:
    """One member sends a byte a second: the other is brought up to date, and a metric names the age of what waits."""
    run = await new_run()
    faults = run.faults
    hub = FaultProxy("hub", run.hub.server, run.hub.ca, faults)
    well = FaultProxy("m1", run.member.server, run.member.ca, faults)
    slow = FaultProxy("slow", members["m3"].server, members["m3"].ca, faults)
    faults.on(Slow(1), times=None, cluster="slow")

    async def is_applied() -> bool:
        sync = await run.hub.api.find(run.path("clustersyncs", "web-0-attachedcluster-m1")) or {}
        return (sync.get("status") or {}).get("lastAppliedRevision", "").endswith(await run.repository.commit_of())

    async def is_seen() -> bool:
        return await run.replica.metric("fleet_rollout_oldest_key_age_seconds") > 3

    async with in_thread(hub), in_thread(well), in_thread(slow):
        await add_member(run, "slow", slow.kubeconfig(members["m3"].kubeconfig.read_bytes()))
        await run.begin(hub, well)
        objects = fleet(run.namespace, b"", run.mode)
        ((_, both),) = [each for each in objects if each[0] == "fleets"]
        both["spec"]["clusters"].append({"kind": "AttachedCluster", "name": "slow"})
        await run.hub.api.apply(run.path("fleets", "fleet"), both, manager="story")
        try:
            await run.first_commit()
            await eventually(is_applied, DEADLINE)
            await eventually(is_seen, DEADLINE)
            await run.second_commit()
            await eventually(is_applied, DEADLINE)
            stuck = await run.hub.api.find(run.path("clustersyncs", "web-0-attachedcluster-slow")) or {}
            assert not (stuck.get("status") or {}).get("lastAppliedRevision")
        finally:
            faults.clear()
            await run.end()


async def add_member(run: Run, name: str, kubeconfig: bytes) -> None:
    for plural, obj in fleet(run.namespace, kubeconfig, run.mode)[:2]:
        text = json.dumps(obj).replace('"m1', f'"{name}')
        renamed = json.loads(text)
        await run.hub.api.apply(run.path(plural, renamed["metadata"]["name"]), renamed, manager="story")


BAD = {"path": "./nowhere"}
# Two values of each field of a kustomization.
TRANSITIONS: dict[str, tuple[Any, Any]] = {
    "interval": ("1h", "2h"),
    "retryInterval": ("1m", "2m"),
    "timeout": ("1m", "2m"),
    "prune": (True, False),
    "path": ("./one", "./two"),
    "targetNamespace": ("FIRST", "SECOND"),
    "namePrefix": ("a-", "b-"),
    "nameSuffix": ("-a", "-b"),
    "force": (False, True),
    "suspend": (False, True),
    "patches": (
        [{"patch": '[{"op": "add", "path": "/data/p", "value": "1"}]', "target": {"kind": "ConfigMap"}}],
        [{"patch": '[{"op": "add", "path": "/data/p", "value": "2"}]', "target": {"kind": "ConfigMap"}}],
    ),
    "images": ([{"name": "web", "newTag": "1"}], [{"name": "web", "newTag": "2"}]),
    "commonMetadata": ({"labels": {"team": "a"}}, {"labels": {"group": "b"}}),
    "components": ([], ["../three"]),
    "wait": (False, True),
    "healthChecks": ([], [{"apiVersion": "v1", "kind": "ConfigMap", "name": "cm", "namespace": "FIRST"}]),
    "healthCheckExprs": ([], [{"apiVersion": "v1", "kind": "ConfigMap", "current": "true"}]),
    "deletionPolicy": ("MirrorPrune", "Orphan"),
    "allowEmpty": (False, True),
    "dependsOn": ([], [{"name": "other-0-attachedcluster-m2"}]),
    "serviceAccountName": ("one", "two"),
}


def fields() -> list[str]:
    """The fields of a kustomization, from the CRD."""
    (version,) = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"]
    policies = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["syncPolicies"]
    return list(policies["items"]["properties"]["kustomization"]["properties"])


def test_class_8_every_field_of_the_crd_has_a_transition() -> None:
    assert set(fields()) == TRANSITIONS.keys()


def placed(values: Any, first: str, second: str) -> Any:
    """The values with the namespaces of the test in them."""
    return json.loads(json.dumps(values).replace("FIRST", first).replace("SECOND", second))


def content() -> dict[str, str]:
    """Two folders with objects of the same names, and a component."""
    files = {}
    for folder in ("one", "two"):
        pod = {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "web", "image": "web:0"}]}}
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": "w"}}, "template": pod}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"}, "spec": spec}
        cm = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"folder": folder}}
        files[f"{folder}/objects.yaml"] = yaml.safe_dump_all([cm, deployment])
        files[f"{folder}/kustomization.yaml"] = yaml.safe_dump({"resources": ["objects.yaml"]})
    component = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "commonAnnotations": {"c": "1"}}
    return files | {"three/kustomization.yaml": yaml.safe_dump(component)}


async def test_class_8_there_and_back_is_as_fresh(story: Any, namespace: Any) -> None:
    """S1 -> S2 -> S1 = S1, for each field of a kustomization; and a bad spec is recovered from."""
    repository = await story.git_repo(content())
    await story.fleet("m2")
    await story.start(status_interval=0.1)
    first, second = story.namespace, await namespace("second", on=[story.members["m2"]])

    async def one(number: int, field: str, pair: tuple[Any, Any]) -> None:
        name = f"t{number}"
        base = {"targetNamespace": first, "path": "./one", "namePrefix": f"{name}-"}
        values = [{field: own(field, value, name)} for value in placed(pair, first, second)]
        found = []
        for change, ready in ((values[0], "True"), (values[1], "True"), (BAD, "False"), (values[0], "True")):
            await story.application(repository, base | change, name=name)
            await story.condition("Ready", ready, name=name, timeout=DEADLINE)
            found.append(await seen(story, name, first, second))
        assert found[1] != found[0], f"{field}: {pair[1]} has changed nothing"
        assert found[-1] == found[0], f"{field}: {pair[1]} or a bad spec left something behind"

    await let_accounts_act(story, first)
    await story.application(
        repository, {"targetNamespace": first, "path": "./one", "namePrefix": "other-"}, name="other"
    )
    await asyncio.gather(*(one(number, field, pair) for number, (field, pair) in enumerate(TRANSITIONS.items())))


async def let_accounts_act(story: Any, namespace: str) -> None:
    """Every service account of the namespace may write in it, in the member."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "accounts", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": f"system:serviceaccounts:{namespace}"}],
    }
    await story.apply(binding, story.members["m2"])


def own(field: str, value: Any, name: str) -> Any:
    """Objects of each field's Application have a name of their own."""
    if field == "namePrefix":
        return f"{name}-{value}"
    if field == "healthChecks":
        return [{**check, "name": f"{name}-cm"} for check in value]
    return value


async def seen(story: Any, name: str, *namespaces: str) -> Object:
    """What an Application has in the member, and its ClusterSync, without what differs each time."""
    found: Object = {}
    for space in namespaces:
        for path in (f"/api/v1/namespaces/{space}/configmaps", f"/apis/apps/v1/namespaces/{space}/deployments"):
            for obj in await story.members["m2"].api.items(path):
                if obj["metadata"].get("labels", {}).get("apps.kurator.dev/app-name") == name:
                    plain = without(obj, VOLATILE | GENERATIONS | {"status"})
                    found[f"{space} {path.rpartition('/')[2]} {obj['metadata']['name']}"] = plain
    syncs = await story.hub.api.items(story.path("clustersyncs"))
    (sync,) = [sync for sync in syncs if sync["spec"]["application"] == name]
    found["spec"] = without(sync["spec"], VOLATILE)
    found["inventory"] = sync["status"]["inventory"]
    return found
