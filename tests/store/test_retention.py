"""What a store keeps for a stated time: it goes then, in slices, and nothing else goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from keyfence_server.adapters.sql import SqlStore, StoreOptions, open_store
from keyfence_server.adapters.sql import schema as tables
from keyfence_server.adapters.sql.engines import create_engines
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.audit import audit_log_event
from keyfence_server.application.audit_chain import BEFORE_THE_FIRST
from keyfence_server.application.high_water import (
    StoreWentBack,
    read_position,
    require_not_older,
)
from keyfence_server.application.ports import (
    ROWS_AT_ONCE,
    AuditEvent,
    ChainBroken,
    ChainEnd,
    Change,
    ChangeKind,
    EventFilter,
    KeyUse,
    UseToAdd,
)
from keyfence_server.application.read_audit import Verified, verify_chain
from keyfence_server.application.retention import Kept, Retention
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.keys import KeyId
from support.builders import (
    commit_one,
    insert_accounts,
    insert_keys,
    insert_sessions,
    key_change,
    make_account,
    make_event,
    make_key,
    make_session,
)
from support.clock import START, FrozenClock
from support.statements import Statements, watching

KEPT = Kept(
    use_days=30,
    audit_days=30,
    unexported_events=False,
    changes=1_000,
    changes_need_acknowledgement=False,
)
LATER = START + timedelta(days=32)

# Of a simulated year, by week.
WEEKS = 52
EVENTS = 70
CHANGES = 140
REQUESTS = 70
SESSIONS = 28


async def no_pause() -> None:
    """Continues with the next slice at once."""
    await asyncio.sleep(0)


def sweeper(store: SqlStore, now: datetime = LATER, **kept: Any) -> Retention:
    return Retention(store.retention(), FrozenClock(now), replace(KEPT, **kept), no_pause)


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Connections past the store."""
    engines = create_engines(parse_database_url(database_url), StoreOptions())
    yield engines.writing
    await engines.dispose()


async def end_of(store: SqlStore) -> ChainEnd:
    async with store.snapshot() as snapshot:
        return await snapshot.end_of_events()


async def export(store: SqlStore, after: int, end: ChainEnd) -> ChainEnd:
    event = audit_log_event("audit.export", None, START, last=end.count)
    return await store.retention().record_export(after, end, event)


async def append(store: SqlStore, count: int, time: datetime = START) -> None:
    await store.append_events([make_event(f"x{number}", time=time) for number in range(count)])


async def events_of(store: SqlStore) -> list[tuple[int, AuditEvent]]:
    async with store.snapshot() as snapshot:
        found = await snapshot.list_events(EventFilter(), after=0, limit=100_000)
    return [(one.sequence, one.event) for one in found]


async def whole(store: SqlStore) -> Verified:
    verified = await verify_chain(store, BEFORE_THE_FIRST, 0)
    assert not verified.problem
    assert verified.is_complete
    return verified


async def test_events_that_were_not_exported_stay(store: SqlStore) -> None:
    await append(store, 3)
    assert await sweeper(store).sweep() == {}
    assert len(await events_of(store)) == 3


async def test_exported_events_go_when_they_are_old_and_the_rest_verifies(store: SqlStore) -> None:
    await append(store, 5)
    end = await end_of(store)
    await append(store, 1)
    assert await export(store, 0, end) == end
    assert await sweeper(store, START + timedelta(days=30)).sweep() == {}, "they are not old"
    assert await sweeper(store).sweep() == {"audit_events": 5}
    kept = await events_of(store)
    assert [sequence for sequence, _ in kept] == [6, 7, 8]
    assert [one.action for _, one in kept] == ["key.create", "audit.export", "audit.remove"]
    assert kept[-1][1].details == {
        "first": 1,
        "last": 5,
        "hash": end.hash.hex(),
        "exported": True,
    }
    verified = await whole(store)
    assert (verified.end.count, verified.removed) == (8, end)
    assert await sweeper(store).sweep() == {}, "the event after the export was not exported"


async def test_the_chain_is_verified_from_the_cut_on_and_with_the_hash_of_the_cut(
    store: SqlStore,
) -> None:
    await append(store, 4)
    end = await end_of(store)
    await export(store, 0, end)
    await sweeper(store).sweep()
    assert (await verify_chain(store, end, 0)).is_complete
    other = await verify_chain(store, ChainEnd(4, bytes(32)), 0)
    assert other.problem == "event 4, which was removed, was a different one"
    before = await verify_chain(store, ChainEnd(2, bytes(32)), 0)
    assert "the events up to 4 were removed" in before.problem


