"""The coherence code under simulated trouble: nothing stale, everything heals.

`make simulate` runs many more scenarios; docs/fence.md says what they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulation.bugs import BUGS
from simulation.running import Tally, finds, quietly, seed_that_finds
from simulation.scenario import Scenario
from testkit.seeded_bugs import SEEDED_BUGS

SEEDS = 200
"""How many scenarios `pytest` runs unless it is told otherwise."""
PARTS = 4
"""In which they run side by side."""
MORE_SEEDS = 1_200
"""How many the slow tests run, in parts that a slow machine finishes in time. The campaigns in
.github/workflows run tens of thousands."""
SEEDS_IN_A_PART = 250
ANSWERS_A_SCENARIO, MUTATIONS_A_SCENARIO = 40, 4
MOST_SEEDS_FOR_A_BUG = 10_000


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quietly():
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_no_check_sees_what_was_before_a_fenced_ok(part: int, pytestconfig: pytest.Config) -> None:
    seed = pytestconfig.getoption("--seed", None)
    if seed is None:
        count = pytestconfig.getoption("--seeds", None) or SEEDS
        _run_all(range(count * part // PARTS, count * (part + 1) // PARTS))
    elif part == 0:
        Scenario(seed, log=print).run()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SEEDS, MORE_SEEDS, SEEDS_IN_A_PART))
def test_no_check_sees_what_was_before_a_fenced_ok_in_many_scenarios(first: int) -> None:
    _run_all(range(first, min(MORE_SEEDS, first + SEEDS_IN_A_PART)))


def _run_all(seeds: range) -> None:
    tally = Tally()
    for number in seeds:
        tally.run(number)
        assert not tally.violations
    print(tally)
    # Scenarios in which hardly anything happens would find nothing.
    assert tally.answers > ANSWERS_A_SCENARIO * len(seeds)
    assert tally.mutations > MUTATIONS_A_SCENARIO * len(seeds)


def test_a_seed_gives_the_same_scenario_every_time() -> None:
    """Or else a violation could not be looked into."""

    def told(seed: int) -> list[str]:
        lines: list[str] = []
        Scenario(seed, log=lines.append).run()
        return lines

    for seed in range(10):
        assert told(seed) == told(seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_the_protocol_is_found(name: str) -> None:
    """Else all the scenarios in which nothing is found would say nothing."""
    bug = BUGS[name]
    # Most scenarios are told in vain, and the same ones as last time.
    found_again = finds(bug, bug.found_by)
    seed = bug.found_by if found_again else seed_that_finds(bug, MOST_SEEDS_FOR_A_BUG)
    says = SEEDED_BUGS[name].says
    assert seed is not None, f"{says} Not found by {MOST_SEEDS_FOR_A_BUG} seeds"
    print(f"{name}: {says} Found by seed {seed}")
