"""Uses and failed attempts: noted on the way, written behind, bounded, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.authority import ACME, Authority, refused
from keyfence_server.application.calls import Call
from keyfence_server.application.failed_attempts import (
    CALL_ACTION,
    KEPT_OF_CREDENTIAL,
    KEPT_OF_STRANGERS,
    LOG_IN_ACTION,
    Attempt,
    FailedAttempts,
    ReportedAttempts,
)
from keyfence_server.application.ports import (
    MAX_USE_COUNT,
    AuditEvent,
    EventFilter,
    KeyUse,
    LoadedKeys,
    RecordedEvent,
    Snapshot,
    Store,
    StoreUnavailable,
    Transaction,
    UseToAdd,
    Wanted,
    not_urgent,
)
from keyfence_server.application.usage import MAX_REPORTED_COUNT, REPORTED_DAYS, Uses
from keyfence_server.application.write_behind import _USES_AT_ONCE, WriteBehind
from keyfence_server.domain.declarations import LimitsDeclaration
from keyfence_server.domain.errors import Unauthenticated
from keyfence_server.domain.keys import KeyId
from keyfence_server.domain.limits import Rate
from keyfence_server.domain.secrets import Digest
from support.clock import START, FrozenClock

MINUTE = timedelta(minutes=1)
DENIED = EventFilter(action_prefix="check.denied")


class Switch:
    """A store that can be away for what is written behind."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_away = False

    def _ask(self) -> Store:
        if self.is_away:
            raise StoreUnavailable("on purpose")
        return self.store

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._ask().snapshot() as snapshot:
            yield snapshot

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        return await self._ask().load_keys(questions)

    @asynccontextmanager
    async def transaction(
        self,
        wanted: Callable[[], Wanted] = Wanted,
        is_urgent: Callable[[], bool] = not_urgent,
    ) -> AsyncIterator[Transaction]:
        async with self._ask().transaction(wanted, is_urgent) as transaction:
            yield transaction

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        await self._ask().add_uses(uses)

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        await self._ask().append_events(events)

    async def ping(self) -> None:
        await self._ask().ping()

    async def close(self) -> None:
        await self.store.close()


async def use_of(authority: Authority, key_id: str) -> KeyUse | None:
    return (await authority.read_keys.get(authority.root, key_id)).use


async def attempts(authority: Authority) -> list[RecordedEvent]:
    """What is in the audit log, once the minute is over and all is written down."""
    authority.clock.advance(MINUTE)
    await authority.notes.flush()
    async with authority.store.snapshot() as snapshot:
        return await snapshot.list_events(DENIED, after=None, limit=10_000)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come")


# --- uses -----------------------------------------------------------------------------


async def test_a_record_says_when_and_where_the_key_was_last_used(authority: Authority) -> None:
    key = await authority.make(scopes=["vps:read"])
    assert await use_of(authority, key.facts.key_id) is None
    await authority.check(key, client_address="192.0.2.1")
    authority.clock.advance(MINUTE)
    await authority.check(key, "vps:read", client_address="192.0.2.2")
    assert await use_of(authority, key.facts.key_id) is None, "it is written behind"
    await authority.notes.flush()
    use = await use_of(authority, key.facts.key_id)
    assert use == KeyUse(START + MINUTE, "192.0.2.2", 2)
    authority.clock.advance(MINUTE)
    await authority.check(key)
    await authority.notes.flush()
    use = await use_of(authority, key.facts.key_id)
    assert use == KeyUse(START + 2 * MINUTE, "", 3)


async def test_only_a_check_that_passes_is_a_use(authority: Authority) -> None:
    await authority.declare(ACME, limits=LimitsDeclaration(per_key=Rate(1, MINUTE)))
    key = await authority.make(scopes=["vps:read"])
    await authority.check(key, "vps:write")
    await authority.check(key)
    await authority.check(key)
    await authority.revoke(None, key.facts.key_id)
    await authority.check(key)
    await authority.notes.flush()
    use = await use_of(authority, key.facts.key_id)
    assert use is not None
    assert use.count == 1


