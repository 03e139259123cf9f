"""How keys were used, and the store that records it outside mutations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Protocol

from keyfence_server.application.ports.audit import AuditEvent
from keyfence_server.domain.frozen import frozen
from keyfence_server.domain.keys import KeyId

MAX_USE_COUNT: Final = 2**53 - 1
"""The most that a count of uses says: what JSON's readers keep exactly. Sums saturate there."""


@frozen()
class KeyUse:
    """How a key has been used.

    Attributes:
        last_used_address: where the key was presented from then; empty for unknown.
        count: how often, in all.
    """

    last_used_time: datetime
    last_used_address: str
    count: int


@dataclass(frozen=True, slots=True)
class UseToAdd:
    """How often a key was used since the last time that its use was added.

    Attributes:
        day: on which day, in UTC.
    """

    key_id: KeyId
    day: date
    use: KeyUse


class NoteStore(Protocol):
    """Where what was noted in passing is written down. Both methods raise `StoreUnavailable`, and
    then nothing was added, or it is not known whether it was."""

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        """Adds to what is known of keys' uses, all of it or nothing.

        It is no mutation: nothing that caches keep is touched, and there is no revision.
        A time or address that is older than what is known already changes neither. Sums
        saturate at `MAX_USE_COUNT`.

        Args:
            uses: at most one for each key and day.
        """

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """Adds audit events that tell of no mutation to the chain, all of them or none."""
