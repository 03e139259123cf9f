"""What the store records of its set-up: first start, peppers. These writes are no mutations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Table, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from keyfence_server.adapters.sql.conversation import Bookkeep, DirectConversation
from keyfence_server.adapters.sql.engines import Engines
from keyfence_server.adapters.sql.errors import translated
from keyfence_server.adapters.sql.schema import accounts, first_start, keys, peppers
from keyfence_server.application.ports import UsesOfPeppers
from keyfence_server.domain.keys import KeyState


class SqlSetUp:
    """Implements the `SetUp` port on a SQL database."""

    def __init__(self, engines: Engines, bookkeep: Bookkeep) -> None:
        self._engines = engines
        self._bookkeep = bookkeep

    async def is_first_start_over(self) -> bool:
        async with self._reading() as connection:
            return (await connection.execute(select(first_start))).first() is not None

    async def end_first_start(self) -> None:
        """Once begun it is carried through."""

        async def end(on: DirectConversation) -> None:
            await on.execute(_insert_missing(on, first_start), {"id": 1})

        await self._bookkeep(end)

    async def known_peppers(self) -> Mapping[int, bytes | None]:
        async with self._reading() as connection:
            return await _known_peppers(connection)

    async def register_peppers(
        self, fingerprints: Mapping[int, bytes]
    ) -> Mapping[int, bytes | None]:
        """Once begun it is carried through."""

        async def register(on: DirectConversation) -> Mapping[int, bytes | None]:
            # In one order everywhere. Of two that write the same version, the second waits for
            # the first and finds its row.
            rows = [
                {"version": version, "fingerprint": fingerprints[version]}
                for version in sorted(fingerprints)
            ]
            await on.execute(_insert_missing(on, peppers), rows)
            for row in rows:
                await on.execute(
                    update(peppers)
                    .where(peppers.c.version == row["version"], peppers.c.fingerprint.is_(None))
                    .values(fingerprint=row["fingerprint"])
                )
            return await _known_peppers(on)

        return await self._bookkeep(register)

    async def count_uses_of_peppers(
        self, versions: Collection[int], now: datetime
    ) -> UsesOfPeppers:
        lives = (
            keys.c.state != KeyState.REVOKED.value,
            or_(keys.c.expire_time.is_(None), keys.c.expire_time > now),
        )
        async with self._reading() as connection:
            return UsesOfPeppers(
                await _count(connection, keys, keys.c.pepper_version.in_(versions), *lives),
                await _count(connection, accounts, accounts.c.pepper_version.in_(versions)),
            )

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with translated():
            async with self._engines.reading.connect() as connection:
                yield connection


def _insert_missing(on: DirectConversation, table: Table) -> Any:
    """An INSERT that leaves alone what is there, which both databases write alike."""
    dialect = postgresql if on.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


async def _known_peppers(on: AsyncConnection | DirectConversation) -> Mapping[int, bytes | None]:
    return {row.version: row.fingerprint for row in await on.execute(select(peppers))}


async def _count(connection: AsyncConnection, table: Table, *conditions: Any) -> int:
    query = select(func.count()).select_from(table).where(*conditions)
    return int((await connection.execute(query)).scalar_one())