async def test_a_rotated_key_shows_whether_it_is_still_used(authority: Authority) -> None:
    key = await authority.make()
    rotated = await authority.rotate(None, key.facts.key_id, overlap=timedelta(days=1))
    await authority.check(key)
    await authority.notes.flush()
    assert await use_of(authority, key.facts.key_id) is not None
    assert await use_of(authority, rotated.successor.facts.key_id) is None


async def test_a_credential_of_keyfences_own_is_used_by_calling(authority: Authority) -> None:
    operator = await authority.operator("acme")
    await authority.notes.flush()
    use = await use_of(authority, operator.credential_id)
    assert use is not None
    assert use.count == 1


async def test_uses_are_counted_by_day(authority: Authority) -> None:
    key = await authority.make()
    authority.clock.set(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC))
    await authority.check(key)
    authority.clock.advance(timedelta(seconds=1))
    await authority.check(key)
    await authority.check(key)
    await authority.notes.flush()
    days = await authority.read_keys.use_days(authority.root, key.facts.key_id, first="", last="")
    assert days == [(date(2026, 1, 31), 1), (date(2026, 2, 1), 2)]
    alone = await authority.read_keys.use_days(
        authority.root, key.facts.key_id, first="2026-02-01", last="2026-02-01"
    )
    assert alone == days[1:]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("yesterday", ""),
        ("", "2026-13-01"),
        ("2026-02-02", "2026-02-01"),
        ("2024-01-01", "2026-01-01"),
        ("", "0001-01-01x"),
    ],
)
async def test_days_that_are_none_are_refused(authority: Authority, first: str, last: str) -> None:
    key = await authority.make()
    with refused("INVALID_FIELD"):
        await authority.read_keys.use_days(authority.root, key.facts.key_id, first=first, last=last)


async def test_uses_are_kept_while_the_store_is_away(authority: Authority) -> None:
    switch = Switch(authority.store)
    notes = WriteBehind(switch, authority.clock)
    key_id = KeyId("key_1")
    notes.uses.note(key_id, "192.0.2.1")
    switch.is_away = True
    for _ in range(3):
        await notes.flush()
    notes.uses.note(key_id, "192.0.2.2")
    switch.is_away = False
    await notes.flush()
    async with authority.store.snapshot() as snapshot:
        use = (await snapshot.find_uses([key_id]))[key_id]
    assert use == KeyUse(START, "192.0.2.2", 2)
    assert notes.failures == 3


async def test_uses_of_many_keys_are_written_in_parts_and_once(authority: Authority) -> None:
    """To put a hundred thousand together at once would hold up every check."""
    sizes: list[int] = []

    class Counting(Switch):
        async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
            sizes.append(len(uses))
            written.extend(one.key_id for one in uses)

    written: list[KeyId] = []
    notes = WriteBehind(Counting(authority.store), authority.clock)
    ids = [KeyId(f"key_{number}") for number in range(2 * _USES_AT_ONCE + 1)]
    for key_id in ids:
        notes.uses.note(key_id, "192.0.2.1")
    await notes.flush()
    assert sorted(written) == sorted(ids)
    assert max(sizes) <= _USES_AT_ONCE
    assert len(notes.uses) == 0


def test_the_memory_for_uses_is_bounded_and_what_is_left_out_is_counted() -> None:
    uses = Uses(FrozenClock(), most_keys=10)
    for number in range(15):
        uses.note(KeyId(f"key_{number}"), "")
    uses.note(KeyId("key_0"), "")
    assert len(uses) == 10
    assert uses.left_out == 5
    taken = uses.take(1_000)
    assert sum(one.use.count for one in taken) == 11
    for number in range(10):
        uses.note(KeyId(f"other_{number}"), "")
    uses.put_back(taken)
    assert len(uses) == 10
    assert uses.left_out == 16


def test_calls_that_are_written_together_have_one_address() -> None:
    uses = Uses(FrozenClock())
    for number in range(100):
        uses.note_call(KeyId("key_1"), f"192.0.2.{number + 1}")
    assert uses.take(1_000)[0].use == KeyUse(START, "192.0.2.1", 100)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 100_000), st.booleans())))
