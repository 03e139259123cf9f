"""One server process at a time on a PostgreSQL database.

A server answers from memory, and knows of the mutations that it makes itself. Were
there a second one, each would go on accepting what the other has revoked. So the
first takes a lock in the database, and holds it by a connection of its own, which it
asks for a sign of life all the time; the second does not start.

When the connection is lost, the lock is lost with it, and another server may take it.
From the moment that this is noticed, the server does not answer any more, until it
has the lock again and has forgotten all that it knew. What this cannot do is to notice
at once: a host that is cut off from its database answers from memory for as long as
`SIGN_OF_LIFE` allows.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import asyncpg

from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.ports import StoreUnavailable

SIGN_OF_LIFE: Final = timedelta(seconds=1)
"""How often the connection is asked, and how long its answer may take."""

_LOCK: Final = 0x6B667031  # "kfp1": any number that nobody else would lock
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
# Servers in different schemas of one database have nothing to do with each other.
_TAKE: Final = "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))"
_HOLDER: Final = """
SELECT activity.application_name
FROM pg_locks AS lock JOIN pg_stat_activity AS activity USING (pid)
WHERE lock.locktype = 'advisory' AND lock.granted AND lock.classid = $1
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_CONNECTION_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class AnotherProcess(Exception):
    """Another server process has the database."""


class SoleProcess:
    """Holds the lock that only one server process can have.

    Args:
        url: of the PostgreSQL database.
        on_lost: called when the lock may be another's; nothing may be answered from
            memory from then on.
        on_regained: called when the lock is ours again. Nothing may be remembered from
            before. Where it raises `StoreUnavailable`, the lock counts as lost still.
    """

    def __init__(
        self,
        url: str,
        *,
        on_lost: Callable[[], None],
        on_regained: Callable[[], Awaitable[None]],
    ) -> None:
        self._address = parse_database_url(url).for_asyncpg()
        self._on_lost = on_lost
        self._on_regained = on_regained
        self._connection: asyncpg.Connection | None = None

    async def acquire(self) -> None:
        """Takes the lock.

        Raises:
            AnotherProcess: another process has it.
            StoreUnavailable: the database does not answer.
        """
        try:
            connection = await asyncpg.connect(
                self._address,
                timeout=_CONNECT_TIMEOUT.total_seconds(),
                command_timeout=_CONNECT_TIMEOUT.total_seconds(),
                server_settings={"application_name": _own_name()},
            )
        except (*_CONNECTION_ERRORS, ValueError) as error:
            raise StoreUnavailable(
                f"the database does not answer: {type(error).__name__}"
            ) from None
        try:
            if not await connection.fetchval(_TAKE, _LOCK):
                holder = await connection.fetchval(_HOLDER, _LOCK) or "unknown"
                raise AnotherProcess(f"another server has the database: {holder}")
        except _CONNECTION_ERRORS as error:
            connection.terminate()
            raise StoreUnavailable(
                f"the database does not answer: {type(error).__name__}"
            ) from None
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def keep(self) -> None:
        """Watches over the lock, and gets it back when it is lost. Until cancelled."""
        while True:
            await self._until_lost()
            self._on_lost()
            await self._until_regained()

    async def release(self) -> None:
        """Lets the lock go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _until_lost(self) -> None:
        connection = self._connection
        if connection is None:
            return
        interval = SIGN_OF_LIFE.total_seconds()
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        while not connection.is_closed():
            try:
                await connection.fetchval("SELECT 1", timeout=interval)
            except _CONNECTION_ERRORS:
                break
            try:
                async with asyncio.timeout(interval):
                    await closed.wait()
            except TimeoutError:
                continue
        await self.release()

    async def _until_regained(self) -> None:
        while True:
            try:
                await self.acquire()
                await self._on_regained()
            except (StoreUnavailable, AnotherProcess):
                await self.release()
                await asyncio.sleep(SIGN_OF_LIFE.total_seconds())
            else:
                return


def _silent(error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(f"the database does not answer: {type(error).__name__}")


def _own_name() -> str:
    # PostgreSQL cuts names after 63 bytes.
    return f"keyfence {os.getpid()} on {socket.gethostname()}"[:63]
