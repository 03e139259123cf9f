"""The coherence code under simulated trouble: nothing stale, everything heals.

`make simulate` tells many more stories; docs/fence.md says what they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulation.bugs import BUGS
from simulation.story import Story
from simulation.telling import Tally, finds, quietly, seed_that_finds

SEEDS = 2000
"""How many stories `pytest` tells if nobody says: about a minute's."""
MOST_SEEDS_FOR_A_BUG = 10_000


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quietly():
        yield


def test_no_check_sees_what_was_before_a_fenced_ok(pytestconfig: pytest.Config) -> None:
    seed = pytestconfig.getoption("--seed", None)
    if seed is not None:
        Story(seed, log=print).tell()
        return
    tally = Tally()
    for number in range(pytestconfig.getoption("--seeds", None) or SEEDS):
        tally.tell(number)
        assert not tally.violations
    print(tally)
    assert tally.answers > 10 * tally.mutations > 0


def test_a_seed_tells_the_same_story_every_time() -> None:
    """Or else a violation could not be looked into."""

    def told(seed: int) -> list[str]:
        lines: list[str] = []
        Story(seed, log=lines.append).tell()
        return lines

    for seed in range(10):
        assert told(seed) == told(seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_the_protocol_is_found(name: str) -> None:
    """Else all the stories in which nothing is found would say nothing."""
    bug = BUGS[name]
    # Most stories are told in vain, and the same ones as last time.
    found_again = finds(bug, bug.found_by)
    seed = bug.found_by if found_again else seed_that_finds(bug, MOST_SEEDS_FOR_A_BUG)
    assert seed is not None, f"{bug.says}: not found by {MOST_SEEDS_FOR_A_BUG} seeds"
    print(f"{name} ({bug.says}): found by seed {seed}")
