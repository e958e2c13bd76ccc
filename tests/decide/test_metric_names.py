from __future__ import annotations

import pytest

from fleet_rollout.decide.metric_names import ids_asked, template_ids
from fleet_rollout_api.rollout import RolloutConfig

METADATA = {"name": "web", "namespace": "shop"}


def rollout(*names, namespace="shop"):
    own = [{"name": name, "customMetric": {"provider": {"type": "prometheus"}, "query": "q"}} for name in names]
    analysis = {"checkIntervalSeconds": 10, "checkFailedTimes": 1, "metrics": [*own, {"name": "request-duration"}]}
    workload = {"name": "web"} | ({"namespace": namespace} if namespace else {})
    return RolloutConfig.model_validate(
        {
            "trafficRoutingProvider": "istio",
            "workload": workload,
            "serviceName": "web",
            "port": 80,
            "rolloutPolicy": {"skipTrafficAnalysis": True, "trafficAnalysis": analysis},
        }
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (rollout("err", "lag"), {"shop_err_flagger.app_MetricTemplate", "shop_lag_flagger.app_MetricTemplate"}),
        (rollout("err", namespace=None), {"_err_flagger.app_MetricTemplate"}),
        (rollout(), set()),
    ],
)
def test_templates_are_named_as_inventories_name_them(given, expected):
    assert template_ids(given) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"analysis": {"metrics": [{"templateRef": {"name": "err"}}]}}, {"shop_err_flagger.app_MetricTemplate"}),
        (
            {"analysis": {"metrics": [{"templateRef": {"name": "err", "namespace": "lib"}}, {"name": "lag"}]}},
            {"lib_err_flagger.app_MetricTemplate"},
        ),
        ({"analysis": {"metrics": [{"templateRef": {}}, {"templateRef": None}]}}, set()),
        ({"analysis": {"metrics": None}}, set()),
        ({"analysis": None}, set()),
        (None, set()),
    ],
)
def test_what_a_canary_asks_is_read_from_it(spec, expected):
    assert ids_asked({"metadata": METADATA, "spec": spec}) == expected
