"""Answers from memory for a limited time after the lease has expired, while no grantor answers.

Off unless an operator sets `KEYFENCE_STALE_IF_ERROR`. It gives up the promise: during that time, a
key that was revoked is accepted. So it is limited:

- The store is asked first. A process that was only suspended gives no stale answer.
- It answers only from facts in memory. It never answers that a key or a keyspace does not exist.
- Memory stays as it was when the lease expired. A process that has opened a new stream to a grantor
  has emptied its memory, and answers nothing.
- The facts of such an answer are marked as stale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from keyfence_server.application.ports import StoreRefuses, StoreUnavailable
from keyfence_server.coherence.leased_facts import LeasedFacts
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import KeySearch, Recogniser
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest

T = TypeVar("T")

# Clients wait two seconds for a check, and a check can ask twice.
_PATIENCE_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 1.0


@dataclass(eq=False)
class StaleIfError(LeasedFacts):
    """Implements the `FactSource` port: keys, keyspaces and their forms from memory, where there is
    no lease. Sessions change things, which needs the store anyway.

    Args:
        seconds: how long after the expiry of the lease memory may answer.

    Attributes:
        answers: how many questions were answered without a lease.
    """

    _seconds: float
    _silent_until: float = field(init=False, default=float("-inf"))
    answers: int = field(init=False, default=0)

    @property
    def is_allowed(self) -> bool:
        """Whether memory may answer without a lease at this moment."""
        return self._lease.until <= self._clock.now() < self._lease.until + self._seconds

    async def find_facts(self, candidates: Sequence[Digest]) -> KeyFacts | None:
        """The key kept under any of these digests."""
        return await self._either(
            partial(super().find_facts, candidates),
            lambda: _marked(self._cache.recall(candidates[0].value)),
        )

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too."""
        return await self._either(
            partial(super().find_keyspace, name), lambda: self._cache.keyspaces.recall(name)
        )

    async def recogniser(self, concerns: Callable[[str], bool] = lambda _: True) -> Recogniser:
        """Tells which keyspaces' keys a text could be."""
        return await self._either(partial(super().recogniser, concerns), self._recall_recogniser)

    def _recall_recogniser(self) -> Recogniser | None:
        recogniser = self._cache.keyspaces.recall_recogniser()
        return _StaleRecogniser(recogniser) if recogniser is not None else None

    async def _either(self, ask: Callable[[], Awaitable[T]], recall: Callable[[], T | None]) -> T:
        if not self.is_allowed:
            return await ask()
        if self._clock.now() >= self._silent_until:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    return await ask()
            except StoreRefuses:
                # The grantor answers, and does not accept this process's credential any more.
                raise
            except (StoreUnavailable, TimeoutError):
                self._silent_until = self._clock.now() + _PAUSE_SECONDS
        recalled = recall()
        if recalled is None:
            raise StoreUnavailable("the store cannot be reached, and memory does not have it")
        self.answers += 1
        return recalled


def _marked(facts: KeyFacts | None) -> KeyFacts | None:
    return replace(facts, is_stale=True) if facts is not None else None


class _StaleRecogniser(Recogniser):
    """Recognises the key formats in memory. A text of another format may have a new format."""

    __slots__ = ("_known",)

    def __init__(self, known: Recogniser) -> None:
        super().__init__({})
        self._known = known

    def keyspaces_of(self, text: str) -> frozenset[str]:
        """See `Recogniser`. Raises `StoreUnavailable` for a text of no known form."""
        found = self._known.keyspaces_of(text)
        if not found:
            raise StoreUnavailable(
                "memory alone cannot tell that no keyspace has keys of this form"
            )
        return found

    def display_prefix_of(self, text: str, keyspace: str) -> str:
        """See `Recogniser`."""
        return self._known.display_prefix_of(text, keyspace)

    def search(self, reaches: Callable[[str], bool]) -> KeySearch:
        """See `Recogniser`."""
        return self._known.search(reaches)
