from __future__ import annotations

import pytest

from fleet_rollout.decide.names import ROLLOUT_ANNOTATION
from fleet_rollout.decide.translate_namespace import prepare_namespace

KUMA = {"kuma.io/sidecar-injection": "enabled"}


def live(labels=None, annotations=None):
    return {"metadata": {"name": "shop", "labels": labels, "annotations": annotations}}


@pytest.mark.parametrize(
    ("provider", "found", "labels", "annotations"),
    [
        ("istio", None, {"istio-injection": "enabled"}, {ROLLOUT_ANNOTATION: "web-0"}),
        ("istio", live(), {"istio-injection": "enabled"}, None),
        ("istio", live({"istio-injection": "enabled"}), {"istio-injection": "enabled"}, None),
        (
            "istio",
            live(annotations={ROLLOUT_ANNOTATION: "web-0"}),
            {"istio-injection": "enabled"},
            {ROLLOUT_ANNOTATION: "web-0"},
        ),
        ("istio", live(annotations={ROLLOUT_ANNOTATION: "db-0"}), {"istio-injection": "enabled"}, None),
        ("kuma", None, KUMA, KUMA | {ROLLOUT_ANNOTATION: "web-0"}),
        ("kuma", live(), KUMA, KUMA),
    ],
)
def test_the_namespace_takes_part_in_the_mesh(provider, found, labels, annotations):
    namespace, problems = prepare_namespace(provider, "shop", "web-0", found)
    assert problems == ()
    assert (namespace["apiVersion"], namespace["kind"], namespace["metadata"]["name"]) == ("v1", "Namespace", "shop")
    assert (namespace["metadata"]["labels"], namespace["metadata"].get("annotations")) == (labels, annotations)


def test_nginx_needs_nothing():
    assert prepare_namespace("nginx", "shop", "web-0", None) == (None, ())


@pytest.mark.parametrize(
    ("provider", "found", "text"),
    [
        (
            "istio",
            live({"istio-injection": "disabled"}),
            "Namespace/shop: label key conflict: istio-injection is 'disabled', the rollout needs 'enabled'",
        ),
        (
            "kuma",
            live(annotations={"kuma.io/sidecar-injection": "disabled"}),
            "Namespace/shop: annotation key conflict: kuma.io/sidecar-injection",
        ),
        (
            "kuma",
            live({"kuma.io/sidecar-injection": "disabled"}),
            "Namespace/shop: label key conflict: kuma.io/sidecar-injection",
        ),
    ],
)
def test_an_opposite_value_is_never_overwritten(provider, found, text):
    namespace, [problem] = prepare_namespace(provider, "shop", "web-0", found)
    assert namespace is None
    assert problem.reason == "NamespaceConflict"
    assert problem.message.startswith(text)
