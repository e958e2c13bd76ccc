"""Which task a payload asks for, and whether this load tester offers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fleet_rollout.loadtester import programs
from fleet_rollout.loadtester.concord import concord
from fleet_rollout.loadtester.ngrinder import ngrinder
from fleet_rollout.loadtester.options import EXTRA_TASKS, Options
from fleet_rollout.loadtester.payload import Payload, Refused
from fleet_rollout.loadtester.runner import Task

DEFAULT_TYPE = "cmd"
ALIASES = {"helmv3": "helm"}
TYPES: Mapping[str, Callable[[Payload, Options], Task]] = {
    "cmd": programs.cmd,
    "bash": programs.bash,
    "helm": programs.helm,
    "kubectl": programs.kubectl,
    "concord": concord,
    "ngrinder": ngrinder,
}


def read_task(payload: Payload, options: Options) -> Task:
    """Raises Refused for what cannot be done, or is not done here."""
    if not payload.metadata:
        raise Refused("metadata not found in payload")
    asked = payload.metadata.get("type") or DEFAULT_TYPE
    type = ALIASES.get(asked, asked)
    if type not in TYPES:
        raise Refused(f"unknown task type {asked[:100]}")
    if type in EXTRA_TASKS and not options.offers(type):
        flag = "--allow-shell" if type == "bash" else f"--enable-task {type}"
        raise Refused(f"task type {asked} is off; start the load tester with {flag}", status=403)
    return TYPES[type](payload, options)
