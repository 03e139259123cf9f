"""What goes wrong in a scenario, and how it is put right again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from simulation.cast import Cast, Participant
from simulation.fault_plan import FaultPlan
from simulation.loop import Process
from simulation.network import Connection
from simulation.topology import Server, World

_MOST_SERVERS: Final = 4


class Trouble:
    """Brings about what plan has in store.

    Args:
        note: writes the scenario down.
        on_return: called when the database is back after a failover.
    """

    def __init__(
        self,
        world: World,
        cast: Cast,
        plan: FaultPlan,
        source: random.Random,
        note: Callable[[str], None],
        on_return: Callable[[], None],
    ) -> None:
        self._world = world
        self._cast = cast
        self._plan = plan
        self._random = source
        self._note = note
        self._on_return = on_return
        self._is_over = False
        self._acts: dict[str, Callable[[Participant], None]] = {
            "pause": self._pause,
            "kill": self._kill,
            "join": self._join,
            "drain": self._drain,
            "reset": self._reset,
            "silence": self._silence,
            "sever": self._sever,
            "cut": self._cut,
            "deafen": self._deafen,
            "slow": self._slow,
            "outage": self._outage,
            "failover": self._failover,
            "loss": self._loss,
        }

    def begin(self) -> None:
        """From now on, messages are lost and late."""
        lasting, database, network = self._plan.lasting, self._world.database, self._world.network
        database.loses_questions = lasting.get("questions", 0.0)
        database.loses_answers = lasting.get("answers", 0.0)
        database.loses_notifications = lasting.get("notifications", 0.0)
        database.lag = lasting.get("lag", 0.0)
        network.breaks = lasting.get("breaks", 0.0)
        network.falls_silent = lasting.get("silences", 0.0)
        for one in (database, network):
            one.slowest, one.often_slow = self._plan.slowest, self._plan.often_slow

    def strike(self, kind: str, victim: Participant | None = None) -> None:
        """Something goes wrong, with a participant that is drawn if none is named."""
        if self._is_over:
            return
        everyone = self._cast.everyone()
        if victim is None or victim.process.dead or victim not in everyone:
            victim = self._random.choice(everyone)
        self._note(f"-- {kind} {victim.process.name}")
        self._acts[kind](victim)

    def end(self) -> None:
        """All is well again: nothing is lost, cut off or stopped any more."""
        self._is_over = True
        database, network = self._world.database, self._world.network
        database.available = True
        database.unreachable.clear()
        database.deaf.clear()
        database.loses_notifications = database.loses_questions = database.loses_answers = 0
        database.lag = 0
        network.severed.clear()
        network.breaks = network.falls_silent = 0
        for one in (database, network):
            one.slowest = 0.005
            one.slow.clear()
        for process in self._world.loop.processes:
            process.resume()

    # --- what can go wrong ----------------------------------------------------------------

    def _pause(self, victim: Participant) -> None:
        victim.process.pause()
        self._later(victim.process.resume)

    def _kill(self, victim: Participant) -> None:
        self._cast.kill(victim, self._random)

    def _join(self, _victim: Participant) -> None:
        if len(self._cast.servers) < _MOST_SERVERS:
            self._cast.add_server()

    def _drain(self, victim: Participant) -> None:
        self._cast.drain(self._server(victim))

    def _reset(self, victim: Participant) -> None:
        for connection in self._connections(victim):
            connection.reset()

    def _silence(self, victim: Participant) -> None:
        for connection in self._connections(victim):
            connection.silent = True

    def _sever(self, victim: Participant) -> None:
        others = [one.process for one in self._cast.everyone() if one is not victim]
        grantor = victim.grantor
        if grantor is not None and self._random.random() < 0.5:
            others = [grantor.process]
        pairs = {(victim.process, other) for other in others}
        self._world.network.severed |= pairs
        self._later(lambda: self._world.network.severed.difference_update(pairs))

    def _cut(self, victim: Participant) -> None:
        self._among(self._world.database.unreachable, self._server(victim).process)

    def _deafen(self, victim: Participant) -> None:
        self._among(self._world.database.deaf, self._server(victim).process)

    def _slow(self, victim: Participant) -> None:
        process = victim.process
        seconds = self._plan.length * self._random.choice((0.1, 0.5, 1.0))
        for one in (self._world.database, self._world.network):
            one.slow[process] = seconds
            self._later(lambda slow=one.slow: slow.pop(process, None))  # type: ignore[misc]

    def _outage(self, _victim: Participant) -> None:
        self._world.database.available = False
        self._later(self._back)

    def _failover(self, victim: Participant) -> None:
        self._fail_over(0, victim)

    def _loss(self, victim: Participant) -> None:
        self._fail_over(self._random.randrange(self._random.choice((4, 15, 200))), victim)

    def _fail_over(self, lost_writes: int, victim: Participant) -> None:
        database = self._world.database
        database.available = False
        database.fail_over(lost_writes)
        if self._random.random() < 0.5:
            # The fault that cut the database off from its standby cut off a process, too.
            self._cut(victim)
        self._in(self._random.choice((0.001, 0.05, 0.5)) * self._random.random(), self._return)

    def _return(self) -> None:
        self._back()
        self._on_return()

    def _back(self) -> None:
        self._world.database.available = True

    # --- with whom, and for how long ------------------------------------------------------

    def _server(self, victim: Participant) -> Server:
        return self._cast.server_above(victim) or self._random.choice(self._cast.servers)

    def _connections(self, victim: Participant) -> list[Connection]:
        """That to its grantor, or those from its holders, too."""
        connections = self._world.network.connections
        up = [one for one in connections if one.client is victim.process]
        if up and self._random.random() < 0.5:
            return up
        return up + [one for one in connections if one.server is victim.process]

    def _among(self, ones: set[Process], process: Process) -> None:
        ones.add(process)
        self._later(lambda: ones.discard(process))

    def _later(self, undo: Callable[[], object]) -> None:
        length = self._plan.length * self._random.choice((0.1, 0.5, 1.0, 1.5, 1.5, 2.5))
        self._in(length * self._random.uniform(0.7, 1.3), undo)

    def _in(self, seconds: float, undo: Callable[[], object]) -> None:
        loop = self._world.loop
        loop.call_later(seconds, undo, context=loop.world.context)
