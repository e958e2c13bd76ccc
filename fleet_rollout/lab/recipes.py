"""Which images the lab runs as local processes, and how: a table from repository to recipe (pods.py).

Other modules of the lab add theirs in a constant `RECIPES` of their own, named here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

from fleet_rollout.lab import sample
from fleet_rollout.lab.pods import PodContext, Program, Recipe

SAMPLE_PORT = 9898
MODULES = ("prometheus", "loadtester", "flagger")


def run(context: PodContext) -> Program:
    """Run the container's own command on this machine; PORT (and `$(PORT)`) is where its first port is to listen."""
    port = str(context.port(_first_port(context, 8080)))
    return Program([word.replace("$(PORT)", port) for word in context.arguments], {"PORT": port})


def sample_program(context: PodContext) -> Program:
    """The sample web service on the container's first port; image tag and environment make it err or slow."""
    port = context.port(_first_port(context, SAMPLE_PORT))
    environment = sample.environment_of(context.container["image"], context.environment) | {"PORT": str(port)}
    return Program([sys.executable, "-m", sample.__name__], environment, ready="/healthz")


RECIPES: dict[str, Recipe] = {
    "lab.local/run": run,
    "lab.local/sample": sample_program,
    "stefanprodan/podinfo": sample_program,
    "docker.io/stefanprodan/podinfo": sample_program,
    "ghcr.io/stefanprodan/podinfo": sample_program,
    "quay.io/stefanprodan/podinfo": sample_program,
}


def all_recipes() -> dict[str, Recipe]:
    """Ours and those of the modules that are there."""
    found = dict(RECIPES)
    for name in MODULES:
        module = f"fleet_rollout.lab.{name}"
        if importlib.util.find_spec(module):
            found |= getattr(importlib.import_module(module), "RECIPES", {})
    return found


def _first_port(context: PodContext, default: int) -> int:
    ports = context.container.get("ports") or [{"containerPort": default}]
    return int(ports[0]["containerPort"])
