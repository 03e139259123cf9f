"""The list of seeded bugs, `spec/bugs.toml`: one list for the model, the simulation, the torture
and the holders' conformance."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LIST: Final = Path(__file__).parents[1] / "spec" / "bugs.toml"


@dataclass(frozen=True, slots=True)
class SeededBug:
    """A program with one guard missing.

    Attributes:
        rule: the rule of docs/fence.md that it breaks, for example "I5".
        says: what the faulty program does, in one sentence.
        uses: where it is seeded: "model", "simulation", "torture".
        holder_guard: the guard that `conformance` takes out of a client's holder; empty for none.
    """

    rule: str
    says: str
    uses: frozenset[str]
    holder_guard: str


def _read() -> dict[str, SeededBug]:
    entries = tomllib.loads(_LIST.read_text(encoding="utf-8"))
    return {
        name: SeededBug(
            entry["rule"], entry["says"], frozenset(entry["uses"]), entry.get("holder_guard", "")
        )
        for name, entry in entries.items()
    }


SEEDED_BUGS: Final = _read()
"""By name. The name begins with the rule."""
