"""`python -m fence.torture`: servers, sidecars and clients under faults, until told to stop.

python -m fence.torture --probes 1000000
python -m fence.torture --broken lease-never-expires
python -m fence.torture --every-broken
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time

from fence.torture.broken import BUILDS
from fence.torture.history import Answer, Verdict
from fence.torture.run import Outcome, torture


def main() -> int:
    """Tortures, and prints what came of it. 0: as it should be."""
    parser = argparse.ArgumentParser(prog="python -m fence.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first run")
    parser.add_argument("--seconds", type=float, default=60, help="of each run")
    parser.add_argument("--probes", type=int, default=0, help="go on until there are so many")
    parser.add_argument("--runs", type=int, default=4, help="with --broken: give up after so many")
    parser.add_argument(
        "--broken", choices=BUILDS, nargs="+", help="take a guard out, in turn: must be caught"
    )
    parser.add_argument("--sqlite", action="store_true", help="workers on SQLite")
    parser.add_argument("--every-broken", action="store_true", help="each in turn")
    asked = parser.parse_args()
    # So that whoever ends this ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if asked.every_broken or asked.broken:
        builds = BUILDS if asked.every_broken else asked.broken
        missed = [
            name for name in builds if not _catch(name, asked.seed, asked.seconds, asked.runs)
        ]
        _say(f"not caught: {', '.join(missed) or 'none'}")
        return 1 if missed else 0
    return _torture(asked.seed, asked.seconds, asked.probes, sqlite=asked.sqlite)


def _torture(seed: int, seconds: float, probes: int, *, sqlite: bool) -> int:
    verdict = Verdict()
    for one in itertools.count(seed):
        outcome = torture(one, seconds, sqlite=sqlite)
        verdict.add(outcome.verdict)
        _report(outcome)
        _say(f"so far: {verdict.total} probes, {len(verdict.violations)} violations")
        if verdict.violations or verdict.total >= probes:
            break
    return 1 if verdict.violations else 0


def _catch(name: str, seed: int, seconds: float, runs: int) -> bool:
    probes = 0
    for one in range(seed, seed + runs):
        try:
            outcome = torture(one, seconds, broken=name)
        except RuntimeError as error:
            _say(f"{name:26} did not run: {error}")
            return False
        found = outcome.verdict.violations
        if found:
            first = min(found, key=lambda violation: violation.probe.returned)
            _say(
                f"{name:26} caught after {probes + outcome.verdict.before_first} probes (seed "
                f"{one}; {len(found)} violations in {outcome.verdict.total} probes of that run, at "
                f"{', '.join(sorted({outcome.holders[v.probe.holder] for v in found}))}); "
                f"first: {first}",
            )
            return True
        probes += outcome.verdict.total
    _say(f"{name:26} NOT CAUGHT in {probes} probes")
    return False


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _report(outcome: Outcome) -> None:
    verdict = outcome.verdict
    _say(
        f"\nseed {outcome.seed}, leases of {outcome.lease_seconds} s: {verdict.mutations} mutations"
        f" fenced, {verdict.unanswered_mutations} unanswered"
    )
    _say("faults: " + ", ".join(f"{count} {kind}" for kind, count in outcome.faults.items()))
    _say(f"{'':24}{'accepted':>10}{'refused':>10}{'none':>8}{'soon after an OK':>18}")
    for number, name in enumerate(outcome.holders):
        counts = [verdict.probes[number, answer] for answer in Answer]
        _say(f"{name:24}{counts[1]:10}{counts[0]:10}{counts[2]:8}{verdict.soon[number]:18}")
    for violation in verdict.violations[:20]:
        _say(f"VIOLATION at {outcome.holders[violation.probe.holder]}: {violation}")


if __name__ == "__main__":
    sys.exit(main())
