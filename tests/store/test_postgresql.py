"""PostgreSQL keeps the store's contract."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from keyfence_server.adapters.sql import SqlStore, StoreOptions, conversation, open_store
from keyfence_server.adapters.sql.engines import create_engines
from keyfence_server.adapters.sql.reading import SqlSnapshot
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, follow
from keyfence_server.application.ports import (
    EventFilter,
    KeyCriteria,
    KeyFilter,
    Store,
    StoreProblem,
    StoreUnavailable,
    Wanted,
)
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.keys import KeyId, KeyState
from store_contract import Category, Harness, store_contract
from support.builders import KEYSPACE, commit_one, insert_keys, key_change, make_event, make_key
from support.clock import START
from support.statements import watching
from testkit.postgres import PostgresServer

pytestmark = pytest.mark.postgres


class PostgresHarness:
    """A database of a real server. It is taken away by stopping the server."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self._server = server
        self._url = url
        self._stores: list[Store] = []

    async def open(self, *, patient: bool = True) -> Store:
        """See the contract."""
        self._stores.append(await open_store(self._url))
        return self._stores[-1]

    async def close(self) -> None:
        """Closes what was opened."""
        for store in self._stores:
            await store.close()

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        """See the contract."""
        connection = await asyncpg.connect(self._url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def count_open_transactions(self) -> int:
        """See the contract."""
        rows = await self.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        return int(rows[0][0])

    async def take_away(self) -> None:
        """See the contract."""
        await asyncio.to_thread(self._server.stop)

    async def give_back(self) -> None:
        """See the contract."""
        await asyncio.to_thread(self._server.start)


def harness_on_the_server(request: pytest.FixtureRequest) -> Harness:
    """On a fresh database."""
    return PostgresHarness(
        request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_url")
    )


TestPostgresql = store_contract(
    harness_on_the_server,
    except_for={
        Category.READS_OUTLAST_THE_DATABASE: (
            "Reads and writes go to the same server, and fail together when it is away."
        )
    },
)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[SqlStore]:
    """A store on the database."""
    store = await open_store(url, options=StoreOptions(**options))
    try:
        yield store
    finally:
        await store.close()


async def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Executes past the store, on a connection that is closed afterwards."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_a_server_lost_in_the_middle_undoes_the_mutation(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with opened(postgres_url) as store:

        async def lose_it_half_way() -> None:
            async with store.transaction() as transaction:
                key = make_key()
                await transaction.insert_key(key)
                await asyncio.to_thread(postgres_server.stop)
                await commit_one(transaction, [key_change(key)], make_event(key.key_id))

        with pytest.raises(StoreUnavailable):
            await lose_it_half_way()
        await asyncio.to_thread(postgres_server.start)
        assert await insert_keys(store, make_key()) == 1
        async with store.snapshot() as snapshot:
            assert await snapshot.count_keys(KEYSPACE) == 1


async def test_connections_that_died_in_the_pool_are_replaced_without_an_error(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as store:
        await asyncio.gather(*(store.ping() for _ in range(5)))
        await execute(
            postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'keyfence' AND datname = current_database()",
        )
        await asyncio.gather(*(store.ping() for _ in range(5)))
        assert await insert_keys(store, make_key()) == 1


async def test_connections_that_die_are_unavailability_and_never_a_fault(
    postgres_url: str,
) -> None:
    """Whatever they were doing: an internal error would tell callers not to try again."""
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'keyfence' AND datname = current_database()"
    )
    done = asyncio.Event()

    async def work(store: Store, outcomes: list[str]) -> None:
        while not done.is_set():
            try:
                async with store.snapshot() as snapshot:
                    await snapshot.count_keys(KEYSPACE)
                await insert_keys(store, make_key())
            except StoreUnavailable:
                outcomes.append("unavailable")

    async with opened(postgres_url) as store:
        outcomes: list[str] = []
        workers = [asyncio.create_task(work(store, outcomes)) for _ in range(4)]
        for _ in range(60):
            await execute(postgres_url, kill)
        done.set()
        # A worker that met anything else raises it here.
        await asyncio.gather(*workers)
        await insert_keys(store, make_key())
    assert outcomes


async def test_a_column_that_is_altered_under_a_running_store_is_unavailability_once(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as store:
        key = make_key()
        await insert_keys(store, key)

        async def read() -> None:
            async with store.snapshot() as snapshot:
                assert await snapshot.find_key(key.key_id) is not None

        await asyncio.gather(*(read() for _ in range(5)))
        await execute(postgres_url, "ALTER TABLE keys ALTER COLUMN display_name TYPE varchar(500)")
        with pytest.raises(StoreUnavailable) as caught:
            await read()
        assert caught.value.problem is StoreProblem.BUSY
        await asyncio.gather(*(read() for _ in range(5)))


@pytest.mark.parametrize(
    "sqlstate",
    [
        "53100",  # disk full
        "53200",  # out of memory
        "57014",  # cancelled
        "58030",  # input or output failed
        "40001",  # in conflict with recovery
        "25006",  # read-only
        "XX001",  # corrupted
    ],
)
async def test_what_the_server_cannot_do_now_refuses_the_mutation_whole(
    postgres_url: str, sqlstate: str
) -> None:
    """The last row of the mutation, the audit event's, is the one that fails."""
    await execute(
        postgres_url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$",
    )
    async with opened(postgres_url) as store:
        await execute(
            postgres_url,
            "CREATE TRIGGER fail BEFORE INSERT ON audit_events EXECUTE FUNCTION fail()",
        )
        with pytest.raises(StoreUnavailable):
            await insert_keys(store, make_key())
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 0
            assert await snapshot.count_keys(KEYSPACE) == 0
        await execute(postgres_url, "DROP TRIGGER fail ON audit_events")
        assert await insert_keys(store, make_key()) == 1


async def test_an_event_that_another_process_adds_during_a_mutation_is_before_it_in_the_chain(
    postgres_url: str,
) -> None:
    """The mutation has seen where the chain ended when it began."""
    async with opened(postgres_url) as store, opened(postgres_url) as other:
        key = make_key()
        async with store.transaction() as transaction:
            await transaction.insert_key(key)
            await other.append_events([make_event("an attempt")])
            await commit_one(transaction, [key_change(key)], make_event(key.key_id))
        async with store.snapshot() as snapshot:
            events = await snapshot.list_events(EventFilter(), after=0, limit=9)
            end = await snapshot.end_of_events()
    assert [one.event.subject for one in events] == ["an attempt", key.key_id]
    assert follow(BEFORE_THE_FIRST, events) == (end, "")


@pytest.mark.parametrize("within", [False, True], ids=["between mutations", "in a mutation"])
async def test_a_group_whose_connection_dies_is_unavailable_as_a_whole(
    postgres_url: str, *, within: bool
) -> None:
    """An internal error would tell the callers of the whole group not to try again."""
    keys = [make_key(), make_key()]
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'keyfence' AND datname = current_database()"
    )

    async def group(store: Store) -> None:
        async with store.transaction() as transaction:
            for key in keys:
                if key is keys[1] and not within:
                    await execute(postgres_url, kill)
                async with transaction.mutation():
                    if key is keys[1] and within:
                        await execute(postgres_url, kill)
                    await transaction.insert_key(key)
                    transaction.keep([key_change(key)], make_event(key.key_id))
            await transaction.commit()

    async with opened(postgres_url) as store:
        with pytest.raises(StoreUnavailable):
            await group(store)
        assert await insert_keys(store, *keys) == 1


async def test_a_primary_that_became_a_standby_is_let_go_of(postgres_url: str) -> None:
    """Its connections still answer, so only the refused mutation tells."""
    database = parse_database_url(postgres_url).for_asyncpg().partition("@/")[2].partition("?")[0]
    async with opened(postgres_url) as store:
        await insert_keys(store, make_key())
        await execute(
            postgres_url, f'ALTER DATABASE "{database}" SET default_transaction_read_only = on'
        )
        await execute(
            postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'keyfence' AND datname = current_database()",
        )
        with pytest.raises(StoreUnavailable, match="read-only"):
            await insert_keys(store, make_key())
        await _make_writable(postgres_url, database)
        assert await insert_keys(store, make_key()) == 2


async def _make_writable(url: str, database: str) -> None:
    connection = await asyncpg.connect(
        url, server_settings={"default_transaction_read_only": "off"}
    )
    await connection.execute(f'ALTER DATABASE "{database}" RESET default_transaction_read_only')
    await connection.close()


@pytest.mark.parametrize(
    ("configured", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")],
)
async def test_a_commit_is_durable_whatever_the_database_is_configured_to(
    postgres_url: str, configured: str, used: str
) -> None:
    engines = create_engines(
        parse_database_url(f"{postgres_url}&synchronous_commit={configured}"), StoreOptions()
    )
    async with engines.writing.connect() as connection:
        for setting, value in {
            "synchronous_commit": used,
            "statement_timeout": "10s",
            "lock_timeout": "5s",
            "idle_in_transaction_session_timeout": "30s",
            "transaction_isolation": "read committed",
            "application_name": "keyfence",
        }.items():
            assert (await connection.exec_driver_sql(f"SHOW {setting}")).scalar_one() == value
    async with engines.reading.connect() as connection:
        for setting, value in {
            "transaction_isolation": "repeatable read",
            "transaction_read_only": "on",
        }.items():
            assert (await connection.exec_driver_sql(f"SHOW {setting}")).scalar_one() == value
    await engines.dispose()


async def test_text_sorts_and_compares_by_its_bytes_in_every_column(postgres_url: str) -> None:
    columns = await execute(
        postgres_url,
        "SELECT table_name || '.' || column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text'",
    )
    assert len(columns) > 20
    assert {collation for _, collation in columns} == {"C"}


@pytest.mark.parametrize(
    ("which", "mode"),
    [
        ({"key_type": "rare"}, "force_custom_plan"),
        ({"environment": "rare"}, "force_custom_plan"),
        ({"state": KeyState.REVOKED}, "force_custom_plan"),
        ({"account_id": "a"}, "auto"),
        ({}, "auto"),
    ],
)
async def test_a_search_for_what_may_be_rare_is_planned_for_its_value(
    postgres_url: str, which: dict[str, Any], mode: str
) -> None:
    """A plan for any value looks at all keys for those of a rare type."""
    async with opened(postgres_url) as store, store.snapshot() as snapshot:
        await snapshot.search_keys(
            KeyFilter(keyspace=KEYSPACE, **which),
            KeyCriteria(),
            after=None,
            limit=9,
            examined=9,
            most_text=1_000,
        )
        assert isinstance(snapshot, SqlSnapshot)
        asked = text("SHOW plan_cache_mode")
        ((found,),) = (await snapshot._conversation.execute(asked)).all()
        assert found == mode


async def test_waiting_for_another_process_ends_in_time(postgres_url: str) -> None:
    async with opened(postgres_url, lock_timeout=timedelta(seconds=0.2)) as store:
        intruder = await asyncpg.connect(postgres_url)
        await intruder.execute("BEGIN; SELECT * FROM head FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await insert_keys(store, make_key())
        await intruder.close()
        assert await insert_keys(store, make_key()) == 1


async def test_a_process_that_stops_with_the_lock_loses_it(postgres_url: str) -> None:
    async with (
        opened(postgres_url, idle_timeout=timedelta(seconds=1)) as stopped,
        opened(postgres_url) as other,
    ):

        async def stop_half_way() -> None:
            async with stopped.transaction() as transaction:
                key = make_key()
                await transaction.insert_key(key)
                assert await insert_keys(other, make_key()) == 1
                await commit_one(transaction, [key_change(key)], make_event(key.key_id))

        with pytest.raises(StoreUnavailable):
            await stop_half_way()
        assert await insert_keys(stopped, make_key()) == 2


async def test_a_server_that_says_nothing_any_more_is_given_up(postgres_url: str) -> None:
    """As when the network to it is cut: no error comes back, nor anything else."""
    async with opened(postgres_url, pool_size=1, statement_timeout=timedelta(seconds=2)) as store:
        await store.ping()
        rows = await execute(
            postgres_url,
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'keyfence' AND datname = current_database()",
        )
        (pid,) = rows[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            # A new connection takes the dead one's place at once.
            await store.ping()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await insert_keys(store, make_key()) == 1


@pytest.mark.parametrize("size", [1, 3])
async def test_a_group_takes_two_statements(postgres_url: str, size: int) -> None:
    """Each of them is a message to the database and an answer, and the head is locked meanwhile.
    BEGIN comes with the lock, and is not counted, nor is COMMIT."""
    async with opened(postgres_url) as store:
        old = [make_key() for _ in range(size)]
        await insert_keys(store, *old)
        wanted = Wanted(keys=frozenset(key.key_id for key in old))
        with watching(store) as statements:
            async with store.transaction(lambda: wanted) as transaction:
                for key in old:
                    async with transaction.mutation():
                        lineage = await transaction.find_lineage(key.key_id)
                        assert lineage is not None
                        new = make_key()
                        await transaction.update_key(replace(key, rotated_to_key_id=new.key_id))
                        await transaction.insert_key(new)
                        await transaction.insert_request(KeyId("op"), key.key_id, new.key_id, START)
                        transaction.keep([key_change(key), key_change(new)], make_event("x"))
                await transaction.commit()
        assert len(statements.sent) == 2
        async with store.snapshot() as snapshot:
            assert await snapshot.count_keys(KEYSPACE) == 2 * size
            changes = await snapshot.list_changes(after=1, limit=99)
            end = await snapshot.end_of_events()
        assert len(changes) == 2 * size
        assert end.count == size + 1


async def test_the_register_is_read_with_the_commit(postgres_url: str) -> None:
    """A process that registers later has a head with the commit, so no fence waits for it."""
    async with opened(postgres_url) as store:
        register = store.register()
        await register.join("srv_a", "a", LeaseTerms())
        before = await register.read_state()
        revision = await insert_keys(store, make_key())
        await register.join("srv_b", "b", LeaseTerms())
        committed = await register.read_state(revision)
        assert committed.processes == before.processes
        assert committed.position == replace(before.position, head=revision)
        now = await register.read_state(revision)
        assert [one.process_id for one in now.processes] == ["srv_a", "srv_b"]


class Line:
    """Two stores that wait for the head, which a test has locked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.served: list[str] = []

    async def take(self, store: Store, name: str, is_urgent: Callable[[], bool]) -> None:
        """Waits for the head, and gives it back."""
        async with store.transaction(is_urgent=is_urgent):
            self.served.append(name)

    async def stands(self) -> None:
        """Waits until a transaction is in PostgreSQL's line for the head."""
        in_line = "SELECT FROM pg_locks WHERE locktype = 'tuple' AND relation = 'head'::regclass"
        async with asyncio.timeout(30):
            while not await execute(self._url, in_line):  # noqa: ASYNC110 - PostgreSQL says nothing
                await asyncio.sleep(0.01)


async def test_a_transaction_that_hurries_goes_before_one_of_another_process_that_does_not(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "_YIELDS_SECONDS", 60.0)
    line = Line(postgres_url)
    async with opened(postgres_url) as patient, opened(postgres_url) as hasty:
        holder = await asyncpg.connect(postgres_url)
        await holder.execute("BEGIN; UPDATE head SET revision = revision")
        waiting = [asyncio.create_task(line.take(patient, "patient", lambda: False))]
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(line.take(hasty, "hasty", lambda: True)))
        await line.stands()
        await holder.execute("COMMIT")
        await asyncio.gather(*waiting)
        await holder.close()
    assert line.served == ["hasty", "patient"]


async def test_a_waiting_transaction_may_become_urgent(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "_YIELDS_SECONDS", 60.0)
    line, is_urgent = Line(postgres_url), asyncio.Event()
    async with opened(postgres_url) as store:
        holder = await asyncpg.connect(postgres_url)
        await holder.execute("BEGIN; UPDATE head SET revision = revision")
        waiting = asyncio.create_task(line.take(store, "it", is_urgent.is_set))
        await asyncio.sleep(0)
        is_urgent.set()
        await line.stands()
        await holder.execute("COMMIT")
        await waiting
        await holder.close()
    assert line.served == ["it"]
