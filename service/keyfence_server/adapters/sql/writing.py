"""The `Transaction` port on a transaction that has locked the head."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CursorResult,
    Dialect,
    bindparam,
    delete,
    insert,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.sql import Executable

from keyfence_server.adapters.sql import queries
from keyfence_server.adapters.sql.audit_chain import append_to_chain
from keyfence_server.adapters.sql.bulk_insert import BulkInsert
from keyfence_server.adapters.sql.compiled_keyspaces import CompiledKeyspaces
from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.conversation import DirectConversation
from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.adapters.sql.postgresql_feed import announce
from keyfence_server.adapters.sql.reading import (
    SqlSnapshot,
    is_nowhere,
    read_slowly,
    whole_lineage,
)
from keyfence_server.adapters.sql.ready import ReadyStatement, insertion_into, replacement_in
from keyfence_server.adapters.sql.records import (
    account_to_row,
    changes_to_rows,
    key_to_row,
    keys_to_columns,
    row_to_account,
    session_to_row,
)
from keyfence_server.adapters.sql.schema import (
    accounts,
    changes,
    head,
    keys,
    keyspaces,
    replaced_digests,
    requests,
    sessions,
    slow_hashes,
)
from keyfence_server.application.ports import (
    AuditEvent,
    ChainEnd,
    Change,
    CredentialId,
    NewDigest,
    SlowHash,
    StoreUnavailable,
)
from keyfence_server.domain.accounts import Account, AccountId
from keyfence_server.domain.keys import Key, KeyId, KeyState, Lineage
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.sessions import Session, SessionId

_MOST_IDS: Final = 10_000
_MOST_ROWS: Final = 250
_FORGOTTEN_AT_ONCE: Final = 100
_OVER_SESSIONS_KEPT: Final = 100  # of each account, so that a log-in of any account is cheap
_MOST_ENDED: Final = 1_000

_LINEAGE_AND_MORE: Final = ReadyStatement(queries.lineage_and_more())
_OF_KEY: Final = len(keys.c)
_OF_STAMP: Final = len(queries.stamps_of_keyspaces().selected_columns)
_INSERT_KEY: Final = insertion_into(keys)
_REPLACE_KEY: Final = replacement_in(keys)
_INSERT_SLOW_HASH: Final = insert(slow_hashes)
_INSERT_ACCOUNT: Final = insertion_into(accounts)
_REPLACE_ACCOUNT: Final = replacement_in(accounts)
_INSERT_SESSION: Final = insertion_into(sessions)
_REPLACE_SESSION: Final = replacement_in(sessions)
_INSERT_KEYSPACE: Final = insertion_into(keyspaces)
_REPLACE_KEYSPACE: Final = replacement_in(keyspaces)
_INSERT_REQUEST: Final = insertion_into(requests)
_INSERT_CHANGES: Final = insertion_into(changes)
_SET_HEAD: Final = ReadyStatement(update(head), sets=["revision"])
# PostgreSQL and SQLite undo to the newest savepoint of a name. None is released before the
# commit: a group has few mutations.
_SAVE: Final = ReadyStatement(text("SAVEPOINT mutation"))
_UNDO: Final = ReadyStatement(text("ROLLBACK TO SAVEPOINT mutation"))
_IS_OVER: Final = or_(
    sessions.c.end_time.is_not(None),
    sessions.c.expire_time <= bindparam("now", type_=sessions.c.expire_time.type),
)
_OF_ACCOUNT: Final = (
    select(sessions.c.session_id)
    .where(sessions.c.account_id == bindparam("account_id"))
    .order_by(sessions.c.create_time.desc(), sessions.c.session_id.desc())
    .offset(bindparam("keep"))
)
_FORGET_SESSIONS_OF_ACCOUNT: Final = delete(sessions).where(
    sessions.c.session_id.in_(_OF_ACCOUNT.where(_IS_OVER).limit(_FORGOTTEN_AT_ONCE))
)
_OLDEST_SESSIONS: Final = _OF_ACCOUNT.where(not_(_IS_OVER)).limit(_MOST_ENDED)


@functools.cache
def _bulk_insert_of_keys(dialect: Dialect) -> BulkInsert:
    return BulkInsert(keys, dialect)


class _State(Enum):
    OPEN = "open"
    BROKEN = "broken by an earlier error, and can only be left"
    ENDED = "over"


class _Kept(NamedTuple):
    """A mutation that is part of the commit."""

    revision: int
    changes: tuple[Change, ...]
    event: AuditEvent


class SqlTransaction(SqlSnapshot):
    """Implements the `Transaction` port. Its opener rolls back what it did not commit.

    After any error it refuses to go on, until the mutation at fault is undone: PostgreSQL answers
    the COMMIT of a failed transaction with a rollback and no error, which would be taken for
    success.
    """

    def __init__(
        self,
        conversation: DirectConversation,
        revision: int,
        compiled: CompiledKeyspaces,
        end_of_chain: ChainEnd,
    ) -> None:
        super().__init__(conversation, revision, compiled)
        self._conversation: DirectConversation = conversation
        self._end_of_chain = end_of_chain
        self._state = _State.OPEN
        self._kept: list[_Kept] = []
        self._has_written = False
        # What was read stays true until it is written here: the head is locked.
        self._lineages: dict[KeyId, Lineage | None] = {}
        self._accounts: dict[AccountId, Account | None] = {}
        self._keyspaces: dict[str, Keyspace | None] = {}

    async def find_lineage(self, key_id: KeyId) -> Lineage | None:
        """See the port. Reads once, and with it the owner and the keyspace, which are asked for
        next."""
        if key_id not in self._lineages:
            self._lineages[key_id] = await self._find_lineage_and_more(key_id)
        return self._lineages[key_id]

    async def _find_lineage_and_more(self, key_id: KeyId) -> Lineage | None:
        if is_nowhere(key_id):
            return None
        rows = await self._values(_LINEAGE_AND_MORE, {"key_id": key_id})
        if not rows:
            return None
        lineage = whole_lineage(await read_slowly([row[:_OF_KEY] for row in rows]))
        owner, stamp = rows[0][_OF_KEY:-_OF_STAMP], rows[0][-_OF_STAMP:]
        owner_id = AccountId(lineage[0].account_id)
        if owner_id not in self._accounts:
            self._accounts[owner_id] = row_to_account(owner) if owner[0] is not None else None
        if stamp[0] is not None and stamp[0] not in self._keyspaces:
            (self._keyspaces[stamp[0]],) = await self._compiled_keyspaces([stamp])
        return lineage

    async def find_account(self, account_id: AccountId) -> Account | None:
        """See the port. Reads once."""
        if account_id not in self._accounts:
            self._accounts[account_id] = await super().find_account(account_id)
        return self._accounts[account_id]

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """See the port. Reads once."""
        if name not in self._keyspaces:
            self._keyspaces[name] = await super().find_keyspace(name)
        return self._keyspaces[name]

    async def insert_key(self, key: Key) -> None:
        """See the port."""
        await self._touch_one(_INSERT_KEY, key_to_row(key, self.revision))
        self._lineages.pop(key.key_id, None)

    async def insert_keys(self, keys: Sequence[Key]) -> None:
        """See the port."""
        insertion = _bulk_insert_of_keys(self._conversation.dialect)
        for start in range(0, len(keys), _MOST_ROWS):
            some = keys[start : start + _MOST_ROWS]
            rows = insertion.rows(keys_to_columns(some, self.revision))
            with self._step():
                await self._conversation.insert_rows(insertion.table, insertion.columns, rows)
            self._has_written = True
        self._lineages.clear()

    async def insert_slow_hashes(self, hashes: Sequence[SlowHash]) -> None:
        """See the port."""
        rows: list[dict[str, object]] = [
            {
                "key_id": one.key_id,
                "keyspace": one.keyspace,
                "prefix": one.prefix,
                "hash": one.text,
            }
            for one in hashes
        ]
        await self._execute(_INSERT_SLOW_HASH, rows)

    async def replace_digest(self, new: NewDigest) -> bool:
        """See the port."""
        replaced = await self._execute(
            update(keys)
            .where(
                keys.c.key_id == new.key_id,
                keys.c.digest == new.kept.value,
                keys.c.pepper_version == new.kept.pepper_version,
            )
            .values(
                digest=new.digest.value,
                pepper_version=new.digest.pepper_version,
                display_prefix=new.display_prefix,
                revision=self.revision,
            )
        )
        if replaced.rowcount == 0:
            return False
        await self._execute(delete(slow_hashes).where(slow_hashes.c.key_id == new.key_id))
        await self._execute(
            insert(replaced_digests),
            {
                "digest": new.kept.value,
                "pepper_version": new.kept.pepper_version,
                "key_id": new.key_id,
            },
        )
        self._lineages.clear()
        return True

    async def update_key(self, key: Key) -> None:
        """See the port."""
        await self._touch_one(_REPLACE_KEY, key_to_row(key, self.revision))
        self._lineages.clear()

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
                    revision=self.revision,
                ),
            )
        self._lineages.clear()

    async def put_keyspace(self, keyspace: Keyspace) -> None:
        """See the port."""
        row = {**await self._compiled.row_of(keyspace), "revision": self.revision}
        existing = await self._rows(
            select(keyspaces.c.name).where(keyspaces.c.name == keyspace.name)
        )
        if existing:
            await self._touch_one(_REPLACE_KEYSPACE, row)
        else:
            await self._touch_one(_INSERT_KEYSPACE, row)
        self._keyspaces.pop(keyspace.name, None)
        # This process need not compile again what it has just compiled.
        self._compiled.remember(replace(keyspace, revision=self.revision))

    async def insert_account(self, account: Account) -> None:
        """See the port."""
        await self._touch_one(_INSERT_ACCOUNT, account_to_row(account, self.revision))
        self._accounts.pop(account.account_id, None)

    async def update_account(self, account: Account) -> None:
        """See the port."""
        await self._touch_one(_REPLACE_ACCOUNT, account_to_row(account, self.revision))
        self._accounts.pop(account.account_id, None)

    async def insert_session(self, session: Session) -> None:
        """See the port."""
        await self._execute(
            _FORGET_SESSIONS_OF_ACCOUNT,
            {
                "account_id": session.account_id,
                "now": session.create_time,
                "keep": _OVER_SESSIONS_KEPT,
            },
        )
        await self._touch_one(_INSERT_SESSION, session_to_row(session, self.revision))

    async def update_session(self, session: Session) -> None:
        """See the port."""
        await self._touch_one(_REPLACE_SESSION, session_to_row(session, self.revision))

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
        ended = await self._execute(statement.values(end_time=time, revision=self.revision))
        return int(ended.rowcount)

    async def end_oldest_sessions(
        self, account_id: AccountId, time: datetime, *, keep: int
    ) -> Sequence[SessionId]:
        """See the port."""
        which = {"account_id": account_id, "now": time, "keep": keep}
        rows = await self._rows(_OLDEST_SESSIONS, which)
        ids = [SessionId(row["session_id"]) for row in rows]
        if ids:
            ended = update(sessions).where(sessions.c.session_id.in_(ids))
            await self._touch(len(ids), ended.values(end_time=time, revision=self.revision))
        return ids

    async def insert_request(
        self, caller: CredentialId, request_id: str, key_id: KeyId, time: datetime
    ) -> None:
        """See the port."""
        row = {"caller_key_id": caller, "request_id": request_id, "key_id": key_id, "time": time}
        await self._touch_one(_INSERT_REQUEST, row)

    @property
    def revision(self) -> int:
        """See the port."""
        return self._revision + len(self._kept)

    @asynccontextmanager
    async def mutation(self) -> AsyncIterator[None]:
        """See the port."""
        kept = len(self._kept)
        # Until something is kept there is nothing to save.
        if kept:
            await self._write(_SAVE)
        self._has_written = False
        try:
            yield
        except BaseException as error:
            if kept and self._conversation.is_lost:
                # Nothing is left to undo, and what was kept before is lost with the connection.
                self._state = _State.BROKEN
                if isinstance(error, Exception):
                    raise StoreUnavailable("the connection was lost") from error
            elif kept:
                await to_completion(self._undo())
            raise
        if len(self._kept) > kept:
            return
        if kept:
            await to_completion(self._undo())
        elif self._has_written:
            self._state = _State.BROKEN
            raise StoreFault("a mutation wrote to the store and recorded no change")

    def keep(self, changes: Sequence[Change], event: AuditEvent) -> int:
        """See the port."""
        if not changes:
            raise ValueError("a mutation that changes nothing has no revision")
        self._require_open()
        revision = self.revision
        self._kept.append(_Kept(revision, tuple(changes), event))
        return revision

    async def commit(self) -> int:
        """See the port. Once begun it is carried through, even if the caller is cancelled."""
        if not self._kept:
            raise ValueError("there is nothing to commit")
        return await to_completion(self._commit())

    async def _commit(self) -> int:
        last = self._kept[-1].revision
        if last != self._revision:
            await self._write(_SET_HEAD, {"revision": last})
        conversation, kept = self._conversation, self._kept
        with self._step():
            rows = [row for one in kept for row in changes_to_rows(one.changes, one.revision)]
            await conversation.write_each(_INSERT_CHANGES, rows)
            events = [(one.revision, one.event) for one in kept]
            await append_to_chain(conversation, events, self._end_of_chain)
            await announce(conversation, [(one.revision, one.changes) for one in kept])
            await conversation.commit()
        self._state = _State.ENDED
        return last

    async def _undo(self) -> None:
        """Undoes what was written since the savepoint. It also heals PostgreSQL's transaction,
        which takes no statement after an error."""
        self._lineages.clear()
        self._accounts.clear()
        self._keyspaces.clear()
        self._state = _State.OPEN
        await self._write(_UNDO)

    async def _touch_one(self, statement: ReadyStatement, row: dict[str, object]) -> None:
        """Executes what must touch one row, and breaks the transaction if it did not."""
        self._require_touched(1, await self._write(statement, row))

    async def _touch(self, count: int, statement: Executable) -> None:
        self._require_touched(count, (await self._execute(statement)).rowcount)

    def _require_touched(self, count: int, touched: int) -> None:
        if touched != count:
            self._state = _State.BROKEN
            raise StoreFault(f"{count} rows were to be touched, and {touched} were")

    async def _write(self, statement: ReadyStatement, row: dict[str, object] | None = None) -> int:
        with self._step():
            touched = await self._conversation.write(statement, row)
        if touched != 0:
            self._has_written = True
        return touched

    async def _execute(
        self,
        statement: Executable,
        rows: dict[str, object] | list[dict[str, object]] | None = None,
    ) -> CursorResult[Any]:
        with self._step():
            result = await self._conversation.execute(statement, rows)
        if result.rowcount != 0:
            self._has_written = True
        return result

    @contextmanager
    def _step(self) -> Iterator[None]:
        self._require_open()
        try:
            with super()._step():
                yield
        except BaseException:
            self._state = _State.BROKEN
            raise

    def _require_open(self) -> None:
        if self._state is not _State.OPEN:
            raise StoreFault(f"the transaction is {self._state.value}")
