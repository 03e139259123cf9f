"""Imported keys, from their first use on kept as keys are that were made here.

What is kept of a key of another program is a hash that the program made. When the key is presented,
its plaintext is there for a moment, and a digest under our pepper takes the hash's place.

A key that was imported by a fast hash is found by it, so the check does not wait for that. A slow
hash cannot be looked up: the key is found by how it begins, and then verified. That takes up to a
second, so it is bounded for everybody who presents keys that do not match:

- One hash is computed at a time, on a thread, and keyspaces take turns.
- A key of a prefix is compared with few hashes, and never twice with the same one.
- What did not match is charged to the prefix, the keyspace, the caller and the server. A match is
  not: it happens once to a key.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Final, TypeVar

from keyfence_server.application.audit import keys_event
from keyfence_server.application.hashing_budget import HashingBudget, Payer
from keyfence_server.application.heavy_work import SMALL, HeavyWork
from keyfence_server.application.mutations import Effect, Mutations
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Clock,
    NewDigest,
    SlowHash,
    SlowHashes,
    Store,
    Transaction,
)
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import MAX_SLOW_PREFIX, MIN_SLOW_PREFIX
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Peppers

T = TypeVar("T")

MAX_CANDIDATES: Final = 8
"""Slow hashes that a presented key is compared with."""
MAX_WAITING: Final = 32
"""Presented keys of a keyspace that wait for a slow hash."""

_REMEMBERED: Final = 10_000
_MOST_UNWRITTEN: Final = 1_000
_MOST_AT_ONCE: Final = 100
_OF_SERVER: Final = Payer("server", 0.5, 20)


class ImportedKeys:
    """Finds imported keys by slow hashes, and replaces what is kept of imported keys.

    Args:
        creations: counts what may have made an unknown key known.
        now: seconds, from any start.
    """

    def __init__(
        self,
        store: Store,
        mutations: Mutations,
        peppers: Peppers,
        hashes: SlowHashes,
        clock: Clock,
        creations: Callable[[], int],
        *,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._mutations = mutations
        self._peppers = peppers
        self._hashes = hashes
        self._clock = clock
        self._creations = creations
        self._work = HeavyWork(MAX_WAITING)
        self._now = now
        self._budget = HashingBudget(now)
        # By the name of a plaintext: when it matched nothing, as a count of creations.
        self._unmatched: OrderedDict[bytes, int] = OrderedDict()
        # What is a fact forever: this plaintext is not the one of this hash.
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._tasks: dict[bytes, asyncio.Task[bool]] = {}
        self._unwritten: dict[str, NewDigest] = {}

    async def adopt(self, text: str, keyspaces: Collection[str], payer: str) -> bool:
        """Looks for the key among those that were imported by a slow hash. If it is there, it can
        be found by its digest from now on, at every server.

        Args:
            keyspaces: whose keys have the form of the text.
            payer: who presents it: charged if it is no such key.

        Returns:
            Whether it is there.

        Raises:
            Overloaded: too many keys were presented that are no such keys.
            StoreUnavailable: the store cannot be asked, or not be written to.
        """
        # Callers that reach other keyspaces are told of other keys.
        name = self._peppers.memory_digest("\0".join((text, *sorted(keyspaces))))
        if self._unmatched.get(name) == self._creations():
            self._unmatched.move_to_end(name)
            return False
        task = self._tasks.get(name)
        if task is None:
            task = asyncio.create_task(self._adopt(name, text, keyspaces, payer))
            self._tasks[name] = task
            task.add_done_callback(functools.partial(self._end_of_task, name))
        # A caller that gives up has paid for it all the same, and others may wait for it.
        return await asyncio.shield(task)

    def note_found(self, facts: KeyFacts, text: str) -> None:
        """Notes that a key was found. If a hash of another program is kept of it, `flush` replaces
        that."""
        key = facts.key
        if (
            self._peppers.is_own(key.digest, text)
            or facts.state is KeyState.REVOKED
            or len(self._unwritten) >= _MOST_UNWRITTEN
        ):
            return
        self._unwritten[key.key_id] = self._new_digest(key, facts.keyspace, text)

    async def flush(self) -> None:
        """Replaces what was noted, in batches of one keyspace each.

        Raises:
            StoreUnavailable: some is not replaced; it is noted again at its next use.
        """
        while self._unwritten:
            keyspace = next(iter(self._unwritten.values())).keyspace
            all_of_it = [one for one in self._unwritten.values() if one.keyspace == keyspace]
            some = all_of_it[:_MOST_AT_ONCE]
            for one in some:
                del self._unwritten[one.key_id]
            await self._replace(keyspace, some)

    async def _adopt(self, name: bytes, text: str, keyspaces: Collection[str], payer: str) -> bool:
        creations = self._creations()
        most = min(len(text), MAX_SLOW_PREFIX)
        prefixes = [text[:length] for length in range(MIN_SLOW_PREFIX, most + 1)]
        async with self._store.snapshot() as snapshot:
            found = await snapshot.find_slow_hashes(keyspaces, prefixes, limit=MAX_CANDIDATES)
        for matched in found:
            if await self._matches(name, matched, text, payer):
                break
        else:
            _remember(self._unmatched, name, creations)
            return False
        async with self._store.snapshot() as snapshot:
            key = await snapshot.find_key(matched.key_id)
            keyspace = await snapshot.find_keyspace(matched.keyspace)
        if key is None or keyspace is None:
            return False
        # If another server was faster, the key can be found already.
        await self._replace(matched.keyspace, [self._new_digest(key, keyspace, text)])
        return True

    async def _matches(self, name: bytes, one: SlowHash, text: str, payer: str) -> bool:
        pair = name + one.kept.value
        if pair in self._refused:
            return False
        payers = (
            Payer(("prefix", one.keyspace, one.prefix), 0.1, 2),
            Payer(("keyspace", one.keyspace), 0.25, 10),
            Payer(("caller", payer), 0.25, 10),
            _OF_SERVER,
        )
        self._budget.require(payers)

        def verify() -> tuple[bool, float]:
            # Others may have used it up meanwhile.
            self._budget.require(payers)
            started = self._now()
            return self._hashes.matches(one.text, text), self._now() - started

        matches, seconds = await self._work.run(one.keyspace, SMALL + 1, verify)
        if not matches:
            self._budget.charge(payers, seconds)
            _remember(self._refused, pair, None)
        return matches

    async def _replace(self, keyspace: str, new: Sequence[NewDigest]) -> None:
        async def work(transaction: Transaction) -> Effect[None]:
            # The same key may also have been imported in plaintext.
            taken = set(await transaction.find_digests([one.digest for one in new]))
            replaced = []
            for one in new:
                if one.digest not in taken and await transaction.replace_digest(one):
                    taken.add(one.digest)
                    replaced.append(one.key_id)
            if not replaced:
                return Effect(None)
            # Holders have remembered that there is no key with the new digest.
            changes = tuple(
                Change(ChangeKind.KEY, key_id, keyspace, created=True) for key_id in replaced
            )
            # Of these keys this server keeps a digest of its own from now on.
            event = keys_event("key.rehash", None, keyspace, replaced, self._clock.now())
            return Effect(None, changes, event)

        await self._mutations.run_as_server(work)

    def _new_digest(self, key: Key, keyspace: Keyspace, text: str) -> NewDigest:
        # Under the pepper of before: a server without the newest must still find the key.
        digest = self._peppers.digest_under(key.digest.pepper_version, text)
        digest = digest or self._peppers.digest(text)
        shown = keyspace.display_prefix_of(text) or key.display_prefix
        return NewDigest(key.key_id, key.keyspace, key.digest, digest, shown)

    def _end_of_task(self, name: bytes, task: asyncio.Task[bool]) -> None:
        del self._tasks[name]
        if not task.cancelled():
            # Waiting callers have the error; without any it is not to be reported as lost.
            task.exception()


def _remember(room: OrderedDict[bytes, T], name: bytes, value: T) -> None:
    room[name] = value
    room.move_to_end(name)
    while len(room) > _REMEMBERED:
        room.popitem(last=False)
