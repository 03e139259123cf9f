"""Who sees what of the audit log, and in which order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from application.authority import Authority, refused
from keyfence_server.adapters.sql import SqlStore
from keyfence_server.application.audit_archive import follow_archive, line_of
from keyfence_server.application.audit_chain import BEFORE_THE_FIRST
from keyfence_server.application.callers import Caller
from keyfence_server.application.export_audit import ExportAudit
from keyfence_server.application.ports import ChainEnd, RecordedEvent
from keyfence_server.application.read_audit import AuditListing
from keyfence_server.domain.errors import Forbidden, InvalidInput


async def listed(
    authority: Authority, by: Caller | None = None, **fields: Any
) -> list[RecordedEvent]:
    """All events, page by page."""
    events: list[RecordedEvent] = []
    token = ""
    while True:
        page = await authority.read_audit.list(
            by or authority.root, AuditListing(**{"page_size": 2, "page_token": token, **fields})
        )
        events += page.items
        token = page.next_page_token
        if not token:
            return events


def about(events: list[RecordedEvent]) -> set[tuple[str, str]]:
    return {(one.event.keyspace, one.event.subject) for one in events}


async def test_every_mutation_is_one_event_with_its_actor(authority: Authority) -> None:
    before = await authority.revision()
    key = (await authority.make(scopes=["vps:read"])).facts.key_id
    await authority.update(None, key, display_name="CI")
    rotated = await authority.rotate(None, key)
    await authority.revoke(None, rotated.successor.facts.key_id)
    events = [one for one in await listed(authority) if (one.revision or 0) > before]
    assert [one.event.action for one in events] == [
        "key.create",
        "key.update",
        "key.rotate",
        "key.revoke",
    ]
    assert {one.event.actor_key_id for one in events} == {authority.root.credential_id}
    assert [one.revision for one in events] == list(range(before + 1, before + 5))


async def test_pages_together_are_everything_once_in_either_order(authority: Authority) -> None:
    for _ in range(4):
        await authority.make()
    up = await listed(authority)
    assert [one.sequence for one in up] == list(range(1, len(up) + 1))
    assert await listed(authority, newest_first=True) == up[::-1]
    assert await listed(authority, page_size=0) == up


async def test_a_caller_that_follows_the_log_sees_each_event_once(authority: Authority) -> None:
    seen = (await listed(authority))[-1].event.event_id
    for _ in range(3):
        made = await authority.make()
        (event,) = await listed(authority, after_event_id=seen)
        assert event.event.subject == made.facts.key_id
        seen = event.event.event_id
    assert await listed(authority, after_event_id=seen) == []
    assert await listed(authority, after_event_id=seen, newest_first=True) == []


async def test_an_operator_sees_the_keyspaces_that_it_is_bound_to(authority: Authority) -> None:
    acme = await authority.make()
    other = await authority.make(keyspace="other")
    operators = {
        "acme": await authority.operator("acme"),
        "both": await authority.operator("acme", "other"),
        "all": await authority.operator("*"),
        "system": await authority.operator("system"),
        "nowhere": await authority.operator("elsewhere"),
    }
    await authority.check("made-up")
    await authority.notes.flush(finally_=True)
    seen = {name: about(await listed(authority, by)) for name, by in operators.items()}
    here, there = ("acme", acme.facts.key_id), ("other", other.facts.key_id)
    assert {keyspace for keyspace, _ in seen["acme"]} == {"acme"}
    assert here in seen["acme"]
    assert {keyspace for keyspace, _ in seen["both"]} == {"acme", "other"}
    assert {here, there} <= seen["both"]
    assert {keyspace for keyspace, _ in seen["all"]} == {"acme", "other", ""}
    assert {keyspace for keyspace, _ in seen["system"]} == {"system"}
    assert seen["nowhere"] == set()
    assert {keyspace for keyspace, _ in about(await listed(authority))} == {
        "acme",
        "other",
        "system",
        "",
    }
    with refused("KEYSPACE_NOT_BOUND"):
        await listed(authority, operators["acme"], keyspace="other")
    with refused("KEYSPACE_NOT_BOUND"):
        await listed(authority, operators["all"], keyspace="system")


async def test_a_place_in_the_chain_is_told_to_operators_of_every_keyspace_alone(
    authority: Authority,
) -> None:
    """Places in the chain of all events tell how much goes on in other keyspaces."""
    by_bound = await authority.operator("acme")
    mine = await authority.make()
    theirs = await authority.make(keyspace="other")
    account = await authority.acting(await authority.make(scopes=["*"], account_id="bob"))
    whole = {one.event.event_id: one for one in await listed(authority)}
    for by in (by_bound, account):
        page = await authority.read_audit.list(by, AuditListing(page_size=1))
        for one in page.items:
            assert (one.sequence, one.revision, one.hash) == (0, None, b"")
            assert one.event == whole[one.event.event_id].event
        with refused("KEYSPACE_NOT_BOUND"):
            await authority.read_audit.verify(by, BEFORE_THE_FIRST, 0)
    told = [one.event.event_id for one in await listed(authority, by_bound)]
    assert told == [name for name, one in whole.items() if one.event.keyspace == "acme"]
    assert mine.facts.key_id in {whole[name].event.subject for name in told}
    # Nor does the order of an event that the caller may not know of show.
    hidden = next(n for n, one in whole.items() if one.event.subject == theirs.facts.key_id)
    for unknown in (hidden, "evt_none"):
        with refused("INVALID_FIELD", "after_event_id"):
            await listed(authority, by_bound, after_event_id=unknown)
    everywhere = await authority.operator("*")
    assert all(one.sequence for one in await listed(authority, everywhere))


async def test_a_delegated_operator_sees_no_more_than_those_above_it(authority: Authority) -> None:
    bound = await authority.operator("acme")
    child = await authority.operator("acme", parent_key_id=bound.credential_id)
    await authority.make(keyspace="other")
    assert {keyspace for keyspace, _ in about(await listed(authority, child))} == {"acme"}


async def test_an_account_sees_its_own_events_and_no_others(authority: Authority) -> None:
    anna = await authority.make(scopes=["*"])
    bob = await authority.make(account_id="bob")
    same_name = await authority.make(keyspace="other")
    by = await authority.acting(anna)
    assert about(await listed(authority, by)) == {("acme", anna.facts.key_id)}
    assert about(await listed(authority, by, subject=bob.facts.key_id)) == set()
    assert about(await listed(authority, by, subject=same_name.facts.key_id)) == set()
    with refused("INVALID_FIELD", "account_id"):
        await listed(authority, by, account_id="bob")
    with refused("KEYSPACE_NOT_BOUND"):
        await listed(authority, by, keyspace="other")


async def test_a_key_that_manages_none_sees_nothing(authority: Authority) -> None:
    public = await authority.acting(await authority.make(key_type="publishable", scopes=[]))
    with refused("KEY_TYPE_MAY_NOT_MANAGE"):
        await listed(authority, public)
    checker = await authority.operator("acme", scopes=["keys:*"])
    with refused("SCOPE_REQUIRED"):
        await listed(authority, checker)


async def test_a_page_token_is_for_its_own_listing(authority: Authority) -> None:
    await authority.make()
    page = await authority.read_audit.list(authority.root, AuditListing(page_size=1))
    token = page.next_page_token
    assert token
    for fields in (
        {"keyspace": "acme"},
        {"newest_first": True},
        {"after_event_id": page.items[0].event.event_id},
        {"end_time": authority.clock.now() + timedelta(days=1)},
    ):
        with refused("INVALID_FIELD", "page_token"):
            await authority.read_audit.list(
                authority.root,
                AuditListing(page_token=token, **fields),
            )
    other = await authority.operator("*", "system")
    with refused("INVALID_FIELD", "page_token"):
        await authority.read_audit.list(other, AuditListing(page_token=token))


@pytest.mark.parametrize(
    ("end", "max_events"),
    [
        (ChainEnd(-1, b""), 0),
        (ChainEnd(1, b""), 0),
        (ChainEnd(1, bytes(31)), 0),
        (BEFORE_THE_FIRST, -1),
        (BEFORE_THE_FIRST, 10_001),
    ],
)
async def test_a_wrong_place_to_begin_is_refused(
    authority: Authority, end: ChainEnd, max_events: int
) -> None:
    with refused("INVALID_FIELD"):
        await authority.read_audit.verify(authority.root, end, max_events)


async def test_a_place_that_is_behind_the_end_is_a_break(authority: Authority) -> None:
    """A caller that names an event that is gone learns that the log was cut off."""
    end = (await authority.read_audit.verify(authority.root, BEFORE_THE_FIRST, 0)).end
    verified = await authority.read_audit.verify(
        authority.root, ChainEnd(end.count + 5, bytes(32)), 0
    )
    assert not verified.is_complete
    assert verified.problem


def exporting(authority: Authority) -> ExportAudit:
    store = authority.store
    assert isinstance(store, SqlStore)
    return ExportAudit(store, store.retention(), authority.clock)


async def test_the_log_is_exported_as_its_hashes_cover_it(authority: Authority) -> None:
    for _ in range(3):
        await authority.make()
    export = exporting(authority)
    by = await authority.operator("*", "system", scopes=["audit:export"])
    end, after = None, 0
    while (page := await export.export(by, after, 2)).events:
        assert page.previous == (end or BEFORE_THE_FIRST)
        previous = page.previous.hash
        for one in page.events:
            end = follow_archive(end, [line_of(previous, one)])
            previous = one.hash
        assert end is not None
        after = end.count
    async with authority.store.snapshot() as snapshot:
        assert end == await snapshot.end_of_events()
    assert await export.record_export(by, 0, page.previous) == page.previous
    recorded = (await listed(authority, newest_first=True))[0].event
    assert (recorded.action, recorded.actor_key_id) == ("audit.export", by.credential_id)
    with pytest.raises(InvalidInput, match="the last event is"):
        await export.export(by, 9_999, 2)
    with pytest.raises(InvalidInput, match="does not end with an event"):
        await export.record_export(by, 0, ChainEnd(2, bytes(32)))


@pytest.mark.parametrize("bound", [("*",), ("acme", "system"), ("acme",), ("system",)])
async def test_the_log_is_exported_by_operators_of_every_keyspace_alone(
    authority: Authority, bound: tuple[str, ...]
) -> None:
    """The log has the events of all keyspaces, and of `system`."""
    export = exporting(authority)
    by = await authority.operator(*bound, scopes=["audit:export"])
    with pytest.raises(Forbidden):
        await export.export(by, 0, 2)
    with pytest.raises(Forbidden):
        await export.record_export(by, 0, ChainEnd(1, bytes(32)))
