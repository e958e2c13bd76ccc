"""A Knative Service with the schema of Knative's release. No Knative runs: the test writes the status."""

from __future__ import annotations

from fleet_rollout.decide.canary import knative, targets
from fleet_rollout.decide.canary.spec_hash import revision_hash


async def test_the_promoted_revision_is_named_and_gets_the_traffic(stage, crds, member):
    await crds("knative")
    template = {"spec": {"containers": [{"image": "example.com/podinfo:1"}]}}
    target = {
        "apiVersion": knative.API_VERSION,
        "kind": "Service",
        "metadata": {"name": "podinfo"},
        "spec": {"template": template},
    }
    made = await stage(target, provider="knative")
    about = await made.about()
    ref = targets.target_ref(about)

    async def newest(name):
        path = await made.hands.path(ref)
        await member.api.merge(f"{path}/status", {"status": {"latestCreatedRevisionName": name}})

    async def write(verb):
        done = await made.hands.carry_out(verb(about, {ref: await made.find(ref)}))
        assert verb(about, {ref: await made.find(ref)}) == []
        return done

    await newest("podinfo-00001")
    (first,) = await write(knative.create_primary)
    assert first["spec"]["traffic"][1] == {"revisionName": "podinfo-00001", "percent": 100}
    assert targets.fingerprint(about, {ref: first}).spec == revision_hash("podinfo-00001")
    await newest("podinfo-00002")
    (second,) = await write(knative.promote)
    assert knative.promoted_revision(second) == "podinfo-00002"
    assert second["spec"] == first["spec"]
