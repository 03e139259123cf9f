"""The register of server processes, in the store that they stand on.

Everything here is durable before it counts: a renewal that a crash of the database
undid could let a process be struck off while its lease still lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import case, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.engines import Engines
from keyfence_server.adapters.sql.errors import translated
from keyfence_server.adapters.sql.schema import head, processes
from keyfence_server.coherence.ports import RegisteredProcess, Standing, StruckOff

# Where the primary writes its log is the one thing that tells at once on which timeline
# it is: what its control file says of that can be as old as the last checkpoint.
_TIMELINE: Final = text("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")


class SqlRegister:
    """Keeps the port `Register` on a SQL database."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def join(self, process_id: str, display_name: str) -> Standing:
        """See the port."""
        row = {
            "process_id": process_id,
            "display_name": display_name,
            "renewals": 0,
            "acknowledged": 0,
            "join_time": datetime.now(UTC),
        }
        async with self._transaction() as connection:
            # The lock comes first: a mutation in flight is waited for, and is in the head
            # that is read; one that begins later finds the row.
            standing = await self._standing(connection, locked=True)
            await connection.execute(delete(processes).where(processes.c.process_id == process_id))
            await connection.execute(insert(processes).values(row))
            await connection.commit()
        return standing

    async def renew(self, process_id: str, acknowledged: int) -> Standing:
        """See the port."""
        known = processes.c.acknowledged
        async with self._transaction() as connection:
            renewed = await connection.execute(
                update(processes)
                .where(processes.c.process_id == process_id)
                .values(
                    renewals=processes.c.renewals + 1,
                    acknowledged=case((known > acknowledged, known), else_=acknowledged),
                )
            )
            if renewed.rowcount != 1:
                raise StruckOff(process_id)
            standing = await self._standing(connection)
            await connection.commit()
        return standing

    async def leave(self, process_id: str) -> None:
        """See the port."""
        async with self._transaction() as connection:
            await connection.execute(delete(processes).where(processes.c.process_id == process_id))
            await connection.commit()

    async def list_processes(self) -> list[RegisteredProcess]:
        """See the port."""
        with translated():
            async with self._engines.reading.connect() as connection:
                rows = await connection.execute(select(processes).order_by(processes.c.process_id))
                return [RegisteredProcess(**row) for row in rows.mappings()]

    async def strike_off(self, process_id: str, renewals: int) -> bool:
        """See the port."""
        async with self._transaction() as connection:
            struck = await connection.execute(
                delete(processes).where(
                    processes.c.process_id == process_id, processes.c.renewals == renewals
                )
            )
            await connection.commit()
        return struck.rowcount == 1

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with translated():
            connection = await self._engines.writing.connect()
            try:
                yield connection
            finally:
                await to_completion(connection.close())

    async def _standing(self, connection: AsyncConnection, *, locked: bool = False) -> Standing:
        question = select(head.c.revision)
        if locked:
            question = question.with_for_update(read=True)
        revision = (await connection.execute(question)).scalar_one()
        if self._engines.embedded:
            return Standing(revision, epoch="")
        return Standing(revision, epoch=(await connection.execute(_TIMELINE)).scalar_one())
