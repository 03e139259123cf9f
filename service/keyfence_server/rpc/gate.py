"""How many calls are let in, and whether any are.

A call that finds the gate shut is told why at once. Waiting in line would help
nobody: the line would only grow.
"""

from __future__ import annotations

from keyfence_server.rpc.status import Failure, limit_reached


class Gate:
    """Counts the calls under way.

    Attributes:
        limit: at most so many at a time.
        under_way: how many there are now. Whoever enters adds one, and takes it away
            when leaving.
    """

    __slots__ = ("_refusals", "limit", "refusal", "under_way")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.under_way = 0
        self.refusal: Failure | None = None
        """Why no call is let in; None while calls are."""
        self._refusals: dict[str, Failure] = {}

    def why_not(self) -> Failure | None:
        """Why a call cannot enter now; None if it can."""
        if self.refusal is not None:
            return self.refusal
        if self.under_way >= self.limit:
            return limit_reached(
                "concurrent_calls", f"{self.limit} calls are under way already; try again later"
            )
        return None

    def shut(self, why: Failure) -> None:
        """Lets no call in from now on, for this reason among others."""
        self._refusals[why.reason] = why
        self.refusal = why

    def open(self, after: Failure) -> None:
        """Lets calls in again as far as this reason goes."""
        self._refusals.pop(after.reason, None)
        self.refusal = next(iter(self._refusals.values()), None)
