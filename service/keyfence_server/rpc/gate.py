"""How many calls are let in, how many of them may wait, and whether any are let in at all.

A call that is not let in gets an error at once. A queue would not help, because it would only grow.
Calls that wait for the store, the fence or a lock are counted by credential, so that one credential
leaves places for the others. Of the calls that can take long one of each credential runs at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from keyfence_server.rpc.failures import Failed
from keyfence_server.rpc.status import Failure, limit_reached


class Gate:
    """Counts the calls under way.

    Attributes:
        limit: the most calls under way at a time.
        under_way: how many there are now.
        waiting_limit: the most calls of one credential that may wait at a time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.under_way = 0
        self.waiting_limit = max(1, limit // 2)
        self._waiting: Counter[str] = Counter()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._refusal: Failure | None = None
        self._refusals: dict[str, Failure] = {}

    def enter(self) -> None:
        """Takes a place, which `leave` frees. Raises `Failed` if there is none."""
        self.require_open()
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

    @contextmanager
    def waiting(self, credential_id: str) -> Iterator[None]:
        """A place among the calls of this credential that wait; an empty id stands for callers
        that are not known. Raises `Failed` if there is none."""
        if self._waiting[credential_id] >= self.waiting_limit:
            raise Failed(
                limit_reached(
                    "waiting_calls_per_credential",
                    f"{self.waiting_limit} calls of this credential are waiting already; wait for "
                    "one of them to end, and try again",
                )
            )
        self._waiting[credential_id] += 1
        try:
            yield
        finally:
            self._waiting[credential_id] -= 1
            if not self._waiting[credential_id]:
                del self._waiting[credential_id]

    def turn(self, credential_id: str) -> asyncio.Lock:
        """What a call of this credential that can take long holds while it runs. The others wait
        in the order of their arrival."""
        lock = self._turns.get(credential_id)
        if lock is None:
            lock = self._turns[credential_id] = asyncio.Lock()
        return lock

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
