"""One cluster of a running lab with all that plays around it: its processes, its Pods, its node, its network.

Runs inside the supervisor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from fleet_rollout.lab.cluster import ControlPlane
from fleet_rollout.lab.kubelet import Kubelet
from fleet_rollout.lab.network import Network, Proxy
from fleet_rollout.lab.pods import PodPlayer, Recipe


class Site:
    """A control plane, the player of its Pods, its kubelet, and the proxy that makes their addresses work."""

    def __init__(self, plane: ControlPlane, number: int, recipes: Mapping[str, Recipe]) -> None:
        self.plane = plane
        self._number = number
        self._recipes = recipes
        self._player: PodPlayer | None = None
        self._playing: asyncio.Task[None] | None = None
        self.proxy = Proxy(Network(plane.api, self.locate), plane.egress_socket)
        self._kubelet = Kubelet(self._find, *plane.serving_pair)

    @property
    def folder(self) -> Path:
        return self.plane.folder

    def locate(self, ip: str, port: int) -> tuple[str, int] | None:
        """The local address of the process behind a Pod's."""
        return None if self._player is None else self._player.locate(ip, port)

    def _find(self, namespace: str, pod: str, port: int) -> tuple[str, int] | None:
        return None if self._player is None else self._player.find(namespace, pod, port)

    async def start(self) -> None:
        await self.proxy.start()
        await self._kubelet.start()
        await self.plane.start()
        plane = self.plane
        self._player = PodPlayer(
            plane.name, self._number, plane.api, self.folder / "pods", plane.kubeconfig, self.proxy.url, self._recipes
        )
        self._player.kubelet_port = self._kubelet.port
        self._playing = asyncio.create_task(self._player.run())

    async def end(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])
        self.proxy.end()
        await self._kubelet.end()
        await self.plane.end()
