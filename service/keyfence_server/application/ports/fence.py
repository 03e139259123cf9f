"""The fence: when a mutation holds everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from keyfence_server.application.ports.changes import Change


class FenceEnd(Enum):
    """What ended the wait for a fence."""

    ACKNOWLEDGEMENTS = "acknowledgements"
    """All holders have acknowledged the revision."""
    TIME = "time"
    """A holder has not, and its lease from before the revision has ended."""


class Revision(NamedTuple):
    """A revision that is durable, and what it changed."""

    number: int
    changes: tuple[Change, ...]


class Fence(Protocol):
    """Knows when a mutation holds everywhere."""

    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        """Returns when no holder answers from before any of these revisions any more, and by
        what that is known.

        Called after every commit, once, with all revisions that it made durable, in order, in a
        task that is never cancelled. Until it has returned none of their mutations is
        acknowledged to its caller. The head is not locked any more: fences of several commits
        may be waited for at once, in any order.
        """

    async def wait_until_in_effect(self, revision: int) -> FenceEnd:
        """Returns when everything up to `revision` holds everywhere, and by what that is known.

        Called for an answer that changed nothing because it found things to be so
        already: the mutation that made them so may still be waiting for its fence, or
        may never have got that far.
        """

    async def forget_everything(self) -> None:
        """Called when the outcome of a commit is not known: no holder may go on
        answering from what it remembers."""
