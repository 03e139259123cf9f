"""A load that creates, rotates and revokes keys as fast as it can, and reports each mutation once
it is acknowledged; and a process that does so until it is killed.

What acknowledges is a port here: the use cases in the process itself, or a server's RPCs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Final, Protocol

from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.sql import SqlStore, open_store
from keyfence_server.application.callers import Caller
from keyfence_server.application.calls import Call
from keyfence_server.application.create_key import CreateKey, NewKey
from keyfence_server.application.first_start import FirstStart, new_root_credential
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import Change, ChangeKind, KeyFilter, StoreUnavailable
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.quotas import ChangeQuotas
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.rotate_key import RotateKey, Rotation
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.composition.membership import alone
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import KeyId, KeyState
from keyfence_server.domain.secrets import Peppers
from support.builders import KEYSPACE, commit_one, make_event, make_keyspace

PEPPERS: Final = Peppers({1: bytes(32)})
AT_ONCE: Final = 3
_GRANTS: Final = (("vps:read",), ("vps:write",), ("vps:read", "vps:write"), ("vps:*",))


@dataclass(frozen=True)
class Acknowledgement:
    """What the caller was told of a mutation.

    Attributes:
        subject: the key that it was done to.
        made: the key that it made, if it made one, with its plaintext and grants.
    """

    revision: int
    action: str
    subject: str
    made: str = ""
    plaintext: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    request_id: str = ""


class Keys(Protocol):
    """Mutates keys, and returns when that is acknowledged."""

    async def create(self, scopes: Sequence[str], request_id: str) -> Acknowledgement: ...
    async def rotate(self, key_id: str, request_id: str) -> Acknowledgement: ...
    async def revoke(self, key_id: str, request_id: str) -> Acknowledgement: ...


class _Authority:
    """The use cases on one store, as a server has them."""

    def __init__(self, store: SqlStore) -> None:
        clock = SystemClock()
        cache = FactCache(store)
        fence = alone(cache, store, store.register(), LeaseTerms()).fence
        quotas = ChangeQuotas(RateLimits(clock, MemoryCounter(clock), is_alone=True))
        mutations = Mutations(store, fence, clock, quotas)
        self.first_start = FirstStart(mutations, PEPPERS, clock)
        presented, notes = PresentedKeys(cache, PEPPERS), WriteBehind(store, clock)
        self.callers = IdentifyCaller(presented, clock, notes)
        self.create = CreateKey(mutations, PEPPERS, clock)
        self.rotate = RotateKey(mutations, PEPPERS, clock)
        self.revoke = RevokeKey(mutations, clock)


async def prepare(url: str) -> str:
    """Makes a keyspace and the first credential in an empty store, and tells the credential."""
    store = await open_store(url)
    root = new_root_credential()
    await _Authority(store).first_start.make_root(root)
    async with store.transaction() as transaction:
        await transaction.put_keyspace(make_keyspace())
        made = Change(ChangeKind.KEYSPACE, KEYSPACE, KEYSPACE, created=True)
        event = make_event(KEYSPACE, action="keyspace.apply", account_id=None)
        await commit_one(transaction, [made], event)
    await store.close()
    return root.reveal()


def run(url: str, root: str, seed: int, pipe: Connection) -> None:
    """Works until it is killed, or until the database is."""
    try:
        asyncio.run(_work(url, root, random.Random(seed), pipe.send))
    except* StoreUnavailable:
        pass


class _UseCases:
    """The use cases, asked by one caller."""

    def __init__(self, authority: _Authority, caller: Caller) -> None:
        self._authority = authority
        self._caller = caller

    async def create(self, scopes: Sequence[str], request_id: str) -> Acknowledgement:
        wanted = NewKey(
            keyspace=KEYSPACE, account_id="acme", scopes=list(scopes), request_id=request_id
        )
        made = await self._authority.create.create(self._asking(request_id), wanted)
        facts, plaintext = made.value.facts, made.value.plaintext.reveal()
        return _made(made.revision, "key.create", facts.key_id, facts, plaintext, request_id)

    async def rotate(self, key_id: str, request_id: str) -> Acknowledgement:
        rotation = Rotation(key_id=KeyId(key_id), request_id=request_id)
        rotated = await self._authority.rotate.rotate(self._asking(request_id), rotation)
        successor = rotated.value.successor
        plaintext = successor.plaintext.reveal()
        return _made(rotated.revision, "key.rotate", key_id, successor.facts, plaintext, request_id)

    async def revoke(self, key_id: str, request_id: str) -> Acknowledgement:
        asking = self._asking(request_id)
        revoked = await self._authority.revoke.revoke(asking, KeyId(key_id))
        return Acknowledgement(revoked.revision, "key.revoke", key_id)

    def _asking(self, request_id: str) -> Caller:
        return replace(self._caller, call=Call(request_id=request_id))


def _made(
    revision: int, action: str, subject: str, facts: KeyFacts, plaintext: str, request_id: str
) -> Acknowledgement:
    scopes = tuple(facts.key.granted_scopes)
    return Acknowledgement(revision, action, subject, facts.key_id, plaintext, scopes, request_id)


async def _work(
    url: str, root: str, chance: random.Random, acknowledge: Callable[[Acknowledgement], None]
) -> None:
    store = await open_store(url)
    authority = _Authority(store)
    keys = _UseCases(authority, await authority.callers.identify(root))
    async with store.snapshot() as snapshot:
        which = KeyFilter(keyspace=KEYSPACE, state=KeyState.ACTIVE)
        found = await snapshot.list_keys(which, after=None, limit=50)
    usable: list[str] = [key.key_id for key in found]
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(mutate_for_ever(keys, usable, chance, acknowledge))


async def mutate_for_ever(
    keys: Keys,
    usable: list[str],
    chance: random.Random,
    acknowledge: Callable[[Acknowledgement], None],
) -> None:
    """Makes keys and takes them back, and tells of each once that is acknowledged.

    Args:
        usable: the keys that are there to be taken back, kept up to date.
    """
    while True:
        request_id = f"req-{chance.getrandbits(64):x}"
        if len(usable) < 5 or chance.random() < 0.4:
            acknowledged = await keys.create(chance.choice(_GRANTS), request_id)
        else:
            key_id = usable.pop(chance.randrange(len(usable)))
            if chance.random() < 0.5:
                acknowledged = await keys.rotate(key_id, request_id)
            else:
                acknowledged = await keys.revoke(key_id, request_id)
        acknowledge(acknowledged)
        if acknowledged.made:
            usable.append(acknowledged.made)
