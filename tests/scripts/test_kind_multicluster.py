"""The kind script without Docker: what it would run, and what it says to wrong arguments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

SCRIPT = Path(__file__).parents[2] / "scripts" / "kind-multicluster.sh"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=60, check=False)


def commands(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("  | ")]


def documents(text: str) -> list[dict[str, object]]:
    """The objects that are piped into `kubectl apply -f -`, in order."""
    found, lines = [], []
    for line in [*text.splitlines(), "end"]:
        if line.startswith("  | "):
            lines.append(line[4:])
        elif lines:
            found.append(yaml.safe_load("\n".join(lines)))
            lines = []
    return found


def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_up_makes_every_cluster_before_anything_is_installed() -> None:
    done = run("up", "--members", "2", "--dry-run")
    assert done.returncode == 0, done.stderr
    created = [line for line in commands(done.stdout) if line.startswith("kind create cluster")]
    assert [line.split()[4] for line in created] == ["fleet-hub", "kurator-member1", "kurator-member2"]
    assert commands(done.stdout)[:3] == created


def test_crds_are_applied_by_themselves_and_before_the_service() -> None:
    lines = commands(run("up", "--dry-run").stdout)
    crds = next(i for i, line in enumerate(lines) if "apply" in line and line.endswith("config/crd"))
    service = next(i for i, line in enumerate(lines) if line.endswith("config/default"))
    assert crds < service


def test_the_image_is_built_and_loaded_into_the_hub_before_the_service_starts() -> None:
    lines = commands(run("up", "--dry-run").stdout)
    root = SCRIPT.parents[1]
    (image,) = re.findall(r"^readonly IMAGE=(\S+)$", SCRIPT.read_text(), re.MULTILINE)
    steps = [
        f"docker build --tag {image} {root}",
        f"kind load docker-image {image} --name fleet-hub",
        f"kubectl --context kind-fleet-hub apply --server-side -k {root}/config/default",
    ]
    assert [line for line in lines if line in steps] == steps
    (deployed,) = yaml.safe_load((root / "config" / "manager" / "kustomization.yaml").read_text())["images"]
    assert f"{deployed['newName']}:{deployed['newTag']}" == image


def test_a_member_s_kubeconfig_becomes_the_secret_that_its_attached_cluster_names() -> None:
    done = run("up", "--members", "2", "--dry-run")
    lines = commands(done.stdout)
    attached = {d["metadata"]["name"]: d for d in documents(done.stdout) if d["kind"] == "AttachedCluster"}  # type: ignore[index]
    assert sorted(attached) == ["kurator-member1", "kurator-member2"]
    for name, cluster in attached.items():
        hub = "kubectl --context kind-fleet-hub --namespace default"
        read = lines.index(f"kind get kubeconfig --internal --name {name}")
        delete = lines.index(f"{hub} delete secret {name}-kubeconfig --ignore-not-found")
        (create,) = (i for i, line in enumerate(lines) if f"{hub} create secret generic {name}-kubeconfig" in line)
        assert read < delete < create
        assert re.search(rf" --from-file value=\S+/{name}\.kubeconfig$", lines[create])
        assert lines[create + 1] == f"{hub} apply -f -"
        assert cluster["apiVersion"] == "cluster.kurator.dev/v1alpha1"
        assert cluster["spec"] == {"kubeconfig": {"name": f"{name}-kubeconfig", "key": "value"}}


def test_each_member_gets_istio_prometheus_the_gateway_and_rights_and_is_attached_to_the_fleet() -> None:
    done = run("up", "--members", "3", "--dry-run")
    for number in (1, 2, 3):
        of_member = [line for line in commands(done.stdout) if f"kind-kurator-member{number} " in line]
        assert any(line.startswith("istioctl install") for line in of_member)
        assert any("prometheus.yaml" in line for line in of_member)
        assert any(line.endswith("config/member/cluster-admin") for line in of_member)
    kinds = [document["kind"] for document in documents(done.stdout)]
    assert kinds == ["Gateway", "AttachedCluster"] * 3 + ["Fleet"]
    fleet = documents(done.stdout)[-1]
    members = [cluster["name"] for cluster in fleet["spec"]["clusters"]]  # type: ignore[index]
    assert members == ["kurator-member1", "kurator-member2", "kurator-member3"]


def test_flagger_is_installed_only_where_it_runs_the_canaries() -> None:
    for arguments, engine in (((), None), (("--engine", "hub"), None), (("--engine", "flagger"), {"mode": "Flagger"})):
        done = run("up", *arguments, "--dry-run")
        spec = documents(done.stdout)[-1]["spec"]
        assert spec.get("rolloutEngine") == engine  # type: ignore[attr-defined]
        assert ("fluxcd/flagger" in done.stdout) is (engine is not None)


def test_down_deletes_what_up_made() -> None:
    deleted = [line.split()[-1] for line in commands(run("down", "--members", "2", "--dry-run").stdout)]
    assert sorted(deleted) == ["fleet-hub", "kurator-member1", "kurator-member2"]


def test_wrong_arguments_are_named() -> None:
    assert "not 'x'" in run("up", "--members", "x").stderr
    assert "not 'none'" in run("up", "--engine", "none").stderr
    assert "--what" in run("up", "--what").stderr
    assert run().returncode == 2
