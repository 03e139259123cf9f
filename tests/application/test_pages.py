"""Listings in pages: stable under writes, and each token good for its own question."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.authority import ACME, Authority, refused
from keyfence_server.application.callers import Anonymous, Caller
from keyfence_server.application.pages import PageRequest, Paging, read_page_size
from keyfence_server.application.read_keys import Listing
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.keys import KeyState
from support.clock import START


async def listed(authority: Authority, by: Caller | None = None, **fields: Any) -> list[str]:
    """The ids of all pages, in order."""
    ids: list[str] = []
    token = ""
    while True:
        listing = Listing(**{"keyspace": "acme", **fields, "page_token": token})
        page = await authority.read_keys.list(by or authority.root, listing)
        assert len(page.items) <= (listing.page_size or 100)
        ids += [one.key.key_id for one in page.items]
        token = page.next_page_token
        if not token:
            return ids


async def some_keys(authority: Authority, number: int, **wanted: Any) -> list[str]:
    return sorted([(await authority.make(**wanted)).facts.key_id for _ in range(number)])


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 8, 0])
async def test_all_pages_together_are_every_key_once_in_order(
    authority: Authority, page_size: int
) -> None:
    ids = await some_keys(authority, 7)
    assert await listed(authority, page_size=page_size) == ids


async def test_pages_stay_as_they_are_while_keys_are_made_and_changed(
    authority: Authority,
) -> None:
    """A page found by counting would repeat a key, or skip one, after each write."""
    ids = await some_keys(authority, 6)
    first = await authority.read_keys.list(authority.root, Listing(keyspace="acme", page_size=3))
    await authority.revoke(None, ids[0])
    await authority.update(None, ids[4], display_name="x")
    late = (await authority.make()).facts.key_id
    second = await authority.read_keys.list(
        authority.root,
        Listing(keyspace="acme", page_size=10, page_token=first.next_page_token),
    )
    both = [one.key.key_id for one in (*first.items, *second.items)]
    assert [one for one in both if one != late] == ids


async def test_filters_are_kept_from_page_to_page(authority: Authority) -> None:
    anna = await some_keys(authority, 3)
    bob = await some_keys(authority, 3, account_id="bob")
    children = await some_keys(authority, 2, parent_key_id=anna[0])
    await authority.revoke(None, bob[1])
    assert await listed(authority, account_id="bob", page_size=1) == bob
    assert await listed(authority, parent_key_id=anna[0], page_size=1) == children
    assert await listed(authority, state=KeyState.REVOKED) == [bob[1]]
    active = sorted({*anna, *bob, *children} - {bob[1]})
    assert await listed(authority, state=KeyState.ACTIVE, page_size=2) == active
    assert await listed(authority, keyspace="other") == []


async def test_a_token_does_not_depend_on_the_order_of_labels(authority: Authority) -> None:
    made = await some_keys(authority, 2, labels={"team": "a", "tier": "1"})
    first = Listing(keyspace="acme", page_size=1, labels=["team=a", "tier=1"])
    token = (await authority.read_keys.list(authority.root, first)).next_page_token
    second = Listing(keyspace="acme", page_token=token, labels=("tier=1", "team=a"))
    page = await authority.read_keys.list(authority.root, second)
    assert [one.key.key_id for one in page.items] == made[1:]


async def test_a_token_is_good_for_its_own_question_alone(authority: Authority) -> None:
    await some_keys(authority, 3, scopes=["*"])
    listing = Listing(keyspace="acme", page_size=1)
    token = (await authority.read_keys.list(authority.root, listing)).next_page_token
    second = await authority.operator("acme")
    for by, fields in (
        (authority.root, {"keyspace": "other"}),
        (authority.root, {"account_id": "anna"}),
        (authority.root, {"state": KeyState.ACTIVE}),
        (authority.root, {"parent_key_id": "key_x"}),
        (authority.root, {"key_type": "secret"}),
        (authority.root, {"environment": "live"}),
        (authority.root, {"display_prefix": "ac_"}),
        (authority.root, {"labels": ["a=b"]}),
        (authority.root, {"scope": "vps:read"}),
        (authority.root, {"unused_since_time": START}),
        (authority.root, {"never_used": True}),
        (authority.root, {"expiring_before_time": START + timedelta(days=1)}),
        (second, {}),
    ):
        asked: dict[str, Any] = {"keyspace": "acme", "page_token": token, **fields}
        with refused("INVALID_FIELD", "page_token"):
            await authority.read_keys.list(by, Listing(**asked))
    with refused("INVALID_FIELD", "page_token"):
        await authority.read_keyspaces.list(authority.root, PageRequest(page_token=token))


@given(st.text(max_size=60))
def test_what_is_no_token_is_refused(text: str) -> None:
    if not text:
        return
    with pytest.raises(InvalidInput):
        Paging.read(Anonymous(), Listing(page_token=text))


@given(st.text(min_size=1), st.lists(st.text(), max_size=4))
def test_a_token_is_read_as_it_was_written(last: str, labels: list[str]) -> None:
    first = Paging.read(Anonymous(), Listing(labels=labels))
    second = Paging.read(Anonymous(), Listing(labels=labels, page_token=first.token(last)))
    assert (first.after, second.after) == (None, last)


@pytest.mark.parametrize("size", [-1, 1001, 2**31])
def test_a_page_has_its_limits(size: int) -> None:
    with refused("INVALID_FIELD", "page_size"):
        read_page_size(size)


async def test_a_page_of_keyspaces_is_full_whatever_else_there_is(authority: Authority) -> None:
    """A short page would tell how many keyspaces are hidden between two that are not."""
    names = [f"t{number:02d}" for number in range(12)]
    for name in names:
        await authority.declare(ACME, name=name)
    seen = names[1::3]
    bound = await authority.operator(*seen)
    found: list[str] = []
    token = ""
    while True:
        page = await authority.read_keyspaces.list(
            bound, PageRequest(page_size=2, page_token=token)
        )
        found += [one.name for one in page.items]
        token = page.next_page_token
        if not token:
            break
        assert len(page.items) == 2
    assert found == seen
