"""How many calls are let in, and whether any are.

A call that finds the gate shut is told why at once. Waiting in line would help
nobody: the line would only grow.
"""

from __future__ import annotations

from keyfence_server.rpc.failures import Failed
from keyfence_server.rpc.status import Failure, limit_reached


class Gate:
    """Counts the calls under way.

    Attributes:
        limit: at most so many at a time.
        under_way: how many there are now.
    """

    __slots__ = ("_refusal", "_refusals", "limit", "under_way")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.under_way = 0
        self._refusal: Failure | None = None
        self._refusals: dict[str, Failure] = {}

    def enter(self) -> None:
        """Takes a place, which `leave` gives back. Raises `Failed` if there is none."""
        if self._refusal is not None:
            raise Failed(self._refusal)
        if self.under_way >= self.limit:
            raise Failed(
                limit_reached(
                    "concurrent_calls",
                    f"{self.limit} calls are under way already; try again later",
                )
            )
        self.under_way += 1

    def leave(self) -> None:
        """Gives a place back."""
        self.under_way -= 1

    def require_open(self) -> None:
        """Raises `Failed` while no call is let in."""
        if self._refusal is not None:
            raise Failed(self._refusal)

    def shut(self, why: Failure) -> None:
        """Lets no call in from now on, for this reason among others."""
        self._refusals[why.reason] = why
        self._refusal = why

    def open(self, after: Failure) -> None:
        """Lets calls in again as far as this reason goes."""
        self._refusals.pop(after.reason, None)
        self._refusal = next(iter(self._refusals.values()), None)
