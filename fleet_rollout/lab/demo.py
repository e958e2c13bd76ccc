"""The demo: one commit reaches three clusters, each judges it with its own metrics, and the Application tells.

Everything is real but the kubelet (lab.py). Ends with 0 only if all that it promises was seen in the
Application's status and in the members; every step has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from fleet_rollout.lab import demo_table, flagger
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.demo_controller import Controller
from fleet_rollout.lab.demo_table import Row, Witness
from fleet_rollout.lab.lab import KubectlFailed, Lab, LabCluster
from fleet_rollout.lab.load import Load, Tally
from fleet_rollout.lab.repository import GitFailed, Repository
from fleet_rollout.lab.state import LabError
from fleet_rollout.processes import ProgramTimeout

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "config" / "crd"
EXAMPLE = ROOT / "examples" / "rollout" / "canary"
APPLICATION = "/apis/apps.kurator.dev/v1alpha1/namespaces/default/applications/rollout-demo"
POLICY = "rollout-demo-0-"
BRANCH = "master"
DEPLOYMENT = "deploy/webapp/deployment.yaml"
IMAGE = "ghcr.io/stefanprodan/podinfo"
FIRST, SECOND = "6.5.4", "6.6.0"
HOST = "backend.webapp"
URL_OF_THE_EXAMPLE = "https://github.com/stefanprodan/podinfo"

INITIALIZED_WITHIN = 180.0
SUCCEEDED_WITHIN = 300.0
RETRY = 0.5
# Visitors beside the load tester's requests, so that the shares are live traffic's.
VISITS_PER_SECOND = 10.0


class DemoFailed(Exception):
    """A promise was not kept: what was expected, and what was seen instead."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected: {expected}\nseen: {seen}")


FAILURES = (
    DemoFailed,
    LabError,
    KubectlFailed,
    GitFailed,
    ProgramTimeout,
    ApiAnswer,
    aiohttp.ClientError,
    TimeoutError,
)


async def run(*, members: int = 3, keep: bool = False, version: str = SECOND) -> int:
    """Run the demo; the exit code of the command. With `keep` it stays up until Ctrl-C.

    `version` is what the second commit asks for; one that errs (sample.py) makes the demo fail, as it should.
    """
    if not EXAMPLE.exists():
        raise LabError("the demo needs the files of the repository: run it in a clone (`make demo`)")
    demo = Demo(version)
    async with Lab(members) as lab, Controller(lab) as controller:
        if not await _succeeds(demo, lab, controller):
            return 1
        await _look_around(lab, demo, keep)
    return 0


async def _succeeds(demo: Demo, lab: Lab, controller: Controller) -> bool:
    failures: ExceptionGroup[Exception] | None = None
    try:
        await demo.play(lab, controller)
    except* FAILURES as found:
        failures = found
    if failures is None:
        return True
    print(f"\nthe demo failed at: {demo.step}")
    for failure in _flat(failures):
        print(failure)
    print(f"\n{controller.last_words()}", flush=True)
    return False


