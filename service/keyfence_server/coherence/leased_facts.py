"""Answers from memory while there is a lease. Without a lease, a sidecar asks its grantor, a worker
on a SQLite file reads the file, and a process on PostgreSQL waits for the next lease.

A process on PostgreSQL must not read the database instead: a primary that was replaced without
noticing can still be read (rule I1). Only a committed renewal shows that the database is still the
primary that other processes write to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from keyfence.holder.lease import HolderLease
from keyfence_server.application.ports import FactStore, StoreUnavailable
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.ports import BootClock
from keyfence_server.coherence.progress import Progress, wait_until
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import SessionFacts, SessionId

WithoutLease = Callable[[], Awaitable[FactCache]]


@dataclass(eq=False)
class LeasedFacts:
    """Implements the `FactSource` port for a holder.

    Args:
        without_lease: what to answer from while there is no lease. Raises `StoreUnavailable`.
    """

    _cache: FactCache
    _lease: HolderLease
    _clock: BootClock
    _without_lease: WithoutLease

    @property
    def revision(self) -> int:
        """The revision that every answer from now on reflects at least."""
        return self._cache.revision

    @property
    def has_slow_hashes(self) -> bool:
        """See the port. Without a lease it is not known."""
        return not self._lease.is_live(self._clock.now()) or self._cache.has_slow_hashes

    def recall(self, digest: bytes) -> KeyFacts | None:
        """What memory holds, if there is a lease at this moment."""
        if self._lease.is_live(self._clock.now()):
            return self._cache.recall(digest)
        return None

    async def find_facts(self, candidates: Sequence[Digest]) -> KeyFacts | None:
        """The key kept under any of these digests."""
        return await (await self._memory()).find_facts(candidates)

    async def find_session(self, session_id: SessionId) -> SessionFacts | None:
        """The session with this id."""
        return await (await self._memory()).find_session(session_id)

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too."""
        return await (await self._memory()).find_keyspace(name)

    async def list_keyspaces(self) -> Sequence[Keyspace]:
        """Every keyspace, the built-in one too."""
        return await (await self._memory()).list_keyspaces()

    async def recogniser(self, concerns: Callable[[str], bool] = lambda _: True) -> Recogniser:
        """Tells which keyspaces' keys a text could be."""
        return await (await self._memory()).recogniser(concerns)

    async def _memory(self) -> FactCache:
        if self._lease.is_live(self._clock.now()):
            return self._cache
        return await self._without_lease()


def fresh_memory_per_question(store: FactStore) -> WithoutLease:
    """Sends each question upstream by itself. A question never joins another question's load, which
    may have begun before a mutation that is fenced by now, and nothing is remembered."""

    async def ask() -> FactCache:
        return FactCache(store, capacity=1, unknown_capacity=1)

    return ask


@dataclass(eq=False, slots=True)
class AwaitedLease:
    """Makes questions wait for the next lease. A process that was only slow has it at once.

    Args:
        moved: announces when there may be a lease again.
        patience: how long questions wait, in seconds, counted from the first question that found
            no lease. After that they fail at once, until there is a lease.
    """

    _cache: FactCache
    _lease: HolderLease
    _clock: BootClock
    _moved: Progress
    _patience: float
    _lost: tuple[float, float] | None = field(init=False, default=None)

    async def __call__(self) -> FactCache:
        """What memory holds, once there is a lease. Raises `StoreUnavailable`."""
        # Which lease has expired: after another lease, the patience starts again.
        lost_until = self._lease.until
        if self._lost is None or self._lost[0] != lost_until:
            self._lost = lost_until, self._clock.now() + self._patience
        deadline = self._lost[1]
        while True:
            moved = self._moved.wait()
            now = self._clock.now()
            if self._lease.is_live(now):
                moved.cancel()
                return self._cache
            if now >= deadline:
                moved.cancel()
                raise StoreUnavailable(
                    "this server has no lease: it cannot renew it in the database, and so does "
                    "not know what has changed"
                )
            await wait_until(self._clock, moved, deadline)
