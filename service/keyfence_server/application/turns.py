"""The order in which mutations get the store.

One mutation at a time has the store. Those that wait are not served in the order of their
arrival: then a caller with a hundred mutations under way would make every other caller wait
for all of them. Restrictive changes come first, and keyspaces take turns, and inside a
keyspace its callers. So a mutation waits for the one that has the store, and for at most one
of each other caller of its keyspace and one of each other keyspace.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

Place: TypeAlias = tuple[str, str]
"""Who waits: the keyspace, and the caller inside it."""

MOST_RESTRICTIVE_IN_A_ROW: Final = 8
"""After so many restrictive changes another one gets its turn, if one waits: otherwise an
endless row of them would stop every other mutation."""


class Turns:
    """Lets one mutation at a time have the store."""

    def __init__(self) -> None:
        self._is_taken = False
        self._restrictive = _Line()
        self._others = _Line()
        self._in_a_row = 0

    @asynccontextmanager
    async def turn(self, place: Place, *, restrictive: bool) -> AsyncIterator[None]:
        """Waits for a turn and holds it."""
        await self.take(place, restrictive=restrictive)
        try:
            yield
        finally:
            self.pass_on()

    async def take(self, place: Place, *, restrictive: bool) -> None:
        """Waits for a turn, which the caller passes on."""
        if not self._is_taken:
            self._is_taken = True
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._restrictive if restrictive else self._others).add(place, waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                # The turn came, and its owner has gone.
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Gives the turn to the next that waits."""
        waiting = self._next()
        if waiting is None:
            self._is_taken = False
        else:
            waiting.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        lines = [self._restrictive, self._others]
        if self._in_a_row >= MOST_RESTRICTIVE_IN_A_ROW:
            lines.reverse()
        for line in lines:
            waiting = line.take()
            if waiting is not None:
                self._in_a_row = self._in_a_row + 1 if line is self._restrictive else 0
                return waiting
        self._in_a_row = 0
        return None


class _Line:
    """Futures that wait. Keyspaces are served in turn, and the callers of each in turn."""

    def __init__(self) -> None:
        self._keyspaces: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = (
            OrderedDict()
        )

    def add(self, place: Place, waiting: asyncio.Future[None]) -> None:
        keyspace, caller = place
        callers = self._keyspaces.setdefault(keyspace, OrderedDict())
        callers.setdefault(caller, deque()).append(waiting)

    def take(self) -> asyncio.Future[None] | None:
        """The next that still waits, or None."""
        while self._keyspaces:
            keyspace, callers = next(iter(self._keyspaces.items()))
            caller, line = next(iter(callers.items()))
            waiting = line.popleft()
            # A caller that was served goes to the end; one with nothing left is forgotten.
            if line:
                callers.move_to_end(caller)
            else:
                del callers[caller]
            if callers:
                self._keyspaces.move_to_end(keyspace)
            else:
                del self._keyspaces[keyspace]
            if not waiting.done():
                return waiting
        return None
