"""One cluster of a running lab with all that plays around it: its processes, its Pods, its network.

Runs inside the supervisor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from fleet_rollout.lab.cluster import ControlPlane
from fleet_rollout.lab.network import Network, Proxy
from fleet_rollout.lab.pods import PodPlayer, Recipe


class Site:
    """A control plane, the player of its Pods, and the proxy that makes their addresses work."""

    def __init__(self, plane: ControlPlane, number: int, recipes: Mapping[str, Recipe]) -> None:
        self.plane = plane
        self._number = number
        self._recipes = recipes
        self._player: PodPlayer | None = None
        self._playing: asyncio.Task[None] | None = None
        self.proxy = Proxy(Network(plane.api, self.locate), plane.egress_socket)

    @property
    def folder(self) -> Path:
        return self.plane.folder

    def locate(self, ip: str, port: int) -> tuple[str, int] | None:
        """The local address of the process behind a Pod's."""
        return None if self._player is None else self._player.locate(ip, port)

    async def start(self) -> None:
        await self.proxy.start()
        await self.plane.start()
        plane = self.plane
        self._player = PodPlayer(
            plane.name, self._number, plane.api, self.folder / "pods", plane.kubeconfig, self.proxy.url, self._recipes
        )
        self._playing = asyncio.create_task(self._player.run())

    async def end(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])
        self.proxy.end()
        await self.plane.end()