def _flat(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for failure in group.exceptions:
        if isinstance(failure, ExceptionGroup):
            yield from _flat(failure)
        else:
            yield failure


class Demo:
    """The steps, in order."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._started = time.monotonic()
        self._rows: list[Row] = []
        self.step = "starting the clusters"
        self.repository: Repository | None = None

    async def play(self, lab: Lab, controller: Controller) -> None:
        self._say(f"hub and {len(lab.members)} members are up")
        self._next("installing gateway, Prometheus and Flagger in the members, the CRDs on the hub")
        async with asyncio.TaskGroup() as group:
            for member in lab.members.values():
                group.create_task(flagger.install(member))
            group.create_task(_install(lab.hub))
        self._say("gateway, Prometheus and Flagger run in every member, the CRDs are on the hub")
        self._next("starting the controller")
        await controller.start()
        self._say("fleet-rollout controller is ready")
        repository = await self._commit_first(lab)
        await lab.hub.kubectl("apply", "-f", "-", stdin=_fleet(lab))
        await lab.hub.kubectl("apply", "-f", "-", stdin=_application(repository.url))
        self._say("kubectl apply -f examples/rollout/canary/application.yaml")
        with demo_table.view() as view:
            await self._initialized(lab, view)
            async with _visitors(lab) as tallies:
                commit = await self._commit_second(lab, repository)
                await self._succeeded(lab, view, commit)
        await self._promoted(lab)
        for name, tally in tallies.items():
            versions = ", ".join(f"{count} by {version}" for version, count in sorted(tally.versions.items()))
            print(f"  {name}: {tally.total} visits, {tally.failed} failed, answered {versions}")

    async def _commit_first(self, lab: Lab) -> Repository:
        self._next("serving the Git repository")
        self.repository = await lab.git.create("podinfo")
        await self.repository.commit(_source(), branch=BRANCH, message=f"Release {FIRST}")
        return self.repository

    async def _initialized(self, lab: Lab, view: demo_table.View) -> None:
        self._next("every member's Canary is Initialized, and the Application is Ready")

        def done(application: Object) -> bool:
            phases = {row.cluster: row.phase for row in self._rows}
            return demo_table.is_ready(application) and phases == dict.fromkeys(lab.members, "Initialized")

        await self._follow(lab, view, done, INITIALIZED_WITHIN)
        self._say(f"version {FIRST} serves in every member")

    async def _commit_second(self, lab: Lab, repository: Repository) -> str:
        self._next("committing the new image")
        content = _source()[DEPLOYMENT].replace(f"{IMAGE}:{FIRST}", f"{IMAGE}:{self._version}")
        commit = await repository.commit({DEPLOYMENT: content}, branch=BRANCH, message=f"Release {self._version}")
        # What a push announced to the receiver does; the interval of three minutes would do it, too.
        now = f"reconcile.fluxcd.io/requestedAt={time.time_ns()}"
        await lab.hub.kubectl("annotate", "--overwrite", "application", "rollout-demo", now)
        self._say(f"git commit -m 'Release {self._version}' ({commit[:8]})")
        return commit

    async def _succeeded(self, lab: Lab, view: demo_table.View, commit: str) -> None:
        self._next("every row goes through Progressing with a weight above 0 to Succeeded; the Application is Ready")
        witness = Witness()

        def done(application: Object) -> bool:
            witness.see(self._rows, commit)
            if any(row.phase == "Failed" for row in self._rows):
                return True
            return not list(witness.missing(lab.members)) and demo_table.is_ready(application)

        try:
            await self._follow(lab, view, done, SUCCEEDED_WITHIN)
        except DemoFailed as failure:
            raise DemoFailed(self.step, "; ".join([*witness.missing(lab.members), str(failure)])) from None
        if failed := [row.cluster for row in self._rows if row.phase == "Failed"]:
            told = [await _warnings(lab.members[name]) for name in failed]
            raise DemoFailed(self.step, f"rolled back in {', '.join(failed)}\n" + "\n".join(told))
        self._say("every member reports Succeeded")

    async def _promoted(self, lab: Lab) -> None:
        self._next(f"backend-primary runs {IMAGE}:{self._version} in every member")
        for name, member in lab.members.items():
            path = "/apis/apps/v1/namespaces/webapp/deployments/backend-primary"
            primary = await member.api.get(path)
            image = primary["spec"]["template"]["spec"]["containers"][0]["image"]
            if image != f"{IMAGE}:{self._version}":
                raise DemoFailed(self.step, f"{image} in {name}")
        self._say(self.step)

    async def _follow(self, lab: Lab, view: demo_table.View, done: Callable[[Object], bool], seconds: float) -> None:
        """Show the Application at every change until `done` says so."""
        latest: Object = {}
        try:
            async with asyncio.timeout(seconds):
                async for latest in _versions(lab.hub):
                    self._rows = demo_table.rows_of(latest, POLICY)
                    view.show(self._rows)
                    if done(latest):
                        return
        except TimeoutError:
            raise DemoFailed(f"{self.step} within {seconds:g}s", _summary(latest)) from None

    def _next(self, step: str) -> None:
        self.step = step

    def _say(self, fact: str) -> None:
        print(f"[{time.monotonic() - self._started:5.1f}s] {fact}", flush=True)


async def _install(hub: LabCluster) -> None:
    await hub.kubectl("apply", "--server-side", "-k", str(CRDS))
    await hub.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    await hub.kubectl("create", "namespace", "fleet-rollout-system")


def _source() -> dict[str, str]:
    root = EXAMPLE / "source"
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.yaml"))}


def _application(url: str) -> str:
    text = (EXAMPLE / "application.yaml").read_text()
    assert URL_OF_THE_EXAMPLE in text
    return text.replace(URL_OF_THE_EXAMPLE, url)


def _fleet(lab: Lab) -> str:
    """The members' kubeconfigs, the members, and the Fleet `quickstart` of them."""
    items: list[Object] = []
    for name, member in lab.members.items():
        content = {"value": member.kubeconfig.read_text()}
        items.append({"apiVersion": "v1", "kind": "Secret", "metadata": _named(name), "stringData": content})
        items.append(
            {
                "apiVersion": "cluster.kurator.dev/v1alpha1",
                "kind": "AttachedCluster",
                "metadata": _named(name),
                "spec": {"kubeconfig": {"name": name, "key": "value"}},
            }
        )
    clusters = [{"kind": "AttachedCluster", "name": name} for name in lab.members]
    spec = {"clusters": clusters, "rolloutEngine": {"mode": "Flagger"}}
    fleet = {
        "apiVersion": "fleet.kurator.dev/v1alpha1",
        "kind": "Fleet",
        "metadata": _named("quickstart"),
        "spec": spec,
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items, fleet]})


