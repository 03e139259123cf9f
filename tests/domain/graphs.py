"""Random scope graphs, and what follows from them worked out the slow and obvious way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st

Implications = Mapping[str, Sequence[str]]

brief: Final = settings(max_examples=60, deadline=None)

NAMES: Final = tuple(
    f"{prefix}{part}" for prefix in ("a:", "b:", "a:b:", "ab:", "") for part in ("x", "y", "z", "w")
)
WILDCARDS: Final = ("*", "a:*", "b:*", "a:b:*", "ab:*")
PATTERNS: Final = (*NAMES, *WILDCARDS, "gone:x", "gone:*")


def stands_for(pattern: str, names: Iterable[str]) -> set[str]:
    """The names that a scope or wildcard stands for."""
    if pattern == "*":
        return set(names)
    if pattern.endswith(":*"):
        return {name for name in names if name.startswith(pattern[:-1])}
    return {name for name in names if name == pattern}


def steps(implications: Implications) -> dict[str, set[str]]:
    """What each scope implies directly. A wildcard does not stand for the scope itself."""
    return {
        scope: {
            name
            for pattern in implied
            for name in stands_for(pattern, implications)
            if name != scope or pattern == scope
        }
        for scope, implied in implications.items()
    }


def closure(implications: Implications, patterns: Iterable[str]) -> set[str]:
    """All that comes with the patterns: more is added until nothing is left to add."""
    direct = steps(implications)
    held = {name for pattern in patterns for name in stands_for(pattern, implications)}
    while more := {target for name in held for target in direct[name]} - held:
        held |= more
    return held


def distances(implications: Implications, patterns: Iterable[str]) -> dict[str, int]:
    """How many implications it takes at least to get to each scope that is held."""
    direct = steps(implications)
    found: dict[str, int] = {}
    layer = {name for pattern in patterns for name in stands_for(pattern, implications)}
    length = 0
    while layer:
        found |= dict.fromkeys(layer, length)
        layer = {target for name in layer for target in direct[name]} - found.keys()
        length += 1
    return found


def has_cycle(implications: Implications) -> bool:
    """Whether some scope comes with itself in one step or more."""
    direct = steps(implications)
    return any(
        scope in direct[scope] or scope in closure(implications, direct[scope])
        for scope in implications
    )


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Any graph over some of the names, cycles and wildcards included."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=9))
    patterns = st.sampled_from([*names, *(w for w in WILDCARDS if stands_for(w, names))])
    return {name: draw(st.lists(patterns, max_size=2)) for name in names}


@st.composite
def dags(draw: st.DrawFn, min_size: int = 1) -> dict[str, list[str]]:
    """A graph without a cycle: each scope implies only what was drawn before it."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=min_size, max_size=12))
    drawn: dict[str, list[str]] = {}
    for name in names:
        allowed = [
            pattern
            for pattern in (*drawn, *WILDCARDS)
            if (found := stands_for(pattern, names)) and found <= {*drawn, name} and found != {name}
        ]
        some = st.lists(st.sampled_from(allowed), max_size=3) if allowed else st.just([])
        drawn[name] = draw(some)
    return {name: drawn[name] for name in draw(st.permutations(names))}


def grants() -> st.SearchStrategy[list[str]]:
    """What a key might be granted: scopes, wildcards, and what is not registered."""
    return st.lists(st.sampled_from(PATTERNS), max_size=4)
