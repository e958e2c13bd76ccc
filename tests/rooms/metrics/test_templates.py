"""Templates against what Go 1.26's text/template made of them, and the quoting that Go does not do."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.checks import Model
from fleet_rollout.metrics.go_template import DEEPEST
from fleet_rollout.metrics.go_values import unquote
from fleet_rollout.metrics.templates import TemplateError, render

VARIABLES = {"a": "b", "n": "5", "empty": "", "quoted": 'x"y'}


def model(interval="1m", **variables):
    return Model("pod", "test", "target", "svc", "ing", "rt", interval, variables or VARIABLES)


FILLED = [
    ("plain", "plain"),
    ("{{ name }} {{namespace}} {{ target }} {{ service }}", "pod test target svc"),
    ("{{ ingress }} {{ route }} {{ interval }}", "ing rt 1m"),
    ("a {{- name -}} b", "apodb"),
    ("a {{ name -}}\n b", "a podb"),
    ("a \n{{- name }} b", "apod b"),
    ("{{- name }}{{3 -}} x", "pod3x"),
    ("a {{/* c\nd */}} b", "a  b"),
    ("a {{- /* c */ -}} b", "ab"),
    ("{{ variables.a }}", "b"),
    ('{{ index variables "a" }}', "b"),
    ('{{ index variables "zz" }}|', "|"),
    ("{{ variables }}", 'map[a:b empty: n:5 quoted:x"y]'),
    ('{{ (index variables "a") | printf "%q" }}', '"b"'),
    ("{{ (variables).a }}", "b"),
    ('{{ printf "%s-%s" name target }}', "pod-target"),
    ('{{ name | printf "%s:%s" target }}', "target:pod"),
    ("{{ if variables.empty }}y{{ else }}n{{ end }}", "n"),
    ('{{ if eq variables.a "c" }}y{{ else if eq variables.n "5" }}z{{ else }}n{{ end }}', "z"),
    ('{{if and name ""}}a{{else}}b{{end}}', "b"),
    ('{{ and 1 0 2 }}{{ or 0 "" "x" "y" }}', "0x"),
    ('{{ or (index variables "zz") "default" }}', "default"),
    ("{{ 1 | and 2 }}{{ false | or 0 }}", "1false"),
    ("{{ not 1 }} {{ ne 1 2 }} {{ eq 1 2 1 }} {{ eq nil 1 }}", "false true true false"),
    ('{{ lt 1 2 }} {{ le 2 2 }} {{ gt "b" "a" }} {{ ge 1.5 2.5 }}', "true true true false"),
    ("{{ len name }} {{ len variables }}", "3 4"),
    ('{{ print 1 2 "a" 3 4 true }}|{{ print }}', "1 2a3 4 true|"),
    ('{{ println 1 "a" }}', "1 a\n"),
    ('{{ urlquery "a b&c" }}', "a+b%26c"),
    ("{{ $x := name }}{{ $x }}", "pod"),
    ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ end }}{{ $x }}", "2"),
    ("{{ if $y := name }}{{ $y }}{{ end }}", "pod"),
    ("{{ with variables }}{{ .a }}{{ end }}{{ with variables.empty }}x{{ else }}none{{ end }}", "bnone"),
    ("{{ with variables.empty }}x{{ else with variables.a }}{{ . }}{{ end }}", "b"),
    ("{{ . }} {{ $ }}", "<no value> <no value>"),
    ("{{ 1.5 }} {{ 0x1F }} {{ 1e6 }} {{ 017 }} {{ 1_000 }}", "1.5 31 1e+06 15 1000"),
    ("{{ -2 }} {{ 'a' }} {{ '\\n' }}", "-2 97 10"),
    ('{{ "a\\tb\\x41\\101\\u00e9\\U0001F600\\"" }}{{ `raw\\n` }}', 'a\tbAAé😀"raw\\n'),
    ('{{ "a" -}} \n{{- "b" }}', "ab"),
    ('{{ name | len | printf "%d" }}', "3"),
    ('{{ printf "%05d|%-5d|%+d|% d" 5 6 7 8 }}', "00005|6    |+7| 8"),
    ('{{ printf "%5s|%-5s|%.2s" "ab" "cd" "efg" }}', "   ab|cd   |ef"),
    ('{{ printf "%v %v %v %v" 1 2.5 "x" false }}', "1 2.5 x false"),
    ('{{ printf "%.2f %e %g %.3g" 2.5 2.5 2.5 1234.5 }}', "2.50 2.500000e+00 2.5 1.23e+03"),
    ('{{ printf "%6.2f|%-8.1f|%08.3f" 3.14159 2.5 -2.5 }}', "  3.14|2.5     |-002.500"),
    ('{{ printf "%x %X %X %o %b" "hi" "hi" 255 8 5 }}', "6869 6869 FF 10 101"),
    ('{{ printf "%q" variables.quoted }}', '"x\\"y"'),
    ('{{ printf "%t %c %% %v" true 65 variables.a }}', "true A % b"),
    ('{{ printf "%q" "a\\n\\x00\\u200b\\U000e0001\\\\" }}', '"a\\n\\x00\\u200b\\U000e0001\\\\"'),
]


@pytest.mark.parametrize(("source", "text"), FILLED)
def test_a_template_is_filled_in_as_go_does(source, text):
    assert render(source, model()) == text


REFUSED = [
    ("{{ variables.zz }}", "line 1: templateVariables has no key 'zz'"),
    ("\n\n{{ variables.zz }}", "line 3: templateVariables has no key 'zz'"),
    ("{{ variables.a.b }}", "a string has no field 'b'"),
    ("{{ .Foo }}", "a nil has no field 'Foo'"),
    ("{{ foo }}", "function 'foo' is not defined"),
    ("{{ name | foo }}", "function 'foo' is not defined"),
    ("{{ $q }}", "variable $q is not defined"),
    ("{{ $x = 5 }}", "variable $x is not defined"),
    ("{{ if $y := name }}{{ end }}{{ $y }}", "variable $y is not defined"),
    ("{{ nil }}", "nil is not a command"),
    ('{{ "un', '" is not closed'),
    ("{{ `un", "` is not closed"),
    ("{{ name", "an action is not closed"),
    ("{{ name }", "an action is not closed"),
    ("{{ }}", "a value is missing"),
    ("{{ name | }}", "a value is missing"),
    ("{{ /*x*/ }}", "a comment has to begin"),
    ("{{ name name }}", "name takes no values, and is given 1"),
    ('{{ "x" | name }}', "name takes no values, and is given 1"),
    ('{{ name | "x" }}', "only a function can follow |"),
    ('{{ "a" "b" }}', "only a function can be given values"),
    ("{{ end }}", "unexpected {{ end }}"),
    ("{{ if 1 }}{{ end name }}", "unexpected 'name'"),
    ("{{ if name }}", "{{ if }} has no {{ end }}"),
    ("{{ if 1 }}{{ else }}", "{{ if }} has no {{ end }}"),
    ("{{ if 1 }}a{{ else }}b{{ else }}c{{ end }}", "a second {{ else }}"),
    ("{{ if 1 }}a{{ else name }}b{{ end }}", "unexpected 'name'"),
    ("{{ range variables }}{{ end }}", "{{ range }} is not supported"),
    ('{{ define "x" }}{{ end }}', "{{ define }} is not supported"),
    ("{{-name}}", "unexpected '-name}}'"),
    ("{{ name , }}", "unexpected ','"),
    ("{{ = }}", "unexpected '='"),
    ("{{ (name }}", "( is not closed"),
    ("{{ name) }}", "unexpected ')'"),
    ('{{ "a"name }}', "unexpected 'name'"),
    ("{{ 08 }}", "08 is not a number"),
    ("{{ 'ab' }}", "'ab' is not a char"),
    ('{{ "\\z" }}', "is not a string"),
    ("{{ eq 1 1.0 }}", "a int cannot be compared with a float64"),
    ('{{ lt "a" 1 }}', "a string has no order with a int"),
    ("{{ lt true false }}", "a bool has no order"),
    ("{{ eq variables variables }}", "a map cannot be compared"),
    ("{{ eq 1 }}", "eq is given 1 values"),
    ("{{ and }}", "and needs a value"),
    ("{{ len 3 }}", "a int has no length"),
    ("{{ index variables 1 }}", "a map cannot be indexed with a int"),
    ("{{ printf 1 }}", "printf needs a text first"),
    ('{{ printf "%s" 5 }}', "printf: %s does not fit the int '5'"),
    ('{{ printf "%d" "x" }}', "printf: %d does not fit the string 'x'"),
    ('{{ printf "%d" true }}', "does not fit the bool"),
    ('{{ printf "%s %s" "a" }}', "printf: there is no value for %s"),
    ('{{ printf "%s" "a" "b" }}', "printf: there is no verb for 'b'"),
    ('{{ printf "100%" }}', "printf: % at the end has no verb"),
    ('{{ printf "%99999d" 1 }}', "wider than"),
    ("{{ (" * (DEEPEST + 1), "unexpected"),
    ("{{" + "(" * (DEEPEST + 1) + "name" + ")" * (DEEPEST + 1) + "}}", "parentheses in one another"),
    ("{{ if 1 }}" * (DEEPEST + 1) + "{{ end }}" * (DEEPEST + 1), "blocks in one another"),
]


@pytest.mark.parametrize(("source", "fact"), REFUSED)
def test_what_is_wrong_is_said_with_its_line(source, fact):
    with pytest.raises(TemplateError, match=re.escape(fact)) as caught:
        render(source, model())
    assert str(caught.value).startswith("line ")


def test_a_variable_is_missing_where_there_are_none():
    with pytest.raises(TemplateError, match="templateVariables has no key 'a'"):
        render("{{ variables.a }}", Model("n", "ns", "t", "s", "i", "r", "1m"))


@given(st.text(alphabet='{}-/* "`$|().=:abif109\n', max_size=40))
def test_any_text_is_filled_in_or_refused(source):
    try:
        render("{{" + source, model())
    except TemplateError:
        return


@pytest.mark.parametrize(
    "source",
    [
        " " * 300_000,
        "{{ variables.v }}" * 1000,
        "{{ $x := variables.v }}" + '{{ $x = printf "%s%s" $x $x }}' * 100,
        "{{ $x := variables.v }}" + "{{ $x = print $x $x }}" * 100,
    ],
)
def test_no_template_makes_more_than_a_query_needs(source):
    with pytest.raises(TemplateError, match="longer than 256 KiB"):
        render(source, model(v="x" * 1000))


@pytest.mark.parametrize("source", ["{{ " + "1" * 200_000 + "a }}", '{{ "' + "\\" * 100_000, "{{/*" + "*/" * 100_000])
def test_no_template_takes_long_to_read(source):
    started = time.process_time()
    with pytest.raises(TemplateError):
        render(source, model())
    assert time.process_time() - started < 2


# Values stay where the template's author has put them (trust row 45)

INJECTION = 'x"} or vector(1) #'


def test_t45_a_value_cannot_leave_its_matcher():
    query = render('sum(errors{app="{{ variables.app }}"})', model(app=INJECTION))
    assert query == 'sum(errors{app="x\\"} or vector(1) #"})'


@pytest.mark.parametrize(
    "source",
    [
        'sum(errors{app="{{ index variables "app" }}"})',
        'sum(errors{app="{{ printf "%s" variables.app }}"})',
        '{{ $a := variables.app }}sum(errors{app="{{ $a }}"})',
        '{{ printf `sum(errors{app="%s"})` variables.app }}',
        '{{ print `sum(errors{app="` variables.app `"})` }}',
        '{{ with variables.app }}sum(errors{app="{{ . }}"}){{ end }}',
    ],
)
def test_t45_whichever_way_it_takes(source):
    assert render(source, model(app=INJECTION)) == 'sum(errors{app="x\\"} or vector(1) #"})'


@pytest.mark.parametrize(
    ("source", "value", "query"),
    [
        ('{a="{{ variables.v }}"}', "cart", '{a="cart"}'),
        ('{a=~"{{ variables.v }}"}', "a|b.*[0-9]+", '{a=~"a|b.*[0-9]+"}'),
        ('{a="{{ variables.v }}"}', 'say \\"hi\\" \\\\d', '{a="say \\"hi\\" \\\\d"}'),
        ('{a="{{ variables.v }}"}', "it's", '{a="it\'s"}'),
        ("{{ variables.v }}", 'a{b="c"}', 'a{b="c"}'),
        ("{{ variables.v }} > {{ variables.v }}", "1", "1 > 1"),
        ("{a=`{{ variables.v }}`}", 'x"\\', '{a=`x"\\`}'),
    ],
)
def test_a_value_that_stays_inside_is_written_as_it_is(source, value, query):
    assert render(source, model(v=value)) == query


@pytest.mark.parametrize(
    ("source", "value", "query"),
    [
        ('{a="{{ variables.v }}"}', "C:\\dir", '{a="C:\\\\dir"}'),
        ('{a=~"{{ variables.v }}"}', "\\d+", '{a=~"\\\\d+"}'),
        ('{a="{{ variables.v }}"}', "end\\", '{a="end\\\\"}'),
        ('{a="{{ variables.v }}"}', "two\nlines", '{a="two\\nlines"}'),
        ("{a='{{ variables.v }}'}", "it's", "{a='it\\'s'}"),
        ('{b="\\"", a="{{ variables.v }}"}', '"', '{b="\\"", a="\\""}'),
        ('# "\n{a="{{ variables.v }}"}', '"', '# "\n{a="\\""}'),
    ],
)
def test_a_value_that_would_end_its_string_is_quoted(source, value, query):
    assert render(source, model(v=value)) == query


@pytest.mark.parametrize(
    ("source", "value"),
    [("{a=`{{ variables.v }}`}", "`"), ("# {{ variables.v }}\nx", "a\nb"), ('{a="\\{{ variables.v }}"}', '"')],
)
def test_a_value_that_cannot_be_quoted_is_refused(source, value):
    with pytest.raises(TemplateError, match=r"line 1: the value .* cannot"):
        render(source, model(v=value))


@pytest.mark.parametrize("interval", ["1m]) or vector(1) #", "5m}", "1 m"])
def test_an_interval_is_a_duration_whatever_the_crd_lets_through(interval):
    with pytest.raises(TemplateError, match="not a duration"):
        render("rate(x[{{ interval }}])", model(interval=interval))


@pytest.mark.parametrize("interval", ["1m", "90s", "1m30s", "5m:30s", ""])
def test_an_interval_is_written_as_it_is(interval):
    assert render("[{{ interval }}]", model(interval=interval)) == f"[{interval}]"


@given(st.text())
def test_t45_every_value_stays_in_its_string_and_two_in_a_row_do_too(value):
    query = render('{a="{{ variables.v }}{{ variables.v }}"}', model(v=value))
    assert re.fullmatch(r'\{a="(?:[^"\\\n]|\\.)*"\}', query, re.DOTALL)
    assert "\n" not in query


@given(st.text(alphabet=st.characters(exclude_characters="\\", exclude_categories=["Cs"])))
def test_a_quoted_value_means_the_same(value):
    query = render('"{{ variables.v }}"', model(v=value))
    assert unquote(query) == value


@pytest.mark.parametrize("code", ["0xD800", "0xDFFF", "0x110000", "9223372036854775807", "-1"])
def test_a_number_that_is_no_character_is_written_as_by_go(code):
    assert render(f'{{{{ printf "%c" {code} }}}}', model()) == "\ufffd"
    assert render(f'{{{{ printf "%c" {code} | urlquery }}}}', model()) == "%EF%BF%BD"


@pytest.mark.parametrize(
    "number", ["9223372036854775808", "-9223372036854775809", "0x" + "f" * 5000, "9" * 5000, "'\\UFFFFFFFF'"]
)
def test_a_number_beyond_gos_is_refused(number):
    with pytest.raises(TemplateError, match=r"^line 1: .{1,60} is not a (number|char)$"):
        render(f"{{{{ {number} }}}}", model())


def test_a_map_that_is_longer_than_any_query_is_refused():
    with pytest.raises(TemplateError, match="longer than 256 KiB"):
        render("{{ variables }}", model(a="x" * 200_000, b="y" * 200_000))
