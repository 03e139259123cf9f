"""How the store was set up: its first start and its peppers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class UsesOfPeppers:
    """What some peppers are still needed for.

    Attributes:
        keys: how many keys that are neither revoked nor expired.
        passwords: how many accounts' passwords.
    """

    keys: int
    passwords: int


class SetUp(Protocol):
    """What the store remembers of how it was set up. None of it is a mutation.

    Every method raises `StoreUnavailable`.
    """

    async def is_first_start_over(self) -> bool:
        """Whether `end_first_start` was ever called on this store."""

    async def end_first_start(self) -> None:
        """Remembers for good that the first start is over."""

    async def known_peppers(self) -> Mapping[int, bytes | None]:
        """The fingerprints of every version that was registered. Changes nothing."""

    async def register_peppers(
        self, fingerprints: Mapping[int, bytes]
    ) -> Mapping[int, bytes | None]:
        """Writes down the fingerprints of versions that have none yet, and no others.

        Returns:
            All that are known by then. None for a version that something is under, and
            whose pepper has not been given yet.
        """

    async def count_uses_of_peppers(
        self, versions: Collection[int], now: datetime
    ) -> UsesOfPeppers:
        """What the peppers of these versions are needed for."""
