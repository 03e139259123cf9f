"""Reads the audit log, and verifies it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, follow
from keyfence_server.application.callers import Caller, Operator
from keyfence_server.application.pages import Page, PageRequest, Paging
from keyfence_server.application.pauses import pause
from keyfence_server.application.ports import (
    AuditCut,
    ChainEnd,
    EventFilter,
    RecordedEvent,
    Snapshot,
    Store,
)
from keyfence_server.domain.errors import Forbidden, InvalidInput
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.system import ALL_KEYSPACES

MAX_EVENTS: Final = 10_000

_HASH_BYTES: Final = 32
# Events in a slice: to hash them takes less than 20 milliseconds.
_BATCH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditListing(PageRequest):
    """Which events to list. Fields and defaults as in `ListAuditEventsRequest`."""

    keyspace: str = ""
    account_id: str = ""
    subject: str = ""
    actor_id: str = ""
    action_prefix: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    newest_first: bool = False
    after_event_id: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """How far the chain holds.

    Attributes:
        end: the last event up to which it does.
        is_complete: whether that is the end of the chain.
        problem: what is wrong with the event behind it, for people; empty for nothing.
        removed: the last event that was removed from the store.
    """

    end: ChainEnd
    is_complete: bool
    problem: str = ""
    removed: ChainEnd = BEFORE_THE_FIRST


@dataclass(frozen=True, slots=True)
class ReadAudit:
    """Answers questions about what was done, from the store."""

    _store: Store

    async def list(self, caller: Caller, listing: AuditListing) -> Page[RecordedEvent]:
        """Events of what the caller may know of, in the order of the chain.

        Raises:
            InvalidInput: the page's size or token, or another field, is wrong.
            Forbidden: the keyspace is not for this caller.
        """
        caller.require_key_management("audit:read")
        which = _filter(caller, listing)
        if which.keyspaces is None:
            which = _within_reach(caller, which)
        paging = Paging.read(caller, listing)
        token = paging.after
        async with self._store.snapshot() as snapshot:
            behind = listing.after_event_id
            if behind:
                place = await _place_of(snapshot, which, behind, "after_event_id")
                which = replace(which, after_sequence=place)
            after = await _place_of(snapshot, which, token, "page_token") if token else None
            events = await snapshot.list_events(
                which, after=after, limit=paging.limit + 1, newest_first=listing.newest_first
            )
        if not _sees_the_chain(caller):
            events = [replace(one, sequence=0, revision=None, hash=b"") for one in events]
        return paging.page(events, lambda one: one.event.event_id)

    async def verify(self, caller: Caller, after: ChainEnd, max_events: int) -> Verified:
        """Goes along the chain from a place in it.

        Args:
            after: where to begin, and the hash that the event there is known to have.
            max_events: 0 for the most that there can be.

        Raises:
            InvalidInput: a field is wrong.
            Forbidden: the caller is not bound to every keyspace.
        """
        require_the_chain(caller)
        return await verify_chain(self._store, after, max_events)


async def verify_chain(store: Store, after: ChainEnd, max_events: int) -> Verified:
    """Goes along the chain, as `ReadAudit.verify` does, for programs that have the store itself."""
    if after.count < 0 or not 0 <= max_events <= MAX_EVENTS:
        raise InvalidInput.field("max_events", f"must be 1 to {MAX_EVENTS}, or 0 for {MAX_EVENTS}")
    if after.count and len(after.hash) != _HASH_BYTES:
        raise InvalidInput.field("after_hash", "must be the 32 bytes of that event's hash")
    async with store.snapshot() as snapshot:
        cut = await snapshot.audit_cut()
        problem = await _problem_of_cut(snapshot, cut)
        if not problem and after.count:
            problem = _problem_of_anchor(after, cut.removed)
        if problem:
            return Verified(after, is_complete=False, problem=problem, removed=cut.removed)
        begin = after if after.count else cut.removed
        return await _verified(snapshot, begin, max_events or MAX_EVENTS, cut.removed)


def _problem_of_anchor(after: ChainEnd, removed: ChainEnd) -> str:
    """What is wrong with a place in the chain at or before the cut; empty for nothing."""
    if after.count < removed.count:
        return (
            f"the events up to {removed.count} were removed; verify event {after.count} in the "
            "exported file"
        )
    if after.count == removed.count and after.hash != removed.hash:
        return f"event {after.count}, which was removed, was a different one"
    return ""


async def _problem_of_cut(snapshot: Snapshot, cut: AuditCut) -> str:
    """What is wrong with the beginning of the chain that is left; empty for nothing.

    The event that says what was removed is in the chain that is left. So the beginning of the
    chain cannot be moved without it.
    """
    if not cut.removed.count and not cut.removal_sequence:
        return "" if cut.removed == BEFORE_THE_FIRST else "the hash before the first event is wrong"
    found = await snapshot.list_events(EventFilter(), after=cut.removal_sequence - 1, limit=1)
    for one in found:
        details = one.event.details
        says = (one.sequence, one.event.action, details.get("last"), details.get("hash"))
        removed = (cut.removed.count, cut.removed.hash.hex())
        if says == (cut.removal_sequence, "audit.remove", *removed):
            return ""
    return f"the events up to {cut.removed.count} are missing, and no event says who removed them"


async def _verified(snapshot: Snapshot, end: ChainEnd, left: int, removed: ChainEnd) -> Verified:
    head = await snapshot.end_of_events()
    is_at_end = False
    while left and not is_at_end:
        events = await snapshot.list_events(EventFilter(), after=end.count, limit=min(left, _BATCH))
        is_at_end = not events
        left -= len(events)
        end, problem = follow(end, events)
        await pause()
        if problem:
            return Verified(end, is_complete=False, problem=problem, removed=removed)
    if not is_at_end and end.count < head.count:
        return Verified(end, is_complete=False, removed=removed)
    problem = _problem_of_end(end, head)
    return Verified(end, is_complete=not problem, problem=problem, removed=removed)


def _problem_of_end(end: ChainEnd, head: ChainEnd) -> str:
    if end.count < head.count:
        return f"events {end.count + 1} to {head.count} are missing at the end"
    if end.count > head.count:
        return f"there are events after {head.count}, which was the last"
    return "" if end == head else f"event {end.count} is not the one that was written last"


def _sees_the_chain(caller: Caller) -> bool:
    """Whether the caller may know of places in the chain of all events, and so of how much goes
    on in every keyspace."""
    return isinstance(caller, Operator) and caller.facts.acts_on_all


def require_the_chain(caller: Caller) -> None:
    """Raises `Forbidden` if the caller may not know of places in the chain."""
    if not _sees_the_chain(caller):
        raise Forbidden(
            "the chain is one for all keyspaces; use a credential that is bound to "
            f'"{ALL_KEYSPACES}"',
            reason="KEYSPACE_NOT_BOUND",
            keyspace=ALL_KEYSPACES,
        )


async def _place_of(snapshot: Snapshot, which: EventFilter, event_id: str, field: str) -> int:
    """The place of an event that the caller may know of. Raises `InvalidInput`."""
    reach = EventFilter(
        keyspaces=which.keyspaces, but_keyspace=which.but_keyspace, account_id=which.account_id
    )
    found = await snapshot.find_event(event_id, reach)
    if found is None:
        raise InvalidInput.field(field, "is not the id of an event that this credential may see")
    return found


def _filter(caller: Caller, listing: AuditListing) -> EventFilter:
    keyspace, account_id = listing.keyspace, listing.account_id
    own = caller.own_account
    if own is not None:
        # Whose events are listed comes from the credential, whatever the request says.
        keyspace, account_id = keyspace or own.keyspace, account_id or own.account_id
        if account_id != own.account_id:
            raise InvalidInput.field("account_id", "an account can see only its own events")
    if keyspace:
        caller.require_reach(keyspace)
    return EventFilter(
        keyspaces=frozenset({keyspace}) if keyspace else None,
        account_id=account_id or None,
        subject=listing.subject or None,
        actor_key_id=listing.actor_id or None,
        action_prefix=listing.action_prefix or None,
        start_time=listing.start_time,
        end_time=listing.end_time,
    )


def _within_reach(caller: Caller, which: EventFilter) -> EventFilter:
    """The filter, with the keyspaces that an operator's credential is bound to, and so is
    every one that it was delegated from."""
    if not isinstance(caller, Operator):
        raise TypeError("only operators see more than one account's events")
    facts = caller.facts
    sees_system = facts.acts_on(SYSTEM)
    named = [set(key.bound_keyspaces) for key in facts.lineage]
    explicit = [names for names in named if ALL_KEYSPACES not in names]
    if not explicit:
        return replace(which, but_keyspace=None if sees_system else SYSTEM)
    names = set.intersection(*explicit) - {SYSTEM}
    return replace(which, keyspaces=frozenset(names | ({SYSTEM} if sees_system else set())))
