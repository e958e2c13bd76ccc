"""The sample program: a small web service whose errors and latency are set from outside.

`python -m fleet_rollout.lab.sample` reads PORT, VERSION, ERROR_RATE (0 to 1) and LATENCY_MS. The lab
runs one for each Pod whose image it knows as a web service, and takes the behaviour from the image's tag.
A request may ask for an answer, too, as podinfo's visitors do: `/status/500`, `/delay/1` (seconds).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

PATHS_THAT_NEVER_FAIL = ("/healthz", "/readyz")
# What a tag means where the Pod's environment says nothing else.
BEHAVIOUR_OF_TAG = {"bad": {"ERROR_RATE": "0.5"}, "slow": {"LATENCY_MS": "1500"}}


@dataclass(frozen=True)
class Behaviour:
    """How the program answers."""

    version: str = "unknown"
    error_rate: float = 0.0
    latency: float = 0.0

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Behaviour:
        return cls(
            env.get("VERSION", "unknown"),
            float(env.get("ERROR_RATE", "0")),
            float(env.get("LATENCY_MS", "0")) / 1000,
        )


def environment_of(image: str, declared: Mapping[str, str]) -> dict[str, str]:
    """The environment for a Pod of `image`: `:bad` errs on half of its requests, `:slow` takes 1.5 s each.

    A suffix counts too (`:2.0.0-bad`). What the Pod declares itself wins.
    """
    tag = image.partition("@")[0].rpartition(":")[2]
    behaviour = BEHAVIOUR_OF_TAG.get(tag.rpartition("-")[2], {})
    return {"VERSION": tag, **behaviour, **declared}


def application(behaviour: Behaviour) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        body = {"version": behaviour.version, "host": os.environ.get("HOSTNAME", "")}
        if request.path in PATHS_THAT_NEVER_FAIL:
            return web.json_response(body)
        wish, _, number = request.path.strip("/").partition("/")
        await asyncio.sleep(behaviour.latency + (float(number) if wish == "delay" else 0.0))
        status = 500 if random.random() < behaviour.error_rate else 200  # noqa: S311 - not a secret
        if wish == "status":
            status = int(number)
        return web.json_response(body, status=status, headers={"X-Version": behaviour.version})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


def main() -> None:
    app = application(Behaviour.from_environment(os.environ))
    # At SIGTERM requests in flight are answered before the program ends.
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None, shutdown_timeout=2)


if __name__ == "__main__":
    main()
