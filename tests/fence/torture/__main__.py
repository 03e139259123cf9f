"""`python -m fence.torture`: servers, sidecars and clients under faults, until told to stop.

python -m fence.torture --probes 1000000
python -m fence.torture --broken I2-lease
python -m fence.torture --every-broken
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

from fence.torture.broken import BUILDS
from fence.torture.history import Answer, Verdict
from fence.torture.programs import missing_tools
from fence.torture.run import Outcome, torture
from testkit.seeded_bugs import SEEDED_BUGS

_STORES: Final = {"postgresql": (False,), "sqlite": (True,), "both": (False, False, True)}
# What was not answered does not count. What a client answers from its own memory costs next
# to nothing, so only so many count for each probe that another process answered.
_IN_PROCESS_FOR_EACH_CALL: Final = 2


def main() -> int:
    """Tortures, and prints what came of it. 0: as it should be."""
    parser = argparse.ArgumentParser(prog="python -m fence.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first run")
    parser.add_argument("--seconds", type=float, default=60, help="of each run")
    parser.add_argument("--probes", type=int, default=0, help="go on until so many count")
    parser.add_argument("--store", choices=_STORES, default="both", help="of each run, in turn")
    parser.add_argument("--runs", type=int, default=4, help="with --broken: give up after so many")
    parser.add_argument(
        "--broken", choices=BUILDS, nargs="+", help="seed these bugs in turn: each must be caught"
    )
    parser.add_argument("--every-broken", action="store_true", help="each in turn")
    asked = parser.parse_args()
    # A signal ends this process and the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if asked.every_broken or asked.broken:
        builds = BUILDS if asked.every_broken else asked.broken
        return _catch_all(builds, asked.seed, asked.seconds, asked.runs)
    return _torture(asked.seed, asked.seconds, asked.probes, _STORES[asked.store])


def _torture(seed: int, seconds: float, probes: int, stores: tuple[bool, ...]) -> int:
    for language, tool in missing_tools().items():
        _say(f"SKIPPED: no client in {language}, since there is no {tool}")
    began = time.monotonic()
    total = _Total()
    while not total.verdict.runs or (not total.verdict.violations and total.counting < probes):
        number = total.verdict.runs
        total.add(torture(seed + number, seconds, sqlite=stores[number % len(stores)]))
        _say(f"so far: {total.counting} probes count, {len(total.verdict.violations)} violations")
    total.report(time.monotonic() - began)
    return 1 if total.verdict.violations else 0


class _Total:
    """What came of all runs."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self.calls = 0
        self.in_process: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._holders: Counter[str] = Counter()

    @property
    def counting(self) -> int:
        """How many probes count."""
        return self.calls + min(self.in_process.total(), self.calls * _IN_PROCESS_FOR_EACH_CALL)

    def add(self, outcome: Outcome) -> None:
        """Reports a run, and takes it in."""
        _report(outcome)
        self.verdict.add(outcome.verdict)
        self.calls += outcome.answered(in_process=False).total()
        self.in_process += outcome.answered(in_process=True)
        self._faults += outcome.faults
        for (number, _), count in outcome.verdict.probes.items():
            self._holders[outcome.holders[number].name] += count

    def report(self, seconds: float) -> None:
        """Prints the sums."""
        verdict = self.verdict
        stale = sum(one.is_stale_accept for one in verdict.violations)
        _say(
            f"\n{verdict.runs} runs, {seconds / 60:.1f} minutes: {verdict.total} probes; "
            f"{self.in_process.total()} were answered by clients with a cache and {self.calls} by "
            f"servers and sidecars; {verdict.soon.total()} began soon after an OK; "
            f"{verdict.mutations} mutations fenced, {verdict.unanswered_mutations} unanswered"
        )
        _say("faults: " + _listed(self._faults))
        _say("probes: " + _listed(self._holders))
        _say("answered by clients with a cache: " + _listed(self.in_process))
        _say(f"stale accepts: {stale}; refused though given: {len(verdict.violations) - stale}")


def _catch_all(builds: Iterable[str], seed: int, seconds: float, runs: int) -> int:
    rows, missed = [], []
    for name in builds:
        caught = _catch(name, seed, seconds, runs)
        if caught is None:
            missed.append(name)
        else:
            probes, until = caught
            says = SEEDED_BUGS[name].says.rstrip(".")
            rows.append(f"| `{name}` | {says} | {probes:,} | {until:.1f} |")
    _say("\n| bug | what it does | probes until caught | seconds |")
    _say("\n".join(("|---|---|---:|---:|", *rows)))
    _say(f"not caught: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


def _catch(name: str, seed: int, seconds: float, runs: int) -> tuple[int, float] | None:
    """Tortures a broken build. Returns how many probes and seconds of load it took."""
    probes = 0
    for number in range(runs):
        outcome = torture(seed + number, seconds, broken=name)
        verdict = outcome.verdict
        if verdict.violations:
            first = min(verdict.violations, key=lambda violation: violation.probe.returned)
            where = sorted({outcome.holders[one.probe.holder].name for one in verdict.violations})
            probes += verdict.before_first
            until = number * seconds + verdict.seconds_before_first
            _say(
                f"{name:14} caught after {probes} probes ({until:.1f} s under load; "
                f"{len(verdict.violations)} violations in {verdict.total} probes of that run, of "
                f"seed {outcome.seed}, at {', '.join(where)}); first: {first}"
            )
            return probes, until
        probes += verdict.total
    _say(f"{name:14} NOT CAUGHT in {probes} probes")
    return None


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def _report(outcome: Outcome) -> None:
    verdict = outcome.verdict
    _say(
        f"\nseed {outcome.seed}, {'SQLite' if outcome.sqlite else 'PostgreSQL'}, leases of "
        f"{outcome.lease_seconds} s{', messages twice' * outcome.twice}: "
        f"{verdict.mutations} mutations fenced, {verdict.unanswered_mutations} unanswered"
    )
    _say("faults: " + _listed(outcome.faults))
    _say(f"{'':24}{'accepted':>10}{'refused':>10}{'none':>8}{'soon after an OK':>18}")
    for number, holder in enumerate(outcome.holders):
        counts = [verdict.probes[number, answer] for answer in Answer]
        _say(f"{holder.name:24}{counts[1]:10}{counts[0]:10}{counts[2]:8}{verdict.soon[number]:18}")
    for violation in verdict.violations[:20]:
        _say(f"VIOLATION at {outcome.holders[violation.probe.holder].name}: {violation}")


if __name__ == "__main__":
    sys.exit(main())