@pytest.mark.parametrize(
    "tamper",
    [
        [tables.audit_events.delete().where(tables.audit_events.c.sequence <= 5)],
        [update(tables.audit_cut).values(removed_hash=bytes(32))],
        [update(tables.audit_cut).values(removed_count=0, removed_hash=bytes(32))],
        [
            update(tables.audit_cut).values(
                removed_count=0, removed_hash=bytes(32), removal_sequence=0
            )
        ],
        [tables.audit_events.delete().where(tables.audit_events.c.action == "audit.remove")],
        [
            update(tables.audit_events)
            .where(tables.audit_events.c.action == "audit.remove")
            .values(details={"first": 1, "last": 4})
        ],
    ],
)
async def test_a_cut_that_was_moved_by_hand_shows(
    store: SqlStore, direct: AsyncEngine, tamper: list[Any]
) -> None:
    await append(store, 6)
    async with store.snapshot() as snapshot:
        fourth = (await snapshot.list_events(EventFilter(), after=3, limit=1))[0]
    await export(store, 0, ChainEnd(4, fourth.hash))
    await sweeper(store).sweep()
    await whole(store)
    async with direct.begin() as connection:
        for statement in tamper:
            await connection.execute(statement)
    assert (await verify_chain(store, BEFORE_THE_FIRST, 0)).problem


async def test_events_that_were_deleted_by_hand_with_the_cut_moved_behind_them_show(
    store: SqlStore, direct: AsyncEngine
) -> None:
    """An attacker who only sets the cut has no event in the chain that says so."""
    await append(store, 6)
    async with store.snapshot() as snapshot:
        third = (await snapshot.list_events(EventFilter(), after=2, limit=1))[0]
    async with direct.begin() as connection:
        await connection.execute(
            tables.audit_events.delete().where(tables.audit_events.c.sequence <= 3)
        )
        await connection.execute(
            update(tables.audit_cut).values(
                removed_count=3, removed_hash=third.hash, removal_sequence=6
            )
        )
    verified = await verify_chain(store, BEFORE_THE_FIRST, 0)
    assert verified.problem == "the events up to 3 are missing, and no event says who removed them"


async def test_an_export_is_recorded_without_gaps_and_for_this_log_alone(store: SqlStore) -> None:
    await append(store, 6)
    async with store.snapshot() as snapshot:
        hashes = {
            one.sequence: one.hash
            for one in await snapshot.list_events(EventFilter(), after=0, limit=9)
        }
    with pytest.raises(ChainBroken, match="events 1 to 2 were not exported"):
        await export(store, 2, ChainEnd(4, hashes[4]))
    with pytest.raises(ChainBroken, match="does not end with an event of this audit log"):
        await export(store, 0, ChainEnd(4, hashes[3]))
    with pytest.raises(ChainBroken, match="there is no event 99"):
        await export(store, 0, ChainEnd(99, hashes[4]))
    assert len(await events_of(store)) == 6, "nothing was recorded"
    assert (await export(store, 0, ChainEnd(4, hashes[4]))).count == 4
    assert (await export(store, 0, ChainEnd(4, hashes[4]))).count == 4
    assert (await export(store, 1, ChainEnd(3, hashes[3]))).count == 4
    assert len(await events_of(store)) == 7, "a repetition is no event"
    assert (await export(store, 4, ChainEnd(6, hashes[6]))).count == 6


async def test_nothing_is_removed_from_a_log_that_was_changed(
    store: SqlStore, direct: AsyncEngine
) -> None:
    """The removal would take away what shows the change."""
    await append(store, 4)
    await export(store, 0, await end_of(store))
    async with direct.begin() as connection:
        await connection.execute(
            update(tables.audit_events)
            .where(tables.audit_events.c.sequence == 2)
            .values(subject="other")
        )
    assert await sweeper(store).sweep() == {}
    assert len(await events_of(store)) == 5


async def test_a_store_that_has_removed_the_event_of_its_last_position_is_not_older(
    store: SqlStore,
) -> None:
    """A server may have been away for longer than events are kept."""
    await append(store, 3)
    mark = await read_position(store, START)
    await append(store, 1)
    cut = await read_position(store, START)
    await export(store, 0, await end_of(store))
    await sweeper(store).sweep()
    for position in (mark, cut):
        assert (await require_not_older(store, position, START)).events == 6
    with pytest.raises(StoreWentBack, match="the audit log differs"):
        await require_not_older(store, replace(cut, hash=mark.hash), START)


