"""The chain of audit events: what was edited, removed, added or reordered shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfence_server.application.audit_chain import (
    BEFORE_THE_FIRST,
    chained,
    follow,
    hash_of,
)
from keyfence_server.application.ports import AuditEvent, ChainEnd, RecordedEvent
from support.builders import make_event
from support.clock import START

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
DETAILS = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


def a_chain(length: int) -> list[RecordedEvent]:
    events = [make_event(f"key_{number}", details={"n": number}) for number in range(length)]
    return list(chained(BEFORE_THE_FIRST, [(None, one) for one in events]))


def test_a_hash_is_what_the_documentation_says() -> None:
    event = make_event("key_1", event_id="evt_1", time=START, details={"b": 1, "a": ["ö"]})
    text = (
        '{"account_id":"acme","action":"key.create","details":{"a":["\\u00f6"],"b":1},'
        '"event_id":"evt_1","keyspace":"demo","revision":7,"sequence":2,"subject":"key_1",'
        '"time":"2026-01-02T03:04:05.678901+00:00"}'
    )
    previous = bytes(range(32))
    assert hash_of(previous, 2, 7, event) == hashlib.sha256(previous + text.encode()).digest()


@given(DETAILS)
def test_an_event_has_its_hash_after_it_was_stored_too(details: dict[str, Any]) -> None:
    """JSON text is what the databases keep of the details."""
    event = make_event("a", details=details)
    stored = replace(event, details=json.loads(json.dumps(details)))
    assert hash_of(bytes(32), 1, None, event) == hash_of(bytes(32), 1, None, stored)


def test_a_time_is_the_same_in_every_zone() -> None:
    event = make_event("a")
    elsewhere = replace(event, time=event.time.astimezone(timezone(timedelta(hours=9))))
    assert hash_of(bytes(32), 1, None, event) == hash_of(bytes(32), 1, None, elsewhere)


def test_an_unchanged_chain_is_valid_from_any_place() -> None:
    chain = a_chain(5)
    end = ChainEnd(5, chain[-1].hash)
    assert follow(BEFORE_THE_FIRST, chain) == (end, "")
    for at in range(1, 6):
        assert follow(ChainEnd(at, chain[at - 1].hash), chain[at:]) == (end, "")


FIELDS: dict[str, Any] = {
    "event_id": "evt_other",
    "time": START + timedelta(microseconds=1),
    "action": "key.revoke",
    "actor_key_id": "key_op",
    "keyspace": "other",
    "account_id": None,
    "subject": "key_other",
    "request_id": "req",
    "details": {"n": "2"},
}


@pytest.mark.parametrize("field", FIELDS)
def test_an_edit_of_any_field_shows(field: str) -> None:
    chain = a_chain(4)
    edited = replace(chain[2].event, **{field: FIELDS[field]})
    chain[2] = replace(chain[2], event=edited)
    end, problem = follow(BEFORE_THE_FIRST, chain)
    assert end.count == 2
    assert problem == "event 3 was changed or moved after it was written"


def test_the_fields_of_an_event_are_all_in_its_hash() -> None:
    assert set(FIELDS) == set(AuditEvent.__slots__)


def test_another_revision_shows() -> None:
    chain = a_chain(2)
    chain[1] = replace(chain[1], revision=9)
    end, problem = follow(BEFORE_THE_FIRST, chain)
    assert (end.count, problem) == (1, "event 2 was changed or moved after it was written")


def _without(at: int) -> Callable[[list[RecordedEvent]], Sequence[RecordedEvent]]:
    return lambda chain: [*chain[:at], *chain[at + 1 :]]


def _renumbered(chain: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    return [replace(one, sequence=n) for n, one in enumerate(chain, start=1)]


def _swapped(chain: list[RecordedEvent]) -> Sequence[RecordedEvent]:
    return _renumbered([chain[1], chain[0], *chain[2:]])


def _put_in(chain: list[RecordedEvent]) -> Sequence[RecordedEvent]:
    extra = replace(chain[0], event=make_event("made up"))
    return _renumbered([chain[0], extra, *chain[1:]])


def _repeated(chain: list[RecordedEvent]) -> Sequence[RecordedEvent]:
    return _renumbered([chain[0], chain[0], *chain[1:]])


@pytest.mark.parametrize(
    "tamper",
    [
        _without(0),
        _without(2),
        lambda chain: _renumbered(_without(0)(chain)),
        lambda chain: _renumbered(_without(2)(chain)),
        _swapped,
        _put_in,
        _repeated,
    ],
    ids=["first", "middle", "first, renumbered", "middle, renumbered", "swap", "add", "repeat"],
)
def test_what_is_not_in_its_place_shows(
    tamper: Callable[[list[RecordedEvent]], Sequence[RecordedEvent]],
) -> None:
    assert follow(BEFORE_THE_FIRST, tamper(a_chain(4)))[1]


def test_missing_events_are_named() -> None:
    chain = a_chain(6)
    end, problem = follow(BEFORE_THE_FIRST, [chain[0], *chain[4:]])
    assert (end.count, problem) == (1, "events 2 to 4 are missing")


@given(
    length=st.integers(1, 6),
    at=st.integers(0, 5),
    field=st.sampled_from(sorted(FIELDS)),
    redone=st.booleans(),
)
def test_a_chain_that_is_computed_again_after_an_edit_ends_at_another_hash(
    length: int, at: int, field: str, redone: bool
) -> None:
    """A copy of the last hash shows the change."""
    chain = a_chain(length)
    at %= length
    events = [one.event for one in chain]
    events[at] = replace(events[at], **{field: FIELDS[field]})
    forged = list(chained(BEFORE_THE_FIRST, [(None, one) for one in events]))
    assert not follow(BEFORE_THE_FIRST, forged)[1]
    assert forged[-1].hash != chain[-1].hash
    if not redone:
        mixed = [*forged[: at + 1], *chain[at + 1 :]]
        assert bool(follow(BEFORE_THE_FIRST, mixed)[1]) == (at < length - 1)
