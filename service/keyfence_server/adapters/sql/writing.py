"""The `Transaction` port on a transaction that has locked the head."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, insert, not_, or_, select, update

from keyfence_server.adapters.sql.mutation_group import MutationGroup
from keyfence_server.adapters.sql.ready import insertion_into, replacement_in, rows_of
from keyfence_server.adapters.sql.records import (
    account_to_row,
    key_to_row,
    keys_to_columns,
    session_to_row,
)
from keyfence_server.adapters.sql.schema import (
    accounts,
    keys,
    keyspaces,
    replaced_digests,
    requests,
    sessions,
    slow_hashes,
)
from keyfence_server.application.ports import CredentialId, NewDigest, SlowHash
from keyfence_server.domain.accounts import Account, AccountId
from keyfence_server.domain.keys import Key, KeyId, KeyState
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.sessions import Session, SessionId

_MOST_IDS: Final = 10_000
_MOST_ROWS: Final = 250
_FORGOTTEN_AT_ONCE: Final = 100
_OVER_SESSIONS_KEPT: Final = 100  # of each account, so that a log-in of any account is cheap
_MOST_ENDED: Final = 1_000

_KEYS: Final = keys
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


class SqlTransaction(MutationGroup):
    """Implements the `Transaction` port."""

    async def insert_key(self, key: Key) -> None:
        await self._defer(_INSERT_KEY, key_to_row(key, self.revision), key.key_id)
        self._forget_key(key.key_id)

    async def insert_keys(self, keys: Sequence[Key]) -> None:
        for start in range(0, len(keys), _MOST_ROWS):
            some = keys[start : start + _MOST_ROWS]
            await self._write_deferred()
            # To put the rows together takes some milliseconds.
            await asyncio.sleep(0)
            columns = keys_to_columns(some, self.revision)
            rows = rows_of(_KEYS, columns, self._conversation.dialect)
            with self._step():
                await self._conversation.insert_rows(_KEYS.name, _KEYS.c.keys(), rows)
            self._has_written = True
        self._forget_keys()

    async def insert_slow_hashes(self, hashes: Sequence[SlowHash]) -> None:
        rows: list[dict[str, object]] = [
            {"key_id": one.key_id, "keyspace": one.keyspace, "prefix": one.prefix, "hash": one.text}
            for one in hashes
        ]
        await self._execute(_INSERT_SLOW_HASH, rows)

    async def replace_digest(self, new: NewDigest) -> bool:
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
        self._forget_keys()
        return True

    async def update_key(self, key: Key) -> None:
        await self._defer(_REPLACE_KEY, key_to_row(key, self.revision), key.key_id)
        self._forget_key(key.key_id)

    async def revoke_keys(self, key_ids: Collection[KeyId], time: datetime) -> None:
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
        self._forget_keys()

    async def put_keyspace(self, keyspace: Keyspace) -> None:
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
        await self._touch_one(_INSERT_ACCOUNT, account_to_row(account, self.revision))
        self._accounts.pop(account.account_id, None)

    async def update_account(self, account: Account) -> None:
        await self._touch_one(_REPLACE_ACCOUNT, account_to_row(account, self.revision))
        self._accounts.pop(account.account_id, None)

    async def insert_session(self, session: Session) -> None:
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
        await self._touch_one(_REPLACE_SESSION, session_to_row(session, self.revision))

    async def end_sessions(
        self, account_id: AccountId, time: datetime, *, but: SessionId | None = None
    ) -> int:
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
        row = {"caller_key_id": caller, "request_id": request_id, "key_id": key_id, "time": time}
        await self._defer(_INSERT_REQUEST, row, caller, request_id)
