"""Several mutations in one transaction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyfence_server.application.ports import Store, Transaction, Wanted
from keyfence_server.domain.accounts import AccountId
from keyfence_server.domain.keys import Key, KeyId
from store_contract.harness import Harness, Topic
from store_contract.values import revision_of
from support.builders import (
    KEYSPACE,
    commit_one,
    insert_keys,
    key_change,
    make_account,
    make_event,
    make_key,
    make_keyspace,
)
from support.clock import START


class GroupsContract(Topic):
    """Several mutations in one transaction."""

    async def test_each_mutation_of_a_group_has_a_revision_and_an_event_of_its_own(
        self, harness: Harness, store: Store
    ) -> None:
        keys = [make_key() for _ in range(3)]
        async with store.transaction() as transaction:
            for number, key in enumerate(keys, 1):
                async with transaction.mutation():
                    assert transaction.revision == number
                    await transaction.insert_key(key)
                    kept = transaction.keep([key_change(key)], make_event(key.key_id))
                    assert kept == number
            assert await transaction.commit() == 3
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 3
            changes = await snapshot.list_changes(after=0, limit=9)
            found = [await snapshot.find_key(key.key_id) for key in keys]
        assert changes == [(number, key_change(key)) for number, key in enumerate(keys, 1)]
        assert [key.revision for key in found if key] == [1, 2, 3]
        events = await harness.query(
            "SELECT sequence, revision, subject FROM audit_events ORDER BY sequence"
        )
        assert events == [(number, number, key.key_id) for number, key in enumerate(keys, 1)]
        assert await insert_keys(store, make_key()) == 4

    async def test_a_mutation_that_fails_in_the_middle_leaves_the_others_whole(
        self, store: Store
    ) -> None:
        """The unique violation aborts PostgreSQL's whole transaction, save for a savepoint."""
        first, last = make_key(), make_key()
        twin = make_key(digest=first.digest)
        unfortunate = make_key()

        async def fail(transaction: Transaction) -> None:
            async with transaction.mutation():
                await transaction.insert_key(unfortunate)
                await transaction.insert_key(twin)

        async with store.transaction() as transaction:
            async with transaction.mutation():
                await transaction.insert_key(first)
                transaction.keep([key_change(first)], make_event(first.key_id))
            with pytest.raises(RuntimeError, match="refused a row"):
                await fail(transaction)
            async with transaction.mutation():
                assert transaction.revision == 2
                assert await transaction.find_key(unfortunate.key_id) is None
                await transaction.insert_key(last)
                transaction.keep([key_change(last)], make_event(last.key_id))
            assert await transaction.commit() == 2
        async with store.snapshot() as snapshot:
            assert await snapshot.count_keys(KEYSPACE) == 2
            assert await snapshot.find_key(last.key_id) == replace(last, revision=2)

    async def test_a_mutation_that_keeps_nothing_is_undone(self, store: Store) -> None:
        first = make_key()
        async with store.transaction() as transaction:
            async with transaction.mutation():
                await transaction.insert_key(first)
                transaction.keep([key_change(first)], make_event(first.key_id))
            async with transaction.mutation():
                await transaction.update_key(replace(first, display_name="not kept"))
            await transaction.commit()
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(first.key_id) == replace(first, revision=1)

    async def test_the_first_mutation_of_a_group_must_keep_what_it_wrote(
        self, store: Store
    ) -> None:
        """There is no savepoint before it, so the next one's commit would include it."""

        async def write(transaction: Transaction) -> None:
            async with transaction.mutation():
                await transaction.insert_key(make_key())

        async with store.transaction() as transaction:
            with pytest.raises(RuntimeError, match="recorded no change"):
                await write(transaction)
        assert await revision_of(store) == 0

    async def test_what_was_undone_is_not_read_any_more(self, store: Store) -> None:
        key, account = make_key(), make_account()
        await insert_keys(store, key)
        async with store.transaction() as transaction:
            other = make_key()
            async with transaction.mutation():
                await transaction.insert_key(other)
                transaction.keep([key_change(other)], make_event(other.key_id))
            async with transaction.mutation():
                await transaction.update_key(replace(key, display_name="undone"))
                await transaction.insert_account(account)
                lineage = await transaction.find_lineage(key.key_id)
                assert lineage is not None
                assert lineage[0].display_name == "undone"
                assert await transaction.find_account(account.account_id) is not None
            lineage = await transaction.find_lineage(key.key_id)
            assert lineage is not None
            assert lineage[0].display_name == key.display_name
            assert await transaction.find_account(account.account_id) is None

    async def test_what_is_written_is_read_by_the_next_of_the_group(self, store: Store) -> None:
        key = make_key(display_name="0")
        await insert_keys(store, key)
        async with store.transaction() as transaction:
            for number in range(1, 4):
                async with transaction.mutation():
                    lineage = await transaction.find_lineage(key.key_id)
                    assert lineage is not None
                    assert lineage[0].display_name == str(number - 1)
                    assert lineage[0].revision == transaction.revision - 1
                    changed: Key = replace(lineage[0], display_name=str(number))
                    await transaction.update_key(changed)
                    transaction.keep([key_change(key)], make_event(key.key_id))
            await transaction.commit()
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(key.key_id)
        assert found is not None
        assert (found.display_name, found.revision) == ("3", 4)

    async def test_what_was_not_sent_yet_is_read_by_the_next_of_the_group(
        self, store: Store
    ) -> None:
        parent = make_key()
        child = make_key(parent_key_id=parent.key_id)
        await insert_keys(store, parent)
        async with store.transaction() as transaction:
            async with transaction.mutation():
                await transaction.insert_key(child)
                await transaction.insert_request(KeyId("key_op"), "r-1", child.key_id, START)
                transaction.keep([key_change(child)], make_event(child.key_id))
            async with transaction.mutation():
                assert await transaction.find_request(KeyId("key_op"), "r-1") == child.key_id
                await transaction.update_key(replace(parent, display_name="changed"))
                transaction.keep([key_change(parent)], make_event(parent.key_id))
            async with transaction.mutation():
                lineage = await transaction.find_lineage(child.key_id)
                assert lineage is not None
                assert [one.display_name for one in lineage] == [child.display_name, "changed"]
                assert await transaction.count_keys(KEYSPACE) == 2
                await transaction.update_key(child.revoked(START))
                transaction.keep([key_change(child)], make_event(child.key_id))
            assert await transaction.commit() == 4
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(child.key_id)
        assert found == replace(child.revoked(START), revision=4)

    async def test_one_that_fails_after_it_has_read_leaves_what_was_not_sent_yet(
        self, store: Store
    ) -> None:
        first, undone = make_key(), make_key()

        async def fail(transaction: Transaction) -> None:
            async with transaction.mutation():
                await transaction.insert_key(undone)
                assert await transaction.count_keys(KEYSPACE) == 2
                raise LookupError("on purpose")

        async with store.transaction() as transaction:
            async with transaction.mutation():
                await transaction.insert_key(first)
                transaction.keep([key_change(first)], make_event(first.key_id))
            with pytest.raises(LookupError, match="on purpose"):
                await fail(transaction)
            await transaction.commit()
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(undone.key_id) is None
            assert await snapshot.find_key(first.key_id) == replace(first, revision=1)

    @pytest.mark.parametrize("is_wanted", [True, False])
    async def test_what_is_wanted_changes_no_answer(self, store: Store, *, is_wanted: bool) -> None:
        owner, keyspace = make_account(), make_keyspace(KEYSPACE)
        key = make_key(account_id=owner.account_id)
        child = make_key(parent_key_id=key.key_id)
        async with store.transaction() as transaction:
            await transaction.put_keyspace(keyspace)
            await transaction.insert_account(owner)
            await transaction.insert_key(key)
            await transaction.insert_key(child)
            await commit_one(transaction, [key_change(key)], make_event(key.key_id))
        absent = KeyId("key_none"), AccountId("usr_none"), "none"
        nowhere = KeyId("key\0"), AccountId("usr\0"), "n\0"
        wanted = Wanted(
            frozenset([key.key_id, child.key_id, absent[0], nowhere[0]]),
            frozenset([owner.account_id, absent[1], nowhere[1]]),
            frozenset([KEYSPACE, absent[2], nowhere[2]]),
        )
        async with store.transaction(lambda: wanted if is_wanted else Wanted()) as transaction:
            for key_id, ids in ((key.key_id, [key]), (child.key_id, [child, key])):
                lineage = await transaction.find_lineage(key_id)
                assert lineage == tuple(replace(one, revision=1) for one in ids)
            account = await transaction.find_account(owner.account_id)
            assert account == replace(owner, revision=1)
            found = await transaction.find_keyspace(KEYSPACE)
            assert found is not None
            assert found.declaration == keyspace.declaration
            for key_id, account_id, name in (absent, nowhere):
                assert await transaction.find_lineage(key_id) is None
                assert await transaction.find_account(account_id) is None
                assert await transaction.find_keyspace(name) is None

    async def test_a_group_that_is_left_without_a_commit_leaves_nothing(
        self, harness: Harness, store: Store
    ) -> None:
        async with store.transaction() as transaction:
            for key in (make_key(), make_key()):
                async with transaction.mutation():
                    await transaction.insert_key(key)
                    transaction.keep([key_change(key)], make_event(key.key_id))
        assert await revision_of(store) == 0
        assert await harness.query("SELECT * FROM changes") == []
        assert await harness.query("SELECT * FROM audit_events") == []
        assert await harness.count_open_transactions() == 0
        assert await insert_keys(store, make_key()) == 1

    async def test_nothing_can_be_committed_where_nothing_was_kept(self, store: Store) -> None:
        async with store.transaction() as transaction:
            with pytest.raises(ValueError, match="nothing to commit"):
                await transaction.commit()
