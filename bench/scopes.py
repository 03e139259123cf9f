"""How long it takes to compile a large catalog, and the scopes of a key that holds it all."""

from __future__ import annotations

import random
import statistics
import time
from typing import Final

from keyfence_server.domain.catalog import ScopeCatalog

SCOPES: Final = 5_000
_IMPLIED: Final = 4


def measure(*, rounds: int) -> None:
    """Prints the medians, in milliseconds of this process's own processor time."""
    names = [f"resource-{index % 200}:action-{index}" for index in range(SCOPES)]
    source = random.Random(1)
    implications = {
        name: sorted({names[source.randrange(index)] for _ in range(_IMPLIED)}) if index else []
        for index, name in enumerate(names)
    }
    compiling, granting = [], []
    for _ in range(rounds):
        began = time.process_time()
        catalog = ScopeCatalog(implications)
        compiled = time.process_time()
        held = catalog.names_in(catalog.mask(["*"]))
        granted = time.process_time()
        assert len(held) == SCOPES
        compiling.append((compiled - began) * 1e3)
        granting.append((granted - compiled) * 1e3)
    print(f"\nA catalog of {SCOPES} scopes, each implying up to {_IMPLIED} others, {rounds} times")
    print(f"{'compile the catalog, ms':36}{statistics.median(compiling):10.1f}")
    print(f"{'effective scopes of a key with *, ms':36}{statistics.median(granting):10.1f}")
