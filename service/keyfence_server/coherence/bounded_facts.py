"""A part of the memory of facts: bounded, and indexed by what the facts depend on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TypeAlias, TypeVar

from keyfence_server.application.ports import Change, ChangeKind

Name = TypeVar("Name")
Facts = TypeVar("Facts")

Subject: TypeAlias = tuple[ChangeKind, str]


class BoundedFacts(OrderedDict[Name, Facts]):
    """Facts by name. A caller that finds facts moves them to the end, so that the first ones are
    those that were asked for longest ago.

    Args:
        capacity: the most facts to remember.
        subjects_of: what facts depend on. A change of one of the subjects makes them stale.
    """

    def __init__(
        self, capacity: int, subjects_of: Callable[[Facts], Collection[Subject]] = lambda _: ()
    ) -> None:
        super().__init__()
        self._capacity = capacity
        self._subjects_of = subjects_of
        self._names_by: dict[ChangeKind, dict[str, set[Name]]] = {kind: {} for kind in ChangeKind}

    def remember(self, name: Name, facts: Facts) -> None:
        """Remembers facts, at the cost of those that were asked for longest ago."""
        self[name] = facts
        for kind, subject in self._subjects_of(facts):
            self._names_by[kind].setdefault(subject, set()).add(name)
        while len(self) > self._capacity:
            self.drop(next(iter(self)))

    def forget(self, change: Change) -> None:
        """Forgets what the change makes stale."""
        for name in tuple(self._names_by[change.kind].get(change.subject, ())):
            self.drop(name)

    def drop(self, name: Name) -> None:
        """Forgets the facts of this name."""
        for kind, subject in self._subjects_of(self.pop(name)):
            names = self._names_by[kind][subject]
            names.discard(name)
            if not names:
                del self._names_by[kind][subject]

    def clear(self) -> None:
        """Forgets everything."""
        super().clear()
        for names in self._names_by.values():
            names.clear()
