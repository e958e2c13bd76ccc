"""Whatever a user or a server writes: a repository or a list of references, or an error that quotes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_rollout.decide.gitrefs import canonical_repository, is_sane_listing, parse_listing, parse_url
from fleet_rollout.errors import Terminal, Transient

PIECES = (
    "https://",
    "http://",
    "ssh://",
    "git@",
    "user:word@",
    "host",
    "[::1]",
    ":443",
    ":0",
    "/",
    "..",
    "%0a",
    "$X",
    ".git",
    "?q",
    "#f",
)
urls = st.text(max_size=60) | st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)
HASHES = ("a" * 40, "b" * 64, "c" * 39, "")
NAMES = ("HEAD", "refs/heads/main", "refs/heads/../../x", "refs/tags/v1^{}", "refs/heads/-x", "")
lines = st.builds("{}{}{}".format, st.sampled_from(HASHES), st.sampled_from(["\t", " ", ""]), st.sampled_from(NAMES))


def outcome(parse: Callable[[Any], Any], content: object) -> Any:
    try:
        return parse(content)
    except (Terminal, Transient) as refused:
        return refused


@given(urls)
@example("https://h/" + "x" * 5000)
def test_t1_t6_a_url_is_a_repository_or_refused_without_being_quoted(text: str) -> None:
    found = outcome(parse_url, text)
    if isinstance(found, Terminal):
        assert found.reason == "InvalidURL"
        assert len(text) < 12 or text not in found.message
        return
    assert found.scheme in ("http", "https", "ssh")
    assert 0 < found.port < 65536
    assert not {"..", "."} & set(found.path.split("/"))
    assert all("!" <= char <= "~" and char not in "$\\" for char in f"{found.host}{found.path}")


@given(urls, urls)
def test_t39_the_same_text_is_the_same_repository_and_blanks_do_not_count(text: str, other: str) -> None:
    found = canonical_repository(text)
    assert canonical_repository(f" {text}\n") == found
    assert found or canonical_repository(found) == ""
    if other.strip() == text.strip():
        assert canonical_repository(other) == found


@given(st.binary(max_size=200) | st.lists(lines, max_size=5).map(lambda found: "\n".join(found).encode()))
def test_t5_a_server_s_list_holds_sane_names_or_is_no_list(output: bytes) -> None:
    refs = outcome(parse_listing, output)
    if isinstance(refs, Transient):
        assert refs.reason == "SourceInvalid"
        return
    assert all(is_sane_listing(name) and ".." not in name for name in refs)
    assert all(len(commit) in (40, 64) for commit in refs.values())


def test_t5_one_insane_name_spoils_the_list() -> None:
    with pytest.raises(Transient):
        parse_listing(f"{HASHES[0]}\tHEAD\n{HASHES[0]}\trefs/heads/../x\n".encode())
