"""What a seed has in store: who there is, how long leases last, what goes wrong, and when.

Each scenario has few kinds of trouble and much of each. With a little of everything, one
trouble keeps the others from doing their work, and less is found (swarm testing).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

MOMENTARY: Final = (
    "pause", "kill", "join", "drain", "reset", "silence", "sever", "cut", "deafen", "slow",
    "outage", "failover", "loss",
)  # fmt: skip
"""What happens at a moment, and may take a while to pass: see `Trouble`."""
_NOT_OF_SOLE_SERVERS: Final = ("join", "deafen", "failover", "loss")
"""A database of one process has no standby to fail over to, and no notifications."""
_LASTING: Final = {
    "questions": (0.01, 0.05, 0.2),
    "answers": (0.01, 0.05, 0.2),
    "notifications": (0.05, 0.3, 0.9),
    "lag": (0.3, 0.9),
    "breaks": (0.002, 0.02),
    "silences": (0.002, 0.01),
}
"""What can meet every message, and how likely."""


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """How a scenario is to go, as far as chance leaves it to be said beforehand.

    Attributes:
        is_sole: whether the one server has the database to itself.
        seconds: until everything heals, or the scenario just ends.
        heals: whether it is looked at how everything heals.
        length: of a lease.
        drift: the bound on it.
        is_steady: whether each clock keeps to one rate, as far off as it may be.
        keys: how many are asked for and changed. The fewer, the more often the same one.
        mutators: how many callers change something at the same time.
        mutation_pause: how long each of them waits, about.
        patience: how long each waits for an answer, before it asks for something else.
        check_pause: how long it is between checks at any moment, about. Most come around
            mutations.
        lasting: how likely it is for a message to be lost, and the like.
        slowest: how long a message may take.
        often_slow: how likely it is to be so slow.
        momentary: the other troubles that come.
        hot: how likely they come around a mutation.
        trouble_pause: how long it is between those that come at any time, about.
    """

    servers: int
    is_sole: bool
    sidecars: int
    sdks: int
    seconds: float
    heals: bool
    length: float
    drift: float
    is_steady: bool
    keys: int
    mutators: int
    mutation_pause: float
    patience: float
    check_pause: float
    lasting: dict[str, float]
    slowest: float
    often_slow: float
    momentary: tuple[str, ...]
    hot: float
    trouble_pause: float

    @property
    def brings(self) -> frozenset[str]:
        """The kinds of trouble, the momentary and the lasting."""
        return frozenset((*self.momentary, *self.lasting))

    @classmethod
    def of(cls, seed: int) -> FaultPlan:
        """The plan of the scenario with this seed."""
        source = random.Random(seed)
        # A scenario draws the numbers of its own choices first.
        source.random()
        return cls.drawn(source)

    @classmethod
    def drawn(cls, source: random.Random) -> FaultPlan:
        """Another one for each seed."""
        length = source.choice((0.3, 0.5, 0.8))
        kinds = source.choice((0, 1, 1, 2, 2, 3, 4))
        servers = source.choice((1, 1, 2, 2, 3))
        is_sole = servers == 1 and source.random() < 0.4
        others = _NOT_OF_SOLE_SERVERS if is_sole else ()
        momentary = tuple(kind for kind in MOMENTARY if kind not in others)
        return cls(
            servers=servers,
            is_sole=is_sole,
            sidecars=source.choice((0, 0, 1, 2)),
            sdks=source.choice((0, 1, 1, 2)),
            seconds=source.uniform(2, 5) * length,
            heals=source.random() < 0.2,
            length=length,
            drift=source.choice((0.01, 0.1, 0.25)),
            is_steady=source.random() < 0.5,
            keys=source.choice((1, 2, 5)),
            mutators=source.choice((1, 1, 2)),
            mutation_pause=source.choice((0.02, 0.1, 0.2)),
            patience=source.choice((0.01, 0.1, 5.0)),
            check_pause=source.choice((0.05, 0.2)),
            lasting={
                kind: source.choice(likelihoods)
                for kind, likelihoods in _LASTING.items()
                if source.random() < 0.2
            },
            slowest=source.choice((0.02, 0.02, 0.1, 0.3, 1.0)),
            often_slow=source.choice((0.05, 0.1, 0.3)),
            momentary=tuple(source.sample(momentary, kinds)),
            hot=source.choice((0.3, 0.7, 1.0)),
            trouble_pause=source.choice((0.3, 1.0, 5.0)),
        )
