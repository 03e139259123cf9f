"""Properties of the store that examples alone would not pin down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyfence_server.adapters.sql import SqlStore, StoreFault
from keyfence_server.application.ports import KeyFilter
from keyfence_server.domain.keys import Key, KeyId, KeyState
from support.builders import KEYSPACE, commit_one, insert_keys, key_change, make_event, make_key

# The database outlives the examples, each of which counts on what it adds alone.
ON_ONE_DATABASE = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
TIME = st.datetimes(timezones=st.just(UTC))
RECORDS = st.fixed_dictionaries(
    {
        "keyspace": TEXT,
        "account_id": TEXT,
        "display_name": TEXT,
        "key_type": TEXT,
        "environment": TEXT,
        "granted_scopes": st.lists(TEXT, max_size=4).map(tuple),
        "display_prefix": TEXT,
        "preset": st.none() | TEXT,
        "create_time": TIME,
        "update_time": TIME,
        "expire_time": st.none() | TIME,
        "allowed_addresses": st.lists(TEXT, max_size=2).map(tuple),
        "bound_keyspaces": st.lists(TEXT, max_size=2).map(tuple),
        "labels": st.dictionaries(TEXT, TEXT, max_size=3),
        "rotated_to_key_id": st.none() | TEXT,
        "first_key_id": st.none() | TEXT,
    }
)


@ON_ONE_DATABASE
@given(fields=RECORDS)
async def test_every_record_comes_back_as_it_went_in(
    store: SqlStore, fields: dict[str, Any]
) -> None:
    key = make_key(**fields)
    revision = await insert_keys(store, key)
    async with store.snapshot() as snapshot:
        assert await snapshot.find_key(key.key_id) == replace(key, revision=revision)


@ON_ONE_DATABASE
@given(names=st.lists(TEXT, min_size=1, max_size=12, unique=True), size=st.integers(1, 5))
async def test_pages_of_any_size_hold_every_id_once_in_the_order_of_bytes(
    store: SqlStore, names: list[str], size: int
) -> None:
    account = make_key().key_id
    keys = [make_key(f"{account}{name}", account_id=account) for name in names]
    await insert_keys(store, *keys)
    seen: list[str] = []
    after: KeyId | None = None
    async with store.snapshot() as snapshot:
        which = KeyFilter(keyspace=KEYSPACE, account_id=account)
        while page := await snapshot.list_keys(which, after=after, limit=size):
            seen += [key.key_id for key in page]
            after = page[-1].key_id
    assert seen == sorted((key.key_id for key in keys), key=str.encode)


@ON_ONE_DATABASE
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8), spare=st.integers(0, 6))
async def test_changes_read_in_lists_of_any_size_are_whole_revisions_and_all_of_them(
    store: SqlStore, sizes: list[int], spare: int
) -> None:
    async with store.snapshot() as snapshot:
        start = snapshot.revision
    for size in sizes:
        async with store.transaction() as transaction:
            await commit_one(
                transaction, [key_change(make_key()) for _ in range(size)], make_event("x")
            )
    read: list[int] = []
    after = start
    async with store.snapshot() as snapshot:
        while found := await snapshot.list_changes(after=after, limit=max(sizes) + spare):
            revisions = [revision for revision, _ in found]
            assert revisions.count(revisions[-1]) == sizes[revisions[-1] - start - 1]
            read += revisions
            after = revisions[-1]
    expected = [start + n for n, size in enumerate(sizes, 1) for _ in range(size)]
    assert read == expected


@dataclass
class _Model:
    """What the store should hold: the whole of it, kept in a dictionary."""

    revision: int
    keys: dict[str, Key] = field(default_factory=dict)


_STEP = st.tuples(
    st.sampled_from(["insert", "rename", "revoke", "update a stranger"]), st.integers(0, 9)
)


@ON_ONE_DATABASE
@given(history=st.lists(st.tuples(st.lists(_STEP, min_size=1, max_size=4), st.booleans())))
async def test_the_store_does_what_a_dictionary_would(
    store: SqlStore, history: Sequence[tuple[list[tuple[str, int]], bool]]
) -> None:
    """Mutations of several steps, committed or left; one fault undoes all of its mutation."""
    keyspace = f"ks-{make_key().key_id}"
    async with store.snapshot() as snapshot:
        model = _Model(snapshot.revision)
    for steps, commits in history:
        attempt = _Model(model.revision + 1, dict(model.keys))
        try:
            async with store.transaction() as transaction:
                assert transaction.revision == attempt.revision
                for step, number in steps:
                    key = _next(step, number, keyspace, attempt)
                    if step == "insert":
                        await transaction.insert_key(key)
                    else:
                        await transaction.update_key(key)
                    attempt.keys[key.key_id] = replace(key, revision=attempt.revision)
                if commits:
                    await commit_one(transaction, [key_change(key)], make_event(key.key_id))
                    model = attempt
        except StoreFault:
            assert key.key_id not in attempt.keys
            assert step != "insert"
        await _assert_equal(store, keyspace, model)


def _next(step: str, number: int, keyspace: str, model: _Model) -> Key:
    existing = list(model.keys.values())
    if step in {"insert", "update a stranger"} or not existing:
        return make_key(keyspace=keyspace)
    key = existing[number % len(existing)]
    now = datetime(2026, 1, 1, number, tzinfo=UTC)
    return key.revoked(now) if step == "revoke" else replace(key, display_name=str(number))


async def _assert_equal(store: SqlStore, keyspace: str, model: _Model) -> None:
    async with store.snapshot() as snapshot:
        assert snapshot.revision == model.revision
        listed = await snapshot.list_keys(KeyFilter(keyspace=keyspace), after=None, limit=100)
        assert {key.key_id: key for key in listed} == model.keys
        alive = {name for name, key in model.keys.items() if key.state is not KeyState.REVOKED}
        assert {key.key_id async for key in snapshot.iterate_keys(keyspace)} == alive
        assert await snapshot.count_keys(keyspace) == len(alive)
