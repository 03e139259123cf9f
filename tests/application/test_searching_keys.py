"""Inventory: which keys can do something, and which keys nothing uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from application.authority import ACME, Authority, refused
from keyfence_server.application import read_keys
from keyfence_server.application.ports import KeyUse, UseToAdd
from keyfence_server.application.read_keys import Listing
from keyfence_server.domain.keys import KeyId, KeyState

DAY = timedelta(days=1)


async def names_of(authority: Authority, **fields: Any) -> list[str]:
    """The display names of the keys on all pages, sorted."""
    names: list[str] = []
    token = ""
    while True:
        listing = Listing(**{"keyspace": "acme", **fields, "page_token": token})
        page = await authority.read_keys.list(authority.root, listing)
        names += [one.key.display_name for one in page.items]
        token = page.next_page_token
        if not token:
            return sorted(names)


async def make(authority: Authority, name: str, *scopes: str, **wanted: Any) -> KeyId:
    made = await authority.make(display_name=name, scopes=scopes, **wanted)
    return made.facts.key_id


async def used(authority: Authority, key_id: KeyId, time: datetime) -> None:
    use = UseToAdd(key_id, time.date(), KeyUse(time, "", 1))
    await authority.store.add_uses([use])


async def test_the_holders_of_a_scope_are_found_by_whatever_gives_it(authority: Authority) -> None:
    await make(authority, "itself", "vps:write")
    await make(authority, "implied", "vps:create")
    await make(authority, "wildcard", "vps:*")
    await make(authority, "everything", "*")
    await make(authority, "preset", preset="full")
    await make(authority, "weaker", "vps:read")
    await make(authority, "other", "dns:read", "projects:write")
    assert await names_of(authority, scope="vps:write") == sorted(
        ["itself", "implied", "wildcard", "everything", "preset"]
    )
    assert await names_of(authority, scope="projects:read") == sorted(
        ["everything", "preset", "other"]
    )


async def test_a_scope_that_the_type_or_the_parent_takes_away_is_not_held(
    authority: Authority,
) -> None:
    """The grants alone would name keys that no check lets pass."""
    await make(authority, "capped", "vps:*", key_type="publishable")
    parent = await make(authority, "parent", "vps:write")
    await make(authority, "child", "vps:write", parent_key_id=parent)
    assert await names_of(authority, scope="vps:write") == ["child", "parent"]
    assert await names_of(authority, scope="vps:read") == ["capped", "child", "parent"]
    await authority.update(None, parent, granted_scopes=("vps:read",))
    assert await names_of(authority, scope="vps:write") == []


async def test_a_catalog_that_changes_changes_who_holds_a_scope(authority: Authority) -> None:
    await make(authority, "reader", "dns:read")
    assert await names_of(authority, scope="vps:read") == []
    scopes = tuple(
        scope if scope.name != "dns:read" else type(scope)(name="dns:read", implies=("vps:read",))
        for scope in ACME.scopes
    )
    await authority.declare(ACME, scopes=scopes)
    assert await names_of(authority, scope="vps:read") == ["reader"]


async def test_revoked_keys_can_do_nothing_and_are_listed_only_if_the_state_says_so(
    authority: Authority,
) -> None:
    parent = await make(authority, "parent", "vps:read", expire_time=authority.clock.now() + DAY)
    await make(authority, "child", "vps:read", parent_key_id=parent)
    disabled = await make(authority, "disabled", "vps:read")
    await authority.update(None, disabled, state=KeyState.DISABLED)
    await authority.revoke(None, parent)
    expiring = authority.clock.now() + 2 * DAY
    authority.clock.advance(timedelta(hours=1))
    since = authority.clock.now()
    questions: list[dict[str, Any]] = [
        {"scope": "vps:read"},
        {"never_used": True},
        {"unused_since_time": since},
    ]
    for question in questions:
        assert await names_of(authority, **question) == ["disabled"]
        revoked = await names_of(authority, **question, state=KeyState.REVOKED)
        assert "parent" in revoked
    assert await names_of(authority, expiring_before_time=expiring) == []
    assert "parent" in await names_of(
        authority, expiring_before_time=expiring, state=KeyState.REVOKED
    )
    assert "parent" in await names_of(authority, key_type="secret")


async def test_keys_are_found_by_use_and_expiry(authority: Authority) -> None:
    start = authority.clock.now()
    await make(authority, "never")
    await used(authority, await make(authority, "long ago"), start + DAY)
    await used(authority, await make(authority, "lately"), start + 50 * DAY)
    await make(authority, "expires soon", expire_time=start + 80 * DAY)
    await make(authority, "expires late", expire_time=start + 200 * DAY)
    await make(authority, "expired", expire_time=start + 10 * DAY)
    now = authority.clock.advance(60 * DAY)
    await make(authority, "new")
    assert await names_of(authority, unused_since_time=now - 30 * DAY) == sorted(
        ["never", "long ago", "expires soon", "expires late", "expired"]
    )
    assert "new" in await names_of(authority, never_used=True)
    assert await names_of(authority, expiring_before_time=now + 30 * DAY) == ["expires soon"]
    assert await names_of(
        authority, expiring_before_time=now + 300 * DAY, unused_since_time=now - 30 * DAY
    ) == ["expires late", "expires soon"]


async def test_several_filters_must_all_be_passed(authority: Authority) -> None:
    await make(authority, "one", "vps:*", labels={"team": "a", "tier": "1"})
    await make(authority, "two", "vps:*", labels={"team": "a"}, environment="test")
    await make(authority, "three", "dns:read", labels={"team": "a", "tier": "1"})
    assert await names_of(authority, labels=["team=a", "tier=1"]) == ["one", "three"]
    assert await names_of(authority, labels=["team=a"], scope="vps:read") == ["one", "two"]
    assert await names_of(authority, labels=["team=a"], environment="test") == ["two"]
    assert await names_of(authority, labels=["team="]) == []
    record = await authority.stored(await make(authority, "four"))
    assert await names_of(authority, display_prefix=record.display_prefix) == ["four"]


async def test_a_page_that_has_examined_enough_ends_and_the_next_goes_on(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a rare scope would have one call read the whole keyspace."""
    monkeypatch.setattr(read_keys, "MAX_EXAMINED", 4)
    for number in range(9):
        await make(authority, f"reader {number}", "dns:read")
    # Ids of one moment are in no order, and the writer's is to be the last.
    authority.clock.advance(timedelta(seconds=1))
    await make(authority, "writer", "vps:write")
    listing = Listing(keyspace="acme", scope="vps:write")
    page = await authority.read_keys.list(authority.root, listing)
    assert page.items == ()
    assert page.next_page_token
    assert await names_of(authority, scope="vps:write") == ["writer"]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("key_type", {"key_type": "x" * 129}),
        ("environment", {"environment": "x" * 129}),
        ("display_prefix", {"display_prefix": "x" * 129}),
        ("labels", {"labels": [f"n{number}=x" for number in range(9)]}),
        ("labels[0]", {"labels": ["team"]}),
        ("labels[1]", {"labels": ["team=a", "team=b"]}),
        ("labels[a b]", {"labels": ["a b=x"]}),
        ("labels[team]", {"labels": ["team=" + "x" * 257]}),
        ("scope", {"scope": "vps:*"}),
        ("scope", {"scope": "vps:wrote"}),
        ("scope", {"scope": "x" * 100_000}),
        ("unused_since_time", {"unused_since_time": datetime(9999, 1, 1, tzinfo=UTC)}),
        ("expiring_before_time", {"expiring_before_time": datetime(1, 1, 1, tzinfo=UTC)}),
    ],
)
async def test_every_filter_is_bounded(
    authority: Authority, field: str, fields: dict[str, Any]
) -> None:
    with refused("UNKNOWN_SCOPE" if field == "scope" else "INVALID_FIELD", field):
        await authority.read_keys.list(authority.root, Listing(keyspace="acme", **fields))


async def test_an_account_searches_among_its_own_keys_alone(authority: Authority) -> None:
    await make(authority, "elses", "vps:write", account_id="bob")
    own = await authority.make(display_name="own", scopes=["vps:write"])
    anna = await authority.acting(own)
    page = await authority.read_keys.list(anna, Listing(scope="vps:write"))
    assert [one.key.display_name for one in page.items] == ["own"]
