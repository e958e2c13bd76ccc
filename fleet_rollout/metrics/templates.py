"""Fills in the templates of queries as Go would: `{{ namespace }}`, `{{ variables.x }}`, printf, if.

What stands for a value is the author's text unless it would leave the string that it stands in; see quoting.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.canary.checks import Model
from fleet_rollout.metrics.go_functions import FUNCTIONS, is_true
from fleet_rollout.metrics.go_template import Action, Branch, Group, Literal, Name, Node, Operand, Pipeline, parse
from fleet_rollout.metrics.go_tokens import TemplateError as TemplateError
from fleet_rollout.metrics.go_values import LONGEST, foreign, parts_of, shown, type_of
from fleet_rollout.metrics.quoting import CannotQuote, Place

# The CRD's pattern has no end, so that anything may follow the unit; outside of a string nothing can be quoted.
INTERVAL = re.compile(r"[0-9A-Za-zµ.:]*")


def render(source: str, model: Model) -> str:
    """The query of a template; TemplateError names what is missing or wrong."""
    if len(source) > LONGEST:
        raise TemplateError(f"a template is longer than {LONGEST >> 10} KiB")
    if not INTERVAL.fullmatch(model.interval):
        raise TemplateError(f"interval {model.interval[:50]!r} is not a duration such as 1m")
    filling = _Filling(model)
    filling.write(parse(source))
    return "".join(filling.written)


class _Variables(dict[str, str]):
    """The Canary's templateVariables."""


class _Filling:
    """One use of a template: what is written so far, and what its variables hold."""

    def __init__(self, model: Model) -> None:
        self.written: list[str] = []
        self._left = LONGEST
        self._place = Place()
        self._dot: Any = None
        self._scope: list[tuple[str, list[Any]]] = [("$", [None])]
        names = ("name", "namespace", "target", "service", "ingress", "route", "interval")
        values: dict[str, Any] = {name: foreign(getattr(model, name)) for name in names}
        values["variables"] = _Variables({key: foreign(str(value)) for key, value in model.variables.items()})
        self._model = values

    def write(self, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            match node:
                case str():
                    self._append(node, is_foreign=False)
                case Action(pipeline):
                    self._act(pipeline)
                case Branch():
                    self._branch(node)

    def _act(self, pipeline: Pipeline) -> None:
        value = self._evaluate(pipeline)
        if pipeline.declares:
            return
        try:
            for text, is_foreign in parts_of(shown(value)):
                self._append(text, is_foreign)
        except (CannotQuote, ValueError) as error:
            raise TemplateError(f"line {pipeline.line}: {error}") from None

    def _append(self, text: str, is_foreign: bool) -> None:
        written = self._place.fit(text) if is_foreign else text
        self._left -= len(written)
        if self._left < 0:
            raise TemplateError(f"the query is longer than {LONGEST >> 10} KiB")
        self._place.follow(written)
        self.written.append(written)

    def _branch(self, branch: Branch) -> None:
        depth, dot = len(self._scope), self._dot
        value = self._evaluate(branch.pipeline)
        if is_true(value):
            self._dot = value if branch.moves_dot else dot
            self.write(branch.then)
        else:
            self.write(branch.otherwise)
        self._dot = dot
        del self._scope[depth:]

    def _evaluate(self, pipeline: Pipeline) -> Any:
        try:
            value = self._command(pipeline.commands[0])
            for command in pipeline.commands[1:]:
                value = self._call(command, [value])
            if pipeline.declares:
                self._declare(pipeline, value)
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise TemplateError(f"line {pipeline.line}: {error.args[0]}") from None
        return value

    def _declare(self, pipeline: Pipeline, value: Any) -> None:
        if pipeline.is_new:
            self._scope.append((pipeline.declares, [value]))
        else:
            self._variable(pipeline.declares)[0] = value

    def _variable(self, name: str) -> list[Any]:
        """A list of its value alone, so that it can be changed."""
        for declared, holder in self._scope[::-1]:
            if declared == name:
                return holder
        raise LookupError(f"variable {name} is not defined")

    def _command(self, command: tuple[Operand, ...]) -> Any:
        first = command[0]
        if isinstance(first, Name) and not first.name.startswith(("$", ".")):
            return self._call(command, [])
        if len(command) > 1:
            raise TypeError("only a function can be given values")
        if isinstance(first, Literal) and first.value is None:
            raise TypeError("nil is not a command")
        return self._value(first)

    def _call(self, command: tuple[Operand, ...], piped: list[Any]) -> Any:
        """A function of its operands, and of what was piped as the last one."""
        name = command[0]
        assert isinstance(name, Name)
        if name.name in ("and", "or") and not name.fields:
            return self._first(name.name, command[1:], piped)
        values = [self._value(operand) for operand in command[1:]] + piped
        if name.name in self._model:
            if values:
                raise TypeError(f"{name.name} takes no values, and is given {len(values)}")
            return _fields(self._model[name.name], name)
        if name.name not in FUNCTIONS:
            raise LookupError(f"function {name.name!r} is not defined")
        function, fewest, most = FUNCTIONS[name.name]
        if not fewest <= len(values) <= most:
            raise TypeError(f"{name.name} is given {len(values)} values")
        return _fields(function(*values), name)

    def _first(self, name: str, operands: tuple[Operand, ...], piped: list[Any]) -> Any:
        """`and`, `or`: the first value that decides, else the last; the others are not looked at."""
        if not operands and not piped:
            raise TypeError(f"{name} needs a value")
        value: Any = None
        for operand in operands:
            value = self._value(operand)
            if is_true(value) is (name == "or"):
                return value
        return piped[0] if piped else value

    def _value(self, operand: Operand) -> Any:
        match operand:
            case Literal(value):
                return value
            case Group(pipeline, _):
                return _fields(self._evaluate(pipeline), operand)
            case Name(name, _) if name == ".":
                return _fields(self._dot, operand)
            case Name(name, _) if name.startswith("$"):
                return _fields(self._variable(name)[0], operand)
            case _:
                return self._call((operand,), [])


def _fields(value: Any, operand: Name | Group) -> Any:
    for field in operand.fields:
        if isinstance(value, _Variables) and field not in value:
            raise LookupError(f"templateVariables has no key {field!r}")
        if not isinstance(value, Mapping):
            raise TypeError(f"a {type_of(value)} has no field {field!r}")
        value = value[field]
    return value
