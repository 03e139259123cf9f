"""Keyspaces as they were compiled from their rows, and the rows of those that will be written.

Every mutation reads its keyspace, and to compile one of ten thousand scopes takes hundreds
of milliseconds. A keyspace is compiled once for each time that its row changes, and a large
one on a thread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime
from typing import Final

from sqlalchemy import RowMapping

from keyfence_server.adapters.sql.records import keyspace_to_row, row_to_keyspace
from keyfence_server.domain.keyspaces import Keyspace

MOST_KEPT: Final = 256
_MOST_READY: Final = 8
"""A row can have megabytes. One that was left out is made again."""
_SMALL_CHARACTERS: Final = 8_192


class CompiledKeyspaces:
    """Remembers keyspaces by what tells one state of a row from another."""

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, Keyspace] = OrderedDict()
        self._ready: OrderedDict[str, tuple[Keyspace, dict[str, object]]] = OrderedDict()

    def find(self, name: str, revision: int, update_time: datetime) -> Keyspace | None:
        """The keyspace of a row, if it is known as the row is. After a failover another keyspace
        may have the same revision, and not the same time."""
        known = self._by_name.get(name)
        if known is None or (known.revision, known.update_time) != (revision, update_time):
            return None
        self._by_name.move_to_end(known.name)
        return known

    async def compile(self, row: RowMapping) -> Keyspace:
        """The keyspace of a whole row, which is remembered. Its declaration is a text."""
        if len(row["declaration"]) <= _SMALL_CHARACTERS:
            keyspace = row_to_keyspace(row)
        else:
            keyspace = await asyncio.to_thread(row_to_keyspace, row)
        self.remember(keyspace)
        return keyspace

    async def prepare(self, keyspace: Keyspace) -> None:
        """Makes the row of a keyspace that will be written."""
        self._ready[keyspace.name] = keyspace, await _row_of(keyspace)
        self._ready.move_to_end(keyspace.name)
        while len(self._ready) > _MOST_READY:
            self._ready.popitem(last=False)

    async def row_of(self, keyspace: Keyspace) -> dict[str, object]:
        """The row of a keyspace, with any revision. It is made only if it is not ready."""
        ready = self._ready.pop(keyspace.name, None)
        if ready is not None and ready[0] is keyspace:
            return ready[1]
        return await _row_of(keyspace)

    def remember(self, keyspace: Keyspace) -> None:
        """Takes a keyspace as it was written. If it is rolled back, its stamp will never be read:
        another one has another time."""
        self._by_name[keyspace.name] = keyspace
        self._by_name.move_to_end(keyspace.name)
        while len(self._by_name) > MOST_KEPT:
            self._by_name.popitem(last=False)


async def _row_of(keyspace: Keyspace) -> dict[str, object]:
    # The revision is that of the transaction, which is not known yet.
    return await asyncio.to_thread(keyspace_to_row, keyspace, 0)
