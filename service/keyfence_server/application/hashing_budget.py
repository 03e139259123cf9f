"""How much processor time keys may cost that turn out not to match a slow hash."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Final

from keyfence_server.domain.errors import Overloaded

_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Payer:
    """What is charged.

    Attributes:
        name: what tells it from others.
        rate: seconds of hashing that it gets back in a second.
        most: seconds that it can have at most, and has at first.
    """

    name: Hashable
    rate: float
    most: float


class HashingBudget:
    """Charges each payer. A payer that has used up its time has none until time has passed.

    Args:
        now: seconds, from any start.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # What is left, and at what time it was so.
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def require(self, payers: Collection[Payer]) -> None:
        """Raises `Overloaded` if one of the payers has no time left."""
        if any(self._left_of(payer) <= 0 for payer in payers):
            raise Overloaded(
                "too many keys were presented that begin as an imported key and match none of the "
                "slow hashes of their prefix; try again in some seconds",
                limit="slow_hashes",
            )

    def charge(self, payers: Collection[Payer], seconds: float) -> None:
        """Takes the time from each payer."""
        for payer in payers:
            self._left[payer.name] = self._left_of(payer) - seconds, self._now()
            self._left.move_to_end(payer.name)
        while len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)

    def _left_of(self, payer: Payer) -> float:
        left, time = self._left.get(payer.name, (payer.most, 0.0))
        return min(payer.most, left + (self._now() - time) * payer.rate)
