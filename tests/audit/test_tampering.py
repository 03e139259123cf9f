"""The audit log in a database that was changed by hand, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from keyfence_server.adapters.sql import (
    SqlStore,
    StoreOptions,
)
from keyfence_server.adapters.sql.engines import create_engines
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, chained
from keyfence_server.application.read_audit import Verified, verify_chain
from support.builders import insert_keys, make_event, make_key

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
        (["UPDATE audit_events SET subject = 'other' WHERE sequence = 3"], "event 3 was changed"),
        (["UPDATE audit_events SET details = '{}' WHERE sequence = 4"], "event 4 was changed"),
        (["UPDATE audit_events SET account_id = NULL WHERE sequence = 1"], "event 1 was changed"),
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
            "event 2 was changed",
        ),
        (["UPDATE audit_head SET event_count = 5"], "there are events after 5"),
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