def test_no_use_is_lost_or_invented_however_writing_fails(
    steps: list[tuple[str, int, bool]],
) -> None:
    clock = FrozenClock()
    uses = Uses(clock)
    written = 0
    for key_id, wait, fails in steps:
        clock.advance(timedelta(seconds=wait))
        uses.note(KeyId(key_id), "")
        taken = uses.take(1_000)
        if fails:
            uses.put_back(taken)
        else:
            written += sum(one.use.count for one in taken)
    written += sum(one.use.count for one in uses.take(1_000))
    assert written == len(steps)


# --- attempts that failed -------------------------------------------------------------


async def test_attempts_that_failed_are_in_the_audit_log(authority: Authority) -> None:
    key = await authority.make(scopes=["vps:read"], allowed_addresses=["192.0.2.1"])
    for _ in range(3):
        await authority.check(key, client_address="198.51.100.7", request_id="req-1")
    (found,) = await attempts(authority)
    event = found.event
    assert found.revision is None
    assert (event.keyspace, event.account_id, event.subject) == ("acme", "anna", key.facts.key_id)
    assert (event.actor_key_id, event.request_id, event.time) == (None, "req-1", START)
    assert event.details == {
        "reason": "ADDRESS_NOT_ALLOWED",
        "count": 3,
        "address": "198.51.100.7",
        "first_time": START.isoformat(),
    }


async def test_every_reason_but_a_missing_credential_is_recorded(authority: Authority) -> None:
    await authority.declare(ACME, limits=LimitsDeclaration(per_key=Rate(1, MINUTE)))
    key = await authority.make(scopes=["vps:read"])
    other = await authority.make()
    gone = await authority.make()
    await authority.revoke(None, gone.facts.key_id)
    form = (await authority.read_keyspaces.get(authority.root, "acme")).forms["secret", "live"]
    unknown = form.mint()
    await authority.check("")
    await authority.check(key)
    await authority.check(key)
    await authority.check(key, "vps:write")
    await authority.check(gone)
    await authority.check("no key at all")
    await authority.check(unknown)
    await authority.check(other, keyspace="other")
    reasons = [found.event.details["reason"] for found in await attempts(authority)]
    assert reasons == [
        "RATE_LIMITED",
        "SCOPE_MISSING",
        "KEY_REVOKED",
        "CREDENTIAL_MALFORMED",
        "KEY_UNKNOWN",
        "KEYSPACE_MISMATCH",
    ]


async def test_an_unknown_key_is_known_by_its_display_prefix_and_any_other_text_not_at_all(
    authority: Authority,
) -> None:
    """What is no key may be a password that was put in the wrong place."""
    form = (await authority.read_keyspaces.get(authority.root, "acme")).forms["secret", "live"]
    unknown = form.mint()
    await authority.check(unknown)
    await authority.check("correct horse battery staple")
    like_a_key, like_none = await attempts(authority)
    assert like_a_key.event.subject == form.display_prefix(unknown)
    assert like_a_key.event.keyspace == "acme"
    assert like_none.event.subject == like_none.event.keyspace == ""
    assert "correct" not in repr(like_none)
    assert unknown.reveal() not in repr(like_a_key)


async def test_an_attempt_at_keyfences_own_door_is_recorded_for_operators(
    authority: Authority,
) -> None:
    gone = await authority.make(
        keyspace="system", account_id="operators", preset="checker", bound_keyspaces=["acme"]
    )
    await authority.revoke(None, gone.facts.key_id)
    for credential in (gone.plaintext.reveal(), "made-up", ""):
        with pytest.raises(Unauthenticated):
            await authority.callers.identify(
                credential, Call(request_id="req-9", address="198.51.100.7")
            )
    revoked, malformed = (found.event for found in await attempts(authority))
    assert (revoked.keyspace, revoked.subject) == ("system", gone.facts.key_id)
    assert (malformed.keyspace, malformed.subject) == ("system", "")
    for event in (revoked, malformed):
        assert event.details["address"] == "198.51.100.7"
        assert event.request_id == "req-9"


