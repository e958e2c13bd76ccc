"""Version ranges as Flux means them, row by row."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.versions import InvalidRange, best_tags, parse_range, parse_version

ADMITS = [
    # range, admitted, refused
    ("1.2.3", ["1.2.3", "1.2.3+build"], ["1.2.4", "1.2.3-rc.1"]),
    ("=1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
    ("!=1.2.3", ["1.2.4"], ["1.2.3", "2.0.0-rc.1"]),
    ("!=1.2", ["1.3.0", "2.2.0"], ["1.2.0", "1.2.9"]),
    ("!=1.x", ["2.0.0"], ["1.0.0"]),
    (">1.2.3", ["1.2.4"], ["1.2.3"]),
    (">11", ["12.0.0"], ["11.1.0"]),
    (">11.1", ["11.2.0"], ["11.1.1"]),
    (">*", ["0.0.1"], ["0.0.0"]),
    (">=1.0.0", ["1.0.0", "3.0.0"], ["0.9.9", "1.3.0-rc.1"]),
    ("=>1.0.0", ["1.0.0"], ["0.9.9"]),
    ("<2.0.0", ["1.9.9"], ["2.0.0", "2.0.0-rc.1"]),
    ("<=2.0.0", ["2.0.0"], ["2.0.1"]),
    ("=<2", ["2.9.9"], ["3.0.0"]),
    ("<=2.1", ["2.1.9"], ["2.2.0"]),
    ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
    ("~>1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
    ("~1", ["1.0.0", "1.9.0"], ["2.0.0"]),
    ("~*", ["0.0.0", "9.9.9"], []),
    ("~0.0.0", ["0.0.0", "9.9.9"], []),
    ("~0.0", ["0.0.9"], ["0.1.0"]),
    ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]),
    ("^0.2.3", ["0.2.9"], ["0.3.0", "0.2.2"]),
    ("^0.0.3", ["0.0.3"], ["0.0.4"]),
    ("^0.0", ["0.0.9"], ["0.1.0"]),
    ("^0", ["0.9.0"], ["1.0.0"]),
    ("^1", ["1.9.0"], ["2.0.0"]),
    ("^*", ["5.0.0"], []),
    ("1.x", ["1.0.0", "1.9.9"], ["2.0.0"]),
    ("1.2.X", ["1.2.9"], ["1.3.0"]),
    ("*", ["0.0.0", "9.0.0"], ["1.0.0-rc.1"]),
    ("1.2 - 1.4", ["1.2.0", "1.4.9"], ["1.5.0"]),
    ("1.2.0 - 1.4.5", ["1.4.5"], ["1.4.6"]),
    (">=1.0.0 <2.0.0", ["1.5.0"], ["2.0.0"]),
    (">= 1.0.0, < 2", ["1.5.0"], ["2.0.0"]),
    ("1.x || >=3.0.0", ["1.1.0", "3.0.0"], ["2.0.0"]),
    ("v1.2.0", ["1.2.0"], ["1.2.1"]),
    # A prerelease in one term opens the whole alternative, and no other alternative.
    (">=1.0.0-0 <2.0.0", ["1.3.0-rc.1", "1.3.0", "2.0.0-rc.1"], ["2.0.0", "2.0.1-rc.1"]),
    (">=1.0.0-0", ["1.3.0-rc.1", "1.0.0-alpha"], ["1.0.0-"]),
    ("^1.0.0-rc.1", ["1.0.0-rc.2", "1.0.0", "1.1.0-rc.1"], ["1.0.0-rc.0", "2.0.0"]),
    ("1.x || >=2.0.0-0", ["2.0.0-rc.1"], ["1.0.0-rc.1"]),
]


@pytest.mark.parametrize(("text", "admitted", "refused"), ADMITS)
def test_a_range_admits_what_flux_admits(text, admitted, refused):
    wanted = parse_range(text)
    for tag in admitted:
        assert best_tags([tag], wanted) == [tag], f"{text} should admit {tag}"
    for tag in refused:
        assert best_tags([tag], wanted) == [], f"{text} should refuse {tag}"


@pytest.mark.parametrize(
    "text", ["", " ", "abc", ">=", ">>1", "1.2.3.4", "1 ||", "1.0.0-01", ">=1.0.0;<2", "^" * 300, "1.0.0 latest"]
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(InvalidRange):
        parse_range(text)


@pytest.mark.parametrize("tag", ["foo", "1", "1.2", "v1.2", "01.2.3", "1.2.3-", "1.2.3-01", "release-1.2.3", "1.2.3\n"])
def test_tags_that_are_no_strict_versions_do_not_count(tag):
    assert parse_version(tag) is None


def test_versions_are_ordered_as_semver_says():
    ordered = ["1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc", "1.0.0", "1.0.1", "v2.0.0"]
    versions = [parse_version(tag) for tag in ordered]
    shuffled = versions[5:] + versions[:5]
    assert sorted(shuffled) == versions
    assert parse_version("v1.0.0+a") == parse_version("1.0.0+b")
    assert hash(parse_version("v1.0.0+a")) == hash(parse_version("1.0.0+b"))
    assert parse_version("1.0.0") != "1.0.0"


@pytest.mark.parametrize(
    ("text", "tags"),
    [(">=1.0.0", ["v1.3.0"]), (">=1.0.0-0", ["2.0.0-rc.1"]), ("9.x", [])],
)
def test_g4_the_highest_tag_of_the_range_wins(text, tags):
    assert best_tags(["1.0.0", "v1.3.0", "2.0.0-rc.1", "foo"], parse_range(text)) == tags


def test_tags_that_differ_in_build_metadata_only_tie():
    assert best_tags(["1.0.0+b", "1.0.0+a", "0.9.0"], parse_range("*")) == ["1.0.0+a", "1.0.0+b"]
