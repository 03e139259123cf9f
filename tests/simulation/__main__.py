"""Tells many stories: `python -m simulation --seeds 100000 --first 0`, or one: `--seed N`."""

from __future__ import annotations

import argparse
import logging
import sys
import time

import structlog

from simulation.bugs import BUGS
from simulation.story import Stale, Story
from simulation.topology import Parts


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one, told in full")
    parser.add_argument("--bug", choices=sorted(BUGS), help="with this bug put in")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with_bug = arguments.bug is not None
    parts = BUGS[arguments.bug].parts if with_bug else Parts
    adjust = BUGS[arguments.bug].adjust if with_bug else None
    if arguments.seed is not None:
        Story(arguments.seed, parts(), log=print, adjust=adjust).tell()
        return 0
    began = time.monotonic()
    checks = mutations = violations = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        story = Story(seed, parts(), adjust=adjust)
        try:
            story.tell()
        except AssertionError as violation:
            if with_bug and not isinstance(violation, Stale):
                continue
            violations += 1
            print(f"seed {seed}: {violation}", flush=True)
            if with_bug:
                break
        checks += story.answers
        mutations += story.mutations
        if (seed + 1 - arguments.first) % 100 == 0:
            print(f"{seed + 1 - arguments.first} seeds, {violations} violations", flush=True)
    print(
        f"{arguments.seeds} seeds in {time.monotonic() - began:.0f} s: {checks} checks answered, "
        f"{mutations} mutations fenced, {violations} violations"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
