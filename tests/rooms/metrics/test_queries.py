"""The built-in queries as they are sent, one golden file an observer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_rollout.decide.canary.checks import BUILT_IN, Model
from fleet_rollout.metrics.queries import ISTIO, OBSERVERS, PREFIXES, built_in, observer_of

GOLDENS = Path(__file__).parents[2] / "goldens" / "queries"
MODEL = Model("shop", "web-1", "cart", "cart-svc", "cart-ing", "cart-00002", "30s")


def written(provider):
    """Both queries, and what their results are multiplied with."""
    queries = [(metric, built_in(provider, metric, MODEL)) for metric in BUILT_IN]
    return "".join(f"# {metric}, x {query.scale:g}\n{query.text}\n" for metric, query in queries)


@pytest.mark.parametrize("provider", [*OBSERVERS, *PREFIXES])
def test_the_queries_of_a_provider_are_its_golden_ones(provider):
    assert written(provider) == (GOLDENS / f"{provider}.txt").read_text()


def test_every_golden_file_belongs_to_a_provider():
    assert {path.stem for path in GOLDENS.iterdir()} == {*OBSERVERS, *PREFIXES}


@pytest.mark.parametrize(
    ("provider", "like"),
    [
        ("appmesh", "appmesh"),
        ("appmesh:v1beta2", "appmesh"),
        ("appmesh:service", "appmesh"),
        ("gloo", "gloo"),
        ("gloo:service", "gloo"),
        ("gatewayapi:v1", "gatewayapi"),
        ("gatewayapi:v1beta1", "gatewayapi"),
        ("gatewayapi", "gatewayapi"),
        ("kubernetes", "kubernetes"),
        ("nginx", "nginx"),
    ],
)
def test_some_providers_are_known_by_the_begin_of_their_name(provider, like):
    assert written(provider) == (GOLDENS / f"{like}.txt").read_text()


@pytest.mark.parametrize(
    "provider",
    ["smi:v1alpha2", "smi:istio", "crossover", "istio:service", "nginx:service", "kubernetes:service", "", "unknown"],
)
def test_every_other_name_means_istio(provider):
    assert observer_of(provider) is ISTIO
