"""Keys that hang on keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyfence_server.application.ports import (
    FoundKey,
    Store,
)
from keyfence_server.domain.accounts import AccountState
from keyfence_server.domain.keys import MAX_LINEAGE, KeyId
from keyfence_server.domain.secrets import Digest
from store_contract.harness import Topic
from store_contract.values import (
    ANY_KEY,
    make_line,
)
from support.builders import (
    digest_of,
    insert_accounts,
    insert_keys,
    make_account,
    make_key,
)
from support.clock import START


def _key_id(answer: FoundKey | Exception | None) -> KeyId | None:
    assert not isinstance(answer, Exception)
    return answer.lineage[0].key_id if answer is not None else None


class LineageContract(Topic):
    """Keys that hang on keys."""

    async def test_a_digest_matches_by_value_and_pepper_version_together(
        self, store: Store
    ) -> None:
        key = make_key(digest=digest_of("a", 2))
        await insert_keys(store, key)
        loaded = await store.load_keys(
            [
                [digest_of("a", 2)],
                [digest_of("b", 3), digest_of("a", 2)],
                [digest_of("a", 1)],
                [digest_of("a", 1), digest_of("b", 2)],
                [Digest(digest_of("a").value[::-1], 2)],
                [],
            ]
        )
        assert [_key_id(one) for one in loaded.answers] == [key.key_id] * 2 + [None] * 4

    async def test_a_key_that_is_kept_under_two_digests_is_that_of_the_newer_pepper(
        self, store: Store
    ) -> None:
        older, newer = make_key(digest=digest_of("a", 1)), make_key(digest=digest_of("b", 2))
        await insert_keys(store, older, newer)
        loaded = await store.load_keys([[older.digest, newer.digest], [newer.digest, older.digest]])
        assert [_key_id(one) for one in loaded.answers] == [newer.key_id] * 2

    async def test_digests_are_told_apart_byte_by_byte(self, store: Store) -> None:
        values = [
            b"a" * 32,
            b"A" * 32,
            b"a" * 31 + b" ",
            b"a" * 31 + b"\0",
            bytes(32),
            b"\xff" * 32,
        ]
        keys = [make_key(digest=Digest(value, 1)) for value in values]
        await insert_keys(store, *keys)
        loaded = await store.load_keys([[key.digest] for key in keys])
        assert [_key_id(one) for one in loaded.answers] == [key.key_id for key in keys]

    async def test_many_keys_are_loaded_together_each_with_its_lineage_and_its_owner(
        self, store: Store
    ) -> None:
        """A question for an unknown key, and a key with the id of an account elsewhere, too."""
        account = make_account(state=AccountState.DISABLED, disable_time=START)
        namesake = make_account(keyspace="other")
        lines = [make_line(depth) for depth in range(1, MAX_LINEAGE + 1)]
        owned = make_key(account_id=account.account_id)
        elsewhere = make_key(account_id=namesake.account_id)
        many = [make_key() for _ in range(600)]
        await insert_accounts(store, account, namesake)
        revision = await insert_keys(
            store, *(key for line in lines for key in line), owned, elsewhere, *many
        )
        asked = [*(line[-1] for line in lines), owned, elsewhere, *many]
        questions = [[digest_of("nothing", 7), key.digest] for key in asked]
        loaded = await store.load_keys([*questions, [digest_of("nothing", 7)]])
        assert loaded.revision == revision
        assert loaded.answers[-1] is None
        async with store.snapshot() as snapshot:
            for key, found in zip(asked, loaded.answers, strict=False):
                assert isinstance(found, FoundKey)
                assert list(found.lineage) == list(await snapshot.find_lineage(key.key_id) or ())
                assert found.owner_state is (AccountState.DISABLED if key is owned else None)

    @pytest.mark.parametrize("depth", range(1, MAX_LINEAGE + 1))
    async def test_a_lineage_goes_from_the_key_up_to_the_first(
        self, store: Store, depth: int
    ) -> None:
        line = make_line(depth)
        await insert_keys(store, *line, *make_line(2))
        expected = [replace(key, revision=1) for key in reversed(line)]
        async with store.snapshot() as snapshot:
            assert list(await snapshot.find_lineage(line[-1].key_id) or ()) == expected
        (found,) = (await store.load_keys([[line[-1].digest]])).answers
        assert isinstance(found, FoundKey)
        assert list(found.lineage) == expected

    async def test_a_lineage_that_is_too_long_is_never_shown_in_part(self, store: Store) -> None:
        line, other = make_line(MAX_LINEAGE + 1), make_key()
        await insert_keys(store, *line, other)
        async with store.snapshot() as snapshot:
            last = await snapshot.find_key(line[-1].key_id)
            assert last is not None
            with pytest.raises(RuntimeError):
                await snapshot.find_lineage(last.key_id)
            with pytest.raises(RuntimeError):
                await snapshot.ancestors([last])
        loaded = await store.load_keys([[last.digest], [other.digest]])
        assert isinstance(loaded.answers[0], RuntimeError)
        assert _key_id(loaded.answers[1]) == other.key_id, "the other question has its answer"

    async def test_ancestors_of_many_keys_are_found_together(self, store: Store) -> None:
        lines = [make_line(depth) for depth in (1, 2, 3, 4, 4)]
        siblings = [make_key(parent_key_id=lines[3][1].key_id) for _ in range(3)]
        await insert_keys(store, *(key for line in lines for key in line), *siblings)
        async with store.snapshot() as snapshot:
            everything = await snapshot.list_keys(ANY_KEY, after=None, limit=100)
            found = await snapshot.ancestors(everything)
            assert set(found) == {key.key_id for key in everything}
            for key in everything:
                assert list(found[key.key_id]) == list(
                    await snapshot.find_lineage(key.key_id) or ()
                )
            assert await snapshot.ancestors([]) == {}
