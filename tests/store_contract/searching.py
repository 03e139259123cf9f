"""Searches: the filters that look at each key, within a bound on the keys that are examined."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from keyfence_server.application.ports import KeyCriteria, KeyFilter, Store
from keyfence_server.domain.keys import KeyId, KeyState
from store_contract.harness import Topic
from store_contract.values import HOSTILE, LOOKALIKES, a_use, add_uses
from support.builders import (
    KEYSPACE,
    commit_one,
    insert_keys,
    key_change,
    make_event,
    make_key,
)
from support.clock import START

_DAY = timedelta(days=1)


async def searched(store: Store, **wanted: Any) -> str:
    """The ids that one search finds. What `KeyFilter` has goes there, the rest is criteria."""
    which = {name: wanted.pop(name) for name in list(wanted) if name in KeyFilter.__slots__}
    async with store.snapshot() as snapshot:
        found, position = await snapshot.search_keys(
            KeyFilter(**{"keyspace": KEYSPACE, **which}),
            KeyCriteria(**wanted),
            after=None,
            limit=100,
            examined=100,
            most_text=1_000,
        )
    assert position is None
    return " ".join(key.key_id for key in found)


class SearchingContract(Topic):
    """Searches."""

    async def test_keys_are_found_by_every_filter_and_by_several(self, store: Store) -> None:
        await insert_keys(
            store,
            make_key("k0", key_type="secret", environment="live", display_prefix="kf_a"),
            make_key("k1", key_type="public", environment="live", display_prefix="kf_b"),
            make_key("k2", key_type="secret", environment="test", display_prefix="kf_a"),
            make_key("k3", key_type="secret", account_id="b", state=KeyState.DISABLED),
            make_key("k4", parent_key_id="k0", display_prefix="kf_a"),
            make_key("k5", keyspace="other", display_prefix="kf_a"),
        )
        assert await searched(store) == "k0 k1 k2 k3 k4"
        assert await searched(store, key_type="public") == "k1"
        assert await searched(store, environment="test") == "k2"
        assert await searched(store, display_prefix="kf_a") == "k0 k2 k4"
        assert await searched(store, display_prefix="kf_") == ""
        assert await searched(store, display_prefix="kf_a", environment="live") == "k0 k4"
        assert await searched(store, state=KeyState.DISABLED, key_type="secret") == "k3"
        assert await searched(store, state=KeyState.ACTIVE, account_id="b") == ""
        assert await searched(store, parent_key_id="k0", key_type="secret") == "k4"
        assert await searched(store, keyspace="other", display_prefix="kf_a") == "k5"

    async def test_keys_are_found_by_their_labels(self, store: Store) -> None:
        await insert_keys(
            store,
            make_key("k0", labels={"team": "a", "app.kubernetes.io/name": "x"}),
            make_key("k1", labels={"team": "b"}),
            make_key("k2", labels={"teams": "a"}),
            make_key("k3"),
        )
        assert await searched(store, labels={"team": "a"}) == "k0"
        assert await searched(store, labels={"app.kubernetes.io/name": "x", "team": "a"}) == "k0"
        assert await searched(store, labels={"team": "b", "app.kubernetes.io/name": "x"}) == ""
        assert await searched(store, labels={"team": ""}) == ""
        assert await searched(store, labels={"team": "a\0"}) == ""
        assert await searched(store, labels={"team": "b"}, key_type="secret") == "k1"

    async def test_a_label_equals_nothing_but_itself(self, store: Store) -> None:
        texts = [*LOOKALIKES, *HOSTILE]
        keys = [make_key(labels={"team": text}) for text in texts]
        await insert_keys(store, *keys)
        for key, text in zip(keys, texts, strict=True):
            assert await searched(store, labels={"team": text}) == key.key_id

    async def test_keys_are_found_by_any_of_several_grants(self, store: Store) -> None:
        await insert_keys(
            store,
            make_key("k0", granted_scopes=("dns:read", "vps:read")),
            make_key("k1", granted_scopes=("vps:*",)),
            make_key("k2", granted_scopes=("vps:read-only",)),
            make_key("k3", granted_scopes=()),
        )
        assert await searched(store, granted_any=("vps:read", "vps:*")) == "k0 k1"
        assert await searched(store, granted_any=("dns:read",)) == "k0"
        assert await searched(store, granted_any=("*",)) == ""
        assert await searched(store, granted_any=()) == ""
        many = tuple(f"none:{number}" for number in range(20_000))
        assert await searched(store, granted_any=(*many, "vps:*")) == "k1"

    async def test_keys_are_found_by_when_they_were_used(self, store: Store) -> None:
        await insert_keys(store, *(make_key(f"k{number}") for number in range(3)))
        await insert_keys(store, make_key("k3", create_time=START + 2 * _DAY))
        await add_uses(store, a_use("k0", minute=0), a_use("k1", minute=60))
        hour = START + timedelta(minutes=60)
        assert await searched(store, never_used=True) == "k2 k3"
        # A use at that very time counts, and a key that was made later was not unused since.
        assert await searched(store, unused_since=hour) == "k0 k2"
        assert await searched(store, unused_since=hour + timedelta(microseconds=1)) == "k0 k1 k2"
        assert await searched(store, unused_since=START) == ""
        assert await searched(store, unused_since=START + 3 * _DAY) == "k0 k1 k2 k3"
        assert await searched(store, unused_since=hour, never_used=True) == "k2"

    async def test_keys_are_found_by_when_they_expire(self, store: Store) -> None:
        await insert_keys(
            store,
            make_key("k0"),
            make_key("k1", expire_time=START),
            make_key("k2", expire_time=START + _DAY, account_id="b"),
            make_key("k3", expire_time=START + 2 * _DAY),
            make_key("k4", expire_time=START + 3 * _DAY),
        )
        assert await searched(store, expiring=(START, START + 3 * _DAY)) == "k2 k3"
        assert await searched(store, expiring=(START, START + _DAY)) == ""
        assert await searched(store, expiring=(START, START + 3 * _DAY), account_id="b") == "k2"

    async def test_revoked_keys_can_be_left_out(self, store: Store) -> None:
        disabled = make_key("k0", state=KeyState.DISABLED)
        await insert_keys(store, disabled, make_key("k1"), make_key("k2").revoked(START))
        assert await searched(store, not_revoked=True) == "k0 k1"

    async def test_a_search_stops_when_it_has_examined_enough_and_goes_on(
        self, store: Store
    ) -> None:
        keys = [make_key(f"k{number:02d}") for number in range(20)]
        keys[9] = make_key("k09", labels={"team": "a"})
        keys[18] = make_key("k18", labels={"team": "a"}, expire_time=START + _DAY)
        await insert_keys(store, *keys)

        async def steps(**wanted: Any) -> list[tuple[str, KeyId | None]]:
            limit = wanted.pop("limit", 5)
            position: KeyId | None = None
            made = []
            while True:
                async with store.snapshot() as snapshot:
                    found, position = await snapshot.search_keys(
                        KeyFilter(keyspace=KEYSPACE),
                        KeyCriteria(**wanted),
                        after=position,
                        limit=limit,
                        examined=5,
                        most_text=1_000,
                    )
                made.append((" ".join(key.key_id for key in found), position))
                if position is None:
                    return made

        assert await steps(labels={"team": "a"}) == [
            ("", "k04"),
            ("k09", "k09"),
            ("", "k14"),
            ("k18", None),
        ]
        assert await steps(limit=3, not_revoked=True) == [
            ("k00 k01 k02", "k02"),
            ("k03 k04 k05", "k05"),
            ("k06 k07 k08", "k08"),
            ("k09 k10 k11", "k11"),
            ("k12 k13 k14", "k14"),
            ("k15 k16 k17", "k17"),
            ("k18 k19", None),
        ]
        # Few keys expire, so they are found at once.
        soon = (START, START + 2 * _DAY)
        assert await steps(expiring=soon, labels={"team": "a"}) == [("k18", None)]
        # Nothing is tested key by key, so nothing is examined in vain.
        assert [found for found, _ in await steps(limit=12)] == [
            " ".join(f"k{number:02d}" for number in range(12)),
            " ".join(f"k{number:02d}" for number in range(12, 20)),
        ]

    async def test_a_search_ends_early_where_keys_are_large(self, store: Store) -> None:
        """To read them would take long, and they would not fit into an answer."""
        text = "x" * 1_000
        keys = [make_key(f"k{number:03d}", labels={"a": text}) for number in range(120)]
        await insert_keys(store, *keys)
        for criteria in (KeyCriteria(), KeyCriteria(labels={"a": text})):
            found: list[str] = []
            steps = 0
            position: KeyId | None = None
            while not steps or position is not None:
                async with store.snapshot() as snapshot:
                    some, position = await snapshot.search_keys(
                        KeyFilter(keyspace=KEYSPACE),
                        criteria,
                        after=position,
                        limit=110,
                        examined=1_000,
                        most_text=60_000,
                    )
                assert len(some) < 110
                found += [key.key_id for key in some]
                steps += 1
            assert found == [key.key_id for key in keys]
            assert steps == 2

    async def test_keys_that_expire_are_found_in_pages_also_if_they_are_many(
        self, store: Store
    ) -> None:
        """Above a number, they are looked for in the order of ids and not of expiry."""
        expire_time = START + _DAY
        many = [make_key(f"k{number:05d}", expire_time=expire_time) for number in range(5_001)]
        async with store.transaction() as transaction:
            await transaction.insert_keys(many)
            await commit_one(transaction, [key_change(many[0])], make_event("x"))
        found: list[str] = []
        position: KeyId | None = None
        while True:
            async with store.snapshot() as snapshot:
                page, position = await snapshot.search_keys(
                    KeyFilter(keyspace=KEYSPACE),
                    KeyCriteria(expiring=(START, START + 2 * _DAY)),
                    after=position,
                    limit=1_000,
                    examined=1_000,
                    most_text=100_000,
                )
            found += [key.key_id for key in page]
            if position is None:
                break
        assert found == [key.key_id for key in many]
