"""What is done to a fleet: faults, drawn by a seed, one after another and some at once."""

from __future__ import annotations

import heapq
import itertools
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from fence.torture.blueprint import DATABASE
from fence.torture.broken import Build
from fence.torture.fleet import Fleet
from fence.torture.members import Member, Worker
from testkit.proxy import Mode

_FOCUS: Final = 0.75
_SUPERVISOR_SECONDS: Final = 0.5
_WEIGHTS: Final = {
    "link": 12.0,
    "stop": 6.0,
    "kill": 3.0,
    "end": 1.5,
    "wall clock": 3.0,
    "database stopped": 0.4,
    "database killed": 0.4,
    "failover": 0.3,
}
_BROKEN_MODES: Final = tuple(mode for mode in Mode if mode is not Mode.WHOLE)
_STEPS: Final = (0.0, 0.5, 2.0, 60.0, 3_600.0, 86_400.0)


class Faults:
    """Draws faults, and heals each in its time.

    Args:
        failover_at: when the primary is lost for the first time; later ones are drawn.
        build: whose faults to favour.
    """

    def __init__(
        self,
        fleet: Fleet,
        chance: random.Random,
        lease_seconds: float,
        *,
        failover_at: float | None = None,
        build: Build | None = None,
    ) -> None:
        self._fleet = fleet
        self._build = build
        self._random = chance
        self._lease_seconds = lease_seconds
        self._failover_at = failover_at
        self._next_at = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._troubled: set[str] = set()
        self.counts: Counter[str] = Counter()

    def go_on(self, now: float) -> None:
        """Does what is due."""
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        for member in (*self._fleet.servers, *self._fleet.sidecars):
            # One that could not reach its database when it started, for example.
            if member.has_ended and self._claim(member.name, "started again"):
                self._heal(member.name, now + _SUPERVISOR_SECONDS, member.start)
        if self._failover_at is not None and now >= self._failover_at and self._fail_over(now):
            self._failover_at = None
        if now >= self._next_at:
            self._next_at = now + self._random.uniform(0.2, 2.5)
            self._draw(now)

    def heal_all(self) -> None:
        """Ends every fault. Wall clocks stay where they are."""
        while self._due:
            heapq.heappop(self._due)[2]()

    def _draw(self, now: float) -> None:
        fleet, build = self._fleet, self._build
        members: list[Member | Worker] = [*fleet.servers, *fleet.sidecars]
        if build is not None and build.kinds and self._random.random() < _FOCUS:
            self._next_at = now + self._random.uniform(0.1, 0.8)
            kind = self._random.choice(build.kinds)
            links = [link for link in fleet.links if re.search(build.links, link)]
            modes = build.modes or _BROKEN_MODES
            members = [one for one in members if re.search(build.members, one.name)]
        else:
            kind = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            links, modes = fleet.links, _BROKEN_MODES
        match kind:
            case "link":
                self._break_link(self._random.choice(links), modes, now)
            case "stop":
                self._stop(self._random.choice([*members, *fleet.clients]), now)
            case "kill":
                self._kill(self._random.choice(members), now)
            case "end":
                self._end(self._random.choice(members), now)
            case "wall clock":
                self._step_clock()
            case "failover":
                self._fail_over(now)
            case _:
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

    def _end(self, member: Member | Worker, now: float) -> None:
        # In order, which takes as long as the leases that were granted there. Who is not done
        # in time is killed. A worker's parent does the rest.
        if self._claim(member.name, "end"):
            member.signal(signal.SIGTERM)
            patience = 1.5 * self._lease_seconds + self._random.uniform(0.0, 2.0)
            self._heal(member.name, now + patience, member.start_anew)

    def _step_clock(self) -> None:
        clocks = self._fleet.clocks
        if clocks:
            self.counts["wall clock stepped"] += 1
            whose = self._random.choice(list(clocks))
            clocks[whose].step(self._random.choice(_STEPS) * self._random.choice((-1, 1)))

    def _restart_database(self, kind: str, now: float) -> None:
        pair = self._fleet.postgres
        if pair is not None and self._claim(DATABASE, kind):
            (pair.primary.stop if kind == "database stopped" else pair.primary.kill)()
            self._heal(DATABASE, now + self._random.uniform(0.0, 2.5), pair.primary.start)

    def _fail_over(self, now: float) -> bool:
        """Loses the primary, promotes its standby, and makes a standby of what is left."""
        pair = self._fleet.postgres
        is_frozen = self._random.random() < 0.5
        kind = f"failover, primary {'frozen' if is_frozen else 'killed'}"
        if pair is None or not self._claim(DATABASE, kind):
            return False
        (pair.primary.freeze if is_frozen else pair.primary.kill)()
        promoted_at = now + self._random.uniform(0.0, 1.5)
        # Until it is killed, connections to a frozen primary hang.
        followed_at = promoted_at + self._random.uniform(0.0, 2.0)

        def promote() -> None:
            pair.promote()
            self._fleet.follow_primary()

        self._later(promoted_at, promote)
        self._heal(DATABASE, followed_at, pair.add_standby)
        return True

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

        self._later(when, heal)

    def _later(self, when: float, how: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), how))
