"""The order in which mutations and heavy work are served.

What waits is not served in the order of its arrival: then a caller with a hundred mutations under
way would make every other caller wait for all of them. Restrictive changes come first, and
keyspaces take turns, and inside a keyspace its callers. So a mutation waits for those that have the
store, and for at most one of each other caller of its keyspace and one of each other keyspace.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import chain
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

Place: TypeAlias = tuple[str, str]
"""Who waits: the keyspace, and the caller inside it."""

MOST_RESTRICTIVE_IN_A_ROW: Final = 8
"""After so many restrictive changes another one gets its turn, if one waits: otherwise an
endless row of them would stop every other mutation."""


class Waiting(Protocol):
    """What waits in a line."""

    def done(self) -> bool:
        """Whether it waits no more."""


W = TypeVar("W", bound=Waiting)


class Queue(Generic[W]):
    """What waits, in the order in which it is served."""

    def __init__(self) -> None:
        self._restrictive: _Line[W] = _Line()
        self._others: _Line[W] = _Line()
        self._in_a_row = 0

    def add(self, place: Place, waiting: W, *, restrictive: bool) -> None:
        """Adds to the end of the place's own line."""
        (self._restrictive if restrictive else self._others).add(place, waiting)

    def put_back(self, place: Place, waiting: W, *, restrictive: bool) -> None:
        """Lets what was taken be the next again."""
        (self._restrictive if restrictive else self._others).put_back(place, waiting)

    def take(self, *, only_restrictive: bool = False) -> W | None:
        """Removes and returns the next waiting entry; None if none waits. With `only_restrictive`:
        also None if the next entry is not a restrictive change."""
        lines = [self._restrictive, self._others]
        if self._in_a_row >= MOST_RESTRICTIVE_IN_A_ROW:
            lines.reverse()
        if only_restrictive and (lines[0] is self._restrictive or self._others.is_empty):
            lines = [self._restrictive]
        elif only_restrictive:
            return None
        for line in lines:
            waiting = line.take()
            if waiting is not None:
                self._in_a_row = self._in_a_row + 1 if line is self._restrictive else 0
                return waiting
        if not only_restrictive:
            self._in_a_row = 0
        return None

    @property
    def has_restrictive(self) -> bool:
        """Whether a restrictive change waits."""
        return not self._restrictive.is_empty

    def waiting(self) -> Iterator[W]:
        """What waits, restrictive changes first. Otherwise not in the order of its service."""
        return chain(self._restrictive.waiting(), self._others.waiting())


class _Line(Generic[W]):
    """Keyspaces are served in turn, and the callers of each in turn."""

    def __init__(self) -> None:
        self._keyspaces: OrderedDict[str, OrderedDict[str, deque[W]]] = OrderedDict()

    def add(self, place: Place, waiting: W) -> None:
        keyspace, caller = place
        callers = self._keyspaces.setdefault(keyspace, OrderedDict())
        callers.setdefault(caller, deque()).append(waiting)

    @property
    def is_empty(self) -> bool:
        return not self._keyspaces

    def put_back(self, place: Place, waiting: W) -> None:
        keyspace, caller = place
        callers = self._keyspaces.setdefault(keyspace, OrderedDict())
        callers.setdefault(caller, deque()).appendleft(waiting)
        callers.move_to_end(caller, last=False)
        self._keyspaces.move_to_end(keyspace, last=False)

    def waiting(self) -> Iterator[W]:
        return (
            waiting
            for callers in self._keyspaces.values()
            for line in callers.values()
            for waiting in line
        )

    def take(self) -> W | None:
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
