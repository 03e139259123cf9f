"""The audit log in a database that was changed by hand, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from alembic import command
from sqlalchemy import Connection, column, insert, table, text

from keyfence_server.adapters.sql import (
    SqlStore,
    StoreOptions,
    migrations,
    open_store,
    upgrade,
)
from keyfence_server.adapters.sql.engines import create_engines
from keyfence_server.adapters.sql.schema import audit_events
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, chained
from keyfence_server.application.ports import AuditEvent, EventFilter
from keyfence_server.application.read_audit import Verified, verify_chain
from keyfence_server.domain.keys import KeyId
from support.builders import insert_keys, make_event, make_key
from support.clock import START

Write = Callable[..., Awaitable[None]]

EVENTS = 7


@pytest.fixture
def write(database_url: str) -> Write:
    """Writes to the database past the store."""

    async def execute(*statements: str, **values: object) -> None:
        engines = create_engines(parse_database_url(database_url), StoreOptions())
        async with engines.writing.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement), values)
        await engines.dispose()

    return execute


@pytest.fixture
async def filled(store: SqlStore) -> SqlStore:
    """A store with events of mutations and of others."""
    for number in range(3):
        await insert_keys(store, make_key())
        await store.append_events([make_event(f"x{number}", details={"count": number})])
    await insert_keys(store, make_key())
    return store


async def verified(store: SqlStore, step: int = 0) -> Verified:
    """The whole chain verified, in steps."""
    end = BEFORE_THE_FIRST
    while True:
        result = await verify_chain(store, end, step)
        if result.is_complete or result.problem:
            return result
        assert result.end.count > end.count, "it goes on"
        end = result.end


@pytest.mark.parametrize("step", [0, 1, 2, 3, EVENTS, EVENTS + 1])
async def test_an_unchanged_log_is_valid(filled: SqlStore, step: int) -> None:
    result = await verified(filled, step)
    assert result.is_complete
    assert result.end.count == EVENTS
    assert not result.problem


async def test_an_empty_log_holds(store: SqlStore) -> None:
    assert await verified(store) == Verified(BEFORE_THE_FIRST, is_complete=True)


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["UPDATE audit_events SET subject = 'other' WHERE sequence = 3"], "event 3 is not as"),
        (["UPDATE audit_events SET details = '{}' WHERE sequence = 4"], "event 4 is not as"),
        (["UPDATE audit_events SET account_id = NULL WHERE sequence = 1"], "event 1 is not as"),
        (["DELETE FROM audit_events WHERE sequence = 1"], "events 1 to 1 are missing"),
        (["DELETE FROM audit_events WHERE sequence IN (3, 4)"], "events 3 to 4 are missing"),
        (["DELETE FROM audit_events WHERE sequence = 7"], "events 7 to 7 are missing at the end"),
        (["DELETE FROM audit_events"], "events 1 to 7 are missing at the end"),
        (
            [
                "DELETE FROM audit_events WHERE sequence = 7",
                "UPDATE audit_head SET event_count = 6",
            ],
            "event 6 is not the one that was written last",
        ),
        (
            [
                "UPDATE audit_events SET sequence = 99 WHERE sequence = 2",
                "UPDATE audit_events SET sequence = 2 WHERE sequence = 3",
                "UPDATE audit_events SET sequence = 3 WHERE sequence = 99",
            ],
            "event 2 is not as",
        ),
        (["UPDATE audit_head SET event_count = 5"], "there are events behind 5"),
    ],
)
async def test_every_change_of_the_log_shows(
    filled: SqlStore, write: Write, statements: list[str], problem: str
) -> None:
    await write(*statements)
    for step in (0, 2):
        result = await verified(filled, step)
        assert not result.is_complete
        assert problem in result.problem


async def test_a_log_that_was_made_anew_from_the_start_shows_by_an_anchor(
    filled: SqlStore, write: Write
) -> None:
    """With write access to the database a valid chain can be made, but with another last hash."""
    noted = (await verified(filled)).end
    forged = list(chained(BEFORE_THE_FIRST, [(None, make_event(str(n))) for n in range(EVENTS)]))
    await write("DELETE FROM audit_events")
    await write("UPDATE audit_head SET event_count = 0, hash = :hash", hash=BEFORE_THE_FIRST.hash)
    await filled.append_events([one.event for one in forged])
    result = await verified(filled)
    assert result.is_complete
    assert result.end.hash != noted.hash
    going_on = await verify_chain(filled, noted, 0)
    assert "not the one that was written last" in going_on.problem


async def test_what_is_written_behind_a_break_does_not_hide_it(
    filled: SqlStore, write: Write
) -> None:
    await write("UPDATE audit_events SET subject = 'other' WHERE sequence = 3")
    await insert_keys(filled, make_key())
    assert "event 3" in (await verified(filled)).problem


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables, SQLite and PostgreSQL in turn."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "empty_postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


async def test_events_from_before_the_chain_are_put_into_it(empty_url: str) -> None:
    """The migration chains what is there, as the code of today would have."""
    events = [
        make_event(
            f"key_{number}",
            time=START + timedelta(microseconds=number),
            actor_key_id=KeyId("key_op") if number % 2 else None,
            account_id="ä" if number % 3 else None,
            details={"n": number, "scopes": ["a", "ö"], "f": 0.1} if number else {},
        )
        for number in range(1_200)
    ]

    def fill(connection: Connection) -> None:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        rows = [
            {
                **{name: getattr(event, name) for name in AuditEvent.__slots__},
                "revision": revision,
            }
            for revision, event in enumerate(events, start=1)
        ]
        # The table as it was then, with today's types.
        before = table(
            "audit_events", *(column(name, audit_events.c[name].type) for name in rows[0])
        )
        connection.execute(insert(before), rows)

    engines = create_engines(parse_database_url(empty_url), StoreOptions())
    async with engines.writing.begin() as connection:
        await connection.run_sync(fill)
    await engines.dispose()
    await upgrade(empty_url)
    store = await open_store(empty_url)
    try:
        async with store.snapshot() as snapshot:
            found = await snapshot.list_events(EventFilter(), after=None, limit=2_000)
        assert [one.event for one in found] == events
        assert [one.revision for one in found] == list(range(1, 1_201))
        assert (await verified(store)).is_complete
    finally:
        await store.close()
