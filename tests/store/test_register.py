"""The register of processes and the notifications between them, on both databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import asyncpg
import pytest

from keyfence_server.adapters.sql import SqlStore
from keyfence_server.adapters.sql.postgresql_feed import PostgresqlFeed
from keyfence_server.adapters.sql.sqlite_feed import SqliteFeed
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.ports import Change, ChangeKind, StoreUnavailable
from keyfence_server.coherence.ports import (
    Acknowledged,
    Committed,
    Feed,
    Interrupted,
    Notification,
    StorePosition,
    StruckOff,
    TermsDiffer,
)
from keyfence_server.coherence.terms import LeaseTerms
from support.builders import commit_one, insert_keys, key_change, make_event, make_key

SOON = 10.0
TERMS = LeaseTerms()


@pytest.fixture
def feed_of(database_url: str) -> Callable[[], Feed]:
    if database_url.startswith("sqlite"):
        return lambda: SqliteFeed(database_url)
    return lambda: PostgresqlFeed(database_url)


async def epoch_of(store: SqlStore) -> str:
    return (await store.register().read_state()).position.epoch


async def test_a_registration_is_there_when_it_returns(store: SqlStore) -> None:
    register = store.register()
    revision = await insert_keys(store, make_key())
    position = await register.join("srv_a", "a", TERMS)
    assert position.head == revision
    assert position.is_settled
    state = await register.read_state()
    assert state.position == position
    assert [one.process_id for one in state.processes] == ["srv_a"]
    assert state.processes[0].acknowledged == 0
    await register.leave("srv_a")
    assert await register.list_processes() == []


async def test_no_process_registers_under_other_terms(store: SqlStore) -> None:
    """What is waited for in one process bounds the leases of another."""
    register = store.register()
    await register.join("srv_a", "a", TERMS)
    for other in (LeaseTerms(length=5), LeaseTerms(drift=0.02)):
        with pytest.raises(TermsDiffer, match="stop every server first") as refused:
            await register.join("srv_b", "b", other)
        assert [one.process_id for one in refused.value.processes] == ["srv_a"]
        assert [one.terms for one in refused.value.processes] == [TERMS]
    await register.join("srv_b", "b", TERMS)
    await register.leave("srv_b")
    # Its own earlier registration is replaced, so it does not stand in the way.
    await register.join("srv_a", "a", LeaseTerms(length=5))
    assert [one.terms.length for one in await register.list_processes()] == [5]


async def test_registering_waits_for_a_mutation_in_flight(store: SqlStore) -> None:
    """I4: either the mutation's fence finds the newcomer, or the newcomer is given its
    revision. Here it is the second."""
    key = make_key()
    async with store.transaction() as transaction:
        joining = asyncio.ensure_future(store.register().join("srv_a", "a", TERMS))
        await transaction.insert_key(key)
        await asyncio.wait([joining], timeout=0.2)
        assert not joining.done()
        changes = [key_change(key, created=True)]
        revision = await commit_one(transaction, changes, make_event(key.key_id))
    assert (await joining).head == revision


async def test_a_renewal_moves_the_counter_and_an_acknowledgement_never_goes_back(
    store: SqlStore,
) -> None:
    register = store.register()
    epoch = (await register.join("srv_a", "a", TERMS)).epoch
    (before,) = await register.list_processes()
    revision = await insert_keys(store, make_key())
    assert (await register.renew("srv_a", 5, epoch)).head == revision
    await register.renew("srv_a", -1, epoch)
    (after,) = await register.list_processes()
    assert after.renewals == before.renewals + 2
    assert after.acknowledged == 5


async def test_a_renewal_from_another_epoch_is_refused_and_leaves_no_trace(
    store: SqlStore,
) -> None:
    """Its acknowledgement is of revisions that are lost: written down, it would pass for one
    of the revisions that take their numbers."""
    register = store.register()
    await register.join("srv_a", "a", TERMS)
    (before,) = await register.list_processes()
    with pytest.raises(StruckOff):
        await register.renew("srv_a", 99, "another epoch")
    assert await register.list_processes() == [before]


async def test_a_process_that_was_struck_off_cannot_renew_and_registers_anew(
    store: SqlStore,
) -> None:
    register = store.register()
    epoch = (await register.join("srv_a", "a", TERMS)).epoch
    (seen,) = await register.list_processes()
    assert await register.strike_off("srv_a", seen.renewals)
    with pytest.raises(StruckOff):
        await register.renew("srv_a", 0, epoch)
    await register.join("srv_a", "a", TERMS)
    assert not await register.strike_off("srv_a", seen.renewals)


async def test_a_process_that_renews_is_not_struck_off(store: SqlStore) -> None:
    """Whichever of the two comes first: the other one then knows."""
    register = store.register()
    epoch = (await register.join("srv_a", "a", TERMS)).epoch
    (seen,) = await register.list_processes()

    async def renew() -> StorePosition | None:
        try:
            return await register.renew("srv_a", 0, epoch)
        except StruckOff:
            return None

    renewed, struck = await asyncio.gather(renew(), register.strike_off("srv_a", seen.renewals))
    assert (renewed is None) is struck
    assert len(await register.list_processes()) == (0 if struck else 1)


async def test_an_epoch_is_settled_once_and_for_good(store: SqlStore) -> None:
    register = store.register()
    epoch = await epoch_of(store)
    await asyncio.gather(
        *(register.settle("of another time") for _ in range(2)), return_exceptions=True
    )
    await register.settle(epoch)
    await register.settle(epoch)
    assert (await register.read_state()).position.is_settled


@pytest.mark.postgres
async def test_a_new_timeline_is_not_settled_until_a_process_says_so(postgres_url: str) -> None:
    from keyfence_server.adapters.sql import open_store  # noqa: PLC0415

    connection = await asyncpg.connect(parse_database_url(postgres_url).for_asyncpg())
    # As after a failover: the timeline that there is now has never been settled.
    await connection.execute("DELETE FROM settled_epochs")
    await connection.close()
    store = await open_store(postgres_url)
    try:
        position = await store.register().join("srv_a", "a", TERMS)
        assert not position.is_settled
        await store.register().settle(position.epoch)
        assert (await store.register().renew("srv_a", 0, position.epoch)).is_settled
    finally:
        await store.close()


# Notifications.


async def until_hears(
    feed: Feed, wanted: Callable[[Notification], bool], act: Callable[[], Awaitable[object]]
) -> list[Notification]:
    """Listens, acts as soon as it does, and returns the notifications up to the wanted one."""
    heard: list[Notification] = []
    async with asyncio.timeout(SOON), aclosing(feed.listen()) as notifications:
        async for notification in notifications:
            heard.append(notification)
            if len(heard) == 1:
                assert isinstance(notification, Interrupted)
                await act()
            elif wanted(notification):
                break
    return heard


async def test_a_commit_is_heard_of(store: SqlStore, feed_of: Callable[[], Feed]) -> None:
    key = make_key()
    epoch = await epoch_of(store)

    async def act() -> None:
        await insert_keys(store, key)

    heard = await until_hears(
        feed_of(), lambda notification: isinstance(notification, (Committed, Interrupted)), act
    )
    last = heard[-1]
    assert isinstance(last, Interrupted) or last == Committed(
        1, (key_change(key, created=True),), epoch
    )


async def test_an_acknowledgement_is_heard_of(store: SqlStore, feed_of: Callable[[], Feed]) -> None:
    epoch = (await store.register().join("srv_a", "a", TERMS)).epoch
    feed = feed_of()

    async def act() -> None:
        await feed.acknowledge("srv_a", 7, epoch)

    heard = await until_hears(
        feed, lambda notification: getattr(notification, "revision", 0) == 7, act
    )
    assert heard[-1] == Acknowledged("srv_a", 7, epoch)


@pytest.mark.postgres
class TestOnPostgresql:
    """LISTEN and NOTIFY."""

    async def test_changes_that_do_not_fit_are_left_to_the_change_log(
        self, postgres_url: str
    ) -> None:
        """PostgreSQL refuses payloads of 8000 bytes or more, and with them the commit."""
        from keyfence_server.adapters.sql import open_store  # noqa: PLC0415

        store = await open_store(postgres_url)
        key = make_key()
        many = [Change(ChangeKind.KEY, f"key_{number:026d}", "acme") for number in range(1500)]

        async def act() -> None:
            async with store.transaction() as transaction:
                await transaction.insert_key(key)
                await commit_one(transaction, many, make_event(key.key_id))

        try:
            heard = await until_hears(
                PostgresqlFeed(postgres_url),
                lambda notification: isinstance(notification, Committed),
                act,
            )
            assert isinstance(heard[-1], Committed)
            assert heard[-1].changes is None
        finally:
            await store.close()

    @pytest.mark.parametrize(
        "payload",
        [
            "",
            "null",
            "[]",
            "{",
            "\x01",
            '{"r": "one"}',
            '{"r": Infinity}',
            '{"r": 1e999}',
            '{"c": [[1, [["key"]]]]}',
            '{"c": [[1, [["nonsense", "a", "b", false]]]]}',
            '{"c": [["one", []]]}',
            '{"a": "srv_b", "r": 9}',
            "[" * 7000,
        ],
        ids=range(13),
    )
    async def test_what_cannot_be_read_sends_everyone_to_the_change_log(
        self, postgres_url: str, payload: str
    ) -> None:
        async def act() -> None:
            connection = await asyncpg.connect(parse_database_url(postgres_url).for_asyncpg())
            await connection.execute("SELECT pg_notify('keyfence_notifications', $1)", payload)
            await connection.close()

        heard = await until_hears(PostgresqlFeed(postgres_url), lambda _: True, act)
        assert heard == [Interrupted(), Interrupted()]

    async def test_a_revision_without_changes_is_left_to_the_change_log(
        self, postgres_url: str
    ) -> None:
        async def act() -> None:
            connection = await asyncpg.connect(parse_database_url(postgres_url).for_asyncpg())
            said = json.dumps({"c": [[3, []]]})
            await connection.execute("SELECT pg_notify('keyfence_notifications', $1)", said)
            await connection.close()

        heard = await until_hears(PostgresqlFeed(postgres_url), lambda _: True, act)
        assert isinstance(heard[-1], Committed)
        assert heard[-1].changes is None

    async def test_a_listener_that_is_cut_off_notices_it_and_can_listen_again(
        self, postgres_url: str
    ) -> None:
        feed = PostgresqlFeed(postgres_url)

        async def cut_off() -> None:
            connection = await asyncpg.connect(parse_database_url(postgres_url).for_asyncpg())
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'keyfence notifications' AND datname = current_database()"
            )
            await connection.close()

        with pytest.raises(StoreUnavailable):
            await until_hears(feed, lambda _: False, cut_off)
        # There is no connection to publish on: the next renewal carries it.
        await feed.acknowledge("srv_a", 7, "1")

        async def act() -> None:
            await feed.acknowledge("srv_a", 8, "1")

        heard = await until_hears(feed, lambda _: True, act)
        assert heard[-1] == Acknowledged("srv_a", 8, "1")

    async def test_signs_of_life_and_acknowledgements_do_not_get_in_each_others_way(
        self, postgres_url: str
    ) -> None:
        """They share a connection, and only one question can be asked on it at a time."""
        feed = PostgresqlFeed(postgres_url)

        async def act() -> None:
            connection = feed._connection
            assert connection is not None
            await asyncio.gather(
                *(feed._require_alive(connection) for _ in range(20)),
                *(feed.acknowledge("srv_a", revision, "1") for revision in range(1, 21)),
            )

        heard = await until_hears(
            feed, lambda notification: getattr(notification, "revision", 0) == 20, act
        )
        assert len(heard) == 21
