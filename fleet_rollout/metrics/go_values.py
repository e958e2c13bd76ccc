"""Values in templates as Go has them: how they are written, and `printf`.

A `Mixed` text remembers which of its parts are somebody else's words, so that only those are quoted later.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from fleet_rollout.decide.go_numbers import number

ESCAPES = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
VERB = re.compile(r"%([-+# 0]*)([0-9]*)(?:\.([0-9]*))?(.)", re.DOTALL)
WIDEST = 1000
# No query is longer, nor a part of it; and no template may make more of it than there is memory.
LONGEST = 256 * 1024


class Mixed(str):
    """A text of parts; those marked True are somebody else's."""

    parts: tuple[tuple[str, bool], ...]

    def __new__(cls, parts: Iterable[tuple[str, bool]]) -> Mixed:
        kept = tuple(part for part in parts if part[0])
        found = super().__new__(cls, "".join(text for text, _ in kept))
        found.parts = kept
        return found


def foreign(text: str) -> Mixed:
    """Somebody else's words."""
    return Mixed([(text, True)])


def parts_of(text: str) -> tuple[tuple[str, bool], ...]:
    return text.parts if isinstance(text, Mixed) else ((text, False),)


def is_foreign(value: Any) -> bool:
    return isinstance(value, Mixed) and any(mark for _, mark in value.parts)


def joined(texts: Iterable[str]) -> Mixed:
    """One text of several, whose parts stay whose they were; ValueError where it is longer than any query."""
    kept = list(texts)
    if sum(map(len, kept)) > LONGEST:
        raise ValueError(f"a text is longer than {LONGEST >> 10} KiB")
    return Mixed(part for text in kept for part in parts_of(text))


def unquote(text: str) -> str:
    """The value of a Go string literal in double quotes; ValueError where it is none."""
    pieces: list[bytes] = []
    end = 1
    for found in ESCAPE.finditer(text, 1, len(text) - 1):
        pieces.append(text[end : found.start()].encode())
        end = found.end()
        hexadecimal, octal, short, long, character = found.groups()
        if hexadecimal or octal:
            pieces.append(bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8)]))
        elif short or long:
            pieces.append(chr(int(short or long, 16)).encode())
        elif character in ESCAPES:
            pieces.append(ESCAPES[character].encode())
        else:
            raise ValueError(f"unknown escape \\{character}")
    pieces.append(text[end:-1].encode())
    return b"".join(pieces).decode(errors="replace")


def quote(text: str) -> str:
    """Go's %q, which PromQL reads as a string, too."""
    written = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    escaped = "".join(
        "\\" + character if character in '\\"' else written.get(character) or _printable(character)
        for character in text
    )
    return f'"{escaped}"'


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(value: Any) -> str:
    """Go's %v."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case float():
            return number(value)
        case str():
            return value
        case Mapping():
            pairs = [text for key, found in sorted(value.items()) for text in (" ", key, ":", shown(found))]
            return joined(["map[", *pairs[1:], "]"])
        case _:
            return str(value)


def type_of(value: Any) -> str:
    """As messages name it."""
    if value is None:
        return "nil"
    names = {bool: "bool", int: "int", float: "float64", str: "string"}
    return next((name for type_, name in names.items() if isinstance(value, type_)), "map")


def printf(form: str, values: list[Any]) -> str:
    """Go's Sprintf for texts, numbers and booleans; ValueError says what does not fit."""
    pieces: list[str] = []
    left = list(values)
    end = 0
    for found in VERB.finditer(form):
        pieces.append(form[end : found.start()])
        end = found.end()
        if found[4] == "%":
            pieces.append("%")
            continue
        if not left:
            raise ValueError(f"printf: there is no value for {found[0]}")
        pieces.append(_formatted(found, left.pop(0)))
    if left:
        raise ValueError(f"printf: there is no verb for {shown(left[0])!r}")
    pieces.append(form[end:])
    if "%" in form[end:]:
        raise ValueError("printf: % at the end has no verb")
    text = joined(pieces)
    return foreign(text) if is_foreign(form) else text


def _formatted(verb: re.Match[str], value: Any) -> str:
    flags, width, precision = verb[1], int(verb[2] or 0), int(verb[3]) if verb[3] else None
    if width > WIDEST or (precision or 0) > WIDEST:
        raise ValueError(f"printf: {verb[0]} is wider than {WIDEST}")
    text = _converted(verb, flags, precision, value)
    if len(text) >= width:
        return text
    if "-" in flags:
        return joined([text, " " * (width - len(text))])
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if "0" in flags and is_number:
        sign = text[0] if text[0] in "+-" else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return joined([" " * (width - len(text)), text])


def _converted(verb: re.Match[str], flags: str, precision: int | None, value: Any) -> str:
    letter = verb[4]
    if letter == "v" and not isinstance(value, str):
        return _signed(shown(value), flags, value)
    if letter in "svqxX" and isinstance(value, str):
        return _string(letter, precision, value)
    if letter in "dxXobc" and isinstance(value, int) and not isinstance(value, bool):
        return _character(value) if letter == "c" else _signed(format(value, letter), flags, value)
    if letter in "eEfFgG" and isinstance(value, float):
        is_shortest = letter in "gG" and precision is None
        text = number(value) if is_shortest else format(value, f".{6 if precision is None else precision}{letter}")
        return _signed(text, flags, value)
    if letter == "t" and isinstance(value, bool):
        return shown(value)
    raise ValueError(f"printf: {verb[0]} does not fit the {type_of(value)} {shown(value)!r}")


def _character(code: int) -> str:
    """Go's %c, to which a number that is no character is U+FFFD."""
    is_one = 0 <= code <= sys.maxunicode and not 0xD800 <= code <= 0xDFFF
    return chr(code) if is_one else "\N{REPLACEMENT CHARACTER}"


def _string(letter: str, precision: int | None, value: str) -> str:
    cut = value if precision is None else value[:precision]
    text = cut if letter in "sv" else quote(cut) if letter == "q" else format(cut.encode().hex())
    text = text.upper() if letter == "X" else text
    if text is value or not is_foreign(value):
        return text
    return foreign(text)


def _signed(text: str, flags: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or text.startswith(("-", "+")):
        return text
    return ("+" if "+" in flags else " " if " " in flags else "") + text
