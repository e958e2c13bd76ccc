"""The Canaries of members in the Application: rows, counts, conditions, and never an old verdict for new content."""

from __future__ import annotations

from typing import Any

import yaml

from tests.stories.rollouts import Place, canary_row, deployment, files, policy, rollout

ROWS = ("web-0-attachedcluster-m2", "web-0-attachedcluster-m3")


async def begin(story: Any, *members: str, content: dict[str, str] | None = None) -> Any:
    """A rollout in these members, and an engine's first verdict on it: Initialized."""
    repository = await story.git_repo(content or files())
    await story.fleet(*members)
    await story.start(status_interval=0.1)
    await story.application(repository, policy(story, rollout(story)))
    for member in members:
        place = Place(story, member)
        await place.appears()
        await place.judge("Initialized", "first")
    return repository


async def ready(story: Any) -> dict[str, Any]:
    found = (await story.read())["status"]["conditions"]
    return next(each for each in found if each["type"] == "Ready")


async def test_every_row_shows_its_own_canary(story: Any) -> None:
    """A.3, H and defect 1 of A.8: a Canary's status is mirrored into its row, phases are counted, nobody polls."""
    await begin(story, "m2", "m3")
    await story.condition("Ready", "True")
    await Place(story, "m2").judge("Progressing", "second", canaryWeight=20, iterations=0, failedChecks=1)

    async def is_shown() -> dict[str, Any] | None:
        status = (await story.read())["status"]
        return status if status["summary"].get("rollout") == "1 Progressing, 1 Initialized" else None

    status = await story.until(is_shown)
    rows = {row["name"]: row for row in status["syncStatus"]}
    assert list(rows) == list(ROWS)
    assert [rows[name]["rolloutStatus"]["clusterName"] for name in ROWS] == ["m2", "m3"]
    assert [rows[name]["rolloutStatus"]["rolloutNameInCluster"] for name in ROWS] == ["podinfo", "podinfo"]
    shown = canary_row(rows[ROWS[0]])
    assert (shown["phase"], shown["canaryWeight"], shown["failedChecks"]) == ("Progressing", 20, 1)
    assert shown["conditions"][0]["type"] == "Promoted"
    assert canary_row(rows[ROWS[1]])["phase"] == "Initialized"
    assert status["summary"]["phases"] == {"Initialized": 1, "Progressing": 1}
    assert status["summary"]["clusters"] == "1/2"
    found = await story.condition("Ready", "Unknown")
    assert "Canary/" in found["message"]
    assert "Progressing, weight 20, 1 failed checks" in found["message"]

    await Place(story, "m2").judge("Succeeded", "second")
    await story.condition("Ready", "True")
    assert (await story.read())["status"]["summary"]["rollout"] == "1 Initialized, 1 Succeeded"


async def test_an_old_success_is_not_credited_to_a_new_image(story: Any) -> None:
    """Rule 5: while the Canary still says Succeeded of the last revision, the Application is not Ready."""
    repository = await begin(story, "m2")
    place = Place(story)
    await place.judge("Succeeded", "first")
    await story.condition("Ready", "True")
    before = await story.read()
    second = await repository.commit({"deployment.yaml": deployment("podinfo", tag="2")})
    await story.request("second")
    await story.applied(second)
    await story.row(ROWS[0], message="has not looked at the new revision yet; still Succeeded of the last one")
    found = await ready(story)
    assert (found["status"], found["reason"]) == ("Unknown", "Progressing")
    summary = (await story.read())["status"]["summary"]
    assert (summary["rollout"], summary["clusters"]) == ("1 Pending", "0/1")
    written = [each["status"] for each in await story.versions(since=before)]
    assert second in written[-1]["revision"]
    new = [each for each in written if second in each["revision"]]
    assert [c["status"] for each in new for c in each["conditions"] if c["type"] == "Ready"] == ["Unknown"] * len(new)

    await place.judge("Progressing", "second", canaryWeight=10)
    await story.row(ROWS[0], message="weight 10")
    await place.judge("Succeeded", "second")
    await story.condition("Ready", "True")