async def test_alike_attempts_of_a_minute_are_one_event_and_of_two_are_two(
    authority: Authority,
) -> None:
    key = await authority.make(allowed_addresses=["192.0.2.1"])
    authority.clock.set(datetime(2026, 1, 2, 3, 4, 59, tzinfo=UTC))
    await authority.check(key, client_address="198.51.100.7")
    authority.clock.advance(timedelta(seconds=1))
    for _ in range(4):
        await authority.check(key, client_address="198.51.100.7")
    await authority.check(key, client_address="198.51.100.8")
    counts = [found.event.details["count"] for found in await attempts(authority)]
    assert counts == [1, 4, 1]


async def test_what_is_left_when_the_server_drains_is_written_down(authority: Authority) -> None:
    await authority.check("made-up")
    await authority.notes.flush()
    async with authority.store.snapshot() as snapshot:
        assert not await snapshot.list_events(DENIED, after=None, limit=1)
    await authority.notes.flush(finally_=True)
    async with authority.store.snapshot() as snapshot:
        assert len(await snapshot.list_events(DENIED, after=None, limit=2)) == 1


def test_a_flood_is_counted_and_bounded() -> None:
    """A million different attempts in a minute are so many events, and all are counted."""
    clock = FrozenClock()
    failed = FailedAttempts(clock)
    for number in range(100_000):
        attempt = Attempt("acme", "KEY_UNKNOWN", "", f"ac_{number}", f"10.0.0.{number}")
        failed.note(attempt, None)
    assert len(failed) == KEPT_OF_STRANGERS + 1
    clock.advance(MINUTE)
    events = failed.take()
    assert sum(int(str(event.details["count"])) for event in events) == 100_000
    together = [event for event in events if not event.subject]
    assert [event.details["count"] for event in together] == [100_000 - KEPT_OF_STRANGERS]
    assert failed.noted == 100_000


def test_strangers_of_one_keyspace_do_not_hide_those_of_another() -> None:
    """Threat 35: each keyspace's operator sees where its own unknown keys were tried."""
    clock = FrozenClock()
    failed = FailedAttempts(clock)
    for number in range(2_000):
        failed.note(Attempt("acme", "KEY_UNKNOWN", "", f"ac_{number}", "10.0.0.1"), None)
    failed.note(Attempt("other", "KEY_UNKNOWN", "", "ot_1", "192.0.2.1"), None)
    clock.advance(MINUTE)
    (event,) = [event for event in failed.take() if event.keyspace == "other"]
    assert (event.subject, event.details["address"]) == ("ot_1", "192.0.2.1")


def known(number: int, *, keyspace: str = "acme", address: str = "192.0.2.1") -> Attempt:
    """A call that a known credential of an account made and may not make."""
    return Attempt(
        keyspace, "SCOPE_REQUIRED", "anna", f"key_{number}", address,
        action=CALL_ACTION, actor_id=KeyId(f"key_{number}"), method=f"/keyfence.v1/M{number}",
    )  # fmt: skip


@pytest.mark.parametrize(
    "noise",
    [
        lambda number: Attempt("acme", "KEY_UNKNOWN", "", f"ac_{number}", f"10.0.0.{number}"),
        lambda number: Attempt("", "CREDENTIAL_MALFORMED", "", "", f"10.0.0.{number}"),
        lambda number: Attempt(
            "acme", "LOG_IN_FAILED", f"u{number}", f"u{number}", "192.0.2.9", LOG_IN_ACTION
        ),
        lambda number: known(1_000_000 + number, keyspace="other"),
        lambda number: known(7, address=f"10.0.0.{number}"),
        lambda number: known(number)._replace(keyspace="acme", reported_by="key_holder"),
        lambda number: known(number)._replace(keyspace="system", reported_by="key_holder"),
    ],
    ids=["unknown keys", "no keys", "log-ins", "another keyspace", "another credential",
         "a holder's reports", "a holder's reports about operators"],
)  # fmt: skip
def test_denials_of_a_known_credential_keep_their_details_whatever_else_fails(
    noise: Callable[[int], Attempt],
) -> None:
    """Threat 28: with one budget for all, noise would hide who tried what, and from where."""
    clock = FrozenClock()
    failed = FailedAttempts(clock)
    for number in range(20_000):
        failed.note(noise(number), None)
    operator = known(1, keyspace="system")
    for attempt in (known(1), operator):
        failed.note(attempt, None)
    clock.advance(MINUTE)
    events = failed.take()
    for attempt in (known(1), operator):
        (event,) = [
            event
            for event in events
            if (event.actor_key_id, event.keyspace) == ("key_1", attempt.keyspace)
            and "reported_by" not in event.details
        ]
        assert event.details["method"] == attempt.method
        assert event.details["address"] == attempt.address
    assert len(events) < 1_100
    assert sum(int(str(event.details["count"])) for event in events) == 20_002


