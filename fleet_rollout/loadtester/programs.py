"""Tasks that are programs: load generators, and behind their settings a shell, helm and kubectl."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence

from fleet_rollout import processes
from fleet_rollout.loadtester.commands import allowed_words, words
from fleet_rollout.loadtester.generator_flags import UsageError, read_plan
from fleet_rollout.loadtester.options import Options
from fleet_rollout.loadtester.payload import Payload, Refused
from fleet_rollout.loadtester.runner import Outcome, Task

HEY = "hey"
BUILT_IN = (sys.executable, "-I", "-m", "fleet_rollout.loadtester.generator")
# helm and kubectl find the API server by these.
API_SERVER = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG")


def cmd(payload: Payload, options: Options) -> Task:
    """A load generator in the background; its output is only logged."""
    command = _command(payload)
    title, argv, stdin = _argv(command, options)

    async def work() -> Outcome:
        return await _run(command, argv, options, stdin=stdin)

    return Task("cmd", payload.canary, title, command, work, logs_output=payload.says("logCmdOutput"))


def bash(payload: Payload, options: Options) -> Task:
    """A line of shell, awaited by the caller."""
    command = _command(payload)
    return _awaited(payload, "bash", command, ["bash", "-c", command], options)


def helm(payload: Payload, options: Options) -> Task:
    """`helm test` and the like, awaited by the caller."""
    command = _command(payload)
    return _awaited(payload, "helm", command, ["helm", *words(command)], options)


def kubectl(payload: Payload, options: Options) -> Task:
    """A kubectl command, awaited by the caller."""
    command = _command(payload)
    return _awaited(payload, "kubectl", command, ["kubectl", *words(command)], options)


def _awaited(payload: Payload, type: str, command: str, argv: Sequence[str], options: Options) -> Task:
    env = {name: os.environ[name] for name in API_SERVER if name in os.environ}

    async def work() -> Outcome:
        return await _run(command, argv, options, env=env)

    return Task(
        type,
        payload.canary,
        type,
        command,
        work,
        is_awaited=True,
        logs_output=True,
        returns_output=payload.says("returnCmdOutput"),
    )


def _command(payload: Payload) -> str:
    command = payload.metadata.get("cmd")
    if command is None:
        raise Refused("cmd not found in metadata")
    if "\0" in command:
        raise Refused("the command holds a NUL character")
    return command


def _argv(command: str, options: Options) -> tuple[str, Sequence[str], bytes | None]:
    """What may be shown of the program, the program with its arguments, and its standard input."""
    try:
        found = allowed_words(command, options.allowed)
    except Refused:
        if options.allow_shell:
            return "sh", ["sh", "-c", command], None
        raise
    program, *arguments = found
    if shutil.which(program) is not None:
        return program, found, None
    if program != HEY:
        raise Refused(f"{program} is not installed here")
    if options.proxy:
        arguments = ["-x", options.proxy, *arguments]
    try:
        read_plan(arguments)
    except UsageError as error:
        raise Refused(f"hey: {error}") from None
    return f"{HEY} (built in)", BUILT_IN, json.dumps(arguments).encode()


async def _run(
    command: str,
    argv: Sequence[str],
    options: Options,
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    home = {"HOME": tempfile.gettempdir()}  # k6 does not start without one
    try:
        done = await processes.run(
            argv, timeout=options.timeout, env=home | dict(env or {}), stdin=stdin, output_cap=options.output_cap
        )
    except (processes.ProgramTimeout, processes.OutputTooLarge) as error:
        return _failed(command, "", str(error))
    except OSError as error:
        return _failed(command, "", error.strerror or type(error).__name__)
    output = done.stdout.decode("utf-8", "replace") + done.stderr
    if done.returncode > 0:
        return _failed(command, output, f"exit status {done.returncode}")
    if done.returncode < 0:
        return _failed(command, output, f"signal: {str(signal.strsignal(-done.returncode)).lower()}")
    return Outcome(output)


def _failed(command: str, output: str, problem: str) -> Outcome:
    """The caller reads Flagger's words; logs are spared the command, which may hold credentials."""
    return Outcome(output, problem, f"command {command} failed: {output}: {problem}")
