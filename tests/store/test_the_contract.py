"""What the contract itself must do: no topic is forgotten, and no exception stays unsaid."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import store_contract as package
from store_contract import TOPICS, Category, Harness, store_contract
from store_contract.harness import Topic, category_of


def no_harness(_request: pytest.FixtureRequest) -> Harness:
    raise AssertionError("no test is run")


def names_of(suite: type[Topic]) -> set[str]:
    """The names that pytest would collect."""
    return {name for name in dir(suite) if name.startswith("test_") and getattr(suite, name)}


def test_every_topic_of_the_package_is_in_the_contract() -> None:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"store_contract.{module.name}")
    assert set(Topic.__subclasses__()) == set(TOPICS)


def test_no_two_topics_have_a_test_of_the_same_name() -> None:
    """The contract is one class: the second would replace the first."""
    names = [name for topic in TOPICS for name in vars(topic) if name.startswith("test_")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("left_out", Category)
def test_an_exception_leaves_out_the_tests_of_its_category_and_no_others(
    left_out: Category,
) -> None:
    whole = store_contract(no_harness, except_for={})
    expected = {name for name in names_of(whole) if category_of(getattr(whole, name)) is left_out}
    assert expected, "a category without a test excepts nothing"
    part = store_contract(no_harness, except_for={left_out: "the reason"})
    assert names_of(whole) - names_of(part) == expected


def test_an_exception_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="say why"):
        store_contract(no_harness, except_for={Category.READS_OUTLAST_THE_DATABASE: " "})
