"""One run of the torture: a fleet, a load, faults drawn by a seed, and the verdict."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from fence.torture.blueprint import Holder
from fence.torture.broken import BUILDS
from fence.torture.faults import Faults
from fence.torture.fleet import Fleet, running_fleet
from fence.torture.history import Answer, Mutation, Verdict, check, read_probes
from fence.torture.programs import built_programs

LEASES: Final = (0.5, 1.0, 2.0)
_WARM_UP_SECONDS: Final = 3.0


@dataclass(slots=True)
class Outcome:
    """A run's verdict, and what was done to the fleet.

    Attributes:
        twice: whether messages came twice.
    """

    seed: int
    sqlite: bool
    twice: bool
    lease_seconds: float
    holders: list[Holder]
    verdict: Verdict
    faults: Counter[str]

    def answered(self, *, in_process: bool) -> Counter[str]:
        """How many probes were answered, by clients with a cache, or else by others, for each
        language of the clients."""
        counts: Counter[str] = Counter()
        for number, holder in enumerate(self.holders):
            if holder.is_in_process is in_process:
                for answer in (Answer.ACCEPTED, Answer.REFUSED):
                    counts[holder.language] += self.verdict.probes[number, answer]
        return counts


def torture(
    seed: int,
    seconds: float,
    *,
    broken: str | None = None,
    with_faults: bool = True,
    sqlite: bool = False,
) -> Outcome:
    """Runs a fleet for so long, faults included. On PostgreSQL its primary is lost at least
    once."""
    chance = random.Random(seed)
    build = BUILDS[broken] if broken else None
    lease_seconds = chance.choice(LEASES) if build is None else build.lease_seconds
    twice = build is None and chance.random() < 0.5
    with running_fleet(
        seed,
        lease_seconds=lease_seconds,
        broken=broken,
        twice=twice,
        hasty=build is not None and build.hasty,
        sqlite=sqlite,
        # A broken build is one of Python's processes.
        programs=built_programs() if build is None else {},
    ) as fleet:
        began = time.monotonic()
        faults = Faults(
            fleet,
            chance,
            lease_seconds,
            failover_at=began + seconds * chance.uniform(0.2, 0.5) if build is None else None,
            build=build,
        )
        time.sleep(min(_WARM_UP_SECONDS, seconds))
        while (now := time.monotonic()) < began + seconds:
            if with_faults:
                faults.go_on(now)
            time.sleep(0.02)
        faults.heal_all()
        _require_running(fleet)
        for member in fleet.asking:
            member.end()
        return Outcome(
            seed, sqlite, twice, lease_seconds, fleet.holders, _judge(fleet), faults.counts
        )


def _require_running(fleet: Fleet) -> None:
    for member in fleet.asking:
        if member.has_ended:
            raise RuntimeError(f"{member.name} ended:\n{member.log.read_text()[-2000:]}")


def _judge(fleet: Fleet) -> Verdict:
    with fleet.history.open() as lines:
        mutations = [Mutation.from_line(line) for line in lines]
    records = [path for path in fleet.records if path.exists()]
    return check(mutations, itertools.chain.from_iterable(map(read_probes, records)))
