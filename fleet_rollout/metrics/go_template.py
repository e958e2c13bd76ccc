"""Reads the part of Go's text/template that queries use, into nodes: actions, pipelines, if, with, comments, trimming.

PyPI has no implementation that is maintained and complete, and none that tells which part of a text came from where,
which quoting needs. What is left out (range, define, template, block) is refused by name.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import lru_cache

from fleet_rollout.metrics.go_tokens import Statement, TemplateError, Token, pieces
from fleet_rollout.metrics.go_values import unquote

Constant = str | int | float | bool | None


@dataclass(frozen=True)
class Literal:
    value: Constant


@dataclass(frozen=True)
class Name:
    """A function (`target`), a variable (`$x`) or the dot, with the fields that are taken from it."""

    name: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """A pipeline in parentheses."""

    pipeline: Pipeline
    fields: tuple[str, ...] = ()


Operand = Literal | Name | Group


@dataclass(frozen=True)
class Pipeline:
    """Commands, each of which gets the result of the one before; `declares` names a variable that keeps the last."""

    commands: tuple[tuple[Operand, ...], ...]
    declares: str = ""
    is_new: bool = True
    line: int = 1


@dataclass(frozen=True)
class Action:
    pipeline: Pipeline


@dataclass(frozen=True)
class Branch:
    """`if`, or `with`, which also moves the dot."""

    pipeline: Pipeline
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    moves_dot: bool = False


Node = str | Action | Branch

UNSUPPORTED = frozenset({"range", "define", "template", "block", "break", "continue"})
DEEPEST = 50
LONGEST_SHOWN = 50
# Go's int.
LEAST, GREATEST = -(2**63), 2**63 - 1


@lru_cache(maxsize=256)
def parse(source: str) -> tuple[Node, ...]:
    """The nodes of a template; TemplateError says in which line it cannot be read."""
    return _Parser(list(pieces(source))).parse()


class _Parser:
    def __init__(self, pieces: list[str | Statement]) -> None:
        self._pieces = iter(pieces)
        self._depth = 0

    def parse(self) -> tuple[Node, ...]:
        nodes, last = self._block()
        if last is not None:
            raise TemplateError(f"line {last.line}: unexpected {{{{ {last.tokens[0].text} }}}}")
        return nodes

    def _block(self) -> tuple[tuple[Node, ...], Statement | None]:
        """Nodes up to `else` or `end`, and that statement; None at the end of the template."""
        nodes: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                nodes += [piece] if piece else []
                continue
            word = piece.tokens[0].text if piece.tokens and piece.tokens[0].kind == "word" else ""
            if word in ("else", "end"):
                return tuple(nodes), piece
            nodes.append(self._node(piece, word))
        return tuple(nodes), None

    def _node(self, statement: Statement, word: str) -> Node:
        if word in UNSUPPORTED:
            raise TemplateError(f"line {statement.line}: {{{{ {word} }}}} is not supported in queries")
        if word in ("if", "with"):
            return self._branch(statement, statement.tokens[1:], word)
        return Action(_Reader(statement.tokens, statement.line).whole())

    def _branch(self, statement: Statement, tokens: tuple[Token, ...], word: str) -> Branch:
        self._depth += 1
        if self._depth > DEEPEST:
            raise TemplateError(f"line {statement.line}: more than {DEEPEST} blocks in one another")
        pipeline = _Reader(tokens, statement.line).whole()
        then, last = self._block()
        otherwise: tuple[Node, ...] = ()
        if last is not None and last.tokens[0].text == "else":
            otherwise, last = self._otherwise(last)
        if last is None:
            raise TemplateError(f"line {statement.line}: {{{{ {word} }}}} has no {{{{ end }}}}")
        _nothing_after(last, 1)
        self._depth -= 1
        return Branch(pipeline, then, otherwise, moves_dot=word == "with")

    def _otherwise(self, statement: Statement) -> tuple[tuple[Node, ...], Statement | None]:
        """What follows an `else`, up to the `end`; that of `else if` ends this block, too."""
        if len(statement.tokens) > 1 and (word := statement.tokens[1].text) in ("if", "with"):
            return (self._branch(statement, statement.tokens[2:], word),), Statement(statement.tokens[:1], 0)
        _nothing_after(statement, 1)
        nodes, last = self._block()
        if last is not None and last.tokens[0].text == "else":
            raise TemplateError(f"line {last.line}: a second {{{{ else }}}}")
        return nodes, last


def _nothing_after(statement: Statement, count: int) -> None:
    if len(statement.tokens) > count:
        raise TemplateError(f"line {statement.line}: unexpected {statement.tokens[count].text!r}")


class _Reader:
    """Reads the pipeline in one statement."""

    def __init__(self, tokens: tuple[Token, ...], line: int) -> None:
        self._tokens = tokens
        self._at = 0
        self._line = line
        self._depth = 0

    def whole(self) -> Pipeline:
        declares, is_new = self._declaration()
        pipeline = self._pipeline(declares, is_new)
        if self._at < len(self._tokens):
            raise self._error(f"unexpected {self._tokens[self._at].text!r}")
        return pipeline

    def _declaration(self) -> tuple[str, bool]:
        if len(self._tokens) < 2 or self._tokens[0].kind != "variable" or self._tokens[1].text not in (":=", "="):
            return "", True
        self._at = 2
        return self._tokens[0].text, self._tokens[1].text == ":="

    def _pipeline(self, declares: str = "", is_new: bool = True) -> Pipeline:
        commands = [self._command()]
        while self._is_next("|"):
            self._at += 1
            commands.append(self._command())
        for command in commands[1:]:
            if not isinstance(command[0], Name) or command[0].name.startswith(("$", ".")):
                raise self._error("only a function can follow |")
        return Pipeline(tuple(commands), declares, is_new, self._line)

    def _command(self) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while self._at < len(self._tokens) and not self._is_next("|") and not self._is_next(")"):
            if operands and not self._tokens[self._at].is_spaced:
                raise self._error(f"unexpected {self._tokens[self._at].text!r}")
            operands.append(self._operand())
        if not operands:
            raise self._error("a value is missing")
        return tuple(operands)

    def _operand(self) -> Operand:
        token = self._tokens[self._at]
        self._at += 1
        if token.text == "(" and token.kind == "symbol":
            return self._group()
        if token.kind in ("word", "variable") and token.text not in ("true", "false", "nil"):
            return Name(token.text, self._fields())
        if token.kind == "field":
            return Name(".", (token.text[1:], *self._fields()))
        if token.text == "." and token.kind == "symbol":
            return Name(".")
        if token.kind == "symbol":
            raise self._error(f"unexpected {token.text!r}")
        return Literal(self._constant(token))

    def _group(self) -> Group:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"more than {DEEPEST} parentheses in one another")
        pipeline = self._pipeline()
        if not self._is_next(")"):
            raise self._error("( is not closed")
        self._at += 1
        self._depth -= 1
        return Group(pipeline, self._fields())

    def _fields(self) -> tuple[str, ...]:
        fields: list[str] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind != "field" or token.is_spaced:
                break
            fields.append(token.text[1:])
            self._at += 1
        return tuple(fields)

    def _constant(self, token: Token) -> Constant:
        words = {"true": True, "false": False, "nil": None}
        try:
            match token.kind:
                case "string":
                    return unquote(token.text)
                case "raw":
                    return token.text[1:-1]
                case "char":
                    return ord(unquote(f'"{token.text[1:-1]}"'.replace("\\'", "'")))
                case "number":
                    return _number(token.text)
        except (ValueError, TypeError, SyntaxError, OverflowError):
            raise self._error(f"{token.text[:LONGEST_SHOWN]} is not a {token.kind}") from None
        return words[token.text]

    def _is_next(self, symbol: str) -> bool:
        if self._at >= len(self._tokens):
            return False
        token = self._tokens[self._at]
        return token.kind == "symbol" and token.text == symbol

    def _error(self, fact: str) -> TemplateError:
        return TemplateError(f"line {self._line}: {fact}")


def _number(text: str) -> int | float:
    plain = text.lstrip("+-")
    if re.fullmatch(r"0[0-7_]+", plain):  # Go's old way to write octal
        text = text.replace("0", "0o", 1)
    value = ast.literal_eval(text)
    if not isinstance(value, int | float):
        raise TypeError
    if isinstance(value, int) and not LEAST <= value <= GREATEST:
        raise OverflowError
    return value