def test_a_credential_that_fails_from_many_addresses_loses_the_addresses_alone() -> None:
    clock = FrozenClock()
    failed = FailedAttempts(clock)
    for number in range(1_000):
        failed.note(known(1, address=f"10.0.{number}"), None)
    clock.advance(MINUTE)
    events = failed.take()
    assert len(events) == KEPT_OF_CREDENTIAL + 1
    assert {event.details["method"] for event in events} == {known(1).method}
    assert sum(int(str(event.details["count"])) for event in events) == 1_000


# --- what other processes report ------------------------------------------------------


def reported(**fields: Any) -> UseToAdd:
    """A use that is in order, but for these fields."""
    usual: dict[str, Any] = {"day": START.date(), "time": START, "count": 1, "key_id": "key_1"}
    one = {**usual, **fields}
    return UseToAdd(KeyId(one["key_id"]), one["day"], KeyUse(one["time"], "", one["count"]))


LONG_AGO: Any = datetime(1, 1, 1, tzinfo=UTC)
FAR_OFF: Any = datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "use",
    [
        reported(count=0),
        reported(count=-5),
        reported(count=MAX_REPORTED_COUNT + 1),
        reported(count=2**63),
        reported(day=START.date() - timedelta(days=REPORTED_DAYS + 1)),
        reported(day=date(1, 1, 1)),
    ],
    ids=str,
)
def test_a_use_that_is_not_plausible_is_not_believed(use: UseToAdd) -> None:
    uses = Uses(FrozenClock())
    assert uses.note_reported([use, reported(key_id="key_2")]) == 1
    assert [one.key_id for one in uses.take(1_000)] == ["key_2"]


def test_reported_times_are_clamped() -> None:
    """A forged time in the future would stay the last use for ever."""
    uses = Uses(FrozenClock())
    days = [START.date() - timedelta(days=1), START.date(), FAR_OFF.date()]
    for number, (day, time) in enumerate(
        (day, time) for day in days for time in (LONG_AGO, START, FAR_OFF)
    ):
        uses.note_reported([reported(key_id=f"key_{number}", day=day, time=time)])
    for one in uses.take(1_000):
        assert one.day <= START.date()
        assert one.day <= one.use.last_used_time.date() <= START.date()
        assert one.use.last_used_time <= START
    failed = FailedAttempts(FrozenClock())
    attempt = Attempt("acme", "KEY_REVOKED", "anna", "key_1")
    for first, last in ((-1e30, 1e30), (1e30, -1e30), (0.0, 0.0)):
        failed.note_reported([ReportedAttempts(attempt, 1, first, last, None)])
    (event,) = failed.take(unfinished=True)
    assert START - timedelta(days=REPORTED_DAYS) <= event.time <= START


def test_reported_attempts_are_believed_within_plausible_counts() -> None:
    failed = FailedAttempts(FrozenClock())
    attempt = Attempt("acme", "KEY_REVOKED", "anna", "key_1")
    now = START.timestamp()
    counts = (0, -1, MAX_REPORTED_COUNT + 1, 2**70, MAX_REPORTED_COUNT)
    told = [ReportedAttempts(attempt, count, now, now, None) for count in counts]
    assert failed.note_reported(told) == 4
    (event,) = failed.take(unfinished=True)
    assert event.details["count"] == MAX_REPORTED_COUNT


