"""Reading YAML: plain data with places, and nothing that could surprise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfence_server.adapters.keyspace_files.source_text import (
    Fault,
    InvalidKeyspaceFile,
    Source,
    Span,
)
from keyfence_server.adapters.keyspace_files.yaml_source import MAX_DEPTH, parse_yaml


def read(text: str) -> object:
    return parse_yaml(Source("f.yaml", text)).data


def faults_in(text: str) -> list[Fault]:
    with pytest.raises(InvalidKeyspaceFile) as caught:
        read(text)
    return caught.value.faults


def any_faults_in(text: str) -> list[Fault]:
    try:
        read(text)
    except InvalidKeyspaceFile as error:
        return error.faults
    return []


def only_fault_in(text: str) -> tuple[int, int, str]:
    (fault,) = faults_in(text)
    assert fault.span is not None
    return fault.span.line, fault.span.column, fault.message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a: 24", {"a": 24}),
        ("a: -3", {"a": -3}),
        ("a: true", {"a": True}),
        ("a:", {"a": None}),
        ("a: '24'", {"a": "24"}),
        ("a: no", {"a": "no"}),
        ("a: on", {"a": "on"}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 2030-01-01", {"a": "2030-01-01"}),
        ("a: 0x10", {"a": "0x10"}),
        ("a: 1e3", {"a": "1e3"}),
        ("a: " + "9" * 5000, {"a": "9" * 5000}),
        ("on: x", {"on": "x"}),
        ("12:30: x", {"12:30": "x"}),
        ("1: x", {"1": "x"}),
        ("null: x", {"null": "x"}),
        ("a: [b, 'c', 1]", {"a": ["b", "c", 1]}),
    ],
)
def test_only_what_looks_like_a_number_or_a_constant_is_one_and_names_are_always_text(
    written: str, meant: object
) -> None:
    assert read(written) == meant


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: [*]", 1, 5, 'a wildcard must be in quotes: "*"'),
        ("a:\n  - *", 2, 5, 'a wildcard must be in quotes: "*"'),
        ("a:\n\t- b", 2, 1, "a tab cannot stand here; indent with spaces"),
        ("a: b: c", 1, 5, "cannot stand here"),
        ("a: [x\nb: 1", 2, 2, 'the closing "]" is missing (it begins on line 1)'),
        ("a: 'x\n\n", 1, 4, "the closing quotation mark is missing"),
        ("a:\n  b: 1\n c: 2", 3, 2, "the indentation does not fit"),
        ("a: @x", 1, 4, "must be in quotes"),
        ("a: 1\n---\nb: 2", 2, 1, "its own file"),
        ("a: \x07", 1, 4, "the character 0x07 is not allowed"),
    ],
)
def test_broken_yaml_is_explained_at_its_place(
    text: str, line: int, column: int, message: str
) -> None:
    found_line, found_column, found = only_fault_in(text)
    assert (found_line, found_column) == (line, column)
    assert message in found


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: &x 1", "anchors"),
        ("a: &x [1]\nb: *x", "anchors"),
        ("a: *x", "aliases"),
        ("a: !thing 1", "tags"),
        ("a: !!python/object/apply:os.system ['true']", "tags"),
        ("!!map {a: 1}", "tags"),
    ],
)
def test_anchors_aliases_and_tags_are_refused(text: str, named: str) -> None:
    assert named in only_fault_in(text)[2]


def test_a_file_that_would_expand_without_end_is_refused_at_its_first_anchor() -> None:
    laughs = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert only_fault_in(laughs)[:2] == (1, 4)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_without_end_is_refused(opening: str) -> None:
    assert f"more than {MAX_DEPTH} levels" in only_fault_in(opening * 100_000)[2]


def test_every_name_that_stands_twice_is_pointed_at() -> None:
    first, second = faults_in("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert (first.span, first.message) == (
        Span(2, 11, 1),
        '"c" is given twice; the first is on line 2',
    )
    assert (second.span, second.message) == (
        Span(3, 1, 1),
        '"a" is given twice; the first is on line 1',
    )


def test_an_empty_file_is_said_to_be_empty() -> None:
    (fault,) = faults_in("# nothing but a comment\n")
    assert fault.render() == "f.yaml: the file is empty"


@given(st.text())
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    assert all(fault.render() for fault in any_faults_in(text))


@given(st.text(alphabet="ab:-[]{}'\"#&*!|> \n\t,?@%", max_size=60))
def test_any_muddle_of_yaml_signs_is_read_or_refused_by_name(text: str) -> None:
    assert all(fault.render() for fault in any_faults_in(text))


def test_the_mark_stands_under_the_spot_behind_tabs_and_wide_characters() -> None:
    source = Source("f.yaml", "\t日本: oops")
    assert Fault(source, Span(1, 6, 4), "wrong").render().splitlines() == [
        "f.yaml:1:6: wrong",
        "    1 |     日本: oops",
        "      |           ^^^^",
    ]


def test_control_characters_of_a_file_never_reach_the_terminal() -> None:
    source = Source("f\x1b[2J.yaml", "a: \x1b]0;owned\x07")
    rendered = Fault(source, Span(1, 4), "no \x9b31m").render()
    assert "\x1b" not in rendered
    assert "\x9b" not in rendered
    assert r"\x1b]0;owned\x07" in rendered


def test_a_long_line_is_shown_around_the_spot() -> None:
    source = Source("f.yaml", "x" * 5000 + "HERE" + "y" * 5000)
    line, marks = Fault(source, Span(1, 5001, 4), "wrong").render().splitlines()[1:]
    assert len(line) < 120
    assert line[marks.index("^") : marks.index("^") + 4] == "HERE"
