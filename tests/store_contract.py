"""What every store promises, as tests: the ports' docstrings, sentence by sentence.

A store's own test is a class that inherits `StoreContract` and gives it a `harness`.
Nothing here knows which database is behind the store, save by what the harness says.
"""

from __future__ import annotations

import asyncio
import time
import traceback
import unicodedata
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Protocol

import pytest

from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, follow
from keyfence_server.application.ports import (
    MAX_USE_COUNT,
    AccountFilter,
    Change,
    ChangeKind,
    EventFilter,
    KeyFilter,
    KeyUse,
    Store,
    StoreUnavailable,
    UseToAdd,
)
from keyfence_server.domain.accounts import AccountId, AccountState, Email, PasswordHash
from keyfence_server.domain.declarations import (
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyDefaults,
    KeyTypeDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
)
from keyfence_server.domain.keys import MAX_LINEAGE, Key, KeyId, KeyState
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import SessionId
from support.builders import (
    KEYSPACE,
    account_change,
    digest_of,
    insert_accounts,
    insert_keys,
    insert_sessions,
    key_change,
    make_account,
    make_event,
    make_key,
    make_keyspace,
    make_session,
    put_keyspaces,
    update_accounts,
    update_keys,
)
from support.clock import START

ANY_KEY = KeyFilter(keyspace=KEYSPACE)
# Alike to a reader, to a folding collation or to a trimming one; not alike byte by byte.
LOOKALIKES = (
    "Key",
    "key",
    "KEY",
    "key ",
    " key",
    "key\t",
    "kéy",
    unicodedata.normalize("NFD", "kéy"),
    "ｋｅｙ",  # noqa: RUF001
    "straße",
    "strasse",
    "key\u200b",
)
HOSTILE = (
    "'; DROP TABLE keys; --",
    '" OR ""="',
    "%' OR '1'='1",
    "a\\'b",
    "{0} %s :name $1 ?",
    "😀\U0010ffff",
    "line\nbreak\r\n",
)
CANARY = "canary-that-must-not-be-seen"


class Harness(Protocol):
    """A database to open stores on, and a hand on its switch."""

    @property
    def reads_need_the_switch(self) -> bool:
        """Whether reading, too, stops while the database is taken away."""
        ...

    async def open(self) -> Store:
        """Opens one more store on the same database. The harness closes it."""
        ...

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Reads past the stores."""
        ...

    async def count_open_transactions(self) -> int:
        """How many connections are in a transaction, whoever has them."""
        ...

    async def take_away(self) -> None:
        """Makes the database unavailable, connections in use included."""
        ...

    async def give_back(self) -> None:
        """Makes it available again, touching no store."""
        ...


class _Suite:
    """What each part of the contract works with."""

    @pytest.fixture
    def harness(self) -> Harness:
        """The database. Each store's test class gives its own."""
        raise AssertionError("a class that inherits the contract must give a harness")

    @pytest.fixture
    async def store(self, harness: Harness) -> Store:
        """A store that is empty."""
        return await harness.open()


class FindingContract(_Suite):
    """What a snapshot finds."""

    async def test_an_empty_store_shows_revision_0_and_nothing(self, store: Store) -> None:
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 0
            assert await snapshot.find_key(KeyId("key_1")) is None
            assert await snapshot.find_lineage(KeyId("key_1")) is None
            assert await snapshot.find_lineage_by_digest([digest_of("a")]) is None
            assert await snapshot.list_keys(ANY_KEY, after=None, limit=10) == []
            assert await snapshot.count_keys(KEYSPACE) == 0
            assert await snapshot.find_keyspace(KEYSPACE) is None
            assert await snapshot.list_keyspaces(after=None, limit=10) == []
            assert await snapshot.find_request(KeyId("key_1"), "r") is None
            assert await snapshot.list_changes(after=0, limit=10) == []
            assert [key async for key in snapshot.iterate_keys(KEYSPACE)] == []

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
        earlier = FormatDeclaration(template="old_{body}", alphabet="base62", length=40, shown=4)
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


class LineageContract(_Suite):
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


