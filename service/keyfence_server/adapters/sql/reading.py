"""The `Snapshot` port on an open transaction."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, replace
from datetime import date, datetime
from itertools import takewhile
from typing import Any, Final

from sqlalchemy import Result, RowMapping, Select, Text, bindparam, cast, func, or_, select

from keyfence_server.adapters.sql import queries, searching
from keyfence_server.adapters.sql.compiled_keyspaces import CompiledKeyspaces
from keyfence_server.adapters.sql.conversation import Conversation, Row
from keyfence_server.adapters.sql.errors import StoreFault, translated
from keyfence_server.adapters.sql.ready import ReadyStatement
from keyfence_server.adapters.sql.records import (
    row_to_account,
    row_to_change,
    row_to_cut,
    row_to_event,
    row_to_key,
    row_to_session,
    text_in_row,
    texts_of,
)
from keyfence_server.adapters.sql.schema import (
    accounts,
    audit_cut,
    audit_events,
    audit_head,
    changes,
    key_use_days,
    keys,
    keyspaces,
    requests,
    sessions,
    slow_hashes,
)
from keyfence_server.adapters.sql.types import time_of
from keyfence_server.application.pauses import Pauses, pause
from keyfence_server.application.ports import (
    MAX_USE_COUNT,
    AuditCut,
    ChainEnd,
    Change,
    CredentialId,
    EventFilter,
    GrantedAlike,
    KeyCriteria,
    KeyFilter,
    KeySpan,
    KeyUse,
    RecordedEvent,
    SlowHash,
)
from keyfence_server.domain.accounts import Account, AccountId, AccountState
from keyfence_server.domain.keys import MAX_LINEAGE, Key, KeyId, Lineage
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session, SessionId

_BATCH: Final = 500
_STAMPS: Final = queries.stamps_of_keyspaces()
# The declaration as text: a large one takes long to be read, and is read on a thread.
_WHOLE_KEYSPACES: Final = select(
    *(column for column in keyspaces.c if column is not keyspaces.c.declaration),
    cast(keyspaces.c.declaration, Text).label("declaration"),
)

_ROWS_AT_ONCE: Final = 8
_TEXT_A_SLICE: Final = 200_000
"""Characters of JSON that are read before other calls have their turn."""
_TEXT_A_ROW: Final = 500
"""What a row costs besides its JSON, in characters."""

# Both databases stop at about 32,000 parameters in a statement.
_MOST_IDS: Final = 10_000
_EXAMINED_AT_ONCE: Final = 10_000

_KEYS_AT_ONCE: Final = 50
_TIMES_AS_MANY: Final = 4
"""So many times as many small keys as were read before are read at once."""
_SMALL_TEXT: Final = 512
_TEXT_AT_ONCE: Final = 2 * 1024 * 1024

_KEY: Final = ReadyStatement(queries.whole_keys().where(keys.c.key_id == bindparam("key_id")))
_KEYS: Final = ReadyStatement(queries.keys_of_ids())
# SQLAlchemy takes some milliseconds to compile a statement of so many, on the event loop.
_OF_DIGESTS: Final = [f"digest{place}" for place in range(128)]
_DIGESTS: Final = ReadyStatement(queries.kept_digests(_OF_DIGESTS))
_LINEAGE: Final = ReadyStatement(queries.lineage_of_id())
_STAMP: Final = ReadyStatement(_STAMPS.where(keyspaces.c.name == bindparam("name")))
_REQUEST: Final = ReadyStatement(
    select(requests.c.key_id).where(
        requests.c.caller_key_id == bindparam("caller"),
        requests.c.request_id == bindparam("request"),
    )
)
_ACCOUNTS: Final = queries.whole(accounts)
_ACCOUNT: Final = ReadyStatement(_ACCOUNTS.where(accounts.c.account_id == bindparam("account_id")))
_ACCOUNT_BY_EMAIL: Final = ReadyStatement(
    _ACCOUNTS.where(
        accounts.c.keyspace == bindparam("keyspace"),
        accounts.c.email_identity == bindparam("identity"),
    )
)
_USES: Final = ReadyStatement(queries.uses_of_ids())
_SESSION: Final = ReadyStatement(
    queries.whole(sessions).where(sessions.c.session_id == bindparam("session_id"))
)
OF_OTHER_TABLES: Final[frozenset[object]] = frozenset(
    {_STAMP, _REQUEST, _ACCOUNT, _ACCOUNT_BY_EMAIL, _USES, _SESSION}
)
"""Statements that read nothing of keys, and requests by their ids only."""


class SqlSnapshot:
    """Implements the `Snapshot` port. Its opener ends the transaction.

    Text that holds a NUL is in no database, so nothing is found by it.
    """

    def __init__(
        self, conversation: Conversation, revision: int, compiled: CompiledKeyspaces
    ) -> None:
        self._conversation = conversation
        self._revision = revision
        self._compiled = compiled

    @property
    def revision(self) -> int:
        return self._revision

    async def find_key(self, key_id: KeyId) -> Key | None:
        found = await self._keys(_KEY, {"key_id": key_id})
        return found[0] if found else None

    async def find_digests(self, digests: Collection[Digest]) -> Collection[Digest]:
        by_version: dict[int, list[bytes]] = {}
        for digest in digests:
            by_version.setdefault(digest.pepper_version, []).append(digest.value)
        # A plan that PostgreSQL has made while the table was empty reads the whole table, and would
        # be kept while an import fills it.
        with self._step():
            await self._conversation.plan_for_values()
        found = set()
        for version, values in by_version.items():
            for start in range(0, len(values), len(_OF_DIGESTS)):
                some = values[start : start + len(_OF_DIGESTS)]
                some += some[-1:] * (len(_OF_DIGESTS) - len(some))
                given = dict(zip(_OF_DIGESTS, some, strict=True))
                rows = await self._values(_DIGESTS, {"version": version, **given})
                found |= {Digest(value, version) for (value,) in rows}
        return found

    async def find_slow_hashes(
        self, keyspaces: Collection[str], prefixes: Collection[str], *, limit: int
    ) -> list[SlowHash]:
        query = (
            select(slow_hashes, keys.c.digest, keys.c.pepper_version)
            .join_from(slow_hashes, keys)
            .where(slow_hashes.c.keyspace.in_(keyspaces), slow_hashes.c.prefix.in_(prefixes))
            .order_by(func.length(slow_hashes.c.prefix).desc(), slow_hashes.c.key_id)
            .limit(limit)
        )
        return [
            SlowHash(
                KeyId(row["key_id"]),
                row["keyspace"],
                row["prefix"],
                Digest(row["digest"], row["pepper_version"]),
                row["hash"],
            )
            for row in await self._rows(query)
        ]

    async def count_slow_hashes(
        self, keyspace: str, prefixes: Collection[str]
    ) -> Mapping[str, int]:
        query = (
            select(slow_hashes.c.prefix, func.count().label("count"))
            .where(slow_hashes.c.keyspace == keyspace, slow_hashes.c.prefix.in_(prefixes))
            .group_by(slow_hashes.c.prefix)
        )
        return {row["prefix"]: row["count"] for row in await self._rows(query)}

    async def find_lineage(self, key_id: KeyId) -> Lineage | None:
        line = await self._keys(_LINEAGE, {"key_id": key_id})
        return whole_lineage(line) if line else None

    async def find_keyspaces_of(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, str]:
        found: dict[KeyId, str] = {}
        ids = [one for one in key_ids if not is_nowhere(one)]
        for start in range(0, len(ids), _MOST_IDS):
            some = keys.c.key_id.in_(ids[start : start + _MOST_IDS])
            rows = await self._rows(select(keys.c.key_id, keys.c.keyspace).where(some))
            found |= {KeyId(row["key_id"]): row["keyspace"] for row in rows}
        return found

    async def ancestors(self, keys: Collection[Key]) -> Mapping[KeyId, Lineage]:
        known = {key.key_id: key for key in keys}
        generation = list(keys)
        for _ in range(MAX_LINEAGE):
            parents = {key.parent_key_id for key in generation if key.parent_key_id}
            missing = parents - known.keys()
            if not missing:
                return {key.key_id: _line(key, known) for key in keys}
            generation = await self._keys(_KEYS, {"ids": json.dumps(list(missing))})
            known |= {key.key_id: key for key in generation}
        raise StoreFault(f"a lineage has more than {MAX_LINEAGE} keys")

    async def list_keys(self, which: KeyFilter, *, after: KeyId | None, limit: int) -> list[Key]:
        keys: list[Key] = []
        position = after
        while len(keys) < limit:
            found, position = await self.search_keys(
                which,
                KeyCriteria(),
                after=position,
                limit=limit - len(keys),
                examined=_EXAMINED_AT_ONCE,
                most_text=_TEXT_AT_ONCE,
            )
            keys += found
            if position is None:
                break
        return keys

    async def search_keys(
        self,
        which: KeyFilter,
        criteria: KeyCriteria,
        *,
        after: KeyId | None,
        limit: int,
        examined: int,
        most_text: int,
    ) -> tuple[list[Key], KeyId | None]:
        values = searching.values_of(which, criteria)
        if is_nowhere(*values.values()):
            return [], None
        expiring_are_few = False
        if criteria.expiring is not None:
            ((count,),) = await self._values(searching.COUNT_EXPIRING, values)
            expiring_are_few = count <= searching.FEW_EXPIRING
        kind = searching.kind_of(which, criteria, expiring_are_few=expiring_are_few)
        search = searching.search_of(kind)
        values |= {"after": _comparable(after or ""), "limit": limit + 1, "examined": examined}
        if search.is_skewed:
            with self._step():
                await self._conversation.plan_for_values()
        if search.page is not None:
            keys, has_more = await self._read(_by_index(search.page, values), limit, most_text)
            return keys, keys[-1].key_id if has_more else None
        ((document,),) = await self._values(search.found, values)
        ids: list[KeyId] = json.loads(document)
        if ids != sorted(ids):
            # The first ones would not be the first of the window, and keys would be left out.
            raise StoreFault("the database has not read keys in the order of their ids")
        keys, has_more = await self._read(_by_ids(ids), limit, most_text)
        if has_more:
            return keys, keys[-1].key_id
        end = [] if search.end is None else await self._values(search.end, values)
        return keys, KeyId(end[0][0]) if len(end) == 2 else None

    async def _read(
        self, question: _Question, limit: int, most_text: int
    ) -> tuple[list[Key], bool]:
        """Reads keys in parts, as many as the limit or as have so much text, and says whether there
        are more.

        Args:
            question: what asks for some more keys than there are already.
        """
        keys: list[Key] = []
        has_more = True
        text = 0
        at_once = _KEYS_AT_ONCE
        while has_more and len(keys) < limit and text < most_text:
            count = min(at_once, limit - len(keys))
            # One more than wanted tells whether there are more.
            rows = await self._values(*question(keys, count + 1))
            has_more = len(rows) > count
            rows = rows[:count]
            keys += await read_slowly(rows)
            text += sum(map(text_in_row, rows))
            # Each reading has its cost, so small keys are read more at once.
            is_small = text <= len(keys) * _SMALL_TEXT
            at_once = _TIMES_AS_MANY * len(keys) if is_small else _KEYS_AT_ONCE
        return keys, has_more

    async def iterate_keys(self, keyspace: str) -> AsyncIterator[Key]:
        if is_nowhere(keyspace):
            return
        query = queries.whole_keys().where(*queries.not_revoked(keyspace)).order_by(keys.c.key_id)
        batch = await self._keys(query.limit(_BATCH))
        while batch:
            for key in batch:
                yield key
            batch = await self._keys(query.where(keys.c.key_id > batch[-1].key_id).limit(_BATCH))

    async def first_span(self, span: KeySpan, *, examined: int) -> KeySpan:
        if is_nowhere(span.keyspace):
            return span
        rows = await self._rows(queries.end_of_span(span, examined))
        return replace(span, end=KeyId(rows[0]["key_id"])) if rows else span

    async def count_grants(self, span: KeySpan) -> tuple[list[GrantedAlike], int]:
        if is_nowhere(span.keyspace):
            return [], 0
        alike: list[GrantedAlike] = []
        delegated = 0
        pauses = Pauses(_TEXT_A_SLICE)
        for grants, key_type, is_delegated, count in await self._values(queries.count_grants(span)):
            if is_delegated:
                delegated += count
            else:
                alike.append(GrantedAlike(texts_of(grants), key_type, count))
                await pauses.after(len(grants))
        return alike, delegated

    async def list_granted(
        self, span: KeySpan, grants: Collection[tuple[str, ...]] | None, *, limit: int
    ) -> list[Key]:
        if is_nowhere(span.keyspace):
            return []
        return await self._keys(queries.granted(span, grants).limit(limit))

    async def count_keys(
        self,
        keyspace: str,
        *,
        key_type: str | None = None,
        environment: str | None = None,
        account_id: str | None = None,
        unexpired_at: datetime | None = None,
    ) -> int:
        if is_nowhere(keyspace, key_type, environment, account_id):
            return 0
        query = select(func.count().label("count")).where(*queries.not_revoked(keyspace))
        same = {"key_type": key_type, "environment": environment, "account_id": account_id}
        for name, value in same.items():
            if value is not None:
                query = query.where(keys.c[name] == value)
        if unexpired_at is not None:
            expire_time = keys.c.expire_time
            query = query.where(or_(expire_time.is_(None), expire_time > unexpired_at))
        rows = await self._rows(query)
        return int(rows[0]["count"])

    async def prepare_keyspace(self, keyspace: Keyspace) -> None:
        await self._compiled.prepare(keyspace)

    async def find_keyspace(self, name: str) -> Keyspace | None:
        found = await self._compiled_keyspaces(await self._values(_STAMP, {"name": name}))
        return found[0] if found else None

    async def list_keyspaces(self, *, after: str | None, limit: int) -> list[Keyspace]:
        query = _STAMPS.order_by(keyspaces.c.name).limit(limit)
        if after is not None:
            query = query.where(keyspaces.c.name > _comparable(after))
        return await self._compiled_keyspaces(await self._values(query))

    async def _compiled_keyspaces(self, stamps: Sequence[Row]) -> list[Keyspace]:
        """The keyspaces of these stamps, reading whole rows of those alone that are not known."""
        found: list[Keyspace] = []
        for name, revision, update_time in stamps:
            keyspace = self._compiled.find(name, revision, time_of(update_time))
            if keyspace is None:
                whole = _WHOLE_KEYSPACES.where(keyspaces.c.name == name)
                (row,) = await self._rows(whole)
                keyspace = await self._compiled.compile(row)
            found.append(keyspace)
        return found

    async def find_request(self, caller: CredentialId, request_id: str) -> KeyId | None:
        rows = await self._values(_REQUEST, {"caller": caller, "request": request_id})
        return KeyId(rows[0][0]) if rows else None

    async def find_account(self, account_id: AccountId) -> Account | None:
        rows = await self._values(_ACCOUNT, {"account_id": account_id})
        return row_to_account(rows[0]) if rows else None

    async def find_account_by_email(self, keyspace: str, identity: str) -> Account | None:
        rows = await self._values(_ACCOUNT_BY_EMAIL, {"keyspace": keyspace, "identity": identity})
        return row_to_account(rows[0]) if rows else None

    async def list_accounts(
        self,
        keyspace: str,
        state: AccountState | None = None,
        *,
        after: AccountId | None,
        limit: int,
    ) -> list[Account]:
        if is_nowhere(keyspace):
            return []
        query = _ACCOUNTS.where(accounts.c.keyspace == keyspace)
        if state is not None:
            query = query.where(accounts.c.state == state.value)
        if after is not None:
            query = query.where(accounts.c.account_id > _comparable(after))
        rows = await self._values(query.order_by(accounts.c.account_id).limit(limit))
        return [row_to_account(row) for row in rows]

    async def find_session(self, session_id: SessionId) -> Session | None:
        rows = await self._values(_SESSION, {"session_id": session_id})
        return row_to_session(rows[0]) if rows else None

    async def list_events(
        self, which: EventFilter, *, after: int | None, limit: int, newest_first: bool = False
    ) -> list[RecordedEvent]:
        if is_nowhere(*astuple(which), *(which.keyspaces or ())):
            return []
        sequence = audit_events.c.sequence
        query = select(audit_events).where(*queries.telling(which)).limit(limit)
        if after is not None:
            query = query.where(sequence < after if newest_first else sequence > after)
        query = query.order_by(sequence.desc() if newest_first else sequence)
        return [row_to_event(row) for row in await self._rows(query)]

    async def find_event(self, event_id: str, which: EventFilter) -> int | None:
        if is_nowhere(event_id, *astuple(which), *(which.keyspaces or ())):
            return None
        query = select(audit_events.c.sequence).where(
            audit_events.c.event_id == event_id, *queries.telling(which)
        )
        rows = await self._rows(query)
        return int(rows[0]["sequence"]) if rows else None

    async def end_of_events(self) -> ChainEnd:
        rows = await self._rows(select(audit_head))
        if not rows:
            raise StoreFault("the table audit_head has no row")
        return ChainEnd(rows[0]["event_count"], rows[0]["hash"])

    async def audit_cut(self) -> AuditCut:
        rows = await self._rows(select(audit_cut))
        if not rows:
            raise StoreFault("the table audit_cut has no row")
        return row_to_cut(rows[0])

    async def find_uses(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, KeyUse]:
        rows = await self._values(_USES, {"ids": _list_of(key_ids)})
        return {row[0]: KeyUse(time_of(row[1]), row[2], _count(row[3])) for row in rows}

    async def list_use_days(
        self, key_id: KeyId, *, first: date, last: date
    ) -> list[tuple[date, int]]:
        if is_nowhere(key_id):
            return []
        day = key_use_days.c.day
        query = (
            select(key_use_days)
            .where(key_use_days.c.key_id == key_id)
            .where(day >= first.isoformat(), day <= last.isoformat())
            .order_by(day)
        )
        rows = await self._rows(query)
        return [(date.fromisoformat(row["day"]), _count(row["use_count"])) for row in rows]

    async def list_changes(self, *, after: int, limit: int) -> list[tuple[int, Change]]:
        query = (
            select(changes)
            .where(changes.c.revision > after)
            .order_by(changes.c.revision, changes.c.position)
            # One more than asked for tells whether the last revision is whole.
            .limit(limit + 1)
        )
        found = [row_to_change(row) for row in await self._rows(query)]
        if len(found) <= limit:
            return found
        cut = found[limit][0]
        whole = list(takewhile(lambda one: one[0] < cut, found))
        return whole or found[:limit]

    async def _keys(
        self, query: Select[Any] | ReadyStatement, parameters: Mapping[str, object] | None = None
    ) -> list[Key]:
        """The keys of a query that selects `queries.whole_keys`."""
        return await read_slowly(await self._values(query, parameters))

    async def _values(
        self, query: Select[Any] | ReadyStatement, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Row]:
        """The rows of a query, whose columns are as the driver has them."""
        if parameters and is_nowhere(*parameters.values()):
            return ()
        with self._step():
            if isinstance(query, ReadyStatement):
                return await self._conversation.fetch(query, parameters)
            return (await self._conversation.execute(query, parameters)).all()

    async def _rows(
        self, query: Select[Any], parameters: Mapping[str, object] | None = None
    ) -> Sequence[RowMapping]:
        with self._step():
            result: Result[Any] = await self._conversation.execute(query, parameters)
        rows: list[RowMapping] = []
        # Only here do the driver's rows become values, and a row may hold many kilobytes of JSON.
        for some in result.mappings().partitions(_ROWS_AT_ONCE):
            if rows:
                await pause()
            rows += some
        return rows

    def _step(self) -> AbstractContextManager[None]:
        """Around every conversation with the database."""
        return translated()


_Question = Callable[[Sequence[Key], int], tuple[ReadyStatement, Mapping[str, object]]]


def _by_index(page: ReadyStatement, values: Mapping[str, object]) -> _Question:
    """Asks for the keys behind those that were read."""
    return lambda keys, count: (
        page,
        {**values, "limit": count, **({"after": keys[-1].key_id} if keys else {})},
    )


def _by_ids(ids: Sequence[KeyId]) -> _Question:
    """Asks for the next of the keys with these ids."""
    return lambda keys, count: (_KEYS, {"ids": json.dumps(ids[len(keys) : len(keys) + count])})


async def read_slowly(rows: Sequence[Sequence[Any]]) -> list[Key]:
    """Reads rows of keys, and gives others their turn in between: a row may hold many kilobytes
    of JSON."""
    found: list[Key] = []
    pauses = Pauses(_TEXT_A_SLICE)
    for row in rows:
        if pauses.is_due(_TEXT_A_ROW + text_in_row(row)):
            await pause()
        found.append(row_to_key(row))
    return found


def whole_lineage(line: Lineage) -> Lineage:
    """The lineage. Raises `StoreFault` if it does not end where it must."""
    if len(line) > MAX_LINEAGE or line[-1].parent_key_id is not None:
        raise StoreFault(f"the lineage of key {line[0].key_id} is incomplete in the database")
    return line


def _line(key: Key, known: Mapping[KeyId, Key]) -> Lineage:
    if key.parent_key_id is None:
        return (key,)
    line = [key]
    while (parent := line[-1].parent_key_id) is not None:
        if len(line) == MAX_LINEAGE or parent not in known:
            raise StoreFault(f"the lineage of key {key.key_id} is incomplete in the database")
        line.append(known[parent])
    return line


def is_nowhere(*values: object) -> bool:
    """Whether one of the values is a text that is in no database."""
    return any(isinstance(value, str) and "\0" in value for value in values)


def _list_of(key_ids: Iterable[KeyId]) -> str:
    """The ids as a JSON list, without those that are in no database."""
    return json.dumps([one for one in key_ids if "\0" not in one])


def _count(stored: float) -> int:
    """A count of uses, also where SQLite has made a floating-point number of it."""
    return min(int(stored), MAX_USE_COUNT)


def _comparable(after: str) -> str:
    """A text that can be sent, with the same stored texts above it.

    No stored text has a NUL, so none lies between what is before it and the whole.
    """
    return after.partition("\0")[0]
