"""What the store records of its set-up: first start, peppers. These writes are no mutations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Table, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.engines import Engines
from keyfence_server.adapters.sql.errors import translated
from keyfence_server.adapters.sql.schema import accounts, first_start, keys, peppers
from keyfence_server.application.ports import UsesOfPeppers
from keyfence_server.domain.keys import KeyState


class SqlSetUp:
    """Implements the `SetUp` port on a SQL database."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def is_first_start_over(self) -> bool:
        with translated():
            async with self._engines.reading.connect() as connection:
                return (await connection.execute(select(first_start))).first() is not None

    async def end_first_start(self) -> None:
        """See the port. Once begun it is carried through."""
        await to_completion(self._end_first_start())

    async def known_peppers(self) -> Mapping[int, bytes | None]:
        with translated():
            async with self._engines.reading.connect() as connection:
                known = await connection.execute(select(peppers))
                return {row.version: row.fingerprint for row in known}

    async def register_peppers(
        self, fingerprints: Mapping[int, bytes]
    ) -> Mapping[int, bytes | None]:
        """See the port. Once begun it is carried through."""
        return await to_completion(self._register_peppers(fingerprints))

    async def count_uses_of_peppers(
        self, versions: Collection[int], now: datetime
    ) -> UsesOfPeppers:
        lives = (
            keys.c.state != KeyState.REVOKED.value,
            or_(keys.c.expire_time.is_(None), keys.c.expire_time > now),
        )
        with translated():
            async with self._engines.reading.connect() as connection:
                return UsesOfPeppers(
                    await _count(connection, keys, keys.c.pepper_version.in_(versions), *lives),
                    await _count(connection, accounts, accounts.c.pepper_version.in_(versions)),
                )

    async def _end_first_start(self) -> None:
        with translated():
            async with self._engines.writing.begin() as connection:
                await connection.execute(_insert_missing(connection, first_start), {"id": 1})

    async def _register_peppers(
        self, fingerprints: Mapping[int, bytes]
    ) -> Mapping[int, bytes | None]:
        # In one order everywhere. Of two that write the same version, the second waits for
        # the first and finds its row.
        rows = [
            {"version": version, "fingerprint": fingerprints[version]}
            for version in sorted(fingerprints)
        ]
        with translated():
            async with self._engines.writing.begin() as connection:
                await connection.execute(_insert_missing(connection, peppers), rows)
                for row in rows:
                    await connection.execute(
                        update(peppers)
                        .where(peppers.c.version == row["version"], peppers.c.fingerprint.is_(None))
                        .values(fingerprint=row["fingerprint"])
                    )
                known = await connection.execute(select(peppers))
                return {row.version: row.fingerprint for row in known}


def _insert_missing(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that leaves alone what is there, which both databases write alike."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


async def _count(connection: AsyncConnection, table: Table, *conditions: Any) -> int:
    query = select(func.count()).select_from(table).where(*conditions)
    return int((await connection.execute(query)).scalar_one())
