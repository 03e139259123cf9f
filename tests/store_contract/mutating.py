"""What a transaction does, and undoes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.application.ports import (
    Store,
)
from keyfence_server.domain.keys import Key, KeyId, KeyState
from store_contract.harness import Harness, Topic
from store_contract.values import (
    ANY_KEY,
    CANARY,
    everything_about,
)
from support.builders import (
    KEYSPACE,
    commit_one,
    insert_keys,
    key_change,
    make_event,
    make_key,
    make_keyspace,
    update_keys,
)
from support.clock import START


class MutatingContract(Topic):
    """What a transaction does, and undoes."""

    async def test_a_mutation_is_rows_revision_changes_and_event_at_once(
        self, harness: Harness, store: Store
    ) -> None:
        key = make_key()
        event = make_event(
            key.key_id,
            actor_key_id=KeyId("key_op"),
            request_id="req-1",
            details={"scopes": ["a", "ö'"], "n": 1, "deep": {"none": None}},
        )
        async with store.transaction() as transaction:
            assert transaction.revision == 1
            await transaction.insert_key(key)
            revision = await commit_one(transaction, [key_change(key, created=True)], event)
        assert revision == 1
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            found = await snapshot.find_key(key.key_id)
            assert found is not None
            assert found.revision == 1
            changes = await snapshot.list_changes(after=0, limit=10)
            assert changes == [(1, key_change(key, created=True))]
        events = await harness.query(
            "SELECT revision, event_id, action, actor_key_id, keyspace, account_id, subject,"
            " request_id FROM audit_events"
        )
        assert events == [
            (1, event.event_id, "key.create", "key_op", KEYSPACE, "acme", key.key_id, "req-1")
        ]

    async def test_leaving_without_commit_undoes_everything(self, store: Store) -> None:
        key, kept = make_key(), make_key()
        await insert_keys(store, kept)
        async with store.transaction() as transaction:
            await transaction.insert_key(key)
            await transaction.update_key(replace(kept, display_name="New"))
            await transaction.put_keyspace(make_keyspace())
            await transaction.insert_request(KeyId("key_op"), "r", key.key_id, START)
        await self._assert_untouched(store, kept)

    async def test_an_error_in_between_undoes_everything(self, store: Store) -> None:
        key, kept = make_key(), make_key()
        await insert_keys(store, kept)

        async def fail_half_way() -> None:
            async with store.transaction() as transaction:
                await transaction.insert_key(key)
                raise LookupError("on purpose")

        with pytest.raises(LookupError, match="on purpose"):
            await fail_half_way()
        await self._assert_untouched(store, kept)

    async def _assert_untouched(self, store: Store, kept: Key) -> None:
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            keys = await snapshot.list_keys(ANY_KEY, after=None, limit=10)
            assert keys == [replace(kept, revision=1)]
            assert await snapshot.list_keyspaces(after=None, limit=10) == []
            assert await snapshot.find_request(KeyId("key_op"), "r") is None
        assert await insert_keys(store, make_key()) == 2, "the revision was given out in vain"

    async def test_a_transaction_reads_what_it_has_written(self, store: Store) -> None:
        key = make_key()
        async with store.transaction() as transaction:
            await transaction.insert_key(key)
            assert await transaction.find_key(key.key_id) == replace(key, revision=1)
            await transaction.update_key(replace(key, display_name="New"))
            found = await transaction.find_lineage(key.key_id)
            assert found is not None
            assert found[0].display_name == "New"
            assert list(await transaction.find_digests([key.digest])) == [key.digest]

    async def test_updating_replaces_one_record_and_stamps_it(self, store: Store) -> None:
        key, bystander = make_key(), make_key(account_id="other")
        await insert_keys(store, key, bystander)
        edited = replace(
            key,
            display_name="New",
            state=KeyState.DISABLED,
            granted_scopes=(),
            labels={"a": "b"},
            update_time=START + timedelta(hours=1),
        )
        assert await update_keys(store, edited) == 2
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(key.key_id) == replace(edited, revision=2)
            assert await snapshot.find_key(bystander.key_id) == replace(bystander, revision=1)

    @pytest.mark.parametrize(
        "key_id", ["key_gone", "%", "key_1' OR '1'='1", "KEY_1", "key_1 ", "_____"]
    )
    async def test_updating_what_is_not_there_is_an_error_and_touches_nothing(
        self, store: Store, key_id: str
    ) -> None:
        key = make_key("key_1")
        await insert_keys(store, key)
        with pytest.raises(RuntimeError):
            await update_keys(store, make_key(key_id, display_name="New"))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            keys = await snapshot.list_keys(ANY_KEY, after=None, limit=10)
        assert keys == [replace(key, revision=1)]

    async def test_a_transaction_cannot_be_committed_after_an_error_in_it(
        self, store: Store
    ) -> None:
        key = make_key()
        async with store.transaction() as transaction:
            await transaction.insert_key(key)
            with pytest.raises(RuntimeError):
                await transaction.update_key(make_key("key_gone"))
            with pytest.raises(RuntimeError):
                await commit_one(transaction, [key_change(key)], make_event(key.key_id))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 0
            assert await snapshot.find_key(key.key_id) is None

    async def test_a_refused_row_spoils_its_transaction_even_if_the_error_is_caught(
        self, store: Store
    ) -> None:
        first, second = make_key(), make_key()
        await insert_keys(store, first)
        async with store.transaction() as transaction:
            await transaction.insert_key(second)
            with pytest.raises(RuntimeError):
                await transaction.insert_key(first)
            with pytest.raises(RuntimeError):
                await commit_one(transaction, [key_change(second)], make_event(second.key_id))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            assert await snapshot.find_key(second.key_id) is None

    async def test_a_transaction_is_over_once_committed(self, store: Store) -> None:
        key = make_key()
        async with store.transaction() as transaction:
            await commit_one(transaction, [key_change(key)], make_event(key.key_id))
            with pytest.raises(RuntimeError):
                await transaction.insert_key(key)
            with pytest.raises(RuntimeError):
                await transaction.find_key(key.key_id)
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(key.key_id) is None

    async def test_a_mutation_must_say_what_it_changed(self, store: Store) -> None:
        async with store.transaction() as transaction:
            with pytest.raises(ValueError, match="nothing"):
                await commit_one(transaction, [], make_event("x"))

    @pytest.mark.parametrize("same", ["key_id", "digest"])
    async def test_an_id_or_digest_that_is_not_new_is_an_error_without_the_digest(
        self, store: Store, same: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        first = make_key()
        await insert_keys(store, first)
        again = make_key(**{same: getattr(first, same)}, display_name=CANARY)
        with pytest.raises(RuntimeError) as caught:
            await insert_keys(store, again)
        shown = everything_about(caught.value) + caplog.text
        for secret in (again.digest.value, first.digest.value):
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown
        assert CANARY not in shown
        async with store.snapshot() as snapshot:
            assert await snapshot.list_keys(ANY_KEY, after=None, limit=9) == [
                replace(first, revision=1)
            ]

    async def test_what_a_request_made_is_remembered_for_its_caller(self, store: Store) -> None:
        keys = [make_key() for _ in range(3)]
        requests = [("key_op", "r1"), ("key_op", "R1"), ("key_other", "r1")]
        async with store.transaction() as transaction:
            for key, (caller, request_id) in zip(keys, requests, strict=True):
                await transaction.insert_key(key)
                await transaction.insert_request(KeyId(caller), request_id, key.key_id, START)
            await commit_one(transaction, [key_change(keys[0])], make_event("x"))
        async with store.snapshot() as snapshot:
            for key, (caller, request_id) in zip(keys, requests, strict=True):
                assert await snapshot.find_request(KeyId(caller), request_id) == key.key_id
            assert await snapshot.find_request(KeyId("key_op"), "r2") is None
            assert await snapshot.find_request(KeyId("key_op"), "r1 ") is None

    async def test_keys_are_revoked_together_and_no_others(self, store: Store) -> None:
        keys = [make_key(), make_key(state=KeyState.DISABLED, disabled_by_operator=True)]
        bystander = make_key()
        await insert_keys(store, *keys, bystander)
        ids = [key.key_id for key in keys]
        later = START + timedelta(hours=1)
        async with store.transaction() as transaction:
            await transaction.revoke_keys([*ids, ids[0]], later)
            revision = transaction.revision
            await commit_one(transaction, [key_change(key) for key in keys], make_event("all"))
        async with store.snapshot() as snapshot:
            for key in keys:
                found = await snapshot.find_key(key.key_id)
                assert found is not None
                assert found == replace(key.revoked(later), revision=revision)
            untouched = await snapshot.find_key(bystander.key_id)
            assert untouched is not None
            assert untouched.state is KeyState.ACTIVE

    @pytest.mark.parametrize("which", ["revoked", "unknown"])
    async def test_a_key_that_cannot_be_revoked_keeps_the_others_from_it(
        self, store: Store, which: str
    ) -> None:
        living, revoked = make_key(), make_key(state=KeyState.REVOKED, revoke_time=START)
        await insert_keys(store, living, revoked)
        other = revoked.key_id if which == "revoked" else KeyId("key_none")
        with pytest.raises(StoreFault):
            async with store.transaction() as transaction:
                await transaction.revoke_keys([living.key_id, other], START)
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(living.key_id)
        assert found is not None
        assert found.state is KeyState.ACTIVE

    async def test_keys_are_counted_by_each_filter_and_by_all_together(self, store: Store) -> None:
        await insert_keys(
            store,
            make_key(account_id="a"),
            make_key(account_id="a", key_type="public"),
            make_key(account_id="a", environment="test", expire_time=START),
            make_key(account_id="b", expire_time=START + timedelta(seconds=1)),
            make_key(account_id="a", state=KeyState.DISABLED),
            make_key(account_id="a", state=KeyState.REVOKED, revoke_time=START),
            make_key(account_id="a", keyspace="elsewhere"),
        )
        cases: list[tuple[dict[str, Any], int]] = [
            ({}, 5),
            ({"account_id": "a"}, 4),
            ({"account_id": "A"}, 0),
            ({"account_id": "a\0"}, 0),
            ({"key_type": "public"}, 1),
            ({"environment": "test"}, 1),
            # A key is expired from its time on.
            ({"unexpired_at": START}, 4),
            ({"unexpired_at": START - timedelta(seconds=1)}, 5),
            ({"unexpired_at": START + timedelta(seconds=1)}, 3),
            ({"account_id": "a", "unexpired_at": START}, 3),
            ({"account_id": "a", "key_type": "secret", "environment": "live"}, 2),
        ]
        async with store.snapshot() as snapshot:
            for fields, expected in cases:
                assert await snapshot.count_keys(KEYSPACE, **fields) == expected, fields
