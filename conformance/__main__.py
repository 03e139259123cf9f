"""Drives a client's holder: `python -m conformance go --seeds 2000`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from conformance.guards import GUARDS
from conformance.holders import Holder, Program, PythonHolder
from conformance.programs import LANGUAGES
from conformance.world import World


def drive(holder: Holder, seeds: Iterable[int]) -> tuple[int, list[str]]:
    """How many answers from memory there were, and the stale ones of the first seed with any."""
    answers = 0
    for seed in seeds:
        world = World(holder, seed)
        world.run()
        answers += world.answers
        if world.stale:
            return answers, world.stale
    return answers, []


def main() -> int:
    """Returns 1 if an answer was stale, or, where a guard was left out, if none was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=["python", *LANGUAGES])
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--without", choices=GUARDS, help="the guard to leave out")
    arguments = parser.parse_args()
    if arguments.without and arguments.client == "python":
        parser.error("the Python holder's guards are left out in tests/simulation")
    with tempfile.TemporaryDirectory() as directory:
        holder: Holder
        if arguments.client == "python":
            holder = PythonHolder()
        else:
            left_out = [arguments.without] if arguments.without else []
            command = LANGUAGES[arguments.client].build("conformance", Path(directory))
            holder = Program([*command, *left_out])
        try:
            seeds = range(arguments.first, arguments.first + arguments.seeds)
            answers, stale = drive(holder, seeds)
        finally:
            holder.close()
    for one in stale:
        print(one)
    print(f"{answers} answers from memory, {len(stale)} of them stale")
    return int(bool(stale) is not bool(arguments.without))


if __name__ == "__main__":
    sys.exit(main())
