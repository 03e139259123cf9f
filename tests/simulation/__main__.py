"""Tells many scenarios: `python -m simulation --seeds 100000 --first 0`, or one: `--seed N`."""

from __future__ import annotations

import argparse
import sys
import time

from simulation.bugs import BUGS
from simulation.checker import Violation
from simulation.running import Tally, quietly, seed_that_finds
from simulation.scenario import Scenario
from simulation.topology import Parts
from testkit.seeded_bugs import SEEDED_BUGS

_MOST_SEEDS_FOR_A_BUG = 10_000


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one, told in full")
    parser.add_argument("--bug", choices=sorted(BUGS), help="that one with this bug put in")
    parser.add_argument("--bugs", action="store_true", help="which seed finds which bug")
    arguments = parser.parse_args()
    with quietly():
        if arguments.bugs:
            return _find_bugs()
        if arguments.seed is not None:
            parts = BUGS[arguments.bug].parts() if arguments.bug else Parts()
            return _run_one(arguments.seed, parts)
        return _run_many(range(arguments.first, arguments.first + arguments.seeds))


def _run_one(seed: int, parts: Parts) -> int:
    try:
        Scenario(seed, parts, log=print).run()
    except Violation as violation:
        print(violation)
        return 1
    return 0


def _run_many(seeds: range) -> int:
    tally = Tally()
    for seed in seeds:
        known = len(tally.violations)
        tally.run(seed)
        for violation in tally.violations[known:]:
            print(violation, flush=True)
        if tally.seeds % 1000 == 0 or seed == seeds[-1]:
            print(f"{tally}, {time.process_time():.0f} s of CPU", flush=True)
    return 1 if tally.violations else 0


def _find_bugs() -> int:
    missed = 0
    for name, bug in BUGS.items():
        seed = seed_that_finds(bug, _MOST_SEEDS_FOR_A_BUG)
        missed += seed is None
        print(
            f"{name:14} {'-' if seed is None else seed:>5}  {SEEDED_BUGS[name].says}",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
