"""The fence of a process that is the only one on its store.

It holds the lock that makes it the only one, so it needs no lease of its own, and
nobody else grants any: a mutation holds everywhere once it is applied to this process's
own memory and to everyone downstream of it, and once those are lost who were downstream
of the process that was here before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from keyfence_server.application.ports import Change, FenceEnd
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.ledger import Ledger


class SoleHolder:
    """Implements the port `Fence` for a single process.

    Args:
        outlast: returns when no lease from before this process can be alive, and says
            whether one could be when it was asked.
    """

    def __init__(
        self, ledger: Ledger, hub: DownstreamHub, outlast: Callable[[], Awaitable[bool]]
    ) -> None:
        self._ledger = ledger
        self._hub = hub
        self._outlast = outlast

    async def wait(self, revision: int, changes: Sequence[Change]) -> FenceEnd:
        """Applies the mutation here, and waits for everyone downstream."""
        # Mutations come one after the other, so a revision that is missing will not be
        # announced any more: its commit took effect and its answer was lost.
        self._find_track_at(revision - 1)
        self._ledger.take(revision, changes)
        return await self._settled(revision)

    async def settle(self, revision: int) -> FenceEnd:
        """Waits until everything up to the revision is applied, here and downstream."""
        self._find_track_at(revision)
        return await self._settled(revision)

    async def forget_everything(self) -> None:
        """A commit may have taken effect without our learning of it."""
        self._ledger.restart(self._ledger.applied, self._hub.epoch)

    async def _settled(self, revision: int) -> FenceEnd:
        end = await self._hub.wait_settled(revision)
        return FenceEnd.TIME if await self._outlast() else end

    def _find_track_at(self, revision: int) -> None:
        """Goes on from a revision that the store is known to have reached. Some before it
        may never be announced, but what is loaded from here on is new enough to do
        without them."""
        if revision > self._ledger.applied:
            self._ledger.restart(revision, self._hub.epoch)
