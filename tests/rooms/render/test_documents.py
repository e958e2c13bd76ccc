from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.errors import Terminal
from fleet_rollout.render import documents
from fleet_rollout.render.tree import Outside, clamp, join

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(text, values, min_size=1, max_size=4))
def test_what_is_written_reads_back_the_same(value):
    assert documents.load_strictly(documents.dump(value), "x") == [value]


@given(st.binary(max_size=300) | st.text("{}[]:,-&*!|>'\"\n <a0.?%@`#~\t", max_size=200).map(str.encode))
def test_t18_any_bytes_are_yaml_or_an_error_with_a_reason(data):
    for read in (documents.load, documents.load_strictly, lambda *each: list(documents.roots(*each))):
        error = None
        try:
            read(data, "x")
        except Terminal as caught:
            error = caught
        assert error is None or (error.reason == "InvalidYAML" and error.message.startswith("x: "))
        assert error is None or error.message.isprintable()


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"a: 1\nb: {c: 1, c: 2}\n", "key 'c' is there twice, from line 2"),
        (b"? [a]\n: b\n", "a key that is not text in line 1"),
        (b"a: *b\n", "the alias in line 1 is unknown there or contains itself"),
        (b"a: &x [1]\n---\nb: *x\n", "the alias in line 3 is unknown there or contains itself"),
        (b"a: " + b"9" * 5000, "Exceeds the limit"),
        (b"a: " + b"9" * 30, "no int of JSON in line 1"),
        (b"a: !!int 1" + b":1" * 1_000_000, "no int of JSON in line 1"),
        (b"a: !!float 1" + b":1" * 1000, "no float of JSON in line 1"),
        (b"a: !!float 'x'", "no float of JSON in line 1"),
        (b"a: !!int ''", "no int of JSON in line 1"),
        (b"a: !!bool x", "no bool of JSON in line 1"),
        (b"a: !!timestamp x", "no timestamp of JSON in line 1"),
        (b"a: !s3cret", "could not determine a constructor for its tag in line 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data, fact):
    with pytest.raises(Terminal) as failure:
        documents.load_strictly(data, "x")
    assert failure.value.message.startswith(f"x: {fact}")


def test_values_may_say_their_type():
    data = b"[!!int 1, !!float 1, !!float '1.5', !!bool true, !!str 1, !!timestamp 2026-01-02]"
    assert documents.load(data, "x") == [[1, 1.0, 1.5, True, "1", date(2026, 1, 2)]]


def test_the_key_that_is_there_twice_is_found_among_many():
    data = b"".join(b"k%d: x\n" % i for i in range(60_000)) + b"k59999: y\n"
    with pytest.raises(Terminal, match="key 'k59999' is there twice"):
        documents.load_strictly(data, "x")


def test_merge_keys_are_followed_and_may_be_overridden():
    data = b"a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [*a, {z: 4}]}\n"
    assert documents.load_strictly(data, "x") == [
        {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 2, "z": 4}}
    ]


def test_merge_keys_are_counted():
    with pytest.raises(Terminal, match="more than 10000 merges"):
        documents.load(b"<<: {}\n" * 10_001, "x")


@pytest.mark.parametrize("line_break", ["\n", "\r", "\x85", "\u2028"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_tag_directives_are_counted_on_every_line_that_yaml_knows(line_break, encoding):
    text = line_break.join([*(f"%TAG !{number}! a:" for number in range(1001)), "---", "a", ""])
    with pytest.raises(Terminal, match="more than 1000 %TAG directives"):
        documents.load(text.encode(encoding), "x")


def test_aliases_may_stand_for_much_but_not_for_everything():
    row = b"a: &a [" + b"x," * 1000 + b"]\nb: ["
    assert len(documents.load(row + b"*a," * 90 + b"]\n", "x")[0]["b"]) == 90
    with pytest.raises(Terminal, match="aliases stand for more than 100000 values"):
        documents.load(row + b"*a," * 110 + b"]\n", "x")


@given(st.text("./ab", max_size=20), st.sampled_from(["", "a", "a/b"]))
def test_no_name_leads_out_of_the_tree(name, folder):
    try:
        inside = join(folder, name)
    except Outside:
        inside = ""
    for found in (inside, clamp(name)):
        assert not found.startswith(("/", "../"))
        assert found != ".."
