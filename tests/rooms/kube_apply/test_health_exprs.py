"""healthCheckExprs: CEL over the object, row by row."""

from __future__ import annotations

import pytest

from fleet_rollout.errors import Terminal
from fleet_rollout.kube.health_exprs import compiled, health_by
from fleet_rollout_api.kustomization import HealthCheckExpr

READY = "status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')"
BROKEN = "status.conditions.exists(c, c.type == 'Ready' && c.status == 'False')"


def expr(current=READY, *, failed=None, in_progress=None, api_version="example.org/v1", kind="Widget"):
    return HealthCheckExpr(api_version=api_version, kind=kind, current=current, failed=failed, in_progress=in_progress)


def widget(status=None, **metadata):
    obj = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", **metadata}, "spec": {"size": 3}}
    return obj if status is None else {**obj, "status": status}


def ready(status):
    return {"conditions": [{"type": "Ready", "status": status}]}


def status_of(obj, **expressions):
    rule = compiled([expr(**expressions)])["example.org", "Widget"]
    return str(health_by(rule, obj).status)


@pytest.mark.parametrize(
    ("obj", "expressions", "expected"),
    [
        (widget(ready("True")), {}, "Current"),
        (widget(ready("Unknown")), {}, "InProgress"),
        (widget(ready("False")), {"failed": BROKEN}, "Failed"),
        (widget(ready("True")), {"in_progress": READY}, "InProgress"),
        (widget(ready("False")), {"failed": BROKEN, "current": BROKEN}, "Failed"),
        (widget({**ready("True"), "observedGeneration": 1}, generation=2), {}, "InProgress"),
        (widget({**ready("True"), "observedGeneration": 2}, generation=2), {}, "Current"),
        (widget(ready("True"), deletionTimestamp="2026-01-01T00:00:00Z"), {}, "Terminating"),
        (widget(), {}, "InProgress"),
        (widget({}), {}, "InProgress"),
        (widget({}), {"current": "!has(status.phase)"}, "Current"),
        (widget({}), {"current": "spec.size == 3 && metadata.name == 'w'"}, "Current"),
        (widget({}), {"current": "self.kind == 'Widget'"}, "Current"),
        (widget({}), {"current": "spec.size"}, "InProgress"),
        (widget({}), {"current": "spec.size / 0 == 1"}, "InProgress"),
        (widget({}), {"failed": "status.phase == 'Broken'", "current": "true"}, "Current"),
    ],
)
def test_the_first_expression_that_is_true_decides_and_missing_fields_are_false(obj, expressions, expected):
    assert status_of(obj, **expressions) == expected


def test_the_version_does_not_matter():
    assert compiled([expr(api_version="example.org/v2")]).keys() == {("example.org", "Widget")}
    assert compiled([expr(api_version="v1", kind="Pod")]).keys() == {("", "Pod")}


@pytest.mark.parametrize(
    ("expressions", "field", "fact"),
    [
        ({"current": "status.("}, "current", "Syntax error"),
        ({"failed": "nosuchname == 1"}, "failed", "undeclared reference"),
        ({"in_progress": "'a' + 1 == 'b'"}, "inProgress", "no matching overload"),
        ({"current": "1 + 1"}, "current", "must be true or false, and is INT"),
    ],
)
def test_a_mistake_is_terminal_and_names_its_field(expressions, field, fact):
    with pytest.raises(Terminal) as caught:
        compiled([expr(), expr(**expressions)])
    assert caught.value.reason == "InvalidCELExpression"
    message = caught.value.message
    prefix = "Reconciliation failed terminally due to configuration error: healthCheckExprs[1]."
    assert message.startswith(f"{prefix}{field} ")
    assert fact in message
    assert "\n" not in message


def test_an_expression_without_end_is_false():
    numbers = f"[{','.join(map(str, range(100)))}]"
    endless = f"{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, a + b + c >= 0)))"
    assert status_of(widget({}), current=endless) == "InProgress"
