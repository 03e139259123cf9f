"""How long it takes to compile a large catalog, and the scopes of a key that holds it all."""

from __future__ import annotations

import random
import time
from typing import Final

from bench.report import Report
from keyfence_server.domain.catalog import ScopeCatalog

SCOPES: Final = 5_000
_IMPLIED: Final = 4


def measure(report: Report, *, rounds: int) -> None:
    """Measures this process's own processor time."""
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
    table = report.table(
        "scopes",
        f"A catalog of {SCOPES} scopes, each implying up to {_IMPLIED} others: {rounds} rounds",
    )
    table.add("compile the catalog", "processor, ms", compiling)
    table.add("effective scopes of a key with *", "processor, ms", granting)
