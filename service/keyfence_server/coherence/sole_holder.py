"""The fence of a process that is the only holder there is.

It holds the lock that makes it the only one, so nobody else answers from memory, and
a mutation holds everywhere once it is applied to this process's own cache. There is
nobody to wait for, and no lease to renew.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyfence_server.application.ports import Change
from keyfence_server.coherence.fact_cache import FactCache


class SoleHolder:
    """Implements the port `Fence` for a single process."""

    def __init__(self, cache: FactCache) -> None:
        self._cache = cache

    async def wait(self, revision: int, changes: Sequence[Change]) -> None:
        """Applies the mutation to the cache. After that nobody answers from before it."""
        # Mutations come one after the other, so a revision that is missing will not be
        # announced any more: its commit took effect and its answer was lost.
        await self.settle(revision - 1)
        self._cache.apply(revision, changes)

    async def settle(self, revision: int) -> None:
        """Starts the cache anew, if it has not seen the revision."""
        if revision > self._cache.revision:
            self._cache.start_at(revision)

    async def forget_everything(self) -> None:
        """Empties the cache: a commit may have taken effect without our learning of it."""
        self._cache.clear()
