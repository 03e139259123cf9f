"""What the store remembers of how it was set up, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from keyfence_server.adapters.sql import SqlStore, open_store
from keyfence_server.application.ports import UsesOfPeppers
from keyfence_server.domain.keys import KeyState
from support.builders import digest_of, insert_keys, make_key
from support.clock import START

ONE, OTHER = bytes([1] * 32), bytes([2] * 32)


async def test_the_end_of_the_first_start_is_remembered(store: SqlStore, database_url: str) -> None:
    assert not await store.set_up().is_first_start_over()
    await store.set_up().end_first_start()
    await store.set_up().end_first_start()
    again = await open_store(database_url)
    assert await again.set_up().is_first_start_over()
    await again.close()


async def test_a_pepper_is_what_it_was_at_first(store: SqlStore) -> None:
    set_up = store.set_up()
    assert await set_up.register_peppers({1: ONE}) == {1: ONE}
    assert await set_up.register_peppers({1: OTHER, 2: OTHER}) == {1: ONE, 2: OTHER}


async def test_servers_that_start_at_once_agree_on_the_peppers(
    store: SqlStore, database_url: str
) -> None:
    """With a different one each, so that all but one must find out."""
    servers = [store, *[await open_store(database_url) for _ in range(3)]]
    given = [{1: bytes([number] * 32), 2: ONE} for number in range(4)]
    found = await asyncio.gather(
        *(
            server.set_up().register_peppers(peppers)
            for server, peppers in zip(servers, given, strict=True)
        )
    )
    assert all(one == found[0] for one in found)
    assert found[0] in given
    for server in servers[1:]:
        await server.close()


async def test_what_a_pepper_is_needed_for_is_what_can_still_be_used(store: SqlStore) -> None:
    later, earlier = START + timedelta(days=1), START - timedelta(days=1)
    revoked = replace(make_key(), state=KeyState.REVOKED, revoke_time=START)
    for key in (
        make_key(),
        make_key(expire_time=later),
        make_key(expire_time=earlier),
        revoked,
        make_key(digest=digest_of("newer", pepper_version=2)),
    ):
        await insert_keys(store, key)
    assert await store.set_up().count_uses_of_peppers([1, 3], START) == UsesOfPeppers(2, 0)
