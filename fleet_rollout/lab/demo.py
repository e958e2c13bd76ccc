"""The demo: three commits reach three clusters, each judges them with its own metrics, and the Application tells.

Everything is real but the kubelet (lab.py). Ends with 0 only if all that it promises was seen in the
Application's status, in the members and in their Prometheus; every step has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import aiohttp

from fleet_rollout.lab import demo_acts, demo_table, flagger, mesh
from fleet_rollout.lab.api import ApiAnswer
from fleet_rollout.lab.demo_acts import DEPLOYMENT, FIRST, GOOD, HOST, IMAGE, NAMESPACE, ROOT, Act, Engine
from fleet_rollout.lab.demo_controller import Controller
from fleet_rollout.lab.demo_figures import Figures, Measurements
from fleet_rollout.lab.demo_table import Row, Witness
from fleet_rollout.lab.lab import KubectlFailed, Lab, LabCluster
from fleet_rollout.lab.load import Load, Tally
from fleet_rollout.lab.repository import GitFailed, Repository
from fleet_rollout.lab.state import LabError
from fleet_rollout.processes import ProgramTimeout

Object = dict[str, Any]

CRDS = ROOT / "config" / "crd"
APPLICATION = "/apis/apps.kurator.dev/v1alpha1/namespaces/default/applications/rollout-demo"
PRIMARY = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/backend-primary"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
POLICY = "rollout-demo-0-"
BRANCH = "master"

INITIALIZED_WITHIN = 180.0
ENDED_WITHIN = 300.0
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


async def run(*, members: int = 3, keep: bool = False, engine: Engine = "hub", version: str = GOOD) -> int:
    """Run the demo; the exit code of the command. With `keep` it stays up until Ctrl-C.

    `version` is what the first new commit asks for; one that errs (sample.py) makes the demo fail, as it should.
    """
    if not demo_acts.EXAMPLE.exists():
        raise LabError("the demo needs the files of the repository: run it in a clone (`make demo`)")
    demo = Demo(engine, version)
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

    def __init__(self, engine: Engine, version: str) -> None:
        self._engine: Engine = engine
        self._version = version
        self._started = time.monotonic()
        self._rows: list[Row] = []
        self._running: dict[str, str] = {}  # the version that users see, by member
        self.step = "starting the clusters"
        self.repository: Repository | None = None

    async def play(self, lab: Lab, controller: Controller) -> None:
        self._say(f"hub and {len(lab.members)} members are up")
        await self._installed(lab)
        self._next("starting the controller")
        await controller.start(shortest_interval=demo_acts.SHORTEST_INTERVAL)
        self._say("fleet-rollout controller is ready")
        repository = await self._commit_first(lab)
        await lab.hub.kubectl("apply", "-f", "-", stdin=demo_acts.fleet(lab.members, self._engine))
        await lab.hub.kubectl("apply", "-f", "-", stdin=demo_acts.application(repository.url, self._engine))
        self._say("kubectl apply -f examples/rollout/canary/application.yaml")
        await self._initialized(lab)
        async with _visitors(lab) as tallies:
            for act in demo_acts.acts(list(lab.members), self._version):
                await self._act(lab, repository, act)
        for name, tally in tallies.items():
            versions = ", ".join(f"{count} by {version}" for version, count in sorted(tally.versions.items()))
            print(f"  {name}: {tally.total} visits, {tally.failed} failed, answered {versions}")

    async def _installed(self, lab: Lab) -> None:
        installs = {"hub": mesh.install, "flagger": flagger.install}
        what = {"hub": "gateway and Prometheus", "flagger": "gateway, Prometheus and Flagger"}[self._engine]
        self._next(f"installing {what} in the members, the CRDs on the hub")
        async with asyncio.TaskGroup() as group:
            for member in lab.members.values():
                group.create_task(installs[self._engine](member))
            group.create_task(_install(lab.hub))
        self._say(f"{what} run in every member, the CRDs are on the hub")

    async def _commit_first(self, lab: Lab) -> Repository:
        self._next("serving the Git repository")
        self.repository = await lab.git.create("podinfo")
        await self.repository.commit(demo_acts.source(), branch=BRANCH, message=f"Release {FIRST}")
        return self.repository

    async def _initialized(self, lab: Lab) -> None:
        self._next("every member's Canary is Initialized, and the Application is Ready")

        def done(application: Object) -> bool:
            phases = {row.cluster: row.phase for row in self._rows}
            return demo_table.is_ready(application) and phases == dict.fromkeys(lab.members, "Initialized")

        await self._follow(lab, done, INITIALIZED_WITHIN)
        self._running = dict.fromkeys(lab.members, FIRST)
        self._say(f"version {FIRST} serves in every member")

    async def _act(self, lab: Lab, repository: Repository, act: Act) -> None:
        """One commit, what it does, and the proof."""
        if act.reads_settings:
            await self._configure(lab)
        commit = await self._commit(lab, repository, act)
        measurements = Measurements(lab.members, commit)
        await self._ended(lab, act, commit, measurements)
        await self._prove(lab, act, await measurements.figures())

    async def _configure(self, lab: Lab) -> None:
        self._next(f"applying ConfigMap {demo_acts.SETTINGS} to every member")
        for name, member in lab.members.items():
            settings = demo_acts.settings_of(name, list(lab.members))
            await member.api.apply(
                f"/api/v1/namespaces/{NAMESPACE}/configmaps/{demo_acts.SETTINGS}", settings, manager="operator"
            )
            latency = settings["data"]["LATENCY_MS"]
            print(f"  {name}: kubectl apply configmap/{demo_acts.SETTINGS} with LATENCY_MS={latency}")

    async def _commit(self, lab: Lab, repository: Repository, act: Act) -> str:
        self._next("committing the new image")
        content = demo_acts.deployment(act)
        commit = await repository.commit({DEPLOYMENT: content}, branch=BRANCH, message=f"Release {act.version}")
        # What a push announced to the receiver does; the interval of three minutes would do it, too.
        now = f"reconcile.fluxcd.io/requestedAt={time.time_ns()}"
        await lab.hub.kubectl("annotate", "--overwrite", "application", "rollout-demo", now)
        self._say(f"git commit -m 'Release {act.version}' ({commit[:8]})")
        return commit

    async def _ended(self, lab: Lab, act: Act, commit: str, measurements: Measurements) -> None:
        """Until every member has come to its verdict and the Application says so; what is not promised ends it."""
        self._next(f"{act.version} is {act.promise}")
        witness = Witness(commit)
        is_told = demo_table.has_failed if "Failed" in act.verdicts.values() else demo_table.is_ready

        def done(application: Object) -> bool:
            witness.see(self._rows)
            measurements.see(self._rows)
            if list(witness.broken(act.verdicts)):
                return True
            return not list(witness.missing(act.verdicts)) and is_told(application)

        try:
            await self._follow(lab, done, ENDED_WITHIN)
        except DemoFailed as failure:
            raise DemoFailed(self.step, "; ".join([*witness.missing(act.verdicts), str(failure)])) from None
        if broken := list(witness.broken(act.verdicts)):
            failed = [name for name, end in witness.ended.items() if end == "Failed"]
            told = [await _warnings(lab.members[name]) for name in failed]
            raise DemoFailed(self.step, f"{'; '.join(broken)}\nrolled back in {', '.join(failed)}\n" + "\n".join(told))

    async def _prove(self, lab: Lab, act: Act, figures: Mapping[str, Figures]) -> None:
        """The figures of the verdicts, the reasons of the rollbacks, and what users get now."""
        for name, member in lab.members.items():
            verdict = act.verdicts[name]
            if name not in figures or not figures[name].agrees(verdict):
                raise DemoFailed(f"figures of {name} that say {verdict}", str(figures.get(name)))
            reason = f"  {await _last_halt(member)}" if verdict == "Failed" else ""
            print(f"  {name}: {act.version} {verdict}, by its Prometheus: {figures[name].text()}{reason}")
            if verdict == "Succeeded":
                self._running[name] = act.version
            image = await _image_of_primary(member)
            if image != f"{IMAGE}:{self._running[name]}":
                raise DemoFailed(f"backend-primary of {name} runs {self._running[name]}", image)
        self._say(f"{act.version}: {act.promise}; users get {_listed(self._running)}")

    async def _follow(self, lab: Lab, done: Callable[[Object], bool], seconds: float) -> None:
        """Show the Application at every change until `done` says so."""
        latest: Object = {}
        try:
            with demo_table.view() as view:
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
    await hub.crds_established()
    await hub.kubectl("create", "namespace", "fleet-rollout-system")


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


async def _image_of_primary(member: LabCluster) -> str:
    primary = await member.api.get(PRIMARY)
    return str(primary["spec"]["template"]["spec"]["containers"][0]["image"])


async def _events(member: LabCluster) -> list[Object]:
    """What the engine found fault with, oldest first."""
    events = await member.api.items(EVENTS)
    found = [event for event in events if event["type"] == "Warning"]
    return sorted(found, key=lambda event: (event.get("lastTimestamp") or "", event["metadata"]["resourceVersion"]))


async def _warnings(member: LabCluster) -> str:
    return "\n".join(f"  {member.name}: {e.get('lastTimestamp')} {e['message']}" for e in await _events(member))


async def _last_halt(member: LabCluster) -> str:
    return next((e["message"] for e in reversed(await _events(member)) if e["message"].startswith("Halt")), "")


def _listed(running: Mapping[str, str]) -> str:
    return ", ".join(f"{version} in {name}" for name, version in running.items())


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
            load = Load(await mesh.gateway_address(member), HOST, rate=VISITS_PER_SECOND, workers=1)
            tallies[name] = (await stack.enter_async_context(load)).tally
        yield tallies


async def _look_around(lab: Lab, demo: Demo, keep: bool) -> None:
    print("\n$ kubectl get application rollout-demo -o yaml")
    print(await lab.hub.kubectl("get", "application", "rollout-demo", "-o", "yaml"))
    print("$ kubectl get application,clustersync")
    print(await lab.hub.kubectl("get", "application,clustersync"), flush=True)
    if not keep:
        print("`fleet-rollout lab demo --keep` (make demo ARGS=--keep) leaves it running, to look around by hand.")
        return
    for name, cluster in lab.clusters.items():
        print(f"export KUBECONFIG={cluster.kubeconfig}   # {name}")
    assert demo.repository is not None
    print(f"git clone {demo.repository.url}   # push a commit; it is seen within three minutes")
    for name, member in lab.members.items():
        print(f"curl -H 'Host: {HOST}' http://{await mesh.gateway_address(member)}/   # {name}'s gateway")
    print("Ctrl-C ends it all.", flush=True)
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    await interrupted.wait()
