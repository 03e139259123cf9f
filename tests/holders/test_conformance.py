"""No client's holder answers from before a change that has been acknowledged, whatever the
grantor does; and a holder without one of its guards is caught doing so."""

from __future__ import annotations

from typing import Final

import pytest

from conformance.__main__ import drive
from conformance.guards import GUARDS
from conformance.holders import Program, PythonHolder
from conformance.programs import LANGUAGES

_SEEDS: Final = pytest.mark.parametrize(
    "seeds",
    [range(50), pytest.param(range(50, 200), marks=pytest.mark.slow)],
    ids=["few", "more"],
)
_SEEDS_TO_CATCH: Final = 1_000
_FEWEST_ANSWERS: Final = 10
"""A story: a holder that answers nothing is never stale."""


@pytest.fixture(scope="module", params=LANGUAGES)
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    language = LANGUAGES[request.param]
    if tool := language.missing_tool():
        pytest.skip(f"the holder in {request.param} needs {tool}")
    return language.build("conformance", tmp_path_factory.mktemp(request.param))


@_SEEDS
def test_the_python_holder_is_never_stale(seeds: range) -> None:
    answers, stale = drive(PythonHolder(), seeds)

    assert not stale
    assert answers > len(seeds) * _FEWEST_ANSWERS


# The first test of a language compiles its client, unless that was done before.
@pytest.mark.timeout(1_800)
@_SEEDS
def test_the_holder_of_another_language_is_never_stale(command: list[str], seeds: range) -> None:
    holder = Program(command)
    try:
        answers, stale = drive(holder, seeds)
    finally:
        holder.close()

    assert not stale
    assert answers > len(seeds) * _FEWEST_ANSWERS


@pytest.mark.slow
@pytest.mark.parametrize("guard", GUARDS)
def test_a_holder_of_another_language_without_a_guard_is_caught(
    command: list[str], guard: str
) -> None:
    holder = Program([*command, guard])
    try:
        _, stale = drive(holder, range(_SEEDS_TO_CATCH))
    finally:
        holder.close()

    assert stale
