"""Reads of a transaction that has locked the head."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from sqlalchemy import select, update

from keyfence_server.adapters.sql import queries
from keyfence_server.adapters.sql.compiled_keyspaces import CompiledKeyspaces
from keyfence_server.adapters.sql.conversation import Conversation, DirectConversation, Row
from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.adapters.sql.reading import (
    OF_OTHER_TABLES,
    SqlSnapshot,
    is_nowhere,
    read_slowly,
    whole_lineage,
)
from keyfence_server.adapters.sql.ready import ReadyStatement
from keyfence_server.adapters.sql.records import row_to_account
from keyfence_server.adapters.sql.schema import accounts, audit_head, head, keys
from keyfence_server.adapters.sql.types import time_of
from keyfence_server.application.ports import ChainEnd, Wanted
from keyfence_server.domain.accounts import Account, AccountId
from keyfence_server.domain.keys import KeyId, Lineage
from keyfence_server.domain.keyspaces import Keyspace

_OPENING: Final = ReadyStatement(queries.opening())
_ADVANCE_HEAD: Final = ReadyStatement(
    update(head)
    .values(revision=head.c.revision + 1)
    .returning(
        head.c.revision - 1,
        select(audit_head.c.event_count).scalar_subquery(),
        select(audit_head.c.hash).scalar_subquery(),
    )
)
_LINEAGE_AND_MORE: Final = ReadyStatement(queries.lineage_and_more())
OF_OTHER_ROWS: Final = OF_OTHER_TABLES | {_LINEAGE_AND_MORE}
"""Statements that read keys and requests by their ids at most."""

# Where the columns are that both statements have, behind those of the position.
_POSITION: Final = 3
_KEY: Final = slice(0, len(keys.c))
_OWNER: Final = slice(_KEY.stop, _KEY.stop + len(accounts.c))
_STAMP: Final = slice(_OWNER.stop, None)
_KEY_ID: Final = list(keys.c).index(keys.c.key_id)
_ACCOUNT_ID: Final = list(keys.c).index(keys.c.account_id)
_PARENT: Final = list(keys.c).index(keys.c.parent_key_id)


async def read_opening(conversation: DirectConversation, wanted: Wanted) -> Sequence[Row]:
    """The rows that a transaction reads first. Raises `StoreFault`."""
    if conversation.dialect.name == "postgresql":
        rows = await conversation.fetch(_OPENING, _parameters(wanted))
    else:
        # A statement for each question takes SQLite less time than one for all of them.
        rows = await conversation.fetch(_ADVANCE_HEAD)
    if not rows:
        raise StoreFault("the table head or audit_head has no row")
    return rows


def position_in(rows: Sequence[Row]) -> tuple[int, ChainEnd]:
    """The revision of the store, and the end of the audit chain."""
    revision, count, digest = rows[0][:_POSITION]
    return int(revision), ChainEnd(count, digest)


class LockedSnapshot(SqlSnapshot):
    """Remembers what it has read of keys, accounts and keyspaces: the head is locked, so it stays
    true until it is written here."""

    def __init__(
        self, conversation: Conversation, revision: int, compiled: CompiledKeyspaces
    ) -> None:
        super().__init__(conversation, revision, compiled)
        self._lineages: dict[KeyId, Lineage | None] = {}
        self._accounts: dict[AccountId, Account | None] = {}
        self._keyspaces: dict[str, Keyspace | None] = {}

    async def take_in(self, rows: Sequence[Row], wanted: Wanted) -> None:
        """Takes what `read_opening` has read. A key with a parent, and what cannot be read, are
        left to the mutation that asks for them."""
        if len(rows[0]) == _POSITION:
            return
        self._lineages.update(dict.fromkeys(wanted.keys))
        self._accounts.update(dict.fromkeys(wanted.accounts))
        for row in rows:
            of_key = row[_POSITION:]
            self._take_owner_and_keyspace(of_key)
            key_id = of_key[_KEY_ID]
            if key_id is not None:
                self._lineages.pop(key_id, None)
                if of_key[_PARENT] is None:
                    with suppress(StoreFault, ValueError):
                        self._lineages[key_id] = tuple(await read_slowly([of_key[_KEY]]))

    async def find_lineage(self, key_id: KeyId) -> Lineage | None:
        """See the port. Reads once, and with it the owner and the keyspace, which are asked for
        next."""
        if key_id not in self._lineages:
            self._lineages[key_id] = await self._find_lineage_and_more(key_id)
        return self._lineages[key_id]

    async def _find_lineage_and_more(self, key_id: KeyId) -> Lineage | None:
        rows = await self._values(_LINEAGE_AND_MORE, {"key_id": key_id})
        if not rows:
            return None
        self._take_owner_and_keyspace(rows[0])
        return whole_lineage(tuple(await read_slowly([row[_KEY] for row in rows])))

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

    def _take_owner_and_keyspace(self, row: Row) -> None:
        """Takes the account of a row, and its keyspace if that is known as it is."""
        owner, (name, revision, update_time) = row[_OWNER], row[_STAMP]
        if owner[0] is not None:
            self._accounts[owner[0]] = self._accounts.get(owner[0]) or row_to_account(owner)
        elif row[_ACCOUNT_ID] is not None:
            self._accounts.setdefault(row[_ACCOUNT_ID], None)
        if name is not None and name not in self._keyspaces:
            known = self._compiled.find(name, revision, time_of(update_time))
            if known is not None:
                self._keyspaces[name] = known

    def _forget_key(self, key_id: KeyId) -> None:
        """Forgets the lineages that have this key, and that there is none of this id."""
        self._lineages = {
            one: lineage
            for one, lineage in self._lineages.items()
            if one != key_id and not any(key.key_id == key_id for key in lineage or ())
        }

    def _forget_keys(self) -> None:
        self._lineages.clear()

    def _forget_all(self) -> None:
        self._lineages.clear()
        self._accounts.clear()
        self._keyspaces.clear()


def _parameters(wanted: Wanted) -> dict[str, str]:
    return {
        "key_ids": _listed(wanted.keys),
        "account_ids": _listed(wanted.accounts),
        "keyspaces": _listed(wanted.keyspaces),
    }


def _listed(texts: Iterable[str]) -> str:
    found = [text for text in texts if not is_nowhere(text)]
    return json.dumps(found) if found else "[]"
