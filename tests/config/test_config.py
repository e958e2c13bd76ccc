"""config/ and the Dockerfile: they build, they apply on a real API server, and they keep to the restricted standard."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleet_rollout.faces.cli.agent import agent
from fleet_rollout.faces.cli.controller import controller
from fleet_rollout.faces.cli.receiver import receiver
from fleet_rollout.lab.programs import PROGRAMS
from fleet_rollout.settings import Settings

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
KUSTOMIZATIONS = {str(path.parent.relative_to(CONFIG)): path.read_text() for path in CONFIG.rglob("kustomization.yaml")}
COMPONENTS = sorted(folder for folder, text in KUSTOMIZATIONS.items() if "kind: Component" in text)
FOLDERS = sorted(KUSTOMIZATIONS.keys() - set(COMPONENTS))
COMMANDS = {command.name: command for command in (agent, controller, receiver)}
INSTALLS = {"default": ["controller", "receiver"], "namespaced": ["controller", "receiver"], "agent": ["agent"]}
MEMBERS = ["member/sync", "member/base", "member/tenant", "member/cluster-admin"]


async def built(cluster: Any, folder: str | Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(await cluster.kubectl("kustomize", str(CONFIG / folder))))


async def deployments(cluster: Any, folder: str) -> dict[str, dict[str, Any]]:
    """By the name of the container."""
    found = [obj for obj in await built(cluster, folder) if obj["kind"] == "Deployment"]
    return {obj["spec"]["template"]["spec"]["containers"][0]["name"]: obj for obj in found}


def rules(objects: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """What a ClusterRole of these objects allows."""
    (found,) = (obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == ("ClusterRole", name))
    given: list[dict[str, Any]] = found["rules"]
    return given


@pytest.mark.parametrize("folder", FOLDERS)
async def test_every_folder_builds(hub: Any, folder: str) -> None:
    objects = await built(hub, folder)
    assert objects
    assert all(obj["kind"] and obj["metadata"]["name"] for obj in objects)


@pytest.mark.parametrize("folder", INSTALLS)
async def test_an_install_holds_no_crds(hub: Any, folder: str) -> None:
    """Ruling "CRDs": deleting an install must not delete them, which would prune every fleet."""
    assert "CustomResourceDefinition" not in {obj["kind"] for obj in await built(hub, folder)}


@pytest.mark.parametrize("folder", INSTALLS)
async def test_every_name_an_install_refers_to_is_in_it(hub: Any, folder: str) -> None:
    objects = await built(hub, folder)
    names = names_of(objects)
    for obj in objects:
        if obj["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            namespace = obj["metadata"].get("namespace") if obj["roleRef"]["kind"] == "Role" else None
            assert (obj["roleRef"]["kind"], namespace, obj["roleRef"]["name"]) in names
            for subject in obj["subjects"]:
                assert (subject["kind"], subject["namespace"], subject["name"]) in names
        if obj["kind"] == "Deployment":
            account = obj["spec"]["template"]["spec"]["serviceAccountName"]
            assert ("ServiceAccount", obj["metadata"]["namespace"], account) in names


@pytest.mark.parametrize("folder", INSTALLS)
async def test_the_deployment_is_admitted_under_the_restricted_standard(
    spare: Any, namespace: Any, folder: str
) -> None:
    """The API server itself judges: a Pod of the template in a namespace that enforces `restricted`."""
    home = await namespace("restricted", on=[spare])
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await spare.api.merge(f"/api/v1/namespaces/{home}", labels)
    for name, deployment in (await deployments(spare, folder)).items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": home},
            "spec": deployment["spec"]["template"]["spec"],
        }
        await spare.api.request("POST", f"/api/v1/namespaces/{home}/pods", pod, params={"dryRun": "All"})


@pytest.mark.parametrize("folder", INSTALLS)
async def test_the_deployments_settings_are_settings(hub: Any, folder: str) -> None:
    """A variable that nothing reads would be a setting that is silently not made."""
    found = await deployments(hub, folder)
    assert sorted(found) == INSTALLS[folder]
    for name, deployment in found.items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        said = CliRunner().invoke(COMMANDS[name], ["--help"], terminal_width=200).output
        known = set(re.findall(r"FLEET_ROLLOUT_\w+", said))
        assert container["args"] == [name]
        assert {variable["name"] for variable in container["env"]} <= known
        grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > Settings().shutdown_timeout


@pytest.mark.parametrize("folder", ["default", "namespaced"])
async def test_replicas_reach_each_other_s_artifacts(hub: Any, folder: str) -> None:
    """Ruling "Leadership": a standby, and a receiver, fetch from the leader, by the address of its Pod."""
    (policy,) = (
        obj
        for obj in await built(hub, folder)
        if (obj["kind"], obj["metadata"]["name"]) == ("NetworkPolicy", "fleet-rollout-controller")
    )
    deployment = (await deployments(hub, folder))["controller"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    told = environment["FLEET_ROLLOUT_POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert (told, policy["metadata"]["namespace"]) == ("status.podIP", deployment["metadata"]["namespace"])
    (rule,) = (rule for rule in policy["spec"]["ingress"] if {"port": "artifacts"} in rule["ports"])
    assert {"podSelector": {}} in rule["from"]


@pytest.mark.parametrize("folder", ["default", "namespaced"])
async def test_services_lead_to_ports_of_pods(hub: Any, folder: str) -> None:
    """A selector or a port without a Pod is a Service that nobody answers."""
    pods = [obj["spec"]["template"] for obj in (await deployments(hub, folder)).values()]
    for service in (obj for obj in await built(hub, folder) if obj["kind"] == "Service"):
        (pod,) = (pod for pod in pods if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items())
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@pytest.mark.parametrize("folder", [*INSTALLS, *MEMBERS])
async def test_it_applies_on_a_real_api_server_and_again(spare: Any, folder: str) -> None:
    """Server-side, validated strictly; the second time nothing changes."""
    for attempt in range(2):
        said = await spare.kubectl("apply", "--server-side", "--validate=strict", "-k", str(CONFIG / folder))
        assert said.count("serverside-applied") == len(await built(spare, folder)), attempt
    # Everything else may stay: it concerns namespaces that no other test uses.
    await spare.kubectl("delete", "--ignore-not-found", "-k", str(CONFIG / "policies"))


async def test_the_samples_pass_a_dry_run_on_a_real_api_server_that_serves_our_kinds(hub: Any) -> None:
    """Schemas and rules judge them; no sample is stored."""
    samples, crds = str(CONFIG / "samples"), str(CONFIG / "crd")
    await hub.kubectl("apply", "--server-side", "--force-conflicts", "-k", crds)
    names = [f"crd/{crd['metadata']['name']}" for crd in await built(hub, "crd")]
    await hub.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    said = await hub.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", samples)
    assert said.count("serverside-applied (server dry run)") == len(await built(hub, "samples"))


@pytest.mark.parametrize("folder", ["member/base", "agent"])
async def test_port_forward_is_a_right_that_one_asks_for(hub: Any, tmp_path: Path, folder: str) -> None:
    """trust.md section 3: pods/portforward only with credentialed metrics in the member."""
    assert COMPONENTS == ["member/port-forward"]
    relative = Path(os.path.relpath(CONFIG, tmp_path.resolve()))
    content = {"resources": [str(relative / folder)], "components": [str(relative / COMPONENTS[0])]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    name = "fleet-rollout-engine"
    before, after = rules(await built(hub, folder), name), rules(await built(hub, tmp_path), name)
    assert after == [*before, {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}]


@pytest.mark.parametrize("folder", ["member/base", "agent"])
async def test_the_engine_gets_no_right_that_would_lead_further(hub: Any, folder: str) -> None:
    """trust.md section 3: no secrets list, no *, no nodes, escalate, bind; Services are reached by their names."""
    for obj in await built(hub, folder):
        if obj["kind"] not in ("Role", "ClusterRole") or not obj["metadata"]["name"].startswith("fleet-rollout-"):
            continue
        for rule in obj["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            assert not {"escalate", "bind"} & set(rule["verbs"])
            assert not {"nodes", "pods", "pods/exec", "pods/portforward"} & set(rule["resources"])
            if "secrets" in rule["resources"]:
                assert not {"list", "watch"} & set(rule["verbs"])
            if "services/proxy" in rule["resources"]:
                assert rule["resourceNames"]


async def test_in_modes_agent_and_flagger_the_hub_may_not_do_what_an_engine_does(hub: Any) -> None:
    names = {obj["metadata"]["name"] for obj in await built(hub, "member/sync")}
    assert not any("engine" in name or "copies" in name for name in names)


def names_of(objects: list[dict[str, Any]]) -> set[tuple[str, str | None, str]]:
    return {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects}


async def test_installs_for_two_namespaces_share_nothing(hub: Any, tmp_path: Path) -> None:
    """What both had would belong to whoever was applied last, and would go with whichever is removed."""
    copied = tmp_path / "config"
    shutil.copytree(CONFIG, copied)
    for path in ("namespaced/install/kustomization.yaml", "namespaced/install/namespace.yaml"):
        text = (copied / path).read_text()
        (copied / path).write_text(re.sub(r"(namespace|name): fleet-rollout$", r"\1: other", text, flags=re.MULTILINE))
    one, other = await built(hub, "namespaced"), await built(hub, copied / "namespaced")
    assert len(one) == len(other)
    assert names_of(one) & names_of(other) == set()
    assert "fleet-rollout-identity.other" in {name for _, _, name in names_of(other)}


async def test_an_agent_s_policy_holds_back_the_agent_alone(hub: Any) -> None:
    """Who brings objects may have been let off (member/cluster-admin): an agent changes nothing of that."""
    objects, bases = await built(hub, "agent"), await built(hub, "member/base")
    policies = {(kind, name) for kind, _, name in names_of(objects) if "AdmissionPolicy" in kind}
    assert len(policies) == 2
    assert not policies & {(kind, name) for kind, _, name in names_of(bases)}
    (policy,) = (obj for obj in objects if obj["kind"] == "ValidatingAdmissionPolicy")
    (condition,) = policy["spec"]["matchConditions"]
    assert re.findall(r"'(.*?)'", condition["expression"]) == [
        "system:serviceaccount:fleet-rollout-system:fleet-rollout-agent"
    ]


@pytest.mark.parametrize("folder", INSTALLS)
async def test_a_drain_takes_one_replica_at_a_time(hub: Any, folder: str) -> None:
    objects = await built(hub, folder)
    budgets = {
        (obj["metadata"]["namespace"], json.dumps(obj["spec"]["selector"])): obj["spec"]["maxUnavailable"]
        for obj in objects
        if obj["kind"] == "PodDisruptionBudget"
    }
    for deployment in (await deployments(hub, folder)).values():
        selector, pod = deployment["spec"]["selector"], deployment["spec"]["template"]["spec"]
        assert budgets[deployment["metadata"]["namespace"], json.dumps(selector)] == 1
        (spread,) = pod["topologySpreadConstraints"]
        assert (spread["topologyKey"], spread["labelSelector"]) == ("kubernetes.io/hostname", selector)


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split("#")[0].strip() if line.startswith("#") else line.strip() for line in text.splitlines()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line]


def test_the_image_runs_as_nobody_and_takes_only_what_is_pinned() -> None:
    """trust.md section 4: uid 65532, pinned uv, hashes required, wheels only, no latest."""
    steps = instructions()
    assert [argument for name, argument in steps if name == "USER"] == ["65532:65532"]
    assert steps[-1][0] in ("CMD", "ENTRYPOINT")
    runs = " ".join(argument for name, argument in steps if name == "RUN")
    makefile = (ROOT / "Makefile").read_text()
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert f"uv=={version} " in (ROOT / "requirements" / "uv.txt").read_text()
    installs = [step for step in runs.split("&&") if re.search(r"pip install|uv build", step)]
    assert all("--require-hashes" in step or "--no-deps --no-index" in step for step in installs)
    for needed in ("--locked", "--require-hashes", "--only-binary :all:", "--no-deps", "--no-install-recommends"):
        assert needed in runs
    assert not re.search(r"curl|wget|sudo|:latest|ADD https?:", (ROOT / "Dockerfile").read_text())
    images = [argument for name, argument in steps if name == "ARG"]
    assert all(":" in image.partition("=")[2] for image in images), "an image without a tag is whatever it is today"


def test_the_image_has_what_ssh_and_killed_programs_need() -> None:
    """A name for the uid, without which ssh ends at once, and an init that waits for orphans."""
    steps = instructions()
    runs = " ".join(argument for name, argument in steps if name == "RUN")
    assert "--uid 65532 " in runs
    assert " tini " in runs
    (entry,) = [argument for name, argument in steps if name == "ENTRYPOINT"]
    assert json.loads(entry) == ["tini", "--", "fleet-rollout"]


def test_the_image_has_the_lab_s_kustomize() -> None:
    """Users and tests build with the same version."""
    assert f"kustomize/v5@v{PROGRAMS['kustomize'].version.removeprefix('v')}" in (ROOT / "Dockerfile").read_text()