async def test_a_setting_removes_events_that_were_not_exported_and_the_log_says_so(
    store: SqlStore,
) -> None:
    await append(store, 3)
    assert await sweeper(store, unexported_events=True).sweep() == {"audit_events": 3}
    ((_, event),) = await events_of(store)
    assert event.details["exported"] is False
    await whole(store)


async def test_without_a_setting_events_are_kept_for_ever(store: SqlStore) -> None:
    await append(store, 3)
    await export(store, 0, await end_of(store))
    assert await sweeper(store, START + timedelta(days=9_999), audit_days=None).sweep() == {}


async def test_several_servers_that_remove_at_once_remove_each_event_once(
    store: SqlStore, database_url: str
) -> None:
    await append(store, 2 * ROWS_AT_ONCE + 3)
    await export(store, 0, await end_of(store))
    other = await open_store(database_url)
    swept = await asyncio.gather(*(sweeper(one).sweep() for one in (store, other)))
    await other.close()
    assert sum(one.get("audit_events", 0) for one in swept) == 2 * ROWS_AT_ONCE + 3
    await whole(store)


async def test_requests_sessions_and_days_go_after_their_time_and_not_before(
    store: SqlStore,
) -> None:
    key, account = make_key(), make_account()
    caller = KeyId("key_op")
    await insert_accounts(store, account)
    old, new = (
        make_session(account, expire_time=LATER - timedelta(days=1, microseconds=by))
        for by in (1, 0)
    )
    await insert_sessions(store, old, new)
    async with store.transaction() as transaction:
        await transaction.insert_key(key)
        for name, by in (("old", 1), ("new", 0)):
            moment = LATER - timedelta(days=1, microseconds=by)
            await transaction.insert_request(caller, name, key.key_id, moment)
        await commit_one(transaction, [key_change(key, created=True)], make_event(key.key_id))
    first, last = (LATER - timedelta(days=days) for days in (31, 30))
    await store_days(store, key.key_id, first, last)
    assert await sweeper(store).sweep() == {"requests": 1, "sessions": 1, "key_use_days": 1}
    async with store.snapshot() as snapshot:
        assert await snapshot.find_request(caller, "old") is None
        assert await snapshot.find_request(caller, "new") == key.key_id
        assert await snapshot.find_session(old.session_id) is None
        assert await snapshot.find_session(new.session_id) is not None
        days = await snapshot.list_use_days(key.key_id, first=first.date(), last=last.date())
        assert [day for day, _ in days] == [last.date()]


async def store_days(store: SqlStore, key_id: KeyId, *moments: datetime) -> None:
    uses = [UseToAdd(key_id, one.date(), KeyUse(one, "192.0.2.1", 1)) for one in moments]
    await store.add_uses(uses)


async def insert_changes(direct: AsyncEngine, revisions: range, each: int = 1) -> None:
    rows = [
        {
            "revision": revision,
            "position": position,
            "kind": ChangeKind.KEY.value,
            "subject": f"key_{revision}",
            "keyspace": "demo",
            "created": False,
        }
        for revision in revisions
        for position in range(each)
    ]
    async with direct.begin() as connection:
        await connection.execute(insert(tables.changes), rows)
        await connection.execute(update(tables.head).values(revision=revisions[-1]))


async def first_change(store: SqlStore) -> int:
    async with store.snapshot() as snapshot:
        found: list[tuple[int, Change]] = await snapshot.list_changes(after=0, limit=1)
    return found[0][0]


async def test_changes_go_but_for_the_newest(store: SqlStore, direct: AsyncEngine) -> None:
    await insert_changes(direct, range(1, 2_101), each=2)
    assert await sweeper(store).sweep() == {"changes": 2_200}
    assert await first_change(store) == 1_101


async def test_changes_that_a_process_has_not_acknowledged_stay(
    store: SqlStore, direct: AsyncEngine
) -> None:
    await insert_changes(direct, range(1, 2_101))
    register = store.register()
    standing = await register.join("srv_1", "one", LeaseTerms())
    assert await sweeper(store, changes_need_acknowledgement=True).sweep() == {}
    await register.renew("srv_1", 50, standing.epoch)
    await sweeper(store, changes_need_acknowledgement=True).sweep()
    assert await first_change(store) == 51
    await register.renew("srv_1", 2_100, standing.epoch)
    await sweeper(store, changes_need_acknowledgement=True).sweep()
    assert await first_change(store) == 1_101


