"""The gateway of a member: a Pod whose program runs an Envoy and keeps it at what the member's objects say.

Stands for Istio's ingress gateway and for the sidecars. Other played Pods of the same member find it by
two files in the cluster's folder, everybody else by its Service `istio-ingressgateway.istio-system`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from fleet_rollout.lab.api import Api
from fleet_rollout.lab.envoy import Envoy
from fleet_rollout.lab.pods import PodContext, Program, Recipe
from fleet_rollout.lab.traffic_watch import Traffic

Object = dict[str, Any]

NAMESPACE = "istio-system"
NAME = "istio-ingressgateway"
IMAGE = "lab.local/gateway:1"
PORT = 80


def address_file(cluster: Path) -> Path:
    """Holds host:port of the Envoy, in the folder of its cluster."""
    return cluster / "gateway"


def targets_file(cluster: Path) -> Path:
    """Says in Prometheus' form where the Envoy's metrics are."""
    return cluster / "gateway-targets.json"


async def run(folder: Path, kubeconfig: Path, port: int) -> None:
    """Run the gateway until SIGTERM, or until Envoy ends."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    envoy = Envoy(folder / "envoy", port)
    api = _api(kubeconfig)
    await envoy.start()
    _announce(kubeconfig.parent, envoy)
    following = asyncio.create_task(Traffic(api, envoy).run())
    ends = [asyncio.create_task(stop.wait()), asyncio.create_task(envoy.wait()), following]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if following in done:
            following.result()  # it never ends but by an error, which the log is to show
    finally:
        for task in ends:
            task.cancel()
        await asyncio.wait(ends)
        await envoy.end()
        await api.close()


def _announce(cluster: Path, envoy: Envoy) -> None:
    targets = [{"targets": [envoy.admin]}]
    for path, content in ((address_file(cluster), envoy.address), (targets_file(cluster), json.dumps(targets))):
        new = path.with_suffix(".new")
        new.write_text(content)
        new.replace(path)


def _api(kubeconfig: Path) -> Api:
    """The cluster of a kubeconfig as the lab writes them: JSON, one cluster, a token."""
    content = json.loads(kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    return Api(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]), user["token"])


def play(context: PodContext) -> Program:
    environment = {
        "GATEWAY_FOLDER": str(context.folder),
        "GATEWAY_PORT": str(context.port(PORT)),
        "KUBECONFIG": str(context.kubeconfig),
    }
    return Program([sys.executable, "-m", __name__], environment)


def objects() -> list[Object]:
    """What the member holds of it, its namespace first."""
    container = {"image": IMAGE, "ports": [{"name": "http", "containerPort": PORT}]}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [namespace, *deployment_and_service(NAME, container)]


def deployment_and_service(name: str, container: Object) -> list[Object]:
    """A program of the mesh: one replica in its namespace, and a Service with the port of its container."""
    labels = {"app": name}
    number = container["ports"][0]["containerPort"]
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    service = {"selector": labels, "ports": [{"name": "http", "port": number, "targetPort": "http"}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, **container}]}}
    deployment = {"selector": {"matchLabels": labels}, "template": template}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment},
    ]


RECIPES: dict[str, Recipe] = {IMAGE.partition(":")[0]: play}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    env = os.environ
    asyncio.run(run(Path(env["GATEWAY_FOLDER"]), Path(env["KUBECONFIG"]), int(env["GATEWAY_PORT"])))


if __name__ == "__main__":
    main()
