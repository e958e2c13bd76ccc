"""Load testers as played Pods, Flagger's and ours: what they send goes through the member's gateway and is measured.

A sidecar would do the same. `hey` ignores HTTP_PROXY, hence a script of that name in front of it on PATH.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from fleet_rollout.lab import binaries, gateway
from fleet_rollout.lab.children import LOCALHOST
from fleet_rollout.lab.pods import PodContext, Program, Recipe
from fleet_rollout.lab.state import LabError

PORT = 8080
OURS = "loadtester"
PORT_FLAGS = ("-port", "--port")


def play(context: PodContext) -> Program:
    """The container's own arguments, with the port it gets here."""
    kept = [word for word in context.arguments if word.startswith("-") and word.partition("=")[0] not in PORT_FLAGS]
    local = context.port(_container_port(context))
    path = f"{_hey(context)}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return Program(
        [binaries.require("loadtester"), *kept, f"-port={local}"],
        {"PATH": path, "HTTP_PROXY": context.proxy},
        ready="/healthz",
    )


def play_ours(context: PodContext) -> Program | None:
    """`fleet-rollout loadtester` with the container's own flags; of our image, nothing else is run here."""
    command, *flags = context.arguments or [""]
    if command != OURS:
        return None
    kept = [word for word in flags if word.partition("=")[0] not in PORT_FLAGS]
    here = {
        "host": LOCALHOST,
        "port": context.port(_container_port(context)),
        "kubeconfig": context.kubeconfig,
        "namespace": context.pod["metadata"]["namespace"],
        "proxy": _gateway(context),
    }
    argv = [sys.executable, "-m", "fleet_rollout", OURS, *kept, *(f"--{name}={value}" for name, value in here.items())]
    return Program(argv, ready="/healthz")


def _gateway(context: PodContext) -> str:
    try:
        return gateway.address_file(context.kubeconfig.parent).read_text()
    except FileNotFoundError:
        raise LabError(f"{context.cluster} has no gateway that requests could go through") from None


def _container_port(context: PodContext) -> int:
    ports = context.container.get("ports") or [{"containerPort": PORT}]
    return int(ports[0]["containerPort"])


def _hey(context: PodContext) -> Path:
    folder = context.folder / "bin"
    folder.mkdir(exist_ok=True)
    address = gateway.address_file(context.kubeconfig.parent)
    script = folder / "hey"
    hey = shlex.quote(str(binaries.require("hey")))
    script.write_text(f'#!/bin/sh\nexec {hey} -x "http://$(cat {shlex.quote(str(address))})" "$@"\n')
    script.chmod(0o755)
    return folder


RECIPES: dict[str, Recipe] = {
    "ghcr.io/fluxcd/flagger-loadtester": play,
    "weaveworks/flagger-loadtester": play,
    "ghcr.io/fleet-rollout/fleet-rollout": play_ours,
}