async def test_a_revision_goes_whole(store: SqlStore, direct: AsyncEngine) -> None:
    """Half a revision would be taken for all of it."""
    await insert_changes(direct, range(1, 3), each=ROWS_AT_ONCE + 10)
    await insert_changes(direct, range(3, 1_003))
    retention = store.retention()
    removed = []
    while count := await retention.remove_changes(kept=1_000, acknowledged=False):
        removed.append(count)
    assert removed == [ROWS_AT_ONCE + 10] * 2
    assert await first_change(store) == 3


@dataclass
class Week:
    """The writes of a week, and what the removals after it cost."""

    store: SqlStore
    direct: AsyncEngine
    clock: FrozenClock
    key_ids: list[KeyId]
    account_id: str
    revision: int = 0

    async def pass_by(self) -> tuple[dict[str, int], Statements]:
        await self._write()
        self.clock.advance(timedelta(days=7))
        end = await end_of(self.store)
        async with self.store.snapshot() as snapshot:
            exported = (await snapshot.audit_cut()).exported.count
        await export(self.store, exported, end)
        retention = Retention(
            self.store.retention(), self.clock, replace(KEPT, changes=5 * CHANGES), no_pause
        )
        with watching(self.store) as statements:
            return dict(await retention.sweep()), statements

    async def _write(self) -> None:
        now = self.clock.now()
        await append(self.store, EVENTS, now)
        await insert_changes(self.direct, range(self.revision + 1, self.revision + CHANGES + 1))
        self.revision += CHANGES
        moments = [now + timedelta(days=day) for day in range(7)]
        async with self.direct.begin() as connection:
            await connection.execute(
                insert(tables.requests),
                [
                    {
                        "caller_key_id": "key_op",
                        "request_id": f"r{now.timestamp()}-{number}",
                        "key_id": self.key_ids[0],
                        "time": moments[number % 7],
                    }
                    for number in range(REQUESTS)
                ],
            )
            await connection.execute(
                insert(tables.sessions),
                [
                    {
                        "session_id": f"ses_{now.timestamp()}_{number}",
                        "account_id": self.account_id,
                        "keyspace": "demo",
                        "create_time": moments[number % 7],
                        "expire_time": moments[number % 7] + timedelta(hours=1),
                        "revision": 1,
                    }
                    for number in range(SESSIONS)
                ],
            )
            await connection.execute(
                insert(tables.key_use_days),
                [
                    {"key_id": key_id, "day": one.date().isoformat(), "use_count": 9}
                    for key_id in self.key_ids
                    for one in moments
                ],
            )


async def sizes(direct: AsyncEngine) -> dict[str, int]:
    found = {}
    async with direct.connect() as connection:
        for name in ("audit_events", "changes", "requests", "sessions", "key_use_days"):
            result = await connection.exec_driver_sql(f"SELECT count(*) FROM {name}")
            found[name] = result.scalar_one()
    return found


async def test_a_year_of_heavy_use_leaves_a_flat_cost(store: SqlStore, direct: AsyncEngine) -> None:
    """By counts: rows left, statements sent, and how the database finds the rows."""
    keys, account = [make_key() for _ in range(8)], make_account()
    await insert_accounts(store, account)
    await insert_keys(store, *keys)
    async with direct.begin() as connection:
        await connection.execute(tables.changes.delete())
    clock = FrozenClock(START)
    week = Week(store, direct, clock, [key.key_id for key in keys], account.account_id, 2)
    left, sent = [], []
    for _ in range(WEEKS):
        removed, statements = await week.pass_by()
        left.append(await sizes(direct))
        sent.append(statements.counted())
    assert removed == {
        "requests": REQUESTS,
        "sessions": SESSIONS,
        "key_use_days": 7 * len(keys),
        "changes": CHANGES,
        # Also the events of an export and of a removal.
        "audit_events": EVENTS + 2,
    }
    settled = slice(8, None)
    assert all(one == left[-1] for one in left[settled]), left[settled]
    assert all(one == sent[-1] for one in sent[settled]), sent[settled]
    assert sum(left[-1].values()) < 6 * (EVENTS + CHANGES + REQUESTS + SESSIONS + 7 * len(keys))
    verified = await whole(store)
    assert verified.end.count > WEEKS * EVENTS
    if direct.dialect.name == "sqlite":
        async with direct.connect() as connection:
            for statement, parameters in {one[0]: one for one in statements.sent}.values():
                if statement.split()[0] not in {"SELECT", "DELETE"}:
                    continue
                plan = await connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
                for step in plan.mappings():
                    detail = step["detail"]
                    grows = any(name in detail for name in left[-1])
                    assert not (grows and detail.startswith("SCAN")), (statement, detail)
