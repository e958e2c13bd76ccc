"""CRDs of meshes and gateways: out of the Go modules that ship them, of the lab, else written by us in crds/.

A module is downloaded once; of it only the file with the CRDs stays, in the lab's cache. Version and hash are pinned.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet_rollout.lab import golang
from fleet_rollout.lab.binaries import cache_folder, manifest

Object = dict[str, Any]

OURS = Path(__file__).with_name("crds")
OF_THE_LAB = {"istio": "istio-crds", "flagger": "flagger-crds"}


@dataclass(frozen=True)
class Shipped:
    """A file of a module, and which of its CRDs are wanted; none named: all of them."""

    module: str
    version: str
    sum: str
    file: str
    names: tuple[str, ...] = ()

    @property
    def cached(self) -> Path:
        return cache_folder() / "crds" / f"{self.module.replace('/', '+')}@{self.version}+{self.file.replace('/', '+')}"


SHIPPED: Mapping[str, Shipped] = {
    "gateway-api": Shipped(
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
    "contour": Shipped(
        "github.com/projectcontour/contour",
        "v1.33.8",
        "h1:QoOfwqWws+CVRFpsRC2+f1DmB5IdurtyUtepIsiWfE0=",
        "examples/contour/01-crds.yaml",
        ("httpproxies.projectcontour.io",),
    ),
    "traefik": Shipped(
        "github.com/traefik/traefik/v3",
        "v3.7.13",
        "h1:T8wy9KuaFzCkmXCqAzDy7t73pBDR1DHrJe3pqXpNXTw=",
        "docs/content/reference/dynamic-configuration/traefik.io_traefikservices.yaml",
    ),
    "knative": Shipped(
        "knative.dev/serving",
        "v0.51.0",
        "h1:yN2Q7eYqJgoPfZkATjoBZyGbZ2P1Qhns9HIMU4mF+to=",
        "config/core/300-resources/service.yaml",
    ),
    "kuma": Shipped(
        "github.com/kumahq/kuma",
        "v1.8.1",
        "h1:O310SC7+SFY3nvPvfG6Mb42pP51JN0QurK8ig/6UWdg=",
        "deployments/charts/kuma/crds/kuma.io_trafficroutes.yaml",
    ),
    "apisix": Shipped(
        "github.com/apache/apisix-ingress-controller",
        "v1.8.4",
        "h1:p5OOqJDv0AHW9dnMySjZAsWDyrXSotWb/J3QQxEpfGo=",
        "samples/deploy/crd/v1/ApisixRoute.yaml",
    ),
}


@functools.cache
def definitions(name: str) -> tuple[Object, ...]:
    """The CRDs of a provider, as its release or the lab says, else as crds/<name>.yaml does."""
    shipped = SHIPPED.get(name)
    if shipped:
        path = _obtained(shipped)
    else:
        path = manifest(OF_THE_LAB[name]) if name in OF_THE_LAB else OURS / f"{name}.yaml"
    found = [item for item in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if item]
    wanted = shipped.names if shipped else ()
    return tuple(_sent(item) for item in found if not wanted or item["metadata"]["name"] in wanted)


def _sent(item: Object) -> Object:
    """Generators leave a null there, and a status that only the API server writes."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "creationTimestamp"}
    return {**{key: value for key, value in item.items() if key != "status"}, "metadata": metadata}


def _obtained(shipped: Shipped) -> Path:
    """The file in the cache; several test processes may want it at once."""
    target = shipped.cached
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _download(shipped, target)
    return target


def _download(shipped: Shipped, target: Path) -> None:
    """Into a module cache of its own, which goes again: a module is many times larger than the file."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        environment = os.environ | {"GOMODCACHE": scratch, "GOFLAGS": "-modcacherw"}
        argv = [golang.toolchain(print), "mod", "download", "-json", f"{shipped.module}@{shipped.version}"]
        done = subprocess.run(
            argv, env=environment, cwd=scratch, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{argv[-1]}: {done.stdout} {done.stderr}"
        answer = json.loads(done.stdout)
        assert answer["Sum"] == shipped.sum, f"{argv[-1]} has the hash {answer['Sum']}"
        new = target.with_name(target.name + ".new")
        new.write_bytes((Path(answer["Dir"]) / shipped.file).read_bytes())
        new.replace(target)
