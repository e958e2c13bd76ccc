from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rollout.loadtester.commands import LONGEST_COMMAND, allowed_words, words
from fleet_rollout.loadtester.payload import Refused

SAME = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/",
            "hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/",
        ),
        ("hey -H 'Cookie: type=insider; a=b' http://h/", ["hey", "-H", "Cookie: type=insider; a=b", "http://h/"]),
        ('hey -H "Cookie: a=b; c=d|e" http://h/', ["hey", "-H", "Cookie: a=b; c=d|e", "http://h/"]),
        ("hey 'http://h/?a=1&b=$x`y`'", ["hey", "http://h/?a=1&b=$x`y`"]),
        ("hey http://h/?a=1", "hey http://h/?a=1"),
        ("hey http://h/*[x]#part", "hey http://h/*[x]#part"),
        ("hey http://h/\\&\\;\\|", ["hey", "http://h/&;|"]),
        ('ghz -d \'{"name": "a (b)"}\' h:9', ["ghz", "-d", '{"name": "a (b)"}', "h:9"]),
        ("  hey http://h/ \n", "hey http://h/"),
        ("hey -z 1m \\\n  http://h/", "hey -z 1m http://h/"),
        ("hey 'a\\\nb' c\\\nd", ["hey", "a\\\nb", "cd"]),
        ("hey -H 'a: ^x$' price$ $", ["hey", "-H", "a: ^x$", "price$", "$"]),
        ("hey a=b", "hey a=b"),
    ],
)
def test_words_follow_the_shells_quoting(command, expected):
    assert words(command) == (expected.split() if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    ("command", "syntax"),
    [
        ("hey http://h/ | tee x", "|"),
        ("hey http://h/ && rm -rf /", "&&"),
        ("hey http://h/; id", ";"),
        ("hey http://h/ > /etc/x", ">"),
        ("hey http://h/ 2>&1", ">&"),
        ("hey < x", "<"),
        ("hey http://h/?a=1&b=2", "&"),
        ("hey $(id)", "$("),
        ("hey ${HOME}", "${"),
        ("hey $TOKEN", "$T"),
        ("hey `id`", "`"),
        ('hey "$(id)"', "$("),
        ('hey "a `id`"', "`"),
        ('hey "\\\\$HOME"', "$H"),
        ('hey "\\$HOME"', "$"),
        ('hey "a\\\nb"', "\\n"),
        ("hey a\nrm b", "'\\n'"),
        ("(hey)", "("),
        ("hey ~/x", "~"),
        ("hey # comment", "#"),
        ("A=1 hey http://h/", "A="),
    ],
)
def test_shell_syntax_is_refused_by_name(command, syntax):
    with pytest.raises(Refused, match=r"^shell syntax is not supported: ") as caught:
        words(command)
    assert syntax in caught.value.message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "the command is empty"),
        (" \n ", "the command is empty"),
        ("hey 'x", "the command cannot be read: no closing quotation"),
        ("hey x\\", "the command cannot be read: no escaped character"),
        ("x" * (LONGEST_COMMAND + 1), "the command is longer than 16384 characters"),
    ],
)
def test_what_is_no_command_is_said(command, message):
    with pytest.raises(Refused) as caught:
        words(command)
    assert caught.value.message == message


@pytest.mark.parametrize("program", ["rm", "/bin/hey", "./hey", "HEY", "hey;", "sh", "python3"])
def test_a_program_has_to_be_on_the_list(program):
    with pytest.raises(Refused) as caught:
        allowed_words(f"'{program}' x", {"hey", "wrk"})
    assert caught.value.message == (
        f"{program!r} is not an allowed program; allowed are hey, wrk (start the load tester with --allow to add one)"
    )
    assert allowed_words("hey x", {"hey", "wrk"}) == ["hey", "x"]


@settings(SAME)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_whatever_is_quoted_comes_out_as_it_was(arguments):
    assert words(shlex.join(["hey", *arguments])) == ["hey", *arguments]


@settings(SAME)
@given(st.text(alphabet="ab '\"\\$`|&;<>()\n~#=-{*?[!", max_size=12))
def test_what_gets_through_means_the_same_to_a_real_shell(command):
    try:
        found = words(f"hey {command}")
    except Refused:
        return
    text = f"set -f; printf '%s\\0' hey {command}"
    done = subprocess.run(["sh", "-c", text], capture_output=True, check=True, text=True, env={})
    assert done.stdout.split("\0")[:-1] == found
    assert done.stderr == ""
