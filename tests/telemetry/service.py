"""A process that measures as the service does, with the service's own counters and its own page; no cluster is there.

`python -m tests.telemetry.service PORT` serves /metrics, /mesh (what the members' meshes count), and takes
`POST /scene/<name>`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from aiohttp import web

from fleet_rollout import measures
from fleet_rollout.faces.telemetry import Probes, application
from fleet_rollout.notify.alerts import ALERTS_DROPPED
from tests.telemetry import mesh

BEAT = 0.2
POLICY = "fleet-rollout-clustersyncs"
HERE, NAMESPACE, TARGET = "m1", "shop", "web"
OF_WEB = {"name": TARGET, "namespace": NAMESPACE, "cluster": HERE}


def always() -> None:
    for up in ("m1", "m2", "m3"):
        measures.MEMBER_UP.labels(cluster=f"AttachedCluster/{up}").set(1)
        measures.WATCH_AGE.labels(cluster=f"AttachedCluster/{up}").set(20)
    measures.REQUESTS.labels(target="hub", verb="GET", code="2xx").inc()
    measures.reconciled("ClusterSync", "success", 0.1)
    measures.CANARY_TOTAL.labels(namespace=NAMESPACE, cluster=HERE).set(4)
    measures.CANARY_METRIC.labels(**OF_WEB, metric="request-success-rate").set(99.5)
    measures.CANARY_DURATION.labels(**OF_WEB).observe(0.3)
    for workload, share in ((TARGET, 30), (f"{TARGET}-primary", 70)):
        measures.CANARY_WEIGHT.labels(workload=workload, namespace=NAMESPACE, cluster=HERE).set(share)
    for counter in (measures.CANARY_SUCCESSES, measures.CANARY_FAILURES):
        counter.labels(**OF_WEB, deployment_strategy="canary", analysis_status="completed").inc()


def well() -> None:
    always()
    measures.LEADER.set(1)
    measures.POLICY_BOUND.labels(policy=POLICY).set(1)
    measures.OLDEST_KEY_AGE.labels(queue="syncs").set(0.5)
    measures.TICK_LATENESS.observe(0.01)
    measures.show_phase(TARGET, NAMESPACE, HERE, "Succeeded")


def troubled() -> None:
    always()
    measures.LEADER.set(0)
    measures.POLICY_BOUND.labels(policy=POLICY).set(0)
    measures.OLDEST_KEY_AGE.labels(queue="syncs").set(1200)
    measures.TICK_LATENESS.observe(60)
    measures.MEMBER_UP.labels(cluster="AttachedCluster/m2").set(0)
    measures.WATCH_AGE.labels(cluster="AttachedCluster/m3").set(1000)
    measures.REQUESTS.labels(target="hub", verb="GET", code="none").inc()
    measures.reconciled("ClusterSync", "error", 0.1)
    measures.EVENTS_DROPPED.inc()
    ALERTS_DROPPED.inc()
    measures.CANARY_UNMEASURED.labels(**OF_WEB, metric="latency", reason="no_values").inc()
    measures.show_phase(TARGET, NAMESPACE, HERE, "Failed")
    for name, phase in (("api", "WaitingPromotion"), ("db", "Initializing"), ("job", "Progressing")):
        measures.show_phase(name, NAMESPACE, HERE, phase)


def still() -> None:
    measures.show_phase("job", NAMESPACE, HERE, "Progressing")


SCENES: dict[str, Callable[[], None]] = {"well": well, "troubled": troubled, "still": still}


class Service:
    """Plays one scene after the other."""

    def __init__(self) -> None:
        self._scene = "well"
        self._beats = 0

    def application(self) -> web.Application:
        app = application(Probes(lambda: None, lambda: None))
        app.add_routes([web.post("/scene/{name}", self._change), web.get("/mesh", self._mesh)])
        app.cleanup_ctx.append(self._playing)
        return app

    async def _change(self, request: web.Request) -> web.Response:
        self._scene = request.match_info["name"]
        return web.Response(text=self._scene)

    async def _mesh(self, _: web.Request) -> web.Response:
        return web.Response(text=mesh.page(self._beats))

    async def _playing(self, _: web.Application):
        measures.show_engine(HERE, "istio")
        task = asyncio.create_task(self._play())
        yield
        task.cancel()

    async def _play(self) -> None:
        while True:
            SCENES[self._scene]()
            self._beats += 1
            await asyncio.sleep(BEAT)


if __name__ == "__main__":
    web.run_app(Service().application(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
