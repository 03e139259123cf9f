"""No client's holder answers from before a change that has been acknowledged, whatever the
grantor does; and a holder without one of its guards is caught doing so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from conformance.__main__ import build_go, drive
from conformance.guards import GUARDS
from conformance.holders import Program, PythonHolder

_SEEDS: Final = 200
_SEEDS_TO_CATCH: Final = 1_000
_FEWEST_ANSWERS: Final = 10
"""A story: a holder that answers nothing is never stale."""


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None and not os.environ.get("CI"):
        pytest.skip("the Go holder needs go")
    return build_go(tmp_path_factory.mktemp("go"))


def test_the_python_holder_is_never_stale() -> None:
    answers, stale = drive(PythonHolder(), range(_SEEDS))

    assert not stale
    assert answers > _SEEDS * _FEWEST_ANSWERS


def test_the_go_holder_is_never_stale(go_program: Path) -> None:
    holder = Program([str(go_program)])
    try:
        answers, stale = drive(holder, range(_SEEDS))
    finally:
        holder.close()

    assert not stale
    assert answers > _SEEDS * _FEWEST_ANSWERS


@pytest.mark.slow
@pytest.mark.parametrize("guard", GUARDS)
def test_a_go_holder_without_a_guard_is_caught(go_program: Path, guard: str) -> None:
    holder = Program([str(go_program), guard])
    try:
        _, stale = drive(holder, range(_SEEDS_TO_CATCH))
    finally:
        holder.close()

    assert stale
