"""Reading and writing are each other's inverse, nothing a user said is lost, and left-out fields mean what they say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleet_rollout_api.application import Application, ClusterSelector, KustomizationSpec, RolloutConfig, SyncPolicy
from fleet_rollout_api.attached_cluster import AttachedCluster
from fleet_rollout_api.cluster_sync import ClusterSync
from fleet_rollout_api.fleet import Fleet
from fleet_rollout_api.meta import Model
from fleet_rollout_api.routing import RequestMatch
from fleet_rollout_api.source import GitRef

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
durations = st.sampled_from(["0s", "30s", "1m30s", "1h", "1.5h", "250ms"])
labels = st.dictionaries(words, words, max_size=3)


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


kustomizations = some(
    {"interval": durations, "prune": st.booleans()},
    path=words,
    timeout=durations,
    targetNamespace=words,
    namePrefix=words,
    wait=st.booleans(),
    allowEmpty=st.booleans(),
    images=st.lists(some({"name": words}, newTag=words, newName=words), max_size=3),
    patches=st.lists(some({"patch": words}, target=some({}, kind=words, labelSelector=words)), max_size=2),
    dependsOn=st.lists(some({"name": words}, namespace=words), max_size=2),
    commonMetadata=some({}, labels=labels, annotations=labels),
    healthChecks=st.lists(some({"kind": words, "name": words}, apiVersion=words), max_size=2),
    deletionPolicy=st.sampled_from(["MirrorPrune", "Delete", "WaitForTermination", "Orphan"]),
)
text_matches = st.sampled_from(["exact", "prefix", "suffix", "regex"]).flatmap(
    lambda way: st.fixed_dictionaries({way: words})
)
matches = some(
    {}, uri=text_matches, headers=st.dictionaries(words, text_matches, max_size=2), ignoreUriCase=st.booleans()
)
strategies = st.one_of(
    some({"stepWeight": st.integers(1, 100)}, maxWeight=st.integers(1, 100)),
    st.fixed_dictionaries(
        {"stepWeights": st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(sorted)}
    ),
)
rollouts = some(
    {
        "trafficRoutingProvider": st.sampled_from(["istio", "kuma", "nginx"]),
        "workload": some({"name": words}, namespace=words, kind=st.sampled_from(["Deployment", "DaemonSet"])),
        "serviceName": words,
        "port": st.integers(1, 65535),
        "rolloutPolicy": some(
            {},
            trafficRouting=some(
                {},
                canaryStrategy=strategies,
                match=st.lists(matches, max_size=2),
                timeoutSeconds=st.integers(0, 600),
                protocol=words,
                host=words,
                hosts=st.lists(words, max_size=2),
            ),
            trafficAnalysis=some(
                {"checkIntervalSeconds": st.integers(0, 600), "checkFailedTimes": st.integers(0, 9)},
                metrics=st.lists(
                    some(
                        {"name": words, "intervalSeconds": st.integers(1, 600)},
                        thresholdRange=some({}, min=st.integers(0, 99)),
                    ),
                    max_size=2,
                ),
            ),
            skipTrafficAnalysis=st.booleans(),
        ),
    },
    testLoader=st.booleans(),
    primary=some({}, labels=labels),
    autoscaler=st.booleans(),
)
policies = some({"kustomization": kustomizations}, name=words, rollout=rollouts, destination=some({"fleet": words}))
applications = st.fixed_dictionaries(
    {
        "metadata": some({"name": words}, namespace=words, labels=labels),
        "spec": some(
            {
                "source": st.fixed_dictionaries(
                    {
                        "gitRepository": some(
                            {"url": words.map(lambda name: f"https://git.example.org/{name}"), "interval": durations},
                            ref=some({}, branch=words, tag=words),
                            ignore=words,
                        )
                    }
                ),
                "syncPolicies": st.lists(policies, min_size=1, max_size=3),
            },
            destination=some({"fleet": words}, clusterSelector=some({}, matchLabels=labels)),
        ),
    }
)


def lost(given_value: Any, written: Any) -> bool:
    """Whether something that was given is not written again as it was."""
    if isinstance(given_value, dict):
        return any(lost(value, written.get(key)) for key, value in given_value.items())
    if isinstance(given_value, list):
        return len(given_value) != len(written) or any(map(lost, given_value, written))
    return bool(given_value != written or type(given_value) is not type(written))


@given(applications)
def test_an_application_is_written_as_it_was_read(raw):
    application = Application.model_validate(raw)
    assert Application.model_validate(application.dump()) == application
    assert not lost(raw, application.dump())


@given(applications)
def test_filling_in_defaults_changes_nothing_that_was_said_and_is_done_once(raw):
    application = Application.model_validate(raw)
    defaulted = application.defaulted()
    assert defaulted.defaulted() == defaulted
    assert not lost(raw, defaulted.dump())


@given(rollouts, kustomizations)
def test_a_cluster_sync_carries_the_policy_unchanged(rollout, kustomization):
    spec = {
        "application": "web",
        "policy": "web-0",
        "cluster": {"kind": "Cluster", "name": "m1"},
        "kustomization": KustomizationSpec.model_validate(kustomization).dump(),
        "rollout": RolloutConfig.model_validate(rollout).dump(),
    }
    sync = ClusterSync.model_validate({"metadata": {"name": "x"}, "spec": spec})
    assert sync.spec.kustomization == KustomizationSpec.model_validate(kustomization)
    assert sync.spec.rollout == RolloutConfig.model_validate(rollout)
    assert ClusterSync.model_validate(sync.dump()) == sync


@given(matches)
def test_what_passes_through_stays_out_where_it_was_left_out(raw):
    assert RequestMatch.model_validate(raw).dump() == raw


ROLLOUT: dict[str, Any] = {
    "trafficRoutingProvider": "kuma",
    "workload": {"name": "cart"},
    "serviceName": "cart",
    "port": 80,
    "rolloutPolicy": {"trafficRouting": {"analysisTimes": 3}},
}


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [
        ({}, "http"),
        ({"rolloutPolicy": {"skipTrafficAnalysis": True}}, "http"),
        ({"rolloutPolicy": {"trafficRouting": {"protocol": ""}}}, "http"),
        ({"rolloutPolicy": {"trafficRouting": {"protocol": "grpc"}}}, "grpc"),
        ({"trafficRoutingProvider": "istio"}, None),
    ],
)
def test_kumas_protocol_is_http_unless_said(changes, protocol):
    routing = RolloutConfig.model_validate(ROLLOUT | changes).defaulted(None).rollout_policy.traffic_routing
    assert (routing.protocol if routing else None) == protocol


@pytest.mark.parametrize(
    ("workload", "target", "namespace"),
    [
        ({}, "shop", "shop"),
        ({"namespace": ""}, "shop", "shop"),
        ({"namespace": "own"}, "shop", "own"),
        ({}, None, None),
    ],
)
def test_the_workload_is_where_the_kustomization_puts_it_unless_said(workload, target, namespace):
    kustomization = {"interval": "1m", "prune": True} | ({"targetNamespace": target} if target else {})
    rollout = ROLLOUT | {"workload": {"name": "cart", **workload}}
    policy = SyncPolicy.model_validate({"kustomization": kustomization, "rollout": rollout}).defaulted()
    assert policy.rollout is not None
    assert policy.rollout.workload.namespace == namespace


def test_a_policy_without_rollout_has_nothing_to_fill_in():
    policy = SyncPolicy.model_validate({"kustomization": {"interval": "1m", "prune": True}})
    assert policy.defaulted() is policy


def test_empty_text_reads_as_left_out():
    assert GitRef.model_validate({"branch": "", "tag": "v1", "semver": ""}) == GitRef(tag="v1")


def test_a_newer_objects_fields_do_not_stop_an_older_hub():
    selector = ClusterSelector.model_validate({"matchLabels": {"a": "b"}, "matchMoods": ["good"]})
    assert selector == ClusterSelector(match_labels={"a": "b"})


@pytest.mark.parametrize(
    ("model", "raw"),
    [
        (Fleet, {"metadata": {"name": "f"}}),
        (Fleet, {"metadata": {"name": "f"}, "spec": {"clusters": [{"name": "m1"}]}, "status": {"phase": "Ready"}}),
        (AttachedCluster, {"metadata": {"name": "m1"}, "spec": {"kubeconfig": {"name": "s"}}}),
    ],
)
def test_kurators_own_objects_can_be_read(model: type[Model], raw):
    read = model.model_validate(raw)
    assert model.model_validate(read.dump()) == read


@pytest.mark.parametrize("interval", ["", "1", "1d", "-1m", "PT1M", "1m "])
def test_a_duration_has_a_unit(interval):
    with pytest.raises(ValidationError):
        KustomizationSpec.model_validate({"interval": interval, "prune": True})
