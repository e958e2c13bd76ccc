"""Ignore rules: gitignore patterns, last match wins."""

from __future__ import annotations

import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rollout.decide import ignore
from fleet_rollout.decide.ignore import MOST_PATTERNS, TooManyPatterns, rules


def excluded(paths, files=(), ignore=None):
    wanted = rules(files, ignore)
    return [path for path in paths if wanted.excludes(path)]


PATHS = [
    "a.yaml",
    "logo.png",
    ".github/x.yml",
    "docs/x.md",
    "deep/docs/x.md",
    ".gitignore",
    ".sourceignore",
    "d/.sops.yaml",
]


def test_g7_without_rules_pictures_and_ci_files_stay_out():
    assert excluded(PATHS) == ["logo.png", ".github/x.yml", ".gitignore", "d/.sops.yaml"]


def test_g7_any_pattern_turns_the_media_and_ci_defaults_off():
    assert excluded(PATHS, [("", "/docs")]) == ["docs/x.md", ".gitignore"]


def test_g7_spec_ignore_can_keep_one_file_only():
    assert excluded(PATHS, ignore="/*\n!/a.yaml") == [path for path in PATHS if path != "a.yaml"]


def test_comments_alone_leave_the_defaults_on():
    assert "logo.png" in excluded(PATHS, [("", "# nothing\n\n")])


def test_spec_ignore_comes_after_the_files():
    assert excluded(["x", "y"], [("", "x\ny")], "!x") == ["y"]


def test_a_nested_file_counts_in_its_folder_only():
    assert excluded(["x", "sub/x", "sub/deep/x", "other/x", "sub"], [("sub", "x")]) == ["sub/x", "sub/deep/x"]


TABLE = [
    ("*.log", ["a.log", "d/a.log"], ["a.logs"]),
    ("/a", ["a", "a/b"], ["b/a"]),
    ("a/b", ["a/b", "a/b/c"], ["x/a/b"]),
    ("a/", ["a/b", "x/a/b"], ["a", "x/a"]),
    ("/a/b/", ["a/b/c"], ["a/b"]),
    ("**/a", ["a", "x/a", "x/y/a/z"], ["ab"]),
    ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
    ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a", "b"]),
    ("**", ["a", "a/b"], []),
    ("a?c", ["abc"], ["ac", "a/c"]),
    ("[ab]", ["a", "b"], ["c"]),
    ("[!ab]", ["c"], ["a"]),
    ("[^ab]", ["c"], ["a"]),
    (r"\#a", ["#a"], ["a"]),
    (r"\!a", ["!a"], ["a"]),
    (r"a\*", ["a*"], ["ab"]),
    ("a  ", ["a"], ["a "]),
    ("a\\ ", ["a "], ["a"]),
    ("x\n!x", [], ["x"]),
    ("/\n!\n", [], ["a"]),
    ("a.yaml/x", [], ["a.yaml"]),
    ("missing/**/x", [], ["a/x"]),
]


@pytest.mark.parametrize(("text", "out", "kept"), TABLE)
def test_patterns(text, out, kept):
    assert excluded([*out, *kept], [("", text)]) == out


def test_a_folder_pattern_matches_the_folder_itself():
    wanted = rules([("", "docs/")], None)
    assert wanted.excludes("docs", is_folder=True)
    assert not wanted.excludes("docs")


def test_t39_hostile_patterns_take_no_time():
    started = time.perf_counter()
    assert not excluded(["a" * 250], [("", "*a" * 30 + "*b")])
    assert not excluded(["/".join("a" * 1000)], [("", "**/a/" * 50 + "b")])
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("text", ["x\n" * (MOST_PATTERNS + 1), "x" * 5000, ("a/" * 400 + "\n") * 100])
def test_absurd_rules_are_refused(text):
    with pytest.raises(TooManyPatterns):
        rules([("", text)], None)


def test_absurd_rules_are_refused_before_one_is_compiled(monkeypatch):
    monkeypatch.setattr(ignore, "_glob", lambda text: pytest.fail(f"{text} was compiled"))
    with pytest.raises(TooManyPatterns):
        rules([("a", "x\n" * MOST_PATTERNS)], "x\n")


NAMES = st.sampled_from(["a", "b", "ab", "a.c"])
GLOBS = st.sampled_from(["a", "b", "*", "a*", "?", "[ab]", "**", "*.c"])
LINES = st.builds(
    lambda lead, parts, tail: lead + "/".join(parts) + tail,
    st.sampled_from(["", "/"]),
    st.lists(GLOBS, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", path], check=True)
    return path


@settings(max_examples=60, deadline=None)
@given(
    line=LINES,
    paths=st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=5, unique=True),
)
def test_without_negation_git_itself_agrees(repository, line, paths):
    """With negation the two differ on purpose: git does not look into an ignored folder again."""
    (repository / ".gitignore").write_text(line + "\n")
    answer = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--no-index", "--stdin"],
        input="\n".join(paths),
        capture_output=True,
        text=True,
    )
    assert excluded(paths, [("", line)]) == [path for path in paths if path in answer.stdout.splitlines()]
