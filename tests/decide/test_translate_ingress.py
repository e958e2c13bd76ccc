from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.names import ROLLOUT_ANNOTATION
from fleet_rollout.decide.translate_ingress import Rule, with_rule, without_rule

CART, SHOP = Rule("cart.example", "cart", 80), Rule("shop.example", "shop", 81)


def add(live, rule, previous=None):
    return with_rule(live, rule, namespace="ns", policy="web-0", previous=previous)


def ingress(*rules, annotations=None, **spec):
    given_annotations = {ROLLOUT_ANNOTATION: "web-0", "kubernetes.io/ingress.class": "nginx"}
    metadata = {
        "name": "nginx",
        "namespace": "ns",
        "resourceVersion": "7",
        "uid": "u",
        "managedFields": [{}],
        "annotations": given_annotations if annotations is None else annotations,
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "status": {"x": 1},
        "spec": {"rules": list(rules)} | spec,
    }


def path(service, port=80, where="/"):
    return {"path": where, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": port}}}}


def rule(host, *paths):
    return {"host": host, "http": {"paths": list(paths)}}


def hosts(write):
    return [each["host"] for each in write.object["spec"]["rules"]]


def stored(write):
    """What the API server holds after a write."""
    obj = write.object
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": "8", "uid": "u"}, "status": {}}


def test_g36_one_rule_however_often_it_is_reconciled():
    write = add(None, CART)
    assert (write.action, write.object["spec"]) == ("create", {"rules": [rule("cart.example", path("cart"))]})
    for _ in range(5):
        assert add(stored(write), CART) is None


def test_g36_a_second_application_adds_its_rule():
    write = add(ingress(rule("cart.example", path("cart"))), SHOP)
    assert (write.action, hosts(write)) == ("replace", ["cart.example", "shop.example"])
    assert (write.object["metadata"]["resourceVersion"], write.object["metadata"]["uid"]) == ("7", "u")
    assert "managedFields" not in write.object["metadata"]
    assert "status" not in write.object


def test_what_kurator_appended_again_and_again_becomes_one_rule_in_its_place():
    many = [rule("cart.example", path("cart"))] * 3
    write = add(ingress(*many, rule("shop.example", path("shop", 81)), *many), CART)
    assert hosts(write) == ["cart.example", "shop.example"]


def test_other_paths_of_the_host_and_other_annotations_stay():
    own = path("api", where="/api")
    write = add(ingress(rule("cart.example", own), annotations={ROLLOUT_ANNOTATION: "x", "mine": "y"}), CART)
    assert write.object["spec"]["rules"] == [rule("cart.example", path("cart"), own)]
    assert write.object["metadata"]["annotations"] == {
        ROLLOUT_ANNOTATION: "x",
        "mine": "y",
        "kubernetes.io/ingress.class": "nginx",
    }


def test_a_changed_port_is_corrected():
    write = add(ingress(rule("cart.example", path("cart", 1))), CART)
    assert write.object["spec"]["rules"] == [rule("cart.example", path("cart"))]


@pytest.mark.parametrize("now", [Rule("new.example", "cart", 80), Rule("cart.example", "basket", 80)])
def test_a_changed_host_or_service_takes_the_old_rule_away(now):
    write = add(ingress(rule("cart.example", path("cart"))), now, previous=Rule("cart.example", "cart"))
    assert write.object["spec"]["rules"] == [rule(now.host, path(now.service))]


def test_the_rule_of_before_is_no_reason_to_write():
    assert add(ingress(rule("cart.example", path("cart"))), CART, previous=Rule("cart.example", "cart")) is None


def test_a_host_belongs_to_one_service():
    problem = add(ingress(rule("cart.example", path("other"))), CART)
    assert problem.reason == "HostTaken"
    assert "host cart.example already leads to Service other" in problem.message


def test_an_ingress_that_is_not_a_rollouts_is_left_alone():
    foreign = ingress(rule("cart.example", path("cart")), annotations={})
    assert add(foreign, CART).reason == "OwnershipConflict"
    assert without_rule(foreign, CART) is None


def test_removal_takes_only_its_own_rule():
    write = without_rule(ingress(rule("cart.example", path("cart")), rule("shop.example", path("shop"))), CART)
    assert (write.action, hosts(write)) == ("replace", ["shop.example"])


def test_removal_of_the_last_rule_deletes_the_ingress():
    write = without_rule(ingress(rule("cart.example", path("cart"))), CART)
    assert (write.action, write.object["metadata"]["resourceVersion"]) == ("delete", "7")


def test_removal_keeps_an_ingress_with_a_default_backend_and_other_paths():
    kept = without_rule(ingress(rule("cart.example", path("cart")), defaultBackend={}), CART)
    assert (kept.action, hosts(kept)) == ("replace", [])
    own = path("api", where="/api")
    assert without_rule(ingress(rule("cart.example", path("cart"), own)), CART).object["spec"]["rules"] == [
        rule("cart.example", own)
    ]


@pytest.mark.parametrize(
    "live",
    [
        None,
        ingress(),
        ingress(rule("cart.example", path("other"))),
        ingress(rule("other.example", path("cart"))),
        ingress({"host": "cart.example"}),
        {"metadata": {"annotations": {ROLLOUT_ANNOTATION: "x"}}},
    ],
)
def test_removal_of_what_is_not_there_writes_nothing(live):
    assert without_rule(live, CART) is None


def test_an_odd_rule_without_http_gets_the_path_beside_it():
    assert add(ingress({"host": "cart.example"}), CART).object["spec"]["rules"] == [rule("cart.example", path("cart"))]
    odd = {"host": "cart.example", "http": {"paths": [{"backend": {"resource": {}}}]}}
    assert add(ingress(odd), CART).object["spec"]["rules"] == [rule("cart.example", path("cart"))]


RULES = st.lists(
    st.builds(Rule, st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"]), st.just(80)), max_size=8
)


@given(RULES)
def test_every_host_has_one_rule_and_everything_can_be_taken_away(rules):
    live = None
    for each in rules:
        write = add(live, each)
        live = stored(write) if write is not None and not hasattr(write, "reason") else live
    found = [each["host"] for each in live["spec"]["rules"]] if live else []
    assert len(found) == len(set(found))
    for each in rules:
        write = without_rule(live, each)
        if write is not None:
            live = None if write.action == "delete" else stored(write)
    assert live is None
