"""A store of many keys, made by bulk insertion: true rows, in the time that the database takes.

A server has made the tables, its pepper and the keyspace before. Most keys have random digests,
which nothing can tell from those of a plaintext; some have a plaintext that the benchmark knows.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
from sqlalchemy import Dialect, Table, make_url

from keyfence_server.adapters.sql.records import key_to_row
from keyfence_server.adapters.sql.schema import key_uses, keys
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest, Peppers, Plaintext

KEYSPACE: Final = "scale"
KEYS_AN_ACCOUNT: Final = 100
LIMITED: Final = 64
"""How many of the known keys have a rate limit: the first ones."""
LABEL: Final = "team"
TEAMS: Final = 26
FEW: Final = 100
"""One key in so many is revoked, one expires soon, one has a scope of its own."""

_BATCH: Final = 20_000


@dataclass(frozen=True, slots=True)
class LargeStore:
    """What was inserted.

    Attributes:
        known: plaintexts of keys that pass, in no order. The first `LIMITED` have a rate limit.
        an_account: the id of an account with keys.
        a_parent: the id of a key that others are delegated from.
        a_prefix: the display prefix of a key.
    """

    known: tuple[str, ...]
    an_account: str
    a_parent: str
    a_prefix: str


@dataclass(frozen=True, slots=True)
class _Rows:
    """What there is to insert into the tables."""

    of_keys: Iterator[Sequence[Any]]
    of_uses: Iterator[Sequence[Any]]


class _Plan:
    """Makes the rows of a number of keys, for one database's driver."""

    def __init__(self, keyspace: Keyspace, peppers: Peppers, count: int, known: int) -> None:
        self._keyspace = keyspace
        self._now = datetime.now(UTC)
        self._count = count
        form = keyspace.forms["secret", "live"]
        self._texts = [form.mint().reveal() for _ in range(known)]
        self._digests = [peppers.digest(text).value for text in self._texts]
        self._prefixes = [form.display_prefix(Plaintext(text)) for text in self._texts]
        self._version = peppers.current_version

    def store(self) -> LargeStore:
        """What will have been inserted."""
        return LargeStore(
            known=tuple(self._texts),
            an_account=self._account(0),
            a_parent=self._key_id(0),
            a_prefix=self._prefixes[0],
        )

    def rows(self, dialect: Dialect) -> _Rows:
        """The rows, as the driver takes them."""
        return _Rows(self._keys(dialect), self._uses(dialect))

    def _keys(self, dialect: Dialect) -> Iterator[Sequence[Any]]:
        kinds = {kind: _driver_row(keys, row, dialect) for kind, row in self._kinds().items()}
        names = [column.name for column in keys.c]
        varying = [
            names.index(name)
            for name in ("key_id", "account_id", "digest", "display_prefix", "labels")
        ]
        every = max(1, self._count // len(self._texts))
        labels = [json.dumps({LABEL: chr(97 + number)}) for number in range(TEAMS)]
        known = iter(range(len(self._texts)))
        for number in range(self._count):
            mine = next(known, None) if number % every == 0 else None
            row = list(kinds[self._kind(number, mine)])
            digest = os.urandom(32) if mine is None else self._digests[mine]
            prefix = self._prefixes[number % len(self._prefixes) if mine is None else mine]
            values = (
                self._key_id(number),
                self._account(number),
                digest,
                prefix,
                labels[number % TEAMS],
            )
            for place, value in zip(varying, values, strict=True):
                row[place] = value
            yield row

    def _kind(self, number: int, known: int | None) -> str:
        if known is not None:
            return "limited" if known < LIMITED else "plain"
        return {1: "revoked", 2: "expiring", 3: "scoped", 4: "child", 5: "publishable"}.get(
            number % FEW, "plain"
        )

    def _kinds(self) -> dict[str, dict[str, object]]:
        plain = Key(
            key_id="",  # type: ignore[arg-type]
            keyspace=KEYSPACE,
            account_id="",
            display_name="Default",
            key_type="secret",
            environment="live",
            granted_scopes=("vps:read", "vps:write"),
            digest=Digest(bytes(32), self._version),
            display_prefix="",
            create_time=self._now - timedelta(days=100),
            update_time=self._now - timedelta(days=50),
        )
        changes: dict[str, dict[str, Any]] = {
            "plain": {},
            "limited": {"rate_limit": "1000000/s"},
            "revoked": {"state": KeyState.REVOKED.value, "revoke_time": self._now},
            "expiring": {"expire_time": self._now + timedelta(days=7)},
            "scoped": {"granted_scopes": ["dns:read"]},
            "child": {"parent_key_id": self._key_id(0)},
            "publishable": {"key_type": "publishable", "environment": "test"},
        }
        row = key_to_row(plain, 1)
        return {kind: {**row, **change} for kind, change in changes.items()}

    def _uses(self, dialect: Dialect) -> Iterator[Sequence[Any]]:
        """Half of the keys were used a moment ago."""
        row = {
            "key_id": "",
            "last_used_time": self._now,
            "last_used_address": "192.0.2.1",
            "use_count": 7,
        }
        values = _driver_row(key_uses, row, dialect)
        for number in range(0, self._count, 2):
            yield [self._key_id(number), *values[1:]]

    def _key_id(self, number: int) -> str:
        return f"key_{number:026d}"

    def _account(self, number: int) -> str:
        # The keys of an account are not beside each other.
        return f"acct_{number % max(1, self._count // KEYS_AN_ACCOUNT)}"


def fill_sqlite(
    path: str, keyspace: Keyspace, peppers: Peppers, *, count: int, known: int
) -> LargeStore:
    """Inserts so many keys into a database that no server has open.

    Args:
        known: how many of them have plaintexts that are known.
    """
    plan = _Plan(keyspace, peppers, count, known)
    rows = plan.rows(_dialect("sqlite"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND tbl_name = 'keys'"
        ).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        for table, values in ((keys, rows.of_keys), (key_uses, rows.of_uses)):
            marks = ", ".join("?" * len(table.c))
            connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", values)
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return plan.store()


def fill_postgresql(
    url: str, keyspace: Keyspace, peppers: Peppers, *, count: int, known: int
) -> LargeStore:
    """The same for PostgreSQL."""
    plan = _Plan(keyspace, peppers, count, known)
    rows = plan.rows(_dialect("postgresql+asyncpg"))
    asyncio.run(_copy(url, rows))
    return plan.store()


async def _copy(url: str, rows: _Rows) -> None:
    connection = await asyncpg.connect(url)
    try:
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'keys' "
            "AND indexname NOT LIKE 'pk_%'"
        )
        async with connection.transaction():
            for name, _ in indexes:
                await connection.execute(f'DROP INDEX "{name}"')
            for table, values in ((keys, rows.of_keys), (key_uses, rows.of_uses)):
                for some in _batches(values):
                    await connection.copy_records_to_table(table.name, records=some)
            for _, statement in indexes:
                await connection.execute(statement)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def _batches(values: Iterator[Sequence[Any]]) -> Iterable[list[Sequence[Any]]]:
    while some := list(itertools.islice(values, _BATCH)):
        yield some


def _dialect(name: str) -> Dialect:
    return make_url(f"{name}://").get_dialect()()


def _driver_row(table: Table, row: dict[str, object], dialect: Dialect) -> list[Any]:
    """The values of a row in the table's order, as the driver takes them."""
    values = []
    for column in table.c:
        convert = column.type.dialect_impl(dialect).bind_processor(dialect)
        value = row[column.name]
        values.append(convert(value) if convert is not None and value is not None else value)
    return values
