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
        self._lost_track = False

    async def wait(self, revision: int, changes: Sequence[Change]) -> None:
        """Applies the mutation to the cache. After that nobody answers from before it."""
        if self._lost_track:
            # Some revisions before this one may never be announced. What is loaded from
            # here on is new enough to do without them.
            self._lost_track = False
            self._cache.start_at(revision)
        self._cache.apply(revision, changes)

    async def forget_everything(self) -> None:
        """Empties the cache: a commit may have taken effect without our learning of it."""
        self._lost_track = True
        self._cache.clear()
