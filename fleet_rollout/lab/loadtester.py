"""Flagger's load tester as a played Pod: its `hey` sends through the member's gateway, so that requests are measured.

A sidecar would do the same. `hey` ignores HTTP_PROXY, hence a script of that name in front of it on PATH.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fleet_rollout.lab import binaries, gateway
from fleet_rollout.lab.pods import PodContext, Program, Recipe

PORT = 8080
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
}
