"""What a snapshot finds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from keyfence_server.application.ports import (
    KeyFilter,
    LoadedKeys,
    Store,
)
from keyfence_server.domain.declarations import (
    BodyDeclaration,
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyDefaults,
    KeyTypeDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
)
from keyfence_server.domain.keys import KeyId, KeyState
from keyfence_server.domain.secrets import Digest
from store_contract.harness import Topic
from store_contract.values import (
    ANY_KEY,
    HOSTILE,
    LOOKALIKES,
)
from support.builders import (
    KEYSPACE,
    digest_of,
    insert_keys,
    make_key,
    make_keyspace,
    put_keyspaces,
)
from support.clock import START


class FindingContract(Topic):
    """What a snapshot finds."""

    async def test_an_empty_store_shows_revision_0_and_nothing(self, store: Store) -> None:
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 0
            assert await snapshot.find_key(KeyId("key_1")) is None
            assert await snapshot.find_lineage(KeyId("key_1")) is None
            assert await snapshot.list_keys(ANY_KEY, after=None, limit=10) == []
            assert await snapshot.count_keys(KEYSPACE) == 0
            assert await snapshot.find_keyspace(KEYSPACE) is None
            assert await snapshot.list_keyspaces(after=None, limit=10) == []
            assert await snapshot.find_request(KeyId("key_1"), "r") is None
            assert await snapshot.list_changes(after=0, limit=10) == []
            assert [key async for key in snapshot.iterate_keys(KEYSPACE)] == []
        assert await store.load_keys([[digest_of("a")]]) == LoadedKeys(0, [None])

    async def test_a_key_comes_back_as_it_went_in(self, store: Store) -> None:
        parent = make_key()
        key = make_key(
            display_name=HOSTILE[0],
            granted_scopes=("a:read", "b:*"),
            digest=Digest(bytes(range(32)), 7),
            state=KeyState.REVOKED,
            preset="full",
            create_time=START,
            update_time=START + timedelta(microseconds=1),
            expire_time=START + timedelta(days=36500, microseconds=999_999),
            revoke_time=START + timedelta(seconds=2),
            allowed_addresses=("10.0.0.0/8", "2001:db8::/32"),
            bound_keyspaces=("*",),
            labels={"team": "infra", 'a"b': "'; --", "empty": ""},
            parent_key_id=parent.key_id,
            rotated_from_key_id=KeyId("key_from"),
            rotated_to_key_id=KeyId("key_to"),
            created_by_key_id=KeyId("key_by"),
            first_key_id=KeyId("key_first"),
        )
        revision = await insert_keys(store, parent, key)
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(key.key_id)
        assert found == replace(key, revision=revision)

    @pytest.mark.parametrize(
        "moment",
        [
            START,
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2))),
        ],
    )
    async def test_a_time_comes_back_to_the_microsecond_and_in_utc(
        self, store: Store, moment: datetime
    ) -> None:
        key = make_key(expire_time=moment)
        await insert_keys(store, key)
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(key.key_id)
        assert found is not None
        assert found.expire_time == moment
        assert found.expire_time is not None
        assert found.expire_time.utcoffset() == timedelta(0)

    async def test_a_time_without_a_zone_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="zone"):
            await insert_keys(store, make_key(expire_time=START.replace(tzinfo=None)))

    async def test_ids_are_told_apart_byte_by_byte(self, store: Store) -> None:
        keys = [make_key(name, display_name=str(n)) for n, name in enumerate(LOOKALIKES)]
        await insert_keys(store, *keys)
        async with store.snapshot() as snapshot:
            for key in keys:
                found = await snapshot.find_key(key.key_id)
                assert found is not None
                assert found.display_name == key.display_name
            listed = await snapshot.list_keys(ANY_KEY, after=None, limit=100)
        assert [key.key_id for key in listed] == sorted(LOOKALIKES, key=str.encode)

    async def test_accounts_and_keyspaces_are_told_apart_byte_by_byte(self, store: Store) -> None:
        by_account = [make_key(account_id=name) for name in LOOKALIKES]
        by_keyspace = [make_key(keyspace=name) for name in LOOKALIKES]
        await insert_keys(store, *by_account, *by_keyspace)
        async with store.snapshot() as snapshot:
            for key in by_account:
                which = KeyFilter(keyspace=KEYSPACE, account_id=key.account_id)
                found = await snapshot.list_keys(which, after=None, limit=9)
                assert [one.key_id for one in found] == [key.key_id]
            for key in by_keyspace:
                assert await snapshot.count_keys(key.keyspace) == 1

    @pytest.mark.parametrize("text", HOSTILE)
    async def test_text_that_looks_like_sql_is_only_text(self, store: Store, text: str) -> None:
        bystander = make_key()
        key = make_key(text, display_name=text, account_id=text, labels={text: text})
        await insert_keys(store, bystander, key)
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(KeyId(text))
            assert found is not None
            assert found.labels == {text: text}
            which = KeyFilter(keyspace=KEYSPACE, account_id=text)
            assert len(await snapshot.list_keys(which, after=None, limit=9)) == 1
            assert await snapshot.find_keyspace(text) is None
            assert await snapshot.find_request(KeyId(text), text) is None
            assert await snapshot.count_keys(KEYSPACE) == 2

    async def test_text_with_a_nul_is_found_nowhere_and_never_stored(self, store: Store) -> None:
        key = make_key("key_a")
        await insert_keys(store, key)
        nul = KeyId("key_a\0")
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(nul) is None
            assert await snapshot.find_lineage(nul) is None
            assert await snapshot.find_keyspace(nul) is None
            assert await snapshot.find_request(nul, "r") is None
            assert await snapshot.count_keys(nul) == 0
            assert [one async for one in snapshot.iterate_keys(nul)] == []
            assert await snapshot.list_keys(KeyFilter(keyspace=nul), after=None, limit=9) == []
            assert await snapshot.list_keys(ANY_KEY, after=nul, limit=9) == []
            found = await snapshot.list_keys(ANY_KEY, after=KeyId("key\0z"), limit=9)
            assert [one.key_id for one in found] == ["key_a"]
            assert await snapshot.list_keyspaces(after="a\0", limit=9) == []
        with pytest.raises(ValueError, match="NUL"):
            await insert_keys(store, make_key(display_name="a\0b"))

    async def test_a_keyspace_comes_back_as_it_went_in(self, store: Store) -> None:
        earlier = FormatDeclaration(template="old_{body}", body=BodyDeclaration(length=40, shown=4))
        keyspace = make_keyspace(
            display_name='Demo\'s "best"',
            description="ö 😀",
            # Orders that are part of the declaration, and not those of the alphabet.
            resources=(
                ResourceDeclaration(
                    name="projects",
                    levels=(LevelDeclaration(name="view"), LevelDeclaration(name="admin")),
                ),
                ResourceDeclaration(name="backups", levels=(LevelDeclaration(name="read"),)),
            ),
            presets=(
                PresetDeclaration(name="z", scopes=("vps:*",)),
                PresetDeclaration(name="a", display_name="All", scopes=("*",)),
            ),
            key_types=(
                KeyTypeDeclaration(name="secret", marker="sec", manages_keys=True),
                KeyTypeDeclaration(name="public", scope_cap=("vps:read",)),
            ),
            environments=(EnvironmentDeclaration(name="test"), EnvironmentDeclaration(name="live")),
            defaults=KeyDefaults(preset="z", lifetime=timedelta(days=90)),
            max_lifetime=timedelta(days=365),
        )
        keyspace = replace(keyspace, previous_formats=(earlier,))
        revision = await put_keyspaces(store, keyspace)
        async with store.snapshot() as snapshot:
            found = await snapshot.find_keyspace(keyspace.name)
        assert found == replace(keyspace, revision=revision)
        assert found is not None
        assert found.catalog.knows("projects:admin")

    async def test_putting_a_keyspace_again_replaces_that_one_only(self, store: Store) -> None:
        first, other = make_keyspace("first"), make_keyspace("other")
        await put_keyspaces(store, first, other)
        later = replace(make_keyspace("first", display_name="New"), create_time=START)
        assert await put_keyspaces(store, later) == 2
        async with store.snapshot() as snapshot:
            found = await snapshot.list_keyspaces(after=None, limit=10)
        assert found == [replace(later, revision=2), replace(other, revision=1)]

    async def test_keyspaces_are_listed_by_name_and_in_pages(self, store: Store) -> None:
        names = ["b-1", "a", "b", "c", "b0"]
        await put_keyspaces(store, *map(make_keyspace, names))
        pages: list[list[str]] = []
        after = None
        async with store.snapshot() as snapshot:
            while page := await snapshot.list_keyspaces(after=after, limit=2):
                pages.append([one.name for one in page])
                after = page[-1].name
        assert pages == [["a", "b"], ["b-1", "b0"], ["c"]]
