"""`healthCheckExprs`: the health of kinds that follow no convention, as CEL over the object.

Expressions come from users, so they are bounded: their length by the API, their steps by the CEL library, which also
knows no loop without end. What cannot be evaluated, such as a field that is not there yet, is false.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

from fleet_rollout.decide.kstatus import Health, Status, is_behind
from fleet_rollout.errors import Terminal
from fleet_rollout_api.kustomization import HealthCheckExpr

REASON = "InvalidCELExpression"
PREFIX = "Reconciliation failed terminally due to configuration error"
# The fields at the top of an object that an expression can name; `self` is the object as a whole (`type` is CEL's own).
NAMES = (
    *("apiVersion", "kind", "metadata", "spec", "status", "data", "stringData", "binaryData", "immutable"),
    *("rules", "roleRef", "subjects", "secrets", "webhooks", "provisioner", "parameters", "value", "endpoints", "self"),
)
Kind = tuple[str, str]


@dataclass(frozen=True)
class Rule:
    """The compiled expressions for one kind, None where one is not given."""

    in_progress: Any
    failed: Any
    current: Any


def compiled(expressions: Iterable[HealthCheckExpr]) -> dict[Kind, Rule]:
    """The rules by group and kind, whatever the version. Raises Terminal that names the field and the mistake."""
    rules: dict[Kind, Rule] = {}
    for index, expr in enumerate(expressions):
        group = expr.api_version.rpartition("/")[0]
        at = f"healthCheckExprs[{index}]"
        rules[group, expr.kind] = Rule(
            _expression(expr.in_progress, f"{at}.inProgress"),
            _expression(expr.failed, f"{at}.failed"),
            _expression(expr.current, f"{at}.current"),
        )
    return rules


def health_by(rule: Rule, obj: Mapping[str, Any]) -> Health:
    """The health that the expressions give to a live object."""
    if obj["metadata"].get("deletionTimestamp"):
        return Health(Status.TERMINATING, "Resource scheduled for deletion")
    if is_behind(obj):
        return Health(Status.IN_PROGRESS, "Controller has not observed the latest generation")
    values = {name: obj[name] for name in NAMES if name in obj} | {"self": obj}
    if _is_true(rule.in_progress, values):
        return Health(Status.IN_PROGRESS, "custom inProgress expression is true")
    if _is_true(rule.failed, values):
        return Health(Status.FAILED, "custom failed expression is true")
    if _is_true(rule.current, values):
        return Health(Status.CURRENT, "custom current expression is true")
    return Health(Status.IN_PROGRESS, "no custom expression is true")


def _expression(text: str | None, at: str) -> Any:
    if not text:
        return None
    environment = _environment()
    try:
        expression = environment.compile(text)
    except RuntimeError as error:  # the library raises nothing more specific
        raise Terminal(REASON, f"{PREFIX}: {at} is no valid CEL: {_first_line(error)}") from error
    if expression.return_type().name() not in ("BOOL", "DYN"):
        raise Terminal(REASON, f"{PREFIX}: {at} must be true or false, and is {expression.return_type().name()}")
    return expression


@lru_cache(maxsize=1)
def _environment() -> Any:
    return cel.NewEnv(variables=dict.fromkeys(NAMES, cel.Type.DYN))


def _is_true(expression: Any, values: Mapping[str, Any]) -> bool:
    if expression is None:
        return False
    try:
        return expression.eval(data=values).plain_value() is True
    except RuntimeError:  # the library's budget of steps is used up
        return False


def _first_line(error: RuntimeError) -> str:
    return str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")