class ListingContract(_Suite):
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
                await transaction.commit(changes, make_event("x"))
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
                await transaction.commit(
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


class MutatingContract(_Suite):
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
            revision = await transaction.commit([key_change(key, created=True)], event)
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
            found = await transaction.find_lineage_by_digest([key.digest])
            assert found is not None
            assert found[0].display_name == "New"

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
                await transaction.commit([key_change(key)], make_event(key.key_id))
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
                await transaction.commit([key_change(second)], make_event(second.key_id))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            assert await snapshot.find_key(second.key_id) is None

    async def test_a_transaction_is_over_once_committed(self, store: Store) -> None:
        key = make_key()
        async with store.transaction() as transaction:
            await transaction.commit([key_change(key)], make_event(key.key_id))
            with pytest.raises(RuntimeError):
                await transaction.insert_key(key)
            with pytest.raises(RuntimeError):
                await transaction.find_key(key.key_id)
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(key.key_id) is None

    async def test_a_mutation_must_say_what_it_changed(self, store: Store) -> None:
        async with store.transaction() as transaction:
            with pytest.raises(ValueError, match="nothing"):
                await transaction.commit([], make_event("x"))

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
        shown = _everything_about(caught.value) + caplog.text
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
            await transaction.commit([key_change(keys[0])], make_event("x"))
        async with store.snapshot() as snapshot:
            for key, (caller, request_id) in zip(keys, requests, strict=True):
                assert await snapshot.find_request(KeyId(caller), request_id) == key.key_id
            assert await snapshot.find_request(KeyId("key_op"), "r2") is None
            assert await snapshot.find_request(KeyId("key_op"), "r1 ") is None

    async def test_requests_are_forgotten_after_a_day_and_not_before(self, store: Store) -> None:
        key, caller = make_key(), KeyId("key_op")
        day = timedelta(hours=24)
        async with store.transaction() as transaction:
            await transaction.insert_key(key)
            await transaction.insert_request(caller, "old", key.key_id, START)
            await transaction.insert_request(
                caller, "recent", key.key_id, START + timedelta(seconds=2)
            )
            await transaction.insert_request(
                caller, "new", key.key_id, START + day + timedelta(seconds=1)
            )
            await transaction.commit([key_change(key)], make_event("x"))
        async with store.snapshot() as snapshot:
            assert await snapshot.find_request(caller, "old") is None
            assert await snapshot.find_request(caller, "recent") == key.key_id
            assert await snapshot.find_request(caller, "new") == key.key_id


class AuditContract(_Suite):
    """The chain of audit events."""

    async def test_an_empty_chain_ends_before_its_first_event(self, store: Store) -> None:
        async with store.snapshot() as snapshot:
            assert await snapshot.end_of_events() == BEFORE_THE_FIRST
            assert await snapshot.list_events(EventFilter(), after=None, limit=10) == []

    async def test_events_come_back_as_they_were_written_in_one_chain(self, store: Store) -> None:
        """Those of mutations and others alike."""
        key = make_key()
        told = make_event(
            key.key_id,
            time=START + timedelta(microseconds=1),
            actor_key_id=KeyId("key_op"),
            request_id="req-1",
            details={"scopes": ["a", HOSTILE[0]], "n": 1, "deep": {"none": None}, "f": 0.1},
        )
        attempts = [
            make_event("", keyspace="", account_id=None, details={"count": n}) for n in (1, 2)
        ]
        async with store.transaction() as transaction:
            await transaction.insert_key(key)
            await transaction.commit([key_change(key, created=True)], told)
        await store.append_events(attempts)
        await insert_keys(store, make_key())
        async with store.snapshot() as snapshot:
            events = await snapshot.list_events(EventFilter(), after=None, limit=10)
            end = await snapshot.end_of_events()
        assert [one.event for one in events[:3]] == [told, *attempts]
        assert [(one.sequence, one.revision) for one in events] == [
            (1, 1),
            (2, None),
            (3, None),
            (4, 2),
        ]
        assert follow(BEFORE_THE_FIRST, events) == (end, None)
        assert end.count == 4

    async def test_what_is_undone_leaves_no_gap_in_the_chain(self, store: Store) -> None:
        await insert_keys(store, make_key())
        async with store.transaction() as transaction:
            await transaction.insert_key(make_key())
        await insert_keys(store, make_key())
        async with store.snapshot() as snapshot:
            events = await snapshot.list_events(EventFilter(), after=None, limit=10)
            assert follow(BEFORE_THE_FIRST, events) == (await snapshot.end_of_events(), None)

    async def test_events_of_no_mutation_take_no_revision(self, store: Store) -> None:
        await insert_keys(store, make_key())
        await store.append_events([make_event("a")])
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            assert len(await snapshot.list_changes(after=0, limit=10)) == 1
        assert await insert_keys(store, make_key()) == 2

    async def test_appending_the_same_events_again_adds_only_what_is_missing(
        self, store: Store
    ) -> None:
        """Whoever does not know whether it was done may do it again."""
        events = [make_event(str(number)) for number in range(3)]
        await store.append_events(events[:2])
        await store.append_events(events)
        await store.append_events(events)
        async with store.snapshot() as snapshot:
            found = await snapshot.list_events(EventFilter(), after=None, limit=10)
            assert [one.event for one in found] == events
            assert follow(BEFORE_THE_FIRST, found) == (await snapshot.end_of_events(), None)

    async def test_events_are_found_by_every_filter(self, store: Store) -> None:
        def at(minute: int) -> datetime:
            return START + timedelta(minutes=minute)

        events = [
            make_event("a", keyspace="one", account_id="x", action="key.create", time=at(0)),
            make_event("b", keyspace="two", account_id="x", action="key.revoke", time=at(1)),
            make_event("a", keyspace="two", account_id=None, action="keys", time=at(2)),
            make_event("c", keyspace="", actor_key_id=KeyId("key_op"), action="a%", time=at(3)),
        ]
        await store.append_events(events)
        cases: list[tuple[dict[str, Any], list[int]]] = [
            ({}, [1, 2, 3, 4]),
            ({"keyspaces": frozenset({"two"})}, [2, 3]),
            ({"keyspaces": frozenset({"one", ""})}, [1, 4]),
            ({"keyspaces": frozenset()}, []),
            ({"but_keyspace": "two"}, [1, 4]),
            ({"account_id": "x"}, [1, 2]),
            ({"subject": "a"}, [1, 3]),
            ({"actor_key_id": "key_op"}, [4]),
            ({"action_prefix": "key."}, [1, 2]),
            ({"action_prefix": "key"}, [1, 2, 3]),
            ({"action_prefix": "%"}, []),
            ({"action_prefix": "a%"}, [4]),
            ({"action_prefix": "KEY"}, []),
            ({"start_time": at(1)}, [2, 3, 4]),
            ({"end_time": at(1)}, [1]),
            ({"start_time": at(1), "end_time": at(3)}, [2, 3]),
            ({"after_sequence": 2}, [3, 4]),
            ({"subject": "a", "keyspaces": frozenset({"one"})}, [1]),
            ({"subject": "a\0"}, []),
        ]
        async with store.snapshot() as snapshot:
            for fields, expected in cases:
                which = EventFilter(**fields)
                up = await snapshot.list_events(which, after=None, limit=10)
                down = await snapshot.list_events(which, after=None, limit=10, newest_first=True)
                assert [one.sequence for one in up] == expected, fields
                assert [one.sequence for one in down] == expected[::-1], fields

    async def test_events_are_paged_both_ways(self, store: Store) -> None:
        await store.append_events([make_event(str(number)) for number in range(5)])
        async with store.snapshot() as snapshot:
            up = await snapshot.list_events(EventFilter(), after=2, limit=2)
            down = await snapshot.list_events(EventFilter(), after=4, limit=2, newest_first=True)
        assert [one.sequence for one in up] == [3, 4]
        assert [one.sequence for one in down] == [3, 2]

    async def test_mutations_and_other_events_at_once_make_one_chain(
        self, harness: Harness, store: Store
    ) -> None:
        """Two stores on one database are what two processes are."""
        stores = [store, await harness.open()]

        async def mutate(number: int) -> None:
            await insert_keys(stores[number % 2], make_key())

        async def append(number: int) -> None:
            await stores[number % 2].append_events([make_event("x"), make_event("y")])

        await asyncio.gather(*(work(number) for number in range(8) for work in (mutate, append)))
        async with store.snapshot() as snapshot:
            events = await snapshot.list_events(EventFilter(), after=None, limit=100)
            assert follow(BEFORE_THE_FIRST, events) == (await snapshot.end_of_events(), None)
        assert len(events) == 24
        assert [one.revision for one in events if one.revision] == list(range(1, 9))


class UsesContract(_Suite):
    """How keys are used."""

    async def test_what_was_never_used_is_left_out(self, store: Store) -> None:
        async with store.snapshot() as snapshot:
            assert await snapshot.find_uses([KeyId("key_1"), KeyId("a\0b")]) == {}
            assert await snapshot.find_uses([]) == {}
            days = await snapshot.list_use_days(KeyId("key_1"), first=TODAY, last=TODAY)
            assert days == []

    async def test_uses_add_up_by_key_and_by_day(self, store: Store) -> None:
        await add_uses(store, a_use("k1", count=2), a_use("k2", count=1))
        await add_uses(
            store,
            a_use("k1", count=3, day=TODAY, minute=1),
            a_use("k1", count=5, day=TODAY + timedelta(days=1), minute=2),
        )
        async with store.snapshot() as snapshot:
            uses = await snapshot.find_uses([KeyId("k1"), KeyId("k2"), KeyId("k3")])
            assert {key_id: use.count for key_id, use in uses.items()} == {"k1": 10, "k2": 1}
            assert uses[KeyId("k1")].last_used_time == START + timedelta(minutes=2)
            days = await snapshot.list_use_days(
                KeyId("k1"), first=TODAY, last=TODAY + timedelta(days=9)
            )
            assert days == [(TODAY, 5), (TODAY + timedelta(days=1), 5)]
            assert await snapshot.list_use_days(KeyId("k1"), first=TODAY, last=TODAY) == days[:1]

    async def test_a_count_saturates_and_stays_a_number_that_can_be_read(
        self, store: Store
    ) -> None:
        """SQLite makes a floating-point number of a sum beyond 64 bits, and PostgreSQL refuses
        it with all that is written together."""
        huge = [a_use("k", count=MAX_USE_COUNT), a_use("k", count=2**63 - 1)]
        for _ in range(3):
            await add_uses(store, *huge, a_use("other"))
        async with store.snapshot() as snapshot:
            uses = await snapshot.find_uses([KeyId("k"), KeyId("other")])
            days = await snapshot.list_use_days(KeyId("k"), first=TODAY, last=TODAY)
        assert {key_id: use.count for key_id, use in uses.items()} == {
            "k": MAX_USE_COUNT, "other": 3,
        }  # fmt: skip
        assert days == [(TODAY, MAX_USE_COUNT)]
        assert all(type(use.count) is int for use in uses.values())

    async def test_a_last_use_moves_only_forward(self, store: Store) -> None:
        """Whatever the order in which several servers write down what they know."""
        await add_uses(store, a_use("k", minute=5, address="192.0.2.5"))
        await add_uses(store, a_use("k", minute=3, address="192.0.2.3"))
        async with store.snapshot() as snapshot:
            use = (await snapshot.find_uses([KeyId("k")]))[KeyId("k")]
        assert use == KeyUse(START + timedelta(minutes=5), "192.0.2.5", 2)

    async def test_days_that_are_to_be_forgotten_are(self, store: Store) -> None:
        await add_uses(store, a_use("k", day=TODAY - timedelta(days=1)), a_use("k", day=TODAY))
        await store.add_uses([a_use("k", day=TODAY)], forget_before=TODAY)
        async with store.snapshot() as snapshot:
            days = await snapshot.list_use_days(
                KeyId("k"), first=TODAY - timedelta(days=9), last=TODAY
            )
            assert days == [(TODAY, 2)]
            assert (await snapshot.find_uses([KeyId("k")]))[KeyId("k")].count == 3

    async def test_a_use_touches_nothing_else(self, harness: Harness, store: Store) -> None:
        """No record, no revision, no change that a cache would have to know of."""
        key = make_key()
        await insert_keys(store, key)
        tables = ("keys", "head", "changes", "audit_events", "audit_head")
        before = [await harness.query(f"SELECT * FROM {table}") for table in tables]
        await add_uses(store, a_use(key.key_id))
        assert [await harness.query(f"SELECT * FROM {table}") for table in tables] == before

    async def test_a_use_and_an_edit_at_once_lose_neither(
        self, harness: Harness, store: Store
    ) -> None:
        key = make_key(display_name="0")
        await insert_keys(store, key)
        other = await harness.open()

        async def edit(number: int) -> None:
            await update_keys(store, replace(key, display_name=str(number)))

        async def use(number: int) -> None:
            await add_uses(other, a_use(key.key_id, minute=number))

        await asyncio.gather(*(work(number) for number in range(1, 21) for work in (edit, use)))
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(key.key_id)
            use_ = (await snapshot.find_uses([key.key_id]))[key.key_id]
        assert found is not None
        assert (found.display_name, found.revision) == ("20", 21)
        assert (use_.count, use_.last_used_time) == (20, START + timedelta(minutes=20))

    async def test_nothing_is_written_down_while_the_store_is_away(
        self, harness: Harness, store: Store
    ) -> None:
        await add_uses(store, a_use("k"))
        await harness.take_away()
        with pytest.raises(StoreUnavailable):
            await add_uses(store, a_use("k"))
        with pytest.raises(StoreUnavailable):
            await store.append_events([make_event("x")])
        await harness.give_back()
        await _until_available(store)
        async with store.snapshot() as snapshot:
            assert (await snapshot.find_uses([KeyId("k")]))[KeyId("k")].count == 1
            assert (await snapshot.end_of_events()).count == 0


TODAY = START.date()


def a_use(
    key_id: str, *, count: int = 1, day: date = TODAY, minute: int = 0, address: str = ""
) -> UseToAdd:
    """That a key was used on a day, last at some minute behind `START`."""
    return UseToAdd(KeyId(key_id), day, KeyUse(START + timedelta(minutes=minute), address, count))


async def add_uses(store: Store, *uses: UseToAdd) -> None:
    """Writes uses down and forgets none."""
    await store.add_uses(uses, forget_before=date(2000, 1, 1))


async def _until_available(store: Store) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await add_uses(store, a_use("other"))
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


class AccountsContract(_Suite):
    """Accounts and their sessions."""

    async def test_an_account_comes_back_as_it_went_in(self, store: Store) -> None:
        plain = make_account()
        full = make_account(
            email=Email("Anna.O'Neill+1@Example.COM"),
            display_name=HOSTILE[0],
            password=PasswordHash("$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", 7),
            state=AccountState.DISABLED,
            create_time=START,
            update_time=START + timedelta(microseconds=1),
            disable_time=START + timedelta(seconds=2),
            plan="pro",
            labels={"z": HOSTILE[5], "a": ""},
        )
        await insert_accounts(store, plain, full)
        async with store.snapshot() as snapshot:
            for account in (plain, full):
                stored = replace(account, revision=1)
                assert await snapshot.find_account(account.account_id) == stored
                by_email = snapshot.find_account_by_email(KEYSPACE, account.email.identity)
                assert await by_email == stored
            assert await snapshot.find_account(AccountId("usr_0")) is None
            assert await snapshot.find_account(AccountId("usr\0")) is None
            assert await snapshot.find_account_by_email("other", plain.email.identity) is None
            assert await snapshot.find_account_by_email(KEYSPACE, "\0") is None

    @pytest.mark.parametrize("text", HOSTILE)
    async def test_an_address_that_looks_like_sql_is_only_text(
        self, store: Store, text: str
    ) -> None:
        await insert_accounts(store, make_account())
        async with store.snapshot() as snapshot:
            assert await snapshot.find_account_by_email(KEYSPACE, text) is None
            assert await snapshot.find_account_by_email(text, "a@example.com") is None
            assert await snapshot.find_session(SessionId(text)) is None

    async def test_a_keyspace_has_one_account_for_an_address(self, store: Store) -> None:
        first = make_account(email=Email("a@example.com"))
        second = make_account(email=Email("b@example.com"))
        elsewhere = make_account(email=Email("A@example.com"), keyspace="other")
        await insert_accounts(store, first, second, elsewhere)
        for twin in (
            make_account(email=Email("A@example.com")),
            make_account(first.account_id),
        ):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
                await insert_accounts(store, twin)
            assert "argon2id" not in _everything_about(caught.value)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            await update_accounts(store, replace(second, email=Email("A@example.com")))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            found = await snapshot.find_account_by_email(KEYSPACE, "b@example.com")
            assert found == replace(second, revision=1)

    async def test_accounts_are_listed_by_state_and_in_pages(self, store: Store) -> None:
        disabled = {"state": AccountState.DISABLED, "disable_time": START}
        accounts = [make_account(f"usr_{n}", **(disabled if n % 3 == 0 else {})) for n in range(7)]
        await insert_accounts(store, *accounts, make_account("usr_x", keyspace="other"))
        async with store.snapshot() as snapshot:
            for state in (None, *AccountState):
                which = AccountFilter(KEYSPACE, state)
                wanted = [one.account_id for one in accounts if state in (None, one.state)]
                found: list[str] = []
                after: AccountId | None = None
                while page := await snapshot.list_accounts(which, after=after, limit=2):
                    found += [one.account_id for one in page]
                    after = page[-1].account_id
                assert found == wanted
            nowhere = AccountFilter("a\0b")
            assert await snapshot.list_accounts(nowhere, after=None, limit=9) == []

    async def test_updating_an_account_touches_it_alone(self, store: Store) -> None:
        account, bystander = make_account(), make_account()
        await insert_accounts(store, account, bystander)
        changed = replace(account, plan="pro", email=Email("new@example.com"))
        await update_accounts(store, changed)
        async with store.snapshot() as snapshot:
            found = await snapshot.find_account(account.account_id)
            assert found == replace(changed, revision=2)
            untouched = await snapshot.find_account(bystander.account_id)
            assert untouched == replace(bystander, revision=1)
            old = await snapshot.find_account_by_email(KEYSPACE, account.email.identity)
            assert old is None
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            await update_accounts(store, make_account())

    async def test_a_session_comes_back_as_it_went_in(self, store: Store) -> None:
        account = make_account()
        await insert_accounts(store, account)
        session = make_session(account, expire_time=START + timedelta(microseconds=1))
        ended = make_session(account, end_time=START)
        await insert_sessions(store, session, ended)
        async with store.snapshot() as snapshot:
            for one in (session, ended):
                assert await snapshot.find_session(one.session_id) == replace(one, revision=2)
            assert await snapshot.find_session(SessionId("ses_0")) is None
        async with store.transaction() as transaction:
            await transaction.update_session(replace(session, end_time=START))
            await transaction.commit(
                [Change(ChangeKind.SESSION, session.session_id, KEYSPACE)], make_event("s")
            )
        async with store.snapshot() as snapshot:
            found = await snapshot.find_session(session.session_id)
            assert found == replace(session, end_time=START, revision=3)
            untouched = await snapshot.find_session(ended.session_id)
            assert untouched == replace(ended, revision=2)

    async def test_a_session_needs_an_account(self, store: Store) -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            await insert_sessions(store, make_session(make_account()))
        assert await _revision(store) == 0

    async def test_ending_sessions_ends_those_of_the_account_that_are_open(
        self, store: Store
    ) -> None:
        account, bystander = make_account(), make_account()
        await insert_accounts(store, account, bystander)
        now = START + timedelta(minutes=30)
        opened = [make_session(account) for _ in range(3)]
        others = [
            make_session(account, end_time=START),
            make_session(account, expire_time=now),
            make_session(bystander),
        ]
        await insert_sessions(store, *opened, *others)
        async with store.transaction() as transaction:
            ended = await transaction.end_sessions(
                account.account_id, now, but=opened[0].session_id
            )
            assert ended == 2
            assert await transaction.end_sessions(AccountId("usr_0"), now) == 0
            await transaction.commit([account_change(account)], make_event(account.account_id))
        async with store.snapshot() as snapshot:
            for one in opened[1:]:
                found = await snapshot.find_session(one.session_id)
                assert found == replace(one, end_time=now, revision=3)
            for one in (opened[0], *others):
                assert await snapshot.find_session(one.session_id) == replace(one, revision=2)

    async def test_sessions_are_forgotten_a_day_after_their_time_and_not_before(
        self, store: Store
    ) -> None:
        account = make_account()
        await insert_accounts(store, account)
        old = make_session(account)
        kept = make_session(account, expire_time=old.expire_time + timedelta(microseconds=1))
        await insert_sessions(store, old, kept)
        day_after = kept.expire_time + timedelta(days=1)
        await insert_sessions(
            store,
            make_session(
                account, create_time=day_after, expire_time=day_after + timedelta(hours=1)
            ),
        )
        async with store.snapshot() as snapshot:
            assert await snapshot.find_session(old.session_id) is None
            assert await snapshot.find_session(kept.session_id) is not None


class ConcurrencyContract(_Suite):
    """Several at once, in this process and in others."""

    async def test_revisions_are_gapless_and_in_the_order_of_commits(
        self, harness: Harness, store: Store
    ) -> None:
        """Two stores on one database are what two processes are."""
        stores = [store, await harness.open()]
        acknowledged: list[int] = []

        async def mutate(number: int) -> None:
            key = make_key()
            async with stores[number % 2].transaction() as transaction:
                await transaction.insert_key(key)
                if number % 5 == 4:
                    return
                await transaction.commit([key_change(key)], make_event(key.key_id))
                acknowledged.append(transaction.revision)

        await asyncio.gather(*(mutate(number) for number in range(40)))
        assert sorted(acknowledged) == list(range(1, 33))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 32
            changes = await snapshot.list_changes(after=0, limit=100)
            assert [revision for revision, _ in changes] == list(range(1, 33))
            assert await snapshot.count_keys(KEYSPACE) == 32
        events = await harness.query("SELECT revision FROM audit_events ORDER BY revision")
        assert [revision for (revision,) in events] == list(range(1, 33))

    async def test_a_transaction_sees_all_that_was_committed_before_it(
        self, harness: Harness, store: Store
    ) -> None:
        """Read, then write what was read plus one: no increment may be lost."""
        stores = [store, await harness.open()]
        counter = make_key(display_name="0")
        await insert_keys(store, counter)

        async def increment(number: int) -> None:
            async with stores[number % 2].transaction() as transaction:
                key = await transaction.find_key(counter.key_id)
                assert key is not None
                assert key.revision == transaction.revision - 1
                await transaction.update_key(
                    replace(key, display_name=str(int(key.display_name) + 1))
                )
                await transaction.commit([key_change(key)], make_event(key.key_id))

        await asyncio.gather(*(increment(number) for number in range(30)))
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(counter.key_id)
        assert found is not None
        assert found.display_name == "30"

    async def test_a_snapshot_is_of_one_revision_while_others_write(
        self, harness: Harness, store: Store
    ) -> None:
        writer = await harness.open()
        pair = [make_key("key_a", display_name="0"), make_key("key_z", display_name="0")]
        await insert_keys(store, *pair)
        async with store.snapshot() as before:
            first = await before.find_key(pair[0].key_id)
            assert first is not None
            await update_keys(writer, *(replace(key, display_name="1") for key in pair))
            await insert_keys(writer, make_key("key_m"))
            second = await before.find_key(pair[1].key_id)
            assert second is not None
            assert (before.revision, first.display_name, second.display_name) == (1, "0", "0")
            assert len(await before.list_keys(ANY_KEY, after=None, limit=9)) == 2
            assert await before.list_changes(after=1, limit=9) == []
        async with store.snapshot() as after:
            assert after.revision == 3
            assert len(await after.list_keys(ANY_KEY, after=None, limit=9)) == 3

    async def test_readers_never_see_half_of_a_mutation(
        self, harness: Harness, store: Store
    ) -> None:
        writer = await harness.open()
        pair = [make_key("key_a", display_name="1"), make_key("key_z", display_name="1")]
        await insert_keys(store, *pair)
        done = asyncio.Event()

        async def write() -> None:
            for _ in range(25):
                number = str((await _revision(writer)) + 1)
                await update_keys(writer, *(replace(key, display_name=number) for key in pair))
            done.set()

        async def read() -> None:
            while not done.is_set():
                async with store.snapshot() as snapshot:
                    keys = [await snapshot.find_key(key.key_id) for key in pair]
                    assert [key.display_name for key in keys if key] == [str(snapshot.revision)] * 2
                    assert {key.revision for key in keys if key} == {snapshot.revision}

        await asyncio.gather(write(), read(), read())

    async def test_reading_goes_on_while_a_mutation_is_under_way(self, store: Store) -> None:
        async with store.transaction() as transaction:
            await transaction.insert_key(make_key())
            async with store.snapshot() as snapshot:
                assert snapshot.revision == 0
                assert await snapshot.count_keys(KEYSPACE) == 0

    async def test_many_waiting_mutations_do_not_starve_readers(self, store: Store) -> None:
        release = asyncio.Event()

        async def hold() -> None:
            async with store.transaction():
                await release.wait()

        waiting = [asyncio.create_task(hold()) for _ in range(100)]
        try:
            async with asyncio.timeout(5):
                for _ in range(3):
                    assert await _revision(store) == 0
        finally:
            release.set()
            await asyncio.gather(*waiting)


class CancellationContract(_Suite):
    """Callers that go away."""

    async def test_a_mutation_cancelled_at_any_moment_is_whole_or_absent(
        self, harness: Harness, store: Store
    ) -> None:
        usual = await _seconds(insert_keys, store, make_key())
        rounds = 60
        attempted: list[Key] = []
        for number in range(rounds):
            key = make_key()
            attempted.append(key)
            mutation = asyncio.create_task(insert_keys(store, key))
            asyncio.get_running_loop().call_later(1.3 * usual * number / rounds, mutation.cancel)
            await asyncio.wait([mutation])
            if not mutation.cancelled():
                mutation.result()
        assert await harness.count_open_transactions() == 0
        await insert_keys(store, make_key())
        async with store.snapshot() as snapshot:
            present = {
                key.key_id for key in await snapshot.list_keys(ANY_KEY, after=None, limit=99)
            }
            changes = await snapshot.list_changes(after=0, limit=99)
            assert {change.subject for _, change in changes} == present
            assert [revision for revision, _ in changes] == list(range(1, len(present) + 1))
            assert snapshot.revision == len(present)
        events = await harness.query("SELECT subject FROM audit_events")
        assert {subject for (subject,) in events} == present
        assert 2 <= len(present) < rounds + 2, "some were cancelled, and some were not"

    async def test_a_commit_under_way_is_carried_through_when_its_caller_is_cancelled(
        self, store: Store
    ) -> None:
        key = make_key()
        committing = asyncio.Event()

        async def mutate() -> None:
            async with store.transaction() as transaction:
                await transaction.insert_key(key)
                committing.set()
                await transaction.commit([key_change(key)], make_event(key.key_id))

        mutation = asyncio.create_task(mutate())
        await committing.wait()
        mutation.cancel()
        for _ in range(3):  # and cancelled again while it cleans up
            await asyncio.wait([mutation], timeout=0)
            mutation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mutation
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(key.key_id) == replace(key, revision=1)

    async def test_a_mutation_cancelled_in_its_body_lets_go_of_everything(
        self, harness: Harness, store: Store
    ) -> None:
        reached = asyncio.Event()

        async def hang() -> None:
            async with store.transaction() as transaction:
                await transaction.insert_key(make_key())
                reached.set()
                await asyncio.Event().wait()

        for _ in range(12):
            reached.clear()
            mutation = asyncio.create_task(hang())
            await reached.wait()
            mutation.cancel()
            with pytest.raises(asyncio.CancelledError):
                await mutation
        assert await harness.count_open_transactions() == 0
        assert await insert_keys(store, make_key()) == 1

    async def test_one_that_waits_for_its_turn_can_be_cancelled(self, store: Store) -> None:
        async with store.transaction() as transaction:
            waiting = asyncio.create_task(insert_keys(store, make_key()))
            await asyncio.wait([waiting], timeout=0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await transaction.commit([key_change(make_key())], make_event("x"))
        assert await insert_keys(store, make_key()) == 2

    async def test_a_snapshot_cancelled_at_any_moment_lets_go_of_its_connection(
        self, harness: Harness, store: Store
    ) -> None:
        await insert_keys(store, *make_line(MAX_LINEAGE))

        async def read() -> None:
            async with store.snapshot() as snapshot:
                async for key in snapshot.iterate_keys(KEYSPACE):
                    await snapshot.find_lineage(key.key_id)

        usual = await _seconds(read)
        for number in range(40):
            reading = asyncio.create_task(read())
            asyncio.get_running_loop().call_later(1.2 * usual * number / 40, reading.cancel)
            await asyncio.wait([reading])
        await read()
        assert await harness.count_open_transactions() == 0


class AvailabilityContract(_Suite):
    """The database goes, and comes back."""

    async def test_ping_returns_while_the_store_answers(self, store: Store) -> None:
        await store.ping()

    async def test_mutations_refuse_whole_while_the_database_is_away(
        self, harness: Harness, store: Store
    ) -> None:
        key = make_key()
        await insert_keys(store, key)
        await harness.take_away()
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await insert_keys(store, make_key())
            if harness.reads_need_the_switch:
                with pytest.raises(StoreUnavailable):
                    await store.ping()
                with pytest.raises(StoreUnavailable):
                    await _revision(store)
            else:
                assert await _revision(store) == 1
        finally:
            await harness.give_back()
        await self._assert_healed(store, key)

    async def test_a_database_that_was_away_unnoticed_is_found_again_without_an_error(
        self, harness: Harness, store: Store
    ) -> None:
        """Connections of the pool died while nobody used them: nobody needs to know."""
        key = make_key()
        await insert_keys(store, key)
        await asyncio.gather(*(_revision(store) for _ in range(5)))
        await harness.take_away()
        await harness.give_back()
        await self._assert_healed(store, key)

    async def _assert_healed(self, store: Store, only: Key) -> None:
        await store.ping()
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            assert await snapshot.list_keys(ANY_KEY, after=None, limit=9) == [
                replace(only, revision=1)
            ]
        assert await insert_keys(store, make_key()) == 2

    async def test_what_is_unavailable_says_so_without_saying_how_to_get_in(
        self, harness: Harness, store: Store
    ) -> None:
        key = make_key(display_name=CANARY)
        await harness.take_away()
        try:
            with pytest.raises(StoreUnavailable) as caught:
                await insert_keys(store, key)
        finally:
            await harness.give_back()
        assert str(caught.value)
        shown = _everything_about(caught.value)
        assert CANARY not in shown
        assert "://" not in shown


class StoreContract(
    FindingContract,
    LineageContract,
    ListingContract,
    MutatingContract,
    AuditContract,
    UsesContract,
    AccountsContract,
    ConcurrencyContract,
    CancellationContract,
    AvailabilityContract,
):
    """All of it. A store's test class inherits this and gives a `harness`."""


def make_line(depth: int) -> list[Key]:
    """Keys of which each is delegated from the one before it."""
    line: list[Key] = []
    for _ in range(depth):
        line.append(make_key(parent_key_id=line[-1].key_id if line else None))
    return line


async def _revision(store: Store) -> int:
    async with store.snapshot() as snapshot:
        return snapshot.revision


async def _seconds(work: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> float:
    """How long it takes."""
    start = time.perf_counter()
    await work(*arguments)
    return time.perf_counter() - start


def _everything_about(error: BaseException) -> str:
    """All that a log could show of an error, as a log would."""
    return "".join(traceback.format_exception(error)) + repr(error)
