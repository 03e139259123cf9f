"""The chain of audit events."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, follow
from keyfence_server.application.ports import (
    EventFilter,
    Store,
)
from keyfence_server.domain.keys import KeyId
from store_contract.harness import Harness, Topic
from store_contract.values import (
    HOSTILE,
)
from support.builders import (
    commit_one,
    insert_keys,
    key_change,
    make_event,
    make_key,
)
from support.clock import START
from support.event_loops import MOST_CALLS, Counted


class AuditContract(Topic):
    """The chain of audit events."""

    async def test_an_empty_chain_ends_before_its_first_event(self, store: Store) -> None:
        async with store.snapshot() as snapshot:
            assert await snapshot.end_of_events() == BEFORE_THE_FIRST
            assert await snapshot.list_events(EventFilter(), after=None, limit=10) == []

    async def test_events_come_back_as_they_were_written_in_one_chain(self, store: Store) -> None:
        """Those of mutations and others alike."""
        key = make_key()
        told = make_event(
            key.key_id,
            time=START + timedelta(microseconds=1),
            actor_key_id=KeyId("key_op"),
            request_id="req-1",
            details={"scopes": ["a", HOSTILE[0]], "n": 1, "deep": {"none": None}, "f": 0.1},
        )
        attempts = [
            make_event("", keyspace="", account_id=None, details={"count": n}) for n in (1, 2)
        ]
        async with store.transaction() as transaction:
            await transaction.insert_key(key)
            await commit_one(transaction, [key_change(key, created=True)], told)
        await store.append_events(attempts)
        await insert_keys(store, make_key())
        async with store.snapshot() as snapshot:
            events = await snapshot.list_events(EventFilter(), after=None, limit=10)
            end = await snapshot.end_of_events()
        assert [one.event for one in events[:3]] == [told, *attempts]
        assert [(one.sequence, one.revision) for one in events] == [
            (1, 1),
            (2, None),
            (3, None),
            (4, 2),
        ]
        assert follow(BEFORE_THE_FIRST, events) == (end, "")
        assert end.count == 4

    async def test_what_is_undone_leaves_no_gap_in_the_chain(self, store: Store) -> None:
        await insert_keys(store, make_key())
        async with store.transaction() as transaction:
            await transaction.insert_key(make_key())
        await insert_keys(store, make_key())
        async with store.snapshot() as snapshot:
            events = await snapshot.list_events(EventFilter(), after=None, limit=10)
            assert follow(BEFORE_THE_FIRST, events) == (await snapshot.end_of_events(), "")

    async def test_events_of_no_mutation_take_no_revision(self, store: Store) -> None:
        await insert_keys(store, make_key())
        await store.append_events([make_event("a")])
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            assert len(await snapshot.list_changes(after=0, limit=10)) == 1
        assert await insert_keys(store, make_key()) == 2

    async def test_appending_the_same_events_again_adds_only_what_is_missing(
        self, store: Store
    ) -> None:
        """A caller that does not know the outcome may repeat the call."""
        events = [make_event(str(number)) for number in range(3)]
        await store.append_events(events[:2])
        await store.append_events(events)
        await store.append_events(events)
        async with store.snapshot() as snapshot:
            found = await snapshot.list_events(EventFilter(), after=None, limit=10)
            assert [one.event for one in found] == events
            assert follow(BEFORE_THE_FIRST, found) == (await snapshot.end_of_events(), "")

    async def test_many_events_leave_other_calls_their_turn(self, store: Store) -> None:
        events = [make_event(str(number)) for number in range(550)]
        await store.append_events([make_event("first")])
        counted = Counted()
        with counted.counting():
            await store.append_events(events)
        assert counted.most <= MOST_CALLS
        async with store.snapshot() as snapshot:
            found = await snapshot.list_events(EventFilter(), after=1, limit=1_000)
            assert [one.event for one in found] == events
            end = await snapshot.end_of_events()
            assert end.count == 551
            assert end.hash == found[-1].hash

    async def test_events_are_found_by_every_filter(self, store: Store) -> None:
        def at(minute: int) -> datetime:
            return START + timedelta(minutes=minute)

        events = [
            make_event("a", keyspace="one", account_id="x", action="key.create", time=at(0)),
            make_event("b", keyspace="two", account_id="x", action="key.revoke", time=at(1)),
            make_event("a", keyspace="two", account_id=None, action="keys", time=at(2)),
            make_event("c", keyspace="", actor_key_id=KeyId("key_op"), action="a%", time=at(3)),
        ]
        await store.append_events(events)
        cases: list[tuple[dict[str, Any], list[int]]] = [
            ({}, [1, 2, 3, 4]),
            ({"keyspaces": frozenset({"two"})}, [2, 3]),
            ({"keyspaces": frozenset({"one", ""})}, [1, 4]),
            ({"keyspaces": frozenset()}, []),
            ({"but_keyspace": "two"}, [1, 4]),
            ({"account_id": "x"}, [1, 2]),
            ({"subject": "a"}, [1, 3]),
            ({"actor_key_id": "key_op"}, [4]),
            ({"action_prefix": "key."}, [1, 2]),
            ({"action_prefix": "key"}, [1, 2, 3]),
            ({"action_prefix": "%"}, []),
            ({"action_prefix": "a%"}, [4]),
            ({"action_prefix": "KEY"}, []),
            ({"start_time": at(1)}, [2, 3, 4]),
            ({"end_time": at(1)}, [1]),
            ({"start_time": at(1), "end_time": at(3)}, [2, 3]),
            ({"after_sequence": 2}, [3, 4]),
            ({"subject": "a", "keyspaces": frozenset({"one"})}, [1]),
            ({"subject": "a\0"}, []),
        ]
        async with store.snapshot() as snapshot:
            for fields, expected in cases:
                which = EventFilter(**fields)
                up = await snapshot.list_events(which, after=None, limit=10)
                down = await snapshot.list_events(which, after=None, limit=10, newest_first=True)
                assert [one.sequence for one in up] == expected, fields
                assert [one.sequence for one in down] == expected[::-1], fields

    async def test_an_event_is_found_by_its_id_within_a_filter(self, store: Store) -> None:
        events = [make_event("a", keyspace="one"), make_event("b", keyspace="two")]
        await store.append_events(events)
        only_one = EventFilter(keyspaces=frozenset({"one"}))
        async with store.snapshot() as snapshot:
            assert await snapshot.find_event(events[1].event_id, EventFilter()) == 2
            assert await snapshot.find_event(events[0].event_id, only_one) == 1
            assert await snapshot.find_event(events[1].event_id, only_one) is None
            assert await snapshot.find_event("evt_none", EventFilter()) is None
            assert await snapshot.find_event("evt\0", EventFilter()) is None

    async def test_events_are_paged_both_ways(self, store: Store) -> None:
        await store.append_events([make_event(str(number)) for number in range(5)])
        async with store.snapshot() as snapshot:
            up = await snapshot.list_events(EventFilter(), after=2, limit=2)
            down = await snapshot.list_events(EventFilter(), after=4, limit=2, newest_first=True)
        assert [one.sequence for one in up] == [3, 4]
        assert [one.sequence for one in down] == [3, 2]

    async def test_mutations_and_other_events_at_once_make_one_chain(
        self, harness: Harness, store: Store
    ) -> None:
        """Two stores on one database are what two processes are."""
        stores = [store, await harness.open()]

        async def mutate(number: int) -> None:
            await insert_keys(stores[number % 2], make_key())

        async def append(number: int) -> None:
            await stores[number % 2].append_events([make_event("x"), make_event("y")])

        await asyncio.gather(*(work(number) for number in range(8) for work in (mutate, append)))
        async with store.snapshot() as snapshot:
            events = await snapshot.list_events(EventFilter(), after=None, limit=100)
            assert follow(BEFORE_THE_FIRST, events) == (await snapshot.end_of_events(), "")
        assert len(events) == 24
        assert [one.revision for one in events if one.revision] == list(range(1, 9))
