"""Notifications between the processes on a PostgreSQL database, by LISTEN and NOTIFY.

The transaction that makes a revision notifies, so the notification is sent with the
commit. It contains the changes if they fit. An acknowledgement is only a notification; the
protocol does not rely on its delivery.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from keyfence_server.adapters.sql.engines import PRIMARY
from keyfence_server.adapters.sql.timeline import TIMELINE
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.ports import Change, ChangeKind, StoreUnavailable
from keyfence_server.coherence.ports import Acknowledged, Committed, Interrupted, Notification

CHANNEL: Final = "keyfence_notifications"
# PostgreSQL takes payloads of fewer than 8000 bytes.
_MAX_PAYLOAD: Final = 7900
_TIMEOUT: Final = 5.0
_SIGN_OF_LIFE: Final = 1.0
_CONNECTION_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.TargetServerAttributeNotMatched,
    OSError,
    TimeoutError,
    ValueError,
)


class PostgresqlFeed:
    """Implements the `Feed` port, on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._address = parse_database_url(url).for_asyncpg()
        self._connection: asyncpg.Connection | None = None
        # Only one question can be asked on a connection at a time.
        self._asking = asyncio.Lock()

    async def listen(self) -> AsyncGenerator[Notification, None]:
        """See the port. Raises `StoreUnavailable` when it is cut off."""
        received: asyncio.Queue[Notification | None] = asyncio.Queue()
        with _unavailable_on_errors():
            connection = await self._connect(received)
        try:
            yield Interrupted()
            while True:
                try:
                    async with asyncio.timeout(_SIGN_OF_LIFE):
                        one = await received.get()
                except TimeoutError:
                    await self._require_alive(connection)
                    continue
                if one is None:
                    raise StoreUnavailable(
                        "the database has closed the connection for notifications"
                    )
                yield one
        finally:
            if self._connection is connection:
                self._connection = None
            connection.terminate()

    async def acknowledge(self, process_id: str, revision: int, epoch: str) -> None:
        connection = self._connection
        if connection is None:
            # The next renewal says it too.
            return
        payload = json.dumps({"a": process_id, "r": revision, "e": epoch})
        with _unavailable_on_errors():
            async with self._asking:
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)

    async def _connect(self, received: asyncio.Queue[Notification | None]) -> asyncpg.Connection:
        connection: asyncpg.Connection | None = None
        try:
            connection = await asyncpg.connect(
                self._address,
                timeout=_TIMEOUT,
                command_timeout=_TIMEOUT,
                target_session_attrs=PRIMARY,
                # Nothing that is sent on this connection has to outlive a crash.
                server_settings={
                    "synchronous_commit": "off",
                    "application_name": "keyfence notifications",
                },
            )
            connection.add_termination_listener(lambda _: received.put_nowait(None))
            # A connection does not outlive the timeline that it began on.
            epoch = str(await connection.fetchval(TIMELINE))
            await connection.add_listener(
                CHANNEL, lambda *arguments: _put(received, _read(str(arguments[-1]), epoch))
            )
        except BaseException:
            if connection is not None:
                connection.terminate()
            raise
        self._connection = connection
        return connection

    async def _require_alive(self, connection: asyncpg.Connection) -> None:
        with _unavailable_on_errors():
            async with self._asking:
                await connection.execute("SELECT 1", timeout=_SIGN_OF_LIFE)


@contextmanager
def _unavailable_on_errors() -> Iterator[None]:
    try:
        yield
    except _CONNECTION_ERRORS as error:
        raise StoreUnavailable(f"the database does not answer: {type(error).__name__}") from None


def _put(queue: asyncio.Queue[Notification | None], notifications: Iterable[Notification]) -> None:
    for one in notifications:
        queue.put_nowait(one)


def payloads_of(revisions: Sequence[tuple[int, Sequence[Change]]]) -> list[str]:
    """Notifications of the revisions, in order and as few as can be. A revision whose changes do
    not fit is announced without them, and is read from the change log."""
    payloads: list[str] = []
    for revision, changes in revisions:
        made = [[one.kind.value, one.subject, one.keyspace, one.created] for one in changes]
        text = json.dumps([revision, made], separators=(",", ":"))
        if len(text) > _MAX_PAYLOAD:
            text = json.dumps([revision, []])
        if payloads and len(payloads[-1]) + len(text) < _MAX_PAYLOAD:
            payloads[-1] += "," + text
        else:
            payloads.append(text)
    return [f'{{"c":[{one}]}}' for one in payloads]


def _read(payload: str, epoch: str) -> list[Notification]:
    """Reads a notification that came on a connection of this epoch.

    Other programs may notify on the channel too. A notification that cannot be read makes
    the server read the change log.
    """
    try:
        document: dict[str, Any] = json.loads(payload)
        if "a" in document:
            # The sender may still be in an older epoch, so its own epoch is used.
            return [Acknowledged(str(document["a"]), int(document["r"]), str(document["e"]))]
        return [
            Committed(
                int(revision),
                tuple(
                    Change(ChangeKind(kind), str(subject), str(keyspace), created is True)
                    for kind, subject, keyspace, created in changes
                )
                or None,
                epoch,
            )
            for revision, changes in document["c"]
        ]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return [Interrupted()]
