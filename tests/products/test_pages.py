"""Every command, block and sentence of the five pages is taken by a check."""

from __future__ import annotations

from importlib import import_module

import pytest

from products.pages import Format, Page, assert_as_printed
from support.systems import SYSTEMS


def page_of(name: str) -> Page:
    page: Page = import_module(f"products.test_page_of_{name}").PAGE
    return page


@pytest.mark.parametrize("name", SYSTEMS)
def test_nothing_of_the_page_is_left_over(name: str) -> None:
    assert page_of(name).left_over() == []


@pytest.mark.parametrize("name", SYSTEMS)
def test_nothing_is_checked_that_the_page_does_not_say(name: str) -> None:
    assert page_of(name).made_up() == []


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_page_that_nothing_checks_is_left_over_whole(name: str) -> None:
    page = Page(name)
    left = page.left_over()
    assert len(left) > 20
    assert sorted(" ".join(left).split()) == sorted(page.text.split())


@pytest.mark.parametrize(
    "got",
    [
        {"data": {"ident": "key_1", "n": None}},
        {"data": {"id": 1, "n": None}},
        {"data": {"id": "usr_1", "n": None}},
        {"data": {"id": "key_1", "n": 0}},
        {"data": {"id": "key_1", "n": None, "more": 1}},
        {"id": "key_1", "n": None},
    ],
    ids=str,
)
def test_an_answer_that_differs_from_what_is_printed_is_seen(got: object) -> None:
    printed = {"data": {"id": "key_abc", "n": None}}
    formats = {"data.id": Format(r"key_\w+")}
    assert_as_printed({"data": {"id": "key_1", "n": None}}, printed, formats)
    with pytest.raises(AssertionError):
        assert_as_printed(got, printed, formats)
