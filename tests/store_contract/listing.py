"""Pages, streams and counts."""

from __future__ import annotations

from typing import Any

from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    KeyFilter,
    Store,
)
from keyfence_server.domain.keys import KeyId, KeyState
from store_contract.harness import Topic
from store_contract.values import (
    ANY_KEY,
)
from support.builders import (
    KEYSPACE,
    commit_one,
    insert_keys,
    make_event,
    make_key,
)
from support.clock import START


class ListingContract(Topic):
    """Pages, streams and counts."""

    async def test_keys_are_listed_by_every_filter(self, store: Store) -> None:
        parent = make_key("k0", account_id="a")
        child = make_key("k1", account_id="a", parent_key_id=parent.key_id)
        disabled = make_key("k2", account_id="b", state=KeyState.DISABLED)
        revoked = make_key("k3", account_id="a").revoked(START)
        elsewhere = make_key("k4", account_id="a", keyspace="other")
        await insert_keys(store, parent, child, disabled, revoked, elsewhere)
        async with store.snapshot() as snapshot:

            async def listed(**which: Any) -> str:
                keys = await snapshot.list_keys(
                    KeyFilter(**{"keyspace": KEYSPACE, **which}), after=None, limit=10
                )
                return " ".join(key.key_id for key in keys)

            assert await listed() == "k0 k1 k2 k3"
            assert await listed(account_id="a") == "k0 k1 k3"
            assert await listed(state=KeyState.ACTIVE) == "k0 k1"
            assert await listed(state=KeyState.DISABLED) == "k2"
            assert await listed(state=KeyState.REVOKED, account_id="a") == "k3"
            assert await listed(parent_key_id="k0") == "k1"
            assert await listed(parent_key_id="k1") == ""
            assert await listed(keyspace="other") == "k4"
            assert await listed(keyspace="nowhere") == ""

    async def test_pages_are_stable_while_keys_are_inserted(self, store: Store) -> None:
        before = [make_key(f"key_{n:03d}") for n in range(0, 40, 2)]
        await insert_keys(store, *before)
        seen: list[str] = []
        after: KeyId | None = None
        number = 1
        while True:
            async with store.snapshot() as snapshot:
                page = await snapshot.list_keys(ANY_KEY, after=after, limit=3)
            if not page:
                break
            assert len(page) <= 3
            seen += [key.key_id for key in page]
            after = page[-1].key_id
            if number < 40:  # behind the page at first, and later before it
                await insert_keys(store, make_key(f"key_{40 - number:03d}"))
                number += 2
        assert seen == sorted(set(seen))
        assert {key.key_id for key in before} <= set(seen)

    async def test_all_keys_that_are_not_revoked_are_iterated_over(self, store: Store) -> None:
        keys = [make_key() for _ in range(1203)]
        gone = [make_key().revoked(START) for _ in range(5)]
        disabled = make_key(state=KeyState.DISABLED)
        await insert_keys(store, *keys, *gone, disabled, make_key(keyspace="other"))
        async with store.snapshot() as snapshot:
            found = [key.key_id async for key in snapshot.iterate_keys(KEYSPACE)]
            assert len(found) == len(set(found)) == 1204
            assert set(found) == {key.key_id for key in [*keys, disabled]}
            # The snapshot goes on working after it.
            assert await snapshot.count_keys(KEYSPACE) == 1204

    async def test_an_iteration_may_be_left_early(self, store: Store) -> None:
        await insert_keys(store, *(make_key() for _ in range(600)))
        async with store.snapshot() as snapshot:
            async for _ in snapshot.iterate_keys(KEYSPACE):
                break
        await insert_keys(store, make_key())

    async def test_keys_that_are_not_revoked_are_counted_by_type_and_environment(
        self, store: Store
    ) -> None:
        await insert_keys(
            store,
            make_key(),
            make_key(environment="test"),
            make_key(key_type="public", state=KeyState.DISABLED),
            make_key().revoked(START),
            make_key(keyspace="other"),
        )
        async with store.snapshot() as snapshot:
            assert await snapshot.count_keys(KEYSPACE) == 3
            assert await snapshot.count_keys(KEYSPACE, key_type="secret") == 2
            assert await snapshot.count_keys(KEYSPACE, environment="test") == 1
            count = await snapshot.count_keys(KEYSPACE, key_type="public", environment="test")
            assert count == 0

    async def test_changes_are_listed_by_revision_and_position(self, store: Store) -> None:
        made = [
            [Change(ChangeKind.KEYSPACE, "demo", "demo", created=True)],
            [Change(ChangeKind.KEY, f"key_{n}", "demo", created=n == 0) for n in (2, 1, 0)],
            [Change(ChangeKind.KEY, "key_9", "other")],
        ]
        for changes in made:
            async with store.transaction() as transaction:
                await commit_one(transaction, changes, make_event("x"))
        flat = [(n, change) for n, changes in enumerate(made, 1) for change in changes]
        async with store.snapshot() as snapshot:
            assert await snapshot.list_changes(after=0, limit=100) == flat
            assert await snapshot.list_changes(after=1, limit=100) == flat[1:]
            assert await snapshot.list_changes(after=3, limit=100) == []

    async def test_a_revision_is_never_split_between_two_lists_of_changes(
        self, store: Store
    ) -> None:
        sizes = [1, 3, 2]
        for revision, size in enumerate(sizes, 1):
            async with store.transaction() as transaction:
                await commit_one(
                    transaction,
                    [Change(ChangeKind.KEY, f"{revision}.{n}", "demo") for n in range(size)],
                    make_event("x"),
                )

        async with store.snapshot() as snapshot:

            async def listed(after: int, limit: int) -> list[str]:
                found = await snapshot.list_changes(after=after, limit=limit)
                return [change.subject for _, change in found]

            assert await listed(0, 1) == ["1.0"]
            assert await listed(0, 2) == ["1.0"]
            assert await listed(0, 3) == ["1.0"]
            assert await listed(0, 4) == ["1.0", "2.0", "2.1", "2.2"]
            assert await listed(0, 5) == ["1.0", "2.0", "2.1", "2.2"]
            assert await listed(0, 6) == ["1.0", "2.0", "2.1", "2.2", "3.0", "3.1"]
            assert await listed(1, 3) == ["2.0", "2.1", "2.2"]
            # Smaller than the first revision itself: a part of it is all there can be.
            assert await listed(1, 2) == ["2.0", "2.1"]