def _named(name: str) -> Object:
    return {"name": name, "namespace": "default"}


async def _versions(hub: LabCluster) -> AsyncIterator[Object]:
    """The Application, now and after every change."""
    collection, _, name = APPLICATION.rpartition("/")
    while True:
        with contextlib.suppress(ApiAnswer, aiohttp.ClientError):
            current = await hub.api.get(APPLICATION)
            yield current
            version = current["metadata"]["resourceVersion"]
            async for event in hub.api.watch(collection, version, fieldSelector=f"metadata.name={name}"):
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]
        await asyncio.sleep(RETRY)


async def _warnings(member: LabCluster) -> str:
    """What Flagger found fault with."""
    events = await member.api.items("/api/v1/namespaces/webapp/events")
    found = sorted((e.get("lastTimestamp") or "", e["message"]) for e in events if e["type"] == "Warning")
    return "\n".join(f"  {member.name}: {time} {message}" for time, message in found)


def _summary(application: Object) -> str:
    conditions = application.get("status", {}).get("conditions", [])
    told = [f"{c['type']}={c['status']} {c.get('reason', '')}: {c.get('message', '')}" for c in conditions]
    rows = [" ".join(row.cells()) for row in demo_table.rows_of(application, POLICY)]
    return "\n  ".join(["", *told, *rows]) if told or rows else "an Application without status"


@contextlib.asynccontextmanager
async def _visitors(lab: Lab) -> AsyncIterator[Mapping[str, Tally]]:
    """A little traffic from outside through every member's gateway."""
    async with contextlib.AsyncExitStack() as stack:
        tallies = {}
        for name, member in lab.members.items():
            load = Load(await flagger.gateway_address(member), HOST, rate=VISITS_PER_SECOND, workers=1)
            tallies[name] = (await stack.enter_async_context(load)).tally
        yield tallies


async def _look_around(lab: Lab, demo: Demo, keep: bool) -> None:
    print("\n$ kubectl get application rollout-demo -o yaml")
    print(await lab.hub.kubectl("get", "application", "rollout-demo", "-o", "yaml"))
    print(await lab.hub.kubectl("get", "application,clustersync"), flush=True)
    if not keep:
        print("`fleet-rollout lab demo --keep` (make demo ARGS=--keep) leaves it running, to look around by hand.")
        return
    for name, cluster in lab.clusters.items():
        print(f"export KUBECONFIG={cluster.kubeconfig}   # {name}")
    assert demo.repository is not None
    print(f"git clone {demo.repository.url}   # push a commit; it is seen within three minutes")
    for name, member in lab.members.items():
        print(f"curl -H 'Host: {HOST}' http://{await flagger.gateway_address(member)}/   # {name}'s gateway")
    print("Ctrl-C ends it all.", flush=True)
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    await interrupted.wait()
