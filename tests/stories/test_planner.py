"""Which clusters a policy goes to, what its ClusterSyncs are called, and what missing Fleets and clusters do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from fleet_rollout.lab.api import ApiAnswer

ENVS = {"m1": {"env": "dev"}, "m2": {"env": "prod"}}


def config_map(name: str, **data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def policy(story: Any, name: str | None = None, env: str | None = None, **fields: Any) -> dict[str, Any]:
    """A policy of its own folder (`./<name>`, `./app` without a name), for the clusters of `env` if given."""
    common = {"interval": "1h", "path": f"./{name or 'app'}", "prune": True, "targetNamespace": story.namespace}
    found: dict[str, Any] = {"kustomization": common | fields}
    if name:
        found["name"] = name
    if env:
        found["destination"] = {"fleet": "fleet", "clusterSelector": {"matchLabels": {"env": env}}}
    return found


def inventory(row: dict[str, Any]) -> list[str]:
    return [entry["id"] for entry in row["kustomizationStatus"]["inventory"]["entries"]]


async def test_policies_with_selectors_give_one_row_each(story: Any) -> None:
    """G30, its kustomization parts: three children, three rows, each with its own status (Kurator's defect 1)."""
    repository = await story.git_repo({"app/a.yaml": config_map("a"), "db/b.yaml": config_map("b")})
    await story.fleet("m1", "m2", labels=ENVS)
    await story.start()
    await story.application(repository, policy(story, env="dev"), policy(story, "db"))
    names = ("web-0-attachedcluster-m1", "db-attachedcluster-m1", "db-attachedcluster-m2")
    commit = await repository.commit_of()
    await story.applied(commit, *names)

    syncs = {sync["metadata"]["name"]: sync for sync in await story.hub.api.items(story.path("clustersyncs"))}
    assert sorted(syncs) == sorted(names)
    for name, sync in syncs.items():
        assert sync["metadata"]["labels"]["apps.kurator.dev/app-name"] == "web"
        assert sync["spec"]["cluster"] == {"kind": "AttachedCluster", "name": name[-2:]}
        assert [owner["kind"] for owner in sync["metadata"]["ownerReferences"]] == ["Application"]

    await story.condition("Ready", "True")
    rows = (await story.read())["status"]["syncStatus"]
    assert [row["name"] for row in rows] == list(names)
    prefix = f"{story.namespace}_"
    assert [inventory(row) for row in rows] == [
        [f"{prefix}a__ConfigMap"],
        [f"{prefix}b__ConfigMap"],
        [f"{prefix}b__ConfigMap"],
    ]
    assert all(row["kustomizationStatus"]["lastAppliedRevision"] == f"main@sha1:{commit}" for row in rows)
    assert await story.config_map("m2", "a") is None


async def test_match_expressions_choose_clusters(story: Any) -> None:
    """A.4 with Flux's matchExpressions: the clusters of the Fleet that are not of production."""
    repository = await story.git_repo({"app/a.yaml": config_map("a")})
    await story.fleet("m1", "m2", "m3", labels=ENVS)
    await story.start()
    chosen = policy(story)
    expressions = [{"key": "env", "operator": "NotIn", "values": ["prod"]}]
    chosen["destination"] = {"fleet": "fleet", "clusterSelector": {"matchExpressions": expressions}}
    await story.application(repository, chosen)
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1", "web-0-attachedcluster-m3")
    assert await story.sync("web-0-attachedcluster-m2") is None


async def test_long_names_are_cut_and_stay_apart(story: Any) -> None:
    """G32: 50 characters x 20 characters, of which the first 63 are the same."""
    policy_name, clusters = "p" * 49 + "x", ["a" * 19 + "1", "a" * 19 + "2"]
    repository = await story.git_repo({f"{policy_name}/a.yaml": config_map("a")})
    await story.join(story.members["m1"], clusters[0])
    await story.join(story.members["m2"], clusters[1])
    await story.fleet(*clusters)
    await story.start()
    await story.application(repository, policy(story, policy_name))
    ready = await story.condition("Ready", "True")
    assert ready["message"].endswith("clusters: 2")

    names = [sync["metadata"]["name"] for sync in await story.hub.api.items(story.path("clustersyncs"))]
    assert len(set(names)) == 2
    assert all(len(name) <= 63 and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in names)
    for member in clusters:
        assert await story.config_map(member, "a") is not None


async def test_a_name_that_another_application_has_gets_a_suffix(story: Any) -> None:
    """Kurator's defect 12: children of two Applications whose policies are named alike do not flip owners."""
    repository = await story.git_repo({"db/a.yaml": config_map("a")})
    other = await story.git_repo({"db/b.yaml": config_map("b")})
    await story.fleet("m1")
    await story.start()
    await story.application(repository, policy(story, "db"), name="first")
    await story.condition("Ready", "True", name="first")
    await story.application(other, policy(story, "db"), name="second")
    await story.condition("Ready", "True", name="second")

    uid = (await story.read("second"))["metadata"]["uid"]
    row = (await story.read("second"))["status"]["syncStatus"][0]
    assert row["name"] == "db-attachedcluster-m1"
    assert row["clusterSync"] == f"db-attachedcluster-m1-{uid[:5]}"
    await story.delete("applications", "first")
    await story.gone("applications", "first")
    assert await story.config_map("m1", "a") is None
    assert await story.config_map("m1", "b") is not None


async def test_a_missing_fleet_is_named_and_awaited(story: Any) -> None:
    """Bad input: the Fleet is not there; it comes, goes (which takes nothing away), comes back, and goes for good."""
    repository = await story.git_repo({"app/a.yaml": config_map("a")})
    await story.attach("m1")
    await story.start()
    await story.application(repository, policy(story))
    failed = await story.condition("Ready", "False", "FleetNotFound")
    assert f"Fleet/{story.namespace}/fleet not found; create it" in failed["message"]

    await story.set_fleet(["m1"])
    commit = await repository.commit_of()
    await story.applied(commit, "web-0-attachedcluster-m1")
    await story.condition("Ready", "True")

    await story.delete("fleets", "fleet")
    await story.condition("Ready", "False", "FleetNotFound")
    commit = await repository.commit({"app/a.yaml": config_map("a", version="2")})
    await story.request("2")
    row = await story.row("web-0-attachedcluster-m1", ready="False")
    assert f"Fleet/{story.namespace}/fleet not found" in row["message"]
    before = await story.config_map("m1", "a")

    await story.application(repository, policy(story, "renamed", path="./app"))
    waits = f"kept until this is mended: FleetNotFound: Fleet/{story.namespace}/fleet not found"
    await story.row("web-0-attachedcluster-m1", ready="Unknown", message=waits)
    await story.condition("Ready", "False", "FleetNotFound")

    await story.set_fleet(["m1"])
    await story.applied(commit, "renamed-attachedcluster-m1")
    assert (await story.config_map("m1", "a"))["metadata"]["uid"] == before["metadata"]["uid"]
    await story.condition("Ready", "True")

    await story.delete("fleets", "fleet")
    await story.condition("Ready", "False", "FleetNotFound")
    await story.delete("applications", "web")
    await story.gone("applications", "web")
    assert await story.config_map("m1", "a") is None


async def test_a_missing_cluster_is_named_and_the_others_go_on(story: Any) -> None:
    """Bad input: one cluster object of the Fleet is not there (Kurator would stop the whole Application)."""
    repository = await story.git_repo({"app/a.yaml": config_map("a", version="1")})
    await story.attach("m1")
    await story.set_fleet(["m2", "m1"])
    await story.start()
    await story.application(repository, policy(story))
    await story.applied(await repository.commit_of(), "web-0-attachedcluster-m1")
    failed = await story.condition("Ready", "False", "ClusterNotFound")
    assert f"AttachedCluster/{story.namespace}/m2 not found" in failed["message"]

    second = await repository.commit({"app/a.yaml": config_map("a", version="2")})
    await story.request("1")
    await story.applied(second, "web-0-attachedcluster-m1")
    await story.attach("m2")
    await story.applied(second, "web-0-attachedcluster-m1", "web-0-attachedcluster-m2")
    await story.condition("Ready", "True")


async def test_an_application_has_one_fleet(story: Any) -> None:
    """G37: a policy's fleet that is not the Application's is refused by the API server."""
    other = policy(story, "other") | {"destination": {"fleet": "another"}}
    with pytest.raises(ApiAnswer) as refused:
        await story.application("https://git.example.com/a.git", policy(story), other)
    assert refused.value.status == 422
    assert "destination.fleet must equal spec.destination.fleet" in str(refused.value)


async def test_applications_of_one_namespace_may_have_fleets_of_their_own(story: Any) -> None:
    """Two Fleets that share a member: each Application goes to its own."""
    repository = await story.git_repo({"app/a.yaml": config_map("a")})
    other = await story.git_repo({"app/b.yaml": config_map("b")})
    await story.fleet("m1", "m2", name="blue")
    await story.fleet("m2", "m3", name="green")
    await story.start()
    await story.application(repository, policy(story), name="one", fleet="blue")
    await story.application(other, policy(story), name="two", fleet="green")
    for name in ("one", "two"):
        await story.condition("Ready", "True", name=name)
    found = {m: [n for n in "ab" if await story.config_map(m, n)] for m in ("m1", "m2", "m3")}
    assert found == {"m1": ["a"], "m2": ["a", "b"], "m3": ["b"]}


async def test_a_policy_waits_for_another_on_the_same_cluster(story: Any) -> None:
    """dependsOn by policy name: resolved for each cluster (Kurator's defect 19), and by Kurator's full name."""
    files = {f"{name}/{name}.yaml": config_map(name) for name in ("base", "middle", "top")}
    broken = {"base/broken.yaml": config_map("Not_A_Name")}
    repository = await story.git_repo(files | broken)
    await story.fleet("m1", "m2")
    await story.start(dependency_retry=0.5)
    await story.application(
        repository,
        policy(story, "top", dependsOn=[{"name": "middle-attachedcluster-m1"}]),
        policy(story, "middle", dependsOn=[{"name": "base"}]),
        policy(story, "base"),
    )
    for member in ("m1", "m2"):
        base = f"dependency '{story.namespace}/base-attachedcluster-{member}' is not ready"
        await story.row(f"middle-attachedcluster-{member}", ready="False", message=base)
        middle = f"dependency '{story.namespace}/middle-attachedcluster-m1' is not ready"
        await story.row(f"top-attachedcluster-{member}", ready="False", message=middle)
    for name in ("top", "middle"):
        assert await story.config_map("m1", name) is None

    mended = await repository.commit({"base/broken.yaml": None})
    await story.request("1")
    await story.applied(mended)
    await story.condition("Ready", "True")
