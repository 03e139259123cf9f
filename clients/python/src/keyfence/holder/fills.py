"""Which loaded facts may be remembered: the fill rule (I5 of docs/fence.md), and its only copy.

Facts travel for a while between the store that is read and the memory that keeps them. A
change that is applied in that time may be missing from them. If such facts were kept, the
holder would go on accepting what it has just acknowledged as revoked.

Server processes, sidecars and SDK caches all keep one `Fills`. It does no I/O and takes no
lock: a caller with several threads holds its own lock around every call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Change = TypeVar("Change")


@dataclass(slots=True, eq=False)
class Fill(Generic[Change]):
    """One load of facts that is under way.

    Attributes:
        started_at: the highest revision that was applied when the load began.
        epoch: the epoch of that revision; empty where there is only one.
        changes: the changes that were applied since, each with its revision.
        is_void: whether the memory was emptied since.
    """

    started_at: int
    epoch: str = ""
    changes: list[tuple[int, Change]] = field(default_factory=list)
    is_void: bool = False

    def is_overtaken(
        self, revision: int, concerns: Callable[[Change], bool], *, epoch: str = ""
    ) -> bool:
        """Whether the loaded facts may be older than what is applied. They are then discarded.

        Args:
            revision: the revision that the loaded facts show.
            concerns: whether a change could alter these facts.
            epoch: the epoch of `revision`. Revisions of two epochs cannot be compared.
        """
        return (
            self.is_void
            or epoch != self.epoch
            or revision < self.started_at
            or any(at > revision and concerns(change) for at, change in self.changes)
        )


class Fills(Generic[Change]):
    """The loads that are under way for one memory."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way: set[Fill[Change]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, applied: int, epoch: str = "") -> Fill[Change]:
        """Called before the facts are asked for. Each fill must be ended.

        Args:
            applied: the highest revision that is applied to the memory.
        """
        fill: Fill[Change] = Fill(applied, epoch)
        self._under_way.add(fill)
        return fill

    def end(self, fill: Fill[Change]) -> bool:
        """Ends a fill, with facts or without. False if this `Fills` did not begin it."""
        is_known = fill in self._under_way
        self._under_way.discard(fill)
        return is_known

    def note(self, revision: int, change: Change) -> None:
        """A change of this revision is applied to the memory."""
        for fill in self._under_way:
            fill.changes.append((revision, change))

    def void(self) -> None:
        """The memory is emptied. Nothing that is under way may be kept."""
        for fill in self._under_way:
            fill.is_void = True
