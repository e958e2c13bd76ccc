"""`python -m tests.soak`: random commits, faults and restarts for a while; then everything must be as Git says.

Real API servers and Git, the controller as a process. A seed gives the same order of acts; what the machine makes of
them in time it cannot give. Prints a table; ends with 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from fleet_rollout.lab.lab import Lab
from tests.soak.oracles import Row, judge
from tests.soak.scene import Scene, opened

MEMBERS = ("m1", "m2")
# Restarts end here, so that what grows in one process can be seen in the rest.
CALM = 0.6
SAMPLE = 2.0


async def soak(seconds: float, seed: int, applications: int) -> list[Row]:
    """One soak; the rows of its table."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fleet-rollout-soak-") as folder:
        async with Lab(MEMBERS) as lab, opened(lab, Path(folder), applications) as scene:
            await scene.settled()
            sampling = asyncio.create_task(sample(scene))
            await act(scene, chance, seconds)
            await scene.calm()
            await scene.settled()
            sampling.cancel()
            return await judge(scene)


async def act(scene: Scene, chance: random.Random, seconds: float) -> None:
    """Acts by chance until the time is over."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        acts = scene.acts if passed < seconds * CALM else scene.calm_acts
        name = chance.choices(list(acts), weights=[act.weight for act in acts.values()])[0]
        scene.counted[name] += 1
        await acts[name].do(chance)
        await asyncio.sleep(chance.uniform(0.2, 1.5))


async def sample(scene: Scene) -> None:
    while True:
        controller = scene.controller
        tasks = await controller.metric("fleet_rollout_tasks")
        if tasks >= 0:  # else it is stopped, or has just ended
            scene.gauges.look(controller.pid, round(tasks))
        await asyncio.sleep(SAMPLE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--seed", type=int, default=None, help="default: one of its own, which the table names")
    parser.add_argument("--applications", type=int, default=30)
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    rows = asyncio.run(soak(chosen.seconds, seed, chosen.applications))
    print(f"\nsoak of {chosen.seconds:.0f} s, {chosen.applications} Applications, seed {seed}\n")
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.what:<{width}}  {'ok' if row.holds else 'VIOLATED':<8}  {row.words}")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
