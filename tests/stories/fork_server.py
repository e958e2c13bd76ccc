"""A process that has imported the controller and forks one for every line it reads: a start without the imports.

What every process makes once, the CRDs for members and the platform's trust, is made before the fork, too.
What it forks is a process of its own, with its own memory, sockets and files: it can be killed like any other.
A line is JSON: `arguments` of the command, `environment`, `log`. It answers with the process id.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

from fleet_rollout.lab.children import die_with_parent


def main() -> None:
    import fleet_rollout.control.agent
    import fleet_rollout.control.run
    import fleet_rollout.faces.cli.agent
    import fleet_rollout.faces.cli.controller
    import fleet_rollout.faces.service  # noqa: F401
    from fleet_rollout.control import member_crds
    from fleet_rollout.faces.cli.main import main as command
    from fleet_rollout.kube import transport

    member_crds.wanted_crds()
    transport._pattern()
    gc.freeze()  # so that no child's collector walks through all that was imported

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here: the kernel does
    bound = die_with_parent()
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(order, command, bound)
        print(child, flush=True)


def _become(order: dict[str, Any], command: Any, bound: Any) -> NoReturn:
    code = 70
    try:
        # `bound` compares with the process that made it, which is the parent now.
        bound()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, target in ((0, nothing), (1, log), (2, log)):
            os.dup2(target, number)
        os.environ.clear()
        os.environ.update(order["environment"])
        code = _exit_code(command, order["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(command: Any, arguments: list[str]) -> int:
    try:
        command(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


if __name__ == "__main__":
    main()
