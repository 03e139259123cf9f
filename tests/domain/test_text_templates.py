"""The templates of HTTP answers: values stay values, whatever they hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfence_server.domain.text_templates import (
    InvalidTemplate,
    json_data,
    json_text,
    parse_json,
    parse_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.text(), st.text())
def test_no_value_breaks_out_of_a_json_body(message: str, code: str) -> None:
    """A message with quotes, braces or controls is read back unchanged."""
    template = parse_json('{"error": "Sorry: {message}.", "deep": [{"code": "{code}"}]}')

    text = template.render({"message": message, "code": code})

    assert json.loads(text) == {"error": f"Sorry: {message}.", "deep": [{"code": code}]}
    assert text.isascii()


@given(st.text())
def test_a_value_is_never_read_as_a_template(message: str) -> None:
    assert parse_text("<{message}>").render({"message": message}) == f"<{message}>"


@given(st.text())
def test_doubled_braces_stand_for_themselves(text: str) -> None:
    written = text.replace("{", "{{").replace("}", "}}")

    assert parse_text(written).render({}) == text


def test_a_string_that_is_one_placeholder_becomes_the_value_itself() -> None:
    template = parse_json(
        '{"status": "{status}", "missing": "{missing}", "reset": "{reset}", "in": "at {status}"}'
    )

    rendered = template.render({"status": 403, "missing": ("a:b", "c"), "reset": None})

    assert json.loads(rendered) == {
        "status": 403,
        "missing": ["a:b", "c"],
        "reset": None,
        "in": "at 403",
    }


def test_keys_are_names_and_no_templates() -> None:
    assert json.loads(parse_json('{"{code}": 1}').render({})) == {"{code}": 1}


def test_lists_are_joined_in_texts_and_nothing_is_nothing() -> None:
    template = parse_text("{scopes}|{none}")

    assert template.render({"scopes": ("a", "b"), "none": None}) == "a, b|"
    assert template.render({"scopes": ("a", "b"), "none": None}, separator=" ") == "a b|"


@pytest.mark.parametrize("text", ["{", "}", "{message", "message}", "{Message}", "{a b}", "{}{"])
def test_a_brace_that_belongs_to_nothing_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidTemplate, match="at character"):
        parse_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"text"',
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": "{"}',
        '{"a":' * 10 + "1" + "}" * 10,
        "[" * 100_000,
    ],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidTemplate):
        parse_json(text)


@given(JSON)
def test_json_has_one_text(data: object) -> None:
    text = json_text(data)

    assert json_data(text) == data
    assert json_text(json_data(text)) == text
