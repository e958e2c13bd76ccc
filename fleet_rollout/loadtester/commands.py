"""Reads a command without a shell: words by the shell's quoting rules, and a clear no to everything else of a shell.

A command comes from whoever may write a Canary or reach the port; a shell would let it do all that the Pod may do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection

from fleet_rollout.loadtester.payload import Refused

LONGEST_COMMAND = 16 * 1024
EXPANSION = r"\$[\w{(@*#?$!'\"-]"
# Each alternative consumes a piece that has one meaning, so that operators inside quotes are never found.
PIECE = re.compile(
    rf"""
      '[^']*'
    | "(?P<quoted>(?:[^"\\]|\\.)*)"
    | \\.
    | (?P<syntax> [|&;<>()`\n]+ | {EXPANSION} | (?<!\S)[~\#] | \A\s*\w+= )
    """,
    re.VERBOSE | re.DOTALL,
)
# shlex keeps a backslash before `$`, "`" and an end of line there, which a shell takes away: refused, not changed.
INSIDE_QUOTES = re.compile(rf"\\\\|(?P<syntax>\\[$`\n]|`|{EXPANSION})", re.DOTALL)
# Quoted pieces, kept; and ends of lines that continue, which a shell removes.
CONTINUATION = re.compile(r"""('[^']*'|"(?:[^"\\]|\\.)*"|\\[^\n])|\\\n""", re.DOTALL)


def words(command: str, advice: str = "") -> list[str]:
    """The words of a command; raises Refused, with `advice`, where a shell would do something else with them."""
    if len(command) > LONGEST_COMMAND:
        raise Refused(f"the command is longer than {LONGEST_COMMAND} characters")
    text = CONTINUATION.sub(lambda piece: piece[1] or "", command).strip(" \t\r\n")
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise Refused(f"the command cannot be read: {str(error).lower()}") from None
    if not found:
        raise Refused("the command is empty")
    if syntax := shell_syntax(text):
        raise Refused(
            f"shell syntax is not supported: {syntax!r}; write one program and its arguments, and quote what is meant "
            f"literally{advice}"
        )
    return found


def shell_syntax(text: str) -> str:
    """The first piece that only a shell understands; empty where there is none."""
    for piece in PIECE.finditer(text):
        if piece["syntax"]:
            return piece["syntax"].strip(" \t")
        for inner in INSIDE_QUOTES.finditer(piece["quoted"] or ""):
            if inner["syntax"]:
                return inner["syntax"]
    return ""


def allowed_words(command: str, allowed: Collection[str]) -> list[str]:
    """The words of a command whose program is one of `allowed`; raises Refused."""
    found = words(command, " (or start the load tester with --allow-shell)")
    if found[0] not in allowed:
        raise Refused(
            f"{found[0][:100]!r} is not an allowed program; allowed are {', '.join(sorted(allowed))} "
            "(start the load tester with --allow to add one)"
        )
    return found
