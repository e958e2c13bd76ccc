"""Checks what users write before it becomes part of a proxy's configuration.

Annotations end in configuration files and regular expressions of programs that trust them: text that could end a
statement there is refused, with a sentence that names the field and the fix.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from fleet_rollout.decide.canary.objects import StepFailed

SHOWN = 80


class Rule(NamedTuple):
    """What a text must look like, its name, and what to write instead."""

    pattern: re.Pattern[str]
    what: str
    fix: str


_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DNS = rf"{_LABEL}(?:\.{_LABEL})*"
_TIME = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|ms|s|m|h)"
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,256}")
# Without what ends or begins a statement, a text or a variable in nginx, Lua and Skipper's routes.
_VALUE = re.compile(r"""[^\x00-\x1f\x7f-\U0010ffff{}"'`\\$;<>]{1,1024}""")
_PATTERN = re.compile(r"""[^\x00-\x1f\x7f-\U0010ffff"'`]{1,1024}""")
_QUANTIFIER = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")

HEADER = Rule(_WORD, "a header's name", "use letters, digits, '-', '_' and '.'")
COOKIE = Rule(_WORD, "a cookie's name", "use letters, digits, '-', '_' and '.'")
VALUE = Rule(_VALUE, "a header's value", "use printable ASCII without {}\"'`\\$;<>")
METHOD = Rule(re.compile(r"[A-Z]{1,32}"), "an HTTP method", "write it in capital letters, such as GET")
PREFIX = Rule(re.compile(r"/[A-Za-z0-9._~!&()*+,=:@%/-]{0,1023}"), "a path prefix", "write a path such as /api")
HOST = Rule(
    re.compile(rf"\*|(?=.{{1,253}}\Z)(?:\*\.)?{_DNS}"), "a host's name", "write a DNS name such as app.example.org"
)
GATEWAY = Rule(
    re.compile(rf"(?:{_LABEL}/)?(?=.{{1,253}}\Z){_DNS}"),
    "a gateway's name",
    "write mesh, <gateway>, <namespace>/<gateway> or its DNS name",
)
MESH = Rule(re.compile(_LABEL), "a mesh's name", "use lower-case letters, digits and '-'")
TIME = Rule(re.compile(rf"(?:{_TIME})+|infinity|infinite"), "a duration", "write one such as 15s or 1m30s")
RETRY = Rule(
    re.compile(r"[a-z0-9-]{1,64}"), "a reason to retry", "separate words such as 5xx,connect-failure by commas"
)


def checked(field: str, text: str, rule: Rule) -> str:
    """The text, where it follows the rule. Raises StepFailed."""
    if not rule.pattern.fullmatch(text):
        raise _refused(field, text, f"not {rule.what}; {rule.fix}")
    return text


def pattern(field: str, text: str) -> str:
    """A regular expression that a user gives as such; braces only as quantifiers."""
    if not _PATTERN.fullmatch(text):
        raise _refused(field, text, "not a regular expression; use printable ASCII without \"'`")
    plain = _QUANTIFIER.sub("", re.sub(r"\\.", "", text))
    if "{" in plain or "}" in plain:
        raise _refused(field, text, "not a regular expression; use braces as in a{2,3} only, or escape them")
    try:
        re.compile(text)
    except re.error as error:
        raise _refused(field, text, f"not a regular expression; mend it: {error.msg}") from error
    return text


def _refused(field: str, text: str, why: str) -> StepFailed:
    shown = json.dumps(text[:SHOWN]).replace("\x7f", "\\u007f")
    return StepFailed(f"{field}: {shown} is {why}")
