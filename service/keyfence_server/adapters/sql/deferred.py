"""What a transaction has still to write, so that it can write everything at once."""

from __future__ import annotations

from typing import NamedTuple

from keyfence_server.adapters.sql.conversation import Row
from keyfence_server.adapters.sql.ready import RowStatement


class DeferredWrite(NamedTuple):
    """A statement that touches one row, with its values in order.

    Attributes:
        row_id: what the row is found by.
    """

    statement: RowStatement
    values: Row
    row_id: tuple[str, ...]


class DeferredWrites:
    """The writes in their order: those of mutations that were kept, and those of the one at hand.

    No row is in two of them.
    """

    def __init__(self) -> None:
        self._kept: list[DeferredWrite] = []
        self._at_hand: list[DeferredWrite] = []
        self._rows: set[tuple[str, ...]] = set()

    def add(self, write: DeferredWrite) -> None:
        """Adds a write of the mutation at hand. Its row must not be written yet."""
        self._at_hand.append(write)
        self._rows.add(write.row_id)

    def concern(self, *row_ids: tuple[str, ...]) -> bool:
        """Whether one of these rows is among them."""
        return not self._rows.isdisjoint(row_ids)

    def keep(self) -> None:
        """Records that the mutation at hand was kept."""
        self._kept += self._at_hand
        self._at_hand.clear()

    def drop(self) -> None:
        """Forgets what the mutation at hand would have written."""
        self._rows.difference_update(one.row_id for one in self._at_hand)
        self._at_hand.clear()

    def take_kept(self) -> list[DeferredWrite]:
        """Removes and returns those of mutations that were kept."""
        return self._taken(self._kept)

    def take_at_hand(self) -> list[DeferredWrite]:
        """Removes and returns those of the mutation at hand."""
        return self._taken(self._at_hand)

    def _taken(self, writes: list[DeferredWrite]) -> list[DeferredWrite]:
        taken = writes.copy()
        writes.clear()
        self._rows.difference_update(one.row_id for one in taken)
        return taken
