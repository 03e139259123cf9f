"""What a store must look like after any crash, worked out from its audit log.

The audit log is replayed: it says which keys there must be, in which state, written at
which revision, and which changes and requests. The tables must say the same, no more
and no less. So a mutation of which any part is missing, or of which only a part is
there, shows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crash.load import PEPPERS, Acknowledgement
from keyfence_server.adapters.sql import SqlStore
from keyfence_server.application.audit_chain import BEFORE_THE_FIRST
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.read_audit import verify_chain
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.reasons import Reason

Query = Callable[[str], Awaitable[list[tuple[Any, ...]]]]
"""Reads past the store. All queries of one `verify` must see the same moment: PostgreSQL may
finish a commit that it has received after the sender was killed."""


@dataclass
class _Expected:
    """What the audit log says that there is."""

    keys: dict[str, tuple[str, int, str | None, list[str]]] = field(default_factory=dict)
    changes: dict[int, list[tuple[str, bool]]] = field(default_factory=dict)
    requested: set[str] = field(default_factory=set)


async def verify(query: Query, acknowledged: Collection[Acknowledgement]) -> dict[str, str]:
    """Fails unless the store is whole and holds all that was acknowledged.

    Returns:
        The state of every key.
    """
    ((head,),) = await query("SELECT revision FROM head")
    events = await query(
        "SELECT revision, action, subject, request_id, CAST(details AS TEXT) FROM audit_events"
        # Attempts that failed are events, too, and no mutations.
        " WHERE revision IS NOT NULL ORDER BY revision"
    )
    revisions = [event[0] for event in events]
    assert revisions == list(range(1, head + 1)), f"the head is {head}, the events {revisions}"
    happened = {(revision, action, subject) for revision, action, subject, _, _ in events}
    lost = {(one.revision, one.action, one.subject) for one in acknowledged} - happened
    assert not lost, f"acknowledged, and gone: {lost}"

    expected = _replay(events)
    keys = await query(
        "SELECT key_id, state, revision, rotated_to_key_id, CAST(granted_scopes AS TEXT) FROM keys"
    )
    assert {
        key_id: (state, revision, successor, json.loads(scopes))
        for key_id, state, revision, successor, scopes in keys
    } == expected.keys
    for one in acknowledged:
        if one.made:
            assert expected.keys[one.made][3] == sorted(one.scopes)
    changes: defaultdict[int, list[tuple[str, bool]]] = defaultdict(list)
    for revision, position, subject, created in await query(
        "SELECT revision, position, subject, created FROM changes ORDER BY revision, position"
    ):
        assert position == len(changes[revision])
        changes[revision].append((subject, bool(created)))
    assert changes == expected.changes
    requests = {tuple(row) for row in await query("SELECT request_id, key_id FROM requests")}
    assert {key_id for _, key_id in requests} == expected.requested
    assert requests >= {(one.request_id, one.made) for one in acknowledged if one.made}
    return {key_id: state for key_id, (state, *_) in expected.keys.items()}


async def assert_usable(
    store: SqlStore, states: Mapping[str, str], acknowledged: Iterable[Acknowledgement]
) -> None:
    """Fails unless the audit chain holds to its end, and the plaintext of every key that was
    made passes or does not, as its record says."""
    end, complete = BEFORE_THE_FIRST, False
    while not complete:
        verified = await verify_chain(store, end, 0)
        assert not verified.problem
        end, complete = verified.end, verified.is_complete
    presented = PresentedKeys(FactCache(store), PEPPERS)
    for one in acknowledged:
        if one.made:
            facts = await presented.find(one.plaintext)
            assert isinstance(facts, KeyFacts), f"{one} is not known by its plaintext: {facts}"
            assert facts.key_id == one.made
            assert facts.key.granted_scopes == one.scopes
            passes = facts.reason_at(0, None) is Reason.OK
            assert passes == (states[one.made] == "active")


def _replay(events: list[tuple[Any, ...]]) -> _Expected:
    expected = _Expected()
    for revision, action, subject, request_id, details in events:
        made = subject
        if action == "key.create":
            expected.keys[subject] = ("active", revision, None, json.loads(details)["scopes"])
            expected.changes[revision] = [(subject, True)]
        elif action == "key.rotate":
            made = json.loads(details)["successor"]
            scopes = expected.keys[subject][3]
            expected.keys[made] = ("active", revision, None, scopes)
            expected.keys[subject] = ("revoked", revision, made, scopes)
            expected.changes[revision] = [(made, True), (subject, False)]
        elif action == "key.revoke":
            state, _, _, scopes = expected.keys[subject]
            assert state == "active"
            expected.keys[subject] = ("revoked", revision, None, scopes)
            expected.changes[revision] = [(subject, False)]
        else:
            assert action == "keyspace.apply"
            expected.changes[revision] = [(subject, True)]
        if request_id is not None and action in {"key.create", "key.rotate"}:
            expected.requested.add(made)
    return expected
