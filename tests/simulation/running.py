"""Tells scenarios one after the other, and looks for the seed by which a bug is found."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from simulation.bugs import Bug
from simulation.checker import Violation
from simulation.fault_plan import FaultPlan
from simulation.scenario import Scenario

_GARBAGE_BETWEEN_COLLECTIONS = 20_000


@contextmanager
def quietly() -> Iterator[None]:
    """Without what the code would log of all these troubles, and without looking again and
    again through all the modules for garbage, which takes a third of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_BETWEEN_COLLECTIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        structlog.reset_defaults()


@dataclass
class Tally:
    """What came of many scenarios."""

    seeds: int = 0
    answers: int = 0
    mutations: int = 0
    violations: list[str] = field(default_factory=list)

    def run(self, seed: int) -> None:
        """Tells one more, of the code as it is."""
        scenario = Scenario(seed)
        try:
            scenario.run()
        except Violation as violation:
            self.violations.append(str(violation))
        self.seeds += 1
        self.answers += scenario.answers
        self.mutations += scenario.mutations

    def __str__(self) -> str:
        return (
            f"{self.seeds} seeds: {self.answers} checks answered, {self.mutations} mutations "
            f"fenced, {len(self.violations)} violations"
        )


def finds(bug: Bug, seed: int) -> bool:
    """Whether the bug breaks in the seed's scenario what it is known to break."""
    try:
        Scenario(seed, bug.parts()).run()
    except Violation as violation:
        # A bug may do harm in another way, too, which is not what is looked for.
        return isinstance(violation, bug.breaks)
    return False


def seed_that_finds(bug: Bug, most: int) -> int | None:
    """The first seed that finds the bug, among those in whose scenarios it can show."""
    able = (seed for seed in range(most) if bug.needs(FaultPlan.of(seed)))
    return next((seed for seed in able if finds(bug, seed)), None)
