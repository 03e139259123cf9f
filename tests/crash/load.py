"""The process that is killed: it creates, rotates and revokes keys as fast as it can,
and tells of each mutation once the use case has acknowledged it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Final

from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.sql import SqlStore, open_store
from keyfence_server.application.callers import Caller, Callers
from keyfence_server.application.create_key import CreateKey, NewKey
from keyfence_server.application.first_start import FirstStart, new_root_credential
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import KeyFilter, StoreUnavailable
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.rotate_key import RotateKey, Rotation
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.keys import KeyId, KeyState
from keyfence_server.domain.secrets import Peppers
from keyfence_server.membership import alone
from support.builders import KEYSPACE, make_keyspace, put_keyspaces

_PEPPERS: Final = Peppers({1: bytes(32)})
_AT_ONCE: Final = 3

Acknowledgement = tuple[int, str, str]
"""A mutation's revision, its action, and the key that it was done to."""


class _Authority:
    """The use cases on one store, as a server has them."""

    def __init__(self, store: SqlStore) -> None:
        clock = SystemClock()
        cache = FactCache(store)
        mutations = Mutations(store, alone(cache, store, store, LeaseTerms()).fence, clock)
        self.first_start = FirstStart(mutations, _PEPPERS, clock)
        self.callers = Callers(PresentedKeys(cache, _PEPPERS), clock)
        self.create = CreateKey(mutations, _PEPPERS, clock)
        self.rotate = RotateKey(mutations, _PEPPERS, clock)
        self.revoke = RevokeKey(mutations, clock)


async def prepare(url: str) -> str:
    """Makes a keyspace and the first credential in an empty store, and tells the credential."""
    store = await open_store(url)
    root = new_root_credential()
    await _Authority(store).first_start.make_root(root)
    await put_keyspaces(store, make_keyspace())
    await store.close()
    return root.reveal()


def run(url: str, root: str, seed: int, pipe: Connection) -> None:
    """Works until it is killed, or until the database is."""
    try:
        asyncio.run(_work(url, root, random.Random(seed), pipe.send))
    except* StoreUnavailable:
        pass


async def _work(
    url: str, root: str, chance: random.Random, acknowledge: Callable[[Acknowledgement], None]
) -> None:
    store = await open_store(url)
    authority = _Authority(store)
    caller = await authority.callers.identify(root)
    async with store.snapshot() as snapshot:
        which = KeyFilter(keyspace=KEYSPACE, state=KeyState.ACTIVE)
        found = await snapshot.list_keys(which, after=None, limit=50)
    usable = [key.key_id for key in found]
    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(_mutate_for_ever(authority, caller, usable, chance, acknowledge))


async def _mutate_for_ever(
    authority: _Authority,
    caller: Caller,
    usable: list[KeyId],
    chance: random.Random,
    acknowledge: Callable[[Acknowledgement], None],
) -> None:
    while True:
        request_id = f"req-{chance.getrandbits(64):x}"
        asking = replace(caller, request_id=request_id)
        if len(usable) < 5 or chance.random() < 0.4:
            wanted = NewKey(
                keyspace=KEYSPACE, account_id="acme", scopes=["vps:read"], request_id=request_id
            )
            made = await authority.create.create(asking, wanted)
            key_id = made.value.facts.key_id
            acknowledge((made.revision, "key.create", key_id))
            usable.append(key_id)
            continue
        key_id = usable.pop(chance.randrange(len(usable)))
        if chance.random() < 0.5:
            rotation = Rotation(key_id=key_id, request_id=request_id)
            rotated = await authority.rotate.rotate(asking, rotation)
            acknowledge((rotated.revision, "key.rotate", key_id))
            usable.append(rotated.value.successor.facts.key_id)
        else:
            revoked = await authority.revoke.revoke(asking, key_id)
            acknowledge((revoked.revision, "key.revoke", key_id))
