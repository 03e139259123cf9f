"""The `Transaction` port on a transaction that has locked the head."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from sqlalchemy import CursorResult, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import UpdateBase

from keyfence_server.adapters.sql.bookkeeping import append_to_chain
from keyfence_server.adapters.sql.compiled_keyspaces import CompiledKeyspaces
from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.adapters.sql.postgresql_feed import announce
from keyfence_server.adapters.sql.reading import SqlSnapshot
from keyfence_server.adapters.sql.records import (
    account_to_row,
    changes_to_rows,
    key_to_row,
    keyspace_to_row,
    session_to_row,
)
from keyfence_server.adapters.sql.schema import (
    accounts,
    changes,
    keys,
    keyspaces,
    requests,
    sessions,
)
from keyfence_server.application.ports import AuditEvent, Change, CredentialId
from keyfence_server.domain.accounts import Account, AccountId
from keyfence_server.domain.keys import Key, KeyId, KeyState
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.sessions import Session, SessionId

_REQUESTS_REMEMBERED: Final = timedelta(hours=24)
# A day's requests must not all be forgotten by the one mutation that comes after a
# quiet day. Each remembers one and forgets up to this many, so the table does not grow.
_FORGOTTEN_AT_ONCE: Final = 100
_MOST_IDS: Final = 10_000
_SESSIONS_REMEMBERED: Final = timedelta(days=1)


class _State(Enum):
    OPEN = "open"
    BROKEN = "broken by an earlier error, and can only be left"
    ENDED = "over"


class SqlTransaction(SqlSnapshot):
    """Keeps the `Transaction` port. Its opener rolls back what it did not commit.

    After any error it refuses to go on: PostgreSQL answers the COMMIT of a failed
    transaction with a rollback and no error, which would be taken for success.
    """

    def __init__(
        self, connection: AsyncConnection, revision: int, compiled: CompiledKeyspaces
    ) -> None:
        super().__init__(connection, revision, compiled)
        self._state = _State.OPEN

    async def insert_key(self, key: Key) -> None:
        """See the port."""
        await self._touch_one(insert(keys).values(key_to_row(key, self._revision)))

    async def update_key(self, key: Key) -> None:
        """See the port."""
        row = key_to_row(key, self._revision)
        await self._touch_one(update(keys).where(keys.c.key_id == row.pop("key_id")).values(row))

    async def revoke_keys(self, key_ids: Collection[KeyId], time: datetime) -> None:
        """See the port."""
        ids = sorted(set(key_ids))
        for start in range(0, len(ids), _MOST_IDS):
            some = ids[start : start + _MOST_IDS]
            await self._touch(
                len(some),
                update(keys)
                .where(keys.c.key_id.in_(some), keys.c.state != KeyState.REVOKED.value)
                .values(
                    state=KeyState.REVOKED.value,
                    revoke_time=time,
                    update_time=time,
                    disabled_by_operator=False,
                    revision=self._revision,
                ),
            )

    async def put_keyspace(self, keyspace: Keyspace) -> None:
        """See the port."""
        # A large one takes long to be written as a document.
        row = await asyncio.to_thread(keyspace_to_row, keyspace, self._revision)
        existing = await self._rows(
            select(keyspaces.c.name).where(keyspaces.c.name == keyspace.name)
        )
        if existing:
            name = row.pop("name")
            await self._touch_one(update(keyspaces).where(keyspaces.c.name == name).values(row))
        else:
            await self._touch_one(insert(keyspaces).values(row))

    async def insert_account(self, account: Account) -> None:
        """See the port."""
        await self._touch_one(insert(accounts).values(account_to_row(account, self._revision)))

    async def update_account(self, account: Account) -> None:
        """See the port."""
        row = account_to_row(account, self._revision)
        await self._touch_one(
            update(accounts).where(accounts.c.account_id == row.pop("account_id")).values(row)
        )

    async def insert_session(self, session: Session) -> None:
        """See the port."""
        forgettable = (
            select(sessions.c.session_id)
            .where(sessions.c.expire_time < session.create_time - _SESSIONS_REMEMBERED)
            .limit(_FORGOTTEN_AT_ONCE)
        )
        await self._execute(delete(sessions).where(sessions.c.session_id.in_(forgettable)))
        await self._touch_one(insert(sessions).values(session_to_row(session, self._revision)))

    async def update_session(self, session: Session) -> None:
        """See the port."""
        row = session_to_row(session, self._revision)
        await self._touch_one(
            update(sessions).where(sessions.c.session_id == row.pop("session_id")).values(row)
        )

    async def end_sessions(
        self, account_id: AccountId, time: datetime, *, but: SessionId | None = None
    ) -> int:
        """See the port."""
        statement = update(sessions).where(
            sessions.c.account_id == account_id,
            sessions.c.end_time.is_(None),
            sessions.c.expire_time > time,
        )
        if but is not None:
            statement = statement.where(sessions.c.session_id != but)
        ended = await self._execute(statement.values(end_time=time, revision=self._revision))
        return int(ended.rowcount)

    async def insert_request(
        self, caller: CredentialId, request_id: str, key_id: KeyId, time: datetime
    ) -> None:
        """See the port."""
        identity = (requests.c.caller_key_id, requests.c.request_id)
        forgettable = (
            select(*identity)
            .where(requests.c.time < time - _REQUESTS_REMEMBERED)
            .limit(_FORGOTTEN_AT_ONCE)
        )
        await self._execute(delete(requests).where(tuple_(*identity).in_(forgettable)))
        await self._touch_one(
            insert(requests).values(
                caller_key_id=caller, request_id=request_id, key_id=key_id, time=time
            )
        )

    async def commit(self, changes: Sequence[Change], event: AuditEvent) -> int:
        """See the port. Once begun it is carried through, even if the caller is cancelled."""
        if not changes:
            raise ValueError("a mutation that changes nothing has no revision")
        return await to_completion(self._commit(list(changes), event))

    async def _commit(self, made: list[Change], event: AuditEvent) -> int:
        await self._execute(insert(changes), changes_to_rows(made, self._revision))
        with self._step():
            await append_to_chain(self._connection, [event], revision=self._revision)
        with self._step():
            await announce(self._connection, self._revision, made)
            await self._connection.commit()
        self._state = _State.ENDED
        return self._revision

    async def _touch_one(self, statement: UpdateBase) -> None:
        """Executes what must touch one row, and breaks the transaction if it did not."""
        await self._touch(1, statement)

    async def _touch(self, count: int, statement: UpdateBase) -> None:
        touched = (await self._execute(statement)).rowcount
        if touched != count:
            self._state = _State.BROKEN
            raise StoreFault(f"{count} rows were to be touched, and {touched} were")

    async def _execute(
        self, statement: UpdateBase, rows: list[dict[str, object]] | None = None
    ) -> CursorResult[Any]:
        with self._step():
            return await self._connection.execute(statement, rows)

    @contextmanager
    def _step(self) -> Iterator[None]:
        if self._state is not _State.OPEN:
            raise StoreFault(f"the transaction is {self._state.value}")
        try:
            with super()._step():
                yield
        except BaseException:
            self._state = _State.BROKEN
            raise
