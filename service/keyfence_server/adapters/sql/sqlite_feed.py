"""Quick notifications between the processes on a SQLite file, by asking whether it has changed.

`PRAGMA data_version` tells a connection, without reading the file, whether another one
has committed since it last asked (https://www.sqlite.org/pragma.html#pragma_data_version).
It costs microseconds, so it is asked from the event loop itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Final

from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.coherence.ports import Acknowledged, Interrupted, Notification

_POLL_SECONDS: Final = 0.005
_ACKNOWLEDGE: Final = (
    "UPDATE processes SET acknowledged = max(acknowledged, ?) WHERE process_id = ?"
)
_LOCK_SECONDS: Final = 2.0


class SqliteFeed:
    """Implements the `Feed` port."""

    def __init__(self, url: str) -> None:
        self._path = parse_database_url(url).path

    async def listen(self) -> AsyncGenerator[Notification, None]:
        known: dict[str, int] = {}
        revision = -1
        version = -1
        with closing(self._connect()) as connection:
            while True:
                try:
                    now_at = connection.execute("PRAGMA data_version").fetchone()[0]
                    if now_at != version:
                        head, acknowledged = _look(connection)
                        version = now_at
                        if head != revision:
                            revision = head
                            yield Interrupted()
                        for process_id, position in acknowledged.items():
                            if known.get(process_id) != position:
                                yield Acknowledged(process_id, position, epoch="")
                        known = acknowledged
                except sqlite3.Error as error:
                    raise StoreUnavailable(
                        f"the store does not answer: {type(error).__name__}"
                    ) from None
                await asyncio.sleep(_POLL_SECONDS)

    async def acknowledge(self, process_id: str, revision: int, epoch: str) -> None:
        """See the port. The file must be written, and that may have to wait for a turn, so
        it is done in a thread."""
        await asyncio.to_thread(self._acknowledge, process_id, revision)

    def _acknowledge(self, process_id: str, revision: int) -> None:
        try:
            with closing(self._connect()) as connection:
                # An acknowledgement need not outlive a crash: the processes do not either.
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(_ACKNOWLEDGE, (revision, process_id))
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store does not answer: {type(error).__name__}") from None

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self._path, timeout=_LOCK_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store does not answer: {type(error).__name__}") from None


def _look(connection: sqlite3.Connection) -> tuple[int, dict[str, int]]:
    head = connection.execute("SELECT revision FROM head").fetchone()[0]
    acknowledged = connection.execute("SELECT process_id, acknowledged FROM processes").fetchall()
    return head, dict(acknowledged)
