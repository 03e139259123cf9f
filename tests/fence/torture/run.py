"""One run of the torture: a fleet, a load, faults drawn by a seed, and the verdict."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fence.torture.broken import BUILDS, Build
from fence.torture.fleet import Fleet, Member, Worker, running_fleet
from fence.torture.history import Mutation, Verdict, check, read_probes
from fence.torture.proxy import Mode

LEASES: Final = (0.5, 1.0, 2.0)
_WARM_UP_SECONDS: Final = 3.0
_FOCUS: Final = 0.75
_SUPERVISOR_SECONDS: Final = 0.5
_KINDS: Final = ("link", "stop", "kill", "database stopped", "database killed")
_WEIGHTS: Final = (12, 6, 3, 0.5, 0.5)
_BROKEN_MODES: Final = tuple(mode for mode in Mode if mode is not Mode.WHOLE)


@dataclass(slots=True)
class Outcome:
    """A run's verdict, and what was done to the fleet."""

    seed: int
    lease_seconds: float
    holders: list[str]
    verdict: Verdict
    faults: Counter[str] = field(default_factory=Counter)


def torture(
    seed: int,
    seconds: float,
    *,
    broken: str | None = None,
    with_faults: bool = True,
    sqlite: bool = False,
) -> Outcome:
    """Runs a fleet for so long, faults included."""
    # Of a broken build more is seen in the same time if everything is quicker.
    lease_seconds = random.Random(seed).choice(LEASES) if broken is None else min(LEASES)
    with running_fleet(seed, lease_seconds=lease_seconds, broken=broken, sqlite=sqlite) as fleet:
        build = BUILDS[broken] if broken else None
        faults = _Faults(fleet, random.Random(seed), lease_seconds, build)
        until = time.monotonic() + seconds
        time.sleep(min(_WARM_UP_SECONDS, seconds))
        while (now := time.monotonic()) < until:
            if with_faults:
                faults.go_on(now)
            time.sleep(0.02)
        faults.heal_all()
        _require_running(fleet)
        for member in (*fleet.clients, fleet.writer):
            member.end()
        verdict = _judge(fleet)
        return Outcome(seed, lease_seconds, fleet.holders, verdict, faults.counts)


def _require_running(fleet: Fleet) -> None:
    for member in (*fleet.clients, fleet.writer):
        if member.has_ended_by_itself:
            raise RuntimeError(f"{member.name} ended:\n{member.log.read_text()[-2000:]}")


def _judge(fleet: Fleet) -> Verdict:
    mutations = [Mutation.from_line(line) for line in fleet.history.read_text().splitlines()]
    records = [path for path in fleet.records if path.exists()]
    return check(mutations, itertools.chain.from_iterable(map(read_probes, records)))


class _Faults:
    """Draws faults, one after another and some at once, and heals each in its time."""

    def __init__(
        self, fleet: Fleet, chance: random.Random, lease_seconds: float, build: Build | None
    ) -> None:
        self._fleet = fleet
        self._build = build
        self._random = chance
        self._lease_seconds = lease_seconds
        self._next_at = 0.0
        self._healings: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._troubled: set[str] = set()
        self.counts: Counter[str] = Counter()

    def go_on(self, now: float) -> None:
        """Does what is due."""
        while self._healings and self._healings[0][0] <= now:
            heapq.heappop(self._healings)[2]()
        for member in (*self._fleet.servers, *self._fleet.sidecars):
            # One that could not reach its database when it started, for example.
            if member.has_ended_by_itself and self._claim(member.name, "started again"):
                self._heal(member.name, now + _SUPERVISOR_SECONDS, member.start)
        if now >= self._next_at:
            self._next_at = now + self._random.uniform(0.1, 1.6)
            self._draw(now)

    def heal_all(self) -> None:
        """Ends every fault."""
        while self._healings:
            heapq.heappop(self._healings)[2]()

    def _draw(self, now: float) -> None:
        fleet, build = self._fleet, self._build
        if build is not None and build.modes and self._random.random() < _FOCUS:
            links = [link for link in fleet.links if build.links in link]
            self._next_at = now + self._random.uniform(0.1, 0.8)
            self._break_link(self._random.choice(links), build.modes, now)
            return
        kind = self._random.choices(_KINDS, _WEIGHTS)[0]
        if kind == "link":
            self._break_link(self._random.choice(fleet.links), _BROKEN_MODES, now)
        elif kind == "stop":
            self._stop(self._random.choice([*fleet.servers, *fleet.sidecars, *fleet.clients]), now)
        elif kind == "kill":
            self._kill(self._random.choice([*fleet.servers, *fleet.sidecars]), now)
        else:
            self._restart_database(kind, now)

    def _duration(self) -> float:
        # Around the lease, where it matters most, and sometimes much longer.
        if self._random.random() < 0.3:
            return self._random.uniform(2.0, 6.0)
        return self._random.uniform(0.1, 4 * self._lease_seconds)

    def _break_link(self, name: str, modes: Sequence[Mode], now: float) -> None:
        mode = self._random.choice(modes)
        if not self._claim(name, f"link {mode}"):
            return
        self._fleet.set_link(name, mode, self._random.uniform(0.02, 2.0) * self._lease_seconds)
        self._heal(name, now + self._duration(), lambda: self._fleet.set_link(name, Mode.WHOLE))

    def _stop(self, member: Member | Worker, now: float) -> None:
        if self._claim(member.name, "stop"):
            member.signal(signal.SIGSTOP)
            self._heal(member.name, now + self._duration(), lambda: member.signal(signal.SIGCONT))

    def _kill(self, member: Member | Worker, now: float) -> None:
        if self._claim(member.name, "kill"):
            member.kill()
            self._heal(member.name, now + self._random.uniform(0.0, 1.5), member.start)

    def _restart_database(self, kind: str, now: float) -> None:
        postgres = self._fleet.postgres
        if postgres is not None and self._claim("database", kind):
            (postgres.stop if kind == "database stopped" else postgres.kill)()
            self._heal("database", now + self._random.uniform(0.0, 2.5), postgres.start)

    def _claim(self, name: str, kind: str) -> bool:
        if name in self._troubled:
            return False
        self._troubled.add(name)
        self.counts[kind] += 1
        return True

    def _heal(self, name: str, when: float, how: Callable[[], None]) -> None:
        def heal() -> None:
            self._troubled.discard(name)
            how()

        heapq.heappush(self._healings, (when, next(self._order), heal))
