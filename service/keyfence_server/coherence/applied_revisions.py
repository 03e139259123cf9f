"""Applies revisions to this process's own memory, and sends them to all holders downstream.

Notifications of revisions come from several sides at once (this process's own mutations, the
feed, the change log) and in any order. What is stale is forgotten at once; what is sent
downstream goes in order and without gaps.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyfence_server.application.ports import Change
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.fact_cache import FactCache


class AppliedRevisions:
    """The revision up to which this process has applied every change and sent it on."""

    def __init__(self, cache: FactCache, hub: DownstreamHub) -> None:
        self._cache = cache
        self._hub = hub
        # By the first revision of each: the last one, and the changes.
        self._waiting: dict[int, tuple[int, tuple[Change, ...]]] = {}
        self._sent = 0

    @property
    def applied(self) -> int:
        """The revision up to which every change is applied here and sent on."""
        return self._sent

    def apply(self, revision: int, changes: Sequence[Change], *, first: int | None = None) -> None:
        """Applies a revision, once, whenever it comes.

        Args:
            first: the first of several revisions, whose changes these are. They are applied, and
                sent on, as one: which of them changed what is not known.
        """
        first = max(first or revision, self._sent + 1)
        if revision <= self._sent or first in self._waiting:
            return
        self._waiting[first] = revision, tuple(changes)
        self._cache.apply(revision, changes, first=first)
        while (following := self._waiting.pop(first := self._sent + 1, None)) is not None:
            self._sent, changes = following
            self._hub.push(self._sent, changes, first=first)

    def restart(self, head: int, epoch: str) -> None:
        """Forgets everything, and goes on from this head."""
        self._waiting.clear()
        self._sent = head
        self._cache.start_at(head)
        self._hub.restart(head, epoch)
