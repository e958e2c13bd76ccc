"""Running git: which one, and how every run ends."""

from __future__ import annotations

import time

import pytest

from fleet_rollout.errors import Terminal
from fleet_rollout.sources.git import (
    ERRORS_KEPT,
    Git,
    GitFailed,
    GitTimeout,
    LimitPassed,
    Limits,
    check_version,
    holds_more,
)
from fleet_rollout.sources.git_environment import local_environment


def fake_git(tmp_path, monkeypatch, script):
    """A program named git, first on the PATH."""
    path = tmp_path / "git"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.fixture
def run(tmp_path):
    def start(*arguments, **limits):
        with local_environment() as environment:
            return Git().output(arguments, environment, tmp_path, Limits(**{"seconds": 20.0} | limits))

    return start


def test_the_git_of_this_machine_will_do():
    check_version()


def test_a_git_that_cannot_be_pinned_is_refused(tmp_path, monkeypatch):
    fake_git(tmp_path, monkeypatch, "echo git version 2.36.9")
    with pytest.raises(Terminal, match=r"git 2\.36\.9 cannot be kept") as error:
        check_version()
    assert error.value.reason == "GitTooOld"


def test_a_machine_without_git_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Terminal, match="no git program on PATH"):
        check_version()


def test_output_and_exit_code(run):
    assert run("version").startswith(b"git version")
    with pytest.raises(GitFailed) as error:
        run("no-such-command")
    assert "no-such-command" in error.value.errors


def test_errors_that_never_end_do_not_block(tmp_path, monkeypatch, run):
    fake_git(tmp_path, monkeypatch, "head -c 3000000 /dev/zero | tr '\\\\0' x >&2; printf '\\ndone\\n' >&2; exit 3")
    with pytest.raises(GitFailed) as error:
        run("version")
    assert error.value.returncode == 3
    assert error.value.errors == "done\n"


def test_t21_errors_that_are_cut_begin_with_a_whole_line(tmp_path, monkeypatch, run):
    """The end that is kept begins inside the secret: what is left of it could not be recognised any more."""
    last = "b" * (ERRORS_KEPT - len("value\n") - 1)
    fake_git(tmp_path, monkeypatch, f"printf 'a\\nsecret-value\\n{last}\\n' >&2; exit 3")
    with pytest.raises(GitFailed) as error:
        run("version")
    assert error.value.errors == f"{last}\n"


def test_more_output_than_allowed_ends_it(tmp_path, monkeypatch, run):
    fake_git(tmp_path, monkeypatch, "cat /dev/zero")
    with pytest.raises(LimitPassed):
        run("version", output=1000)


def test_a_grandchild_that_keeps_the_pipe_does_not_outlive_the_time(tmp_path, monkeypatch, run):
    fake_git(tmp_path, monkeypatch, "sleep 300 & sleep 300")
    started = time.monotonic()
    with pytest.raises(GitTimeout):
        run("version", seconds=0.3)
    assert time.monotonic() - started < 20


def test_what_is_on_disk_is_counted_as_the_disk_does(tmp_path):
    for number in range(10):
        folder = tmp_path / f"f{number}" / "inner"
        folder.mkdir(parents=True)
        (folder / "reference").write_text("a")
    assert holds_more(tmp_path, 30 * 4096 - 1)
    (tmp_path / "pack").write_bytes(bytes(1_000_000))
    assert holds_more(tmp_path, 1_000_000 + 30 * 4096 - 1)
    assert not holds_more(tmp_path, 2_000_000)
    assert not holds_more(tmp_path / "gone", 0)
