"""Answers from memory while there is a lease, and from the store while there is none."""

from __future__ import annotations

from collections.abc import Sequence

from keyfence._holder.lease import HolderLease
from keyfence_server.application.ports import FactStore
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.ports import BootClock
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import SessionFacts, SessionId


class LeasedFacts:
    """Implements the port `FactSource` for one of several processes on a store.

    Without a lease every question is put to the store by itself: it shares no load with
    another one, since that might have begun before a mutation that has been fenced
    meanwhile, and it leaves nothing behind.
    """

    def __init__(
        self, cache: FactCache, lease: HolderLease, store: FactStore, clock: BootClock
    ) -> None:
        self._cache = cache
        self._lease = lease
        self._store = store
        self._clock = clock

    @property
    def revision(self) -> int:
        """The revision that every answer from now on reflects at least."""
        return self._cache.revision

    def recall(self, digest: bytes) -> KeyFacts | None:
        """What memory holds, if there is a lease at this moment."""
        if self._lease.is_live(self._clock.now()):
            return self._cache.recall(digest)
        return None

    async def find_facts(self, candidates: Sequence[Digest]) -> KeyFacts | None:
        """The key kept under any of these digests."""
        return await self._memory().find_facts(candidates)

    async def find_session(self, session_id: SessionId) -> SessionFacts | None:
        """The session with this id."""
        return await self._memory().find_session(session_id)

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too."""
        return await self._memory().find_keyspace(name)

    async def list_keyspaces(self) -> Sequence[Keyspace]:
        """Every keyspace, the built-in one too."""
        return await self._memory().list_keyspaces()

    async def recogniser(self) -> Recogniser:
        """Tells which keyspaces' keys a text could be."""
        return await self._memory().recogniser()

    def _memory(self) -> FactCache:
        if self._lease.is_live(self._clock.now()):
            return self._cache
        return FactCache(self._store, capacity=1, unknown_capacity=1)
