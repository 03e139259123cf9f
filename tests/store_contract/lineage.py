"""Keys that hang on keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyfence_server.application.ports import (
    Store,
)
from keyfence_server.domain.keys import MAX_LINEAGE, KeyId
from keyfence_server.domain.secrets import Digest
from store_contract.harness import Topic
from store_contract.values import (
    ANY_KEY,
    make_line,
)
from support.builders import (
    digest_of,
    insert_keys,
    make_key,
)


class LineageContract(Topic):
    """Keys that hang on keys."""

    async def test_a_digest_matches_by_value_and_pepper_version_together(
        self, store: Store
    ) -> None:
        key = make_key(digest=digest_of("a", 2))
        await insert_keys(store, key)
        async with store.snapshot() as snapshot:

            async def find(*candidates: Digest) -> KeyId | None:
                found = await snapshot.find_lineage_by_digest(candidates)
                return found[0].key_id if found else None

            assert await find(digest_of("a", 2)) == key.key_id
            assert await find(digest_of("b", 3), digest_of("a", 2)) == key.key_id
            assert await find(digest_of("a", 1)) is None
            assert await find(digest_of("a", 1), digest_of("b", 2)) is None
            assert await find(Digest(digest_of("a").value[::-1], 2)) is None
            assert await find() is None

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
        async with store.snapshot() as snapshot:
            for key in keys:
                found = await snapshot.find_lineage_by_digest([key.digest])
                assert found is not None
                assert found[0].key_id == key.key_id

    @pytest.mark.parametrize("depth", range(1, MAX_LINEAGE + 1))
    async def test_a_lineage_goes_from_the_key_up_to_the_first(
        self, store: Store, depth: int
    ) -> None:
        line = make_line(depth)
        await insert_keys(store, *line, *make_line(2))
        expected = [replace(key, revision=1) for key in reversed(line)]
        async with store.snapshot() as snapshot:
            assert list(await snapshot.find_lineage(line[-1].key_id) or ()) == expected
            by_digest = await snapshot.find_lineage_by_digest([line[-1].digest])
            assert list(by_digest or ()) == expected

    async def test_a_lineage_that_is_too_long_is_never_shown_in_part(self, store: Store) -> None:
        line = make_line(MAX_LINEAGE + 1)
        await insert_keys(store, *line)
        async with store.snapshot() as snapshot:
            last = await snapshot.find_key(line[-1].key_id)
            assert last is not None
            with pytest.raises(RuntimeError):
                await snapshot.find_lineage(last.key_id)
            with pytest.raises(RuntimeError):
                await snapshot.find_lineage_by_digest([last.digest])
            with pytest.raises(RuntimeError):
                await snapshot.ancestors([last])

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
