"""The fence of a process that is the only one on its store.

It has the lock on the data directory, so it needs no lease of its own, and no other process grants
leases. A mutation is in effect everywhere once it is applied to this process's memory and
acknowledged by all holders downstream, and once every lease has expired that a previous process
granted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from keyfence_server.application.ports import FenceEnd, Revision
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub


@dataclass(eq=False)
class SoleFence:
    """Implements the `Fence` port for a single process.

    Args:
        outlast: returns when every lease that a previous process granted has expired, and whether
            one could still be valid when it was called.
    """

    _revisions: AppliedRevisions
    _hub: DownstreamHub
    _outlast: Callable[[], Awaitable[bool]]

    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        """Applies the mutations here, and waits for all holders downstream."""
        # Commits come one after the other, so a missing revision will not be announced later:
        # its commit took effect and its answer was lost.
        self._resume_at(revisions[0].number - 1)
        for revision in revisions:
            self._revisions.apply(revision.number, revision.changes)
        return await self._wait_until_safe(revisions[-1].number)

    async def wait_until_in_effect(self, revision: int) -> FenceEnd:
        """Waits until everything up to the revision is applied, here and downstream."""
        self._resume_at(revision)
        return await self._wait_until_safe(revision)

    async def forget_everything(self) -> None:
        """Empties the memory: a commit may have taken effect whose answer was lost."""
        self._revisions.restart(self._revisions.applied, self._hub.epoch)

    async def _wait_until_safe(self, revision: int) -> FenceEnd:
        end = await self._hub.wait_until_safe(revision)
        return FenceEnd.TIME if await self._outlast() else end

    def _resume_at(self, revision: int) -> None:
        """Continues from a revision that the store has reached. Earlier revisions may never be
        announced. They are not needed: the memory is emptied, and later loads are newer."""
        if revision > self._revisions.applied:
            self._revisions.restart(revision, self._hub.epoch)