def test_sums_of_reports_saturate() -> None:
    uses = Uses(FrozenClock())
    uses.put_back([reported(count=MAX_USE_COUNT)])
    uses.note_reported([reported(count=MAX_REPORTED_COUNT)] * 10)
    uses.note(KeyId("key_1"), "")
    uses.put_back([reported(count=1)])
    assert [one.use.count for one in uses.take(1_000)] == [MAX_USE_COUNT]


class Refusing(Switch):
    """A store that refuses whatever holds one of these rows."""

    def __init__(self, store: Store, *refused: str) -> None:
        super().__init__(store)
        self.refused = refused

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        if any(one.key_id in self.refused for one in uses):
            raise ValueError("on purpose")
        await super().add_uses(uses)

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        if any(one.subject in self.refused for one in events):
            raise ValueError("on purpose")
        await super().append_events(events)


async def test_a_row_that_the_store_refuses_keeps_no_other_from_being_written(
    authority: Authority,
) -> None:
    """One row of a tenant would otherwise stop the counts of all, for good."""
    store: Any = Refusing(authority.store, "key_13", "key_66")
    notes = WriteBehind(store, authority.clock)
    ids = [KeyId(f"key_{number}") for number in range(100)]
    for key_id in ids:
        notes.uses.note(key_id, "")
        notes.attempts.note(Attempt("acme", "KEY_REVOKED", "anna", key_id), None)
    await notes.flush(finally_=True)
    async with authority.store.snapshot() as snapshot:
        written = await snapshot.find_uses(ids)
        events = await snapshot.list_events(DENIED, after=None, limit=200)
    assert len(written) == len(events) == 98
    assert [one.sequence for one in events] == sorted(one.sequence for one in events)
    assert notes.rows_refused == 4
    assert not len(notes)
    assert notes.failures == 2


async def test_nothing_is_lost_when_writing_is_cancelled(authority: Authority) -> None:
    class Slow(Switch):
        async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
            await asyncio.sleep(60)

        async def append_events(self, events: Sequence[AuditEvent]) -> None:
            await asyncio.sleep(60)

    slow: Any = Slow(authority.store)
    notes = WriteBehind(slow, authority.clock)
    notes.uses.note(KeyId("key_1"), "")
    notes.attempts.note(Attempt("acme", "KEY_REVOKED", subject="key_1"), None)
    flushing = asyncio.create_task(notes.flush(finally_=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.wait([flushing])
    assert len(notes) == 2


async def test_events_wait_for_the_store_within_bounds(authority: Authority) -> None:
    switch = Switch(authority.store)
    notes = WriteBehind(switch, authority.clock)
    switch.is_away = True
    for _ in range(3):
        notes.attempts.note(Attempt("acme", "KEY_UNKNOWN", subject="ac_1"), None)
        authority.clock.advance(MINUTE)
        await notes.flush()
    switch.is_away = False
    await notes.flush()
    async with authority.store.snapshot() as snapshot:
        assert len(await snapshot.list_events(DENIED, after=None, limit=10)) == 3
    assert notes.events_left_out == 0


async def test_writing_goes_on_after_an_unexpected_fault(authority: Authority) -> None:
    class Faulty(Switch):
        async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
            if self.is_away:
                raise RuntimeError("on purpose")
            await super().add_uses(uses)

    switch: Any = Faulty(authority.store)
    notes = WriteBehind(switch, authority.clock)
    switch.is_away = True
    keeping = asyncio.create_task(notes.keep(0.001))
    notes.uses.note(KeyId("key_1"), "")
    await until(lambda: notes.failures >= 2)
    switch.is_away = False
    await until(lambda: not len(notes))
    keeping.cancel()
    await asyncio.wait([keeping])
    async with authority.store.snapshot() as snapshot:
        assert (await snapshot.find_uses([KeyId("key_1")]))[KeyId("key_1")].count == 1
