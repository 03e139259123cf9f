"""What a store must look like after any crash, worked out from its audit log.

The audit log is replayed: it says which keys there must be, in which state, written at
which revision, and which changes and requests. The tables must say the same, no more
and no less. So a mutation of which any part is missing, or of which only a part is
there, shows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from crash.load import Acknowledgement

Query = Callable[[str], Awaitable[list[tuple[Any, ...]]]]
"""Reads past the store. All queries of one `verify` must see the same moment: PostgreSQL may
finish a commit that it has received after whoever sent it was killed."""


@dataclass
class _Expected:
    """What the audit log says that there is."""

    keys: dict[str, tuple[str, int, str | None]] = field(default_factory=dict)
    changes: dict[int, list[tuple[str, bool]]] = field(default_factory=dict)
    requests: set[tuple[str, str]] = field(default_factory=set)


async def verify(query: Query, acknowledged: Iterable[Acknowledgement]) -> int:
    """Fails unless the store is whole and holds all that was acknowledged.

    Returns:
        The head's revision.
    """
    ((head,),) = await query("SELECT revision FROM head")
    events = await query(
        "SELECT revision, action, subject, request_id, CAST(details AS TEXT) FROM audit_events"
        " ORDER BY revision"
    )
    revisions = [event[0] for event in events]
    assert revisions == list(range(1, head + 1)), f"the head is {head}, the events {revisions}"
    happened = {(revision, action, subject) for revision, action, subject, _, _ in events}
    lost = set(acknowledged) - happened
    assert not lost, f"acknowledged, and gone: {lost}"

    expected = _replay(events)
    keys = await query("SELECT key_id, state, revision, rotated_to_key_id FROM keys")
    assert {key_id: tuple(rest) for key_id, *rest in keys} == expected.keys
    changes: defaultdict[int, list[tuple[str, bool]]] = defaultdict(list)
    for revision, position, subject, created in await query(
        "SELECT revision, position, subject, created FROM changes ORDER BY revision, position"
    ):
        assert position == len(changes[revision])
        changes[revision].append((subject, bool(created)))
    assert changes == expected.changes
    requests = await query("SELECT request_id, key_id FROM requests")
    assert {tuple(row) for row in requests} == expected.requests
    return int(head)


def _replay(events: list[tuple[Any, ...]]) -> _Expected:
    expected = _Expected()
    for revision, action, subject, request_id, details in events:
        made = subject
        if action == "key.create":
            expected.keys[subject] = ("active", revision, None)
            expected.changes[revision] = [(subject, True)]
        elif action == "key.rotate":
            made = json.loads(details)["successor"]
            expected.keys[made] = ("active", revision, None)
            expected.keys[subject] = ("revoked", revision, made)
            expected.changes[revision] = [(made, True), (subject, False)]
        elif action == "key.revoke":
            assert expected.keys[subject][0] == "active"
            expected.keys[subject] = ("revoked", revision, None)
            expected.changes[revision] = [(subject, False)]
        else:
            expected.changes[revision] = [(subject, False)]
        if request_id is not None and action != "key.revoke":
            expected.requests.add((request_id, made))
    return expected
