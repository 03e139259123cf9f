"""The seeded bugs stand in one list, and each use of them has exactly those that the list names."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from conformance.guards import GUARDS
from fence.torture.broken import BUILDS
from simulation.bugs import BUGS
from testkit.seeded_bugs import SEEDED_BUGS

SPEC: Final = Path(__file__).parents[2] / "spec"
RULES: Final = {f"I{number}" for number in range(1, 9)}


def seeded_in(use: str) -> set[str]:
    """The bugs that the list names for a use."""
    return {name for name, bug in SEEDED_BUGS.items() if use in bug.uses}


def test_the_model_has_the_bugs_of_the_list() -> None:
    plan = tomllib.loads((SPEC / "model.toml").read_text(encoding="utf-8"))
    assert set(plan["variant"]) == seeded_in("model")


def test_the_simulation_has_the_bugs_of_the_list() -> None:
    assert set(BUGS) == seeded_in("simulation")


def test_the_torture_has_the_bugs_of_the_list() -> None:
    assert set(BUILDS) == seeded_in("torture")


def test_every_guard_of_a_clients_holder_has_its_bug() -> None:
    guards = [bug.holder_guard for bug in SEEDED_BUGS.values() if bug.holder_guard]
    assert sorted(guards) == sorted(set(guards)) == sorted(GUARDS)


def test_every_rule_has_a_bug_and_every_bug_a_rule() -> None:
    assert {bug.rule for bug in SEEDED_BUGS.values()} == RULES
    for name, bug in SEEDED_BUGS.items():
        assert name.partition("-")[0] == bug.rule


def test_the_pages_name_the_bugs() -> None:
    fence = (SPEC.parent / "docs" / "fence.md").read_text(encoding="utf-8")
    torture = (SPEC.parent / "docs" / "torture.md").read_text(encoding="utf-8")
    for name, bug in SEEDED_BUGS.items():
        if "simulation" in bug.uses or "model" in bug.uses:
            assert f"`{name}`" in fence, name
        if "torture" in bug.uses:
            assert f"| `{name}` | {bug.says.rstrip('.')} |" in torture, name


def test_every_bug_is_used_and_says_in_one_sentence_what_it_does() -> None:
    sentences = [bug.says for bug in SEEDED_BUGS.values()]
    assert len(set(sentences)) == len(sentences)
    for name, bug in SEEDED_BUGS.items():
        assert bug.uses or bug.holder_guard, name
        assert bug.uses <= {"model", "simulation", "torture"}, name
        assert bug.says[0].isupper(), name
        assert bug.says.find(".") == len(bug.says) - 1, name