async def test_an_old_success_is_not_credited_across_a_restart(story: Any) -> None:
    """Rule 5 and rule 1: no part of the attribution lives only in memory."""
    repository = await begin(story, "m2")
    await story.condition("Ready", "True")
    second = await repository.commit({"deployment.yaml": deployment("podinfo", tag="2")})
    await story.request("second")
    await story.applied(second)
    await story.condition("Ready", "Unknown")
    await story.stop()
    await story.start()
    found = await story.row(ROWS[0], message="has not looked at the new revision yet")
    assert found["ready"] == "Unknown"
    place = Place(story)
    await place.judge("Succeeded", "second")
    await story.condition("Ready", "True")


async def test_an_analysis_of_the_configuration_that_nobody_watched_is_credited(story: Any) -> None:
    """Rule 1: the service was away from the apply to the promotion, and the Pod template is the same as before."""

    def settings(value: str) -> str:
        metadata = {"name": "settings"}
        return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": value}})

    obj = yaml.safe_load(deployment("podinfo"))
    obj["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    # Without kustomize's hash in the name, as it is where a ConfigMap is written by hand.
    content = files() | {"deployment.yaml": yaml.safe_dump(obj), "settings.yaml": settings("1")}
    repository = await begin(story, "m2", content=content)
    place = Place(story)
    await place.judge("Succeeded", "first", trackedConfigs={"configmap/settings": "one"})
    await story.condition("Ready", "True")
    second = await repository.commit({"settings.yaml": settings("2")})
    await story.request("second")
    await story.applied(second)
    await story.row(ROWS[0], message="has not looked at the new revision yet")
    await story.stop()
    await place.judge("Succeeded", "first", trackedConfigs={"configmap/settings": "two"})
    await story.start()
    await story.condition("Ready", "True")


async def test_a_rollback_names_its_cluster_and_ends_the_wait(story: Any) -> None:
    """Design section 7, Ready: False with RolloutFailed and the clusters' names; the others are not held up."""
    repository = await begin(story, "m2", "m3")
    await story.condition("Ready", "True")
    second = await repository.commit({"deployment.yaml": deployment("podinfo", tag="2")})
    await story.request("second")
    await story.applied(second)
    await Place(story, "m2").judge("Failed", "second")
    await story.row(ROWS[0], ready="False")
    assert (await ready(story))["status"] == "Unknown"  # m3 is unfinished
    await Place(story, "m3").judge("Succeeded", "second")
    found = await story.condition("Ready", "False", "RolloutFailed")
    assert found["message"].startswith("AttachedCluster/m2: ")
    assert "the engine says Failed." in found["message"]
    assert "m3" not in found["message"]
    await story.condition("Stalled", "True", "RolloutFailed")
    await story.condition("RolloutHealthy", "False", "RolloutFailed")
    assert (await story.read())["status"]["summary"]["rollout"] == "1 Succeeded, 1 Failed"

    third = await repository.commit({"deployment.yaml": deployment("podinfo", tag="3")})
    await story.request("third")
    await story.applied(third)
    for member in ("m2", "m3"):
        await Place(story, member).judge("Succeeded", "third")
    await story.condition("Ready", "True")


async def test_a_rollback_in_one_policy_lets_the_others_go_on(story: Any) -> None:
    """Defect 24 of A.8: a policy after a failed rollout gets its commits like any other."""
    content = files(folder="one/") | files("other", folder="two/")
    repository = await story.git_repo(content)
    await story.fleet("m2")
    await story.start(status_interval=0.1)
    policies = (policy(story, rollout(story), path="./one"), policy(story, None, path="./two", name="second"))
    await story.application(repository, *policies)
    place = Place(story)
    await place.appears()
    await place.judge("Initialized", "first")
    await story.condition("Ready", "True")
    files_ = {"one/deployment.yaml": deployment("podinfo", tag="2")}
    await repository.commit(files_)
    await story.request("second")
    await story.row(ROWS[0], message="has not looked at the new revision yet")
    await place.judge("Failed", "second")
    await story.condition("Ready", "False", "RolloutFailed")
    third = await repository.commit({"two/deployment.yaml": deployment("other", tag="2")})
    await story.request("third")
    await story.applied(third, "second-attachedcluster-m2")
    other = await place.deployment("other")
    assert other is not None
    assert other["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")
    # The commit is not about the workload that was rolled back, so its verdict stands.
    await story.condition("Ready", "False", "RolloutFailed")
