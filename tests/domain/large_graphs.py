"""Declarations of thousands of scopes, in the shapes that graphs can have, and what follows
from them worked out from the declaration alone, one scope after the other.

The names are drawn at random, so that their order, by which a catalog numbers its scopes,
has nothing to do with what implies what.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from keyfence_server.domain.declarations import (
    KeyspaceDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
    ScopeDeclaration,
)

Grants = Iterator[tuple[str, ...]]

# Siblings that a careless look at a prefix would take for one another.
_PARTS: Final = ("a", "a-b", "a.b", "a0", "ab", "b", "b_", "bb", "c", "z")


@dataclass(frozen=True)
class Said:
    """What a declaration says: its scopes, and what each of them implies in one step."""

    direct: Mapping[str, set[str]]

    @classmethod
    def by(cls, declaration: KeyspaceDeclaration) -> Said:
        """Reads a declaration line by line."""
        direct: dict[str, set[str]] = {scope.name: set() for scope in declaration.scopes}
        for resource in declaration.resources:
            names = [f"{resource.name}:{level.name}" for level in resource.levels]
            direct[names[0]] = set()
            for weaker, stronger in itertools.pairwise(names):
                direct[stronger] = {weaker}
        said = cls(direct)
        for scope in declaration.scopes:
            for pattern in scope.implies:
                direct[scope.name] |= said.stands_for(pattern) - {scope.name}
        return said

    def stands_for(self, pattern: str) -> set[str]:
        """The scopes that a scope or wildcard stands for."""
        if pattern == "*":
            return set(self.direct)
        if pattern.endswith(":*"):
            above = pattern.split(":")[:-1]
            return {
                name
                for name in self.direct
                if name.startswith(above[0])
                and (parts := name.split(":"))[: len(above)] == above
                and len(parts) > len(above)
            }
        return {pattern} & self.direct.keys()

    def distances(self, patterns: Iterable[str]) -> dict[str, int]:
        """All that comes with the patterns, and how many steps away each is at least."""
        found: dict[str, int] = {}
        layer = {name for pattern in patterns for name in self.stands_for(pattern)}
        for steps in itertools.count():
            if not layer:
                return found
            found |= dict.fromkeys(layer, steps)
            layer = {below for name in layer for below in self.direct[name]} - found.keys()
        raise AssertionError

    def upside_down(self) -> Said:
        """The same steps, taken the other way."""
        above: dict[str, set[str]] = {name: set() for name in self.direct}
        for name, below in self.direct.items():
            for other in below:
                above[other].add(name)
        return Said(above)

    def wildcards(self) -> dict[int, list[str]]:
        """Every wildcard that stands for something, by the number of parts before its star."""
        found: dict[int, set[str]] = {0: {"*"}}
        for name in self.direct:
            parts = name.split(":")
            for depth in range(1, len(parts)):
                found.setdefault(depth, set()).add(":".join([*parts[:depth], "*"]))
        return {depth: sorted(patterns) for depth, patterns in found.items()}


def chains(chance: random.Random, size: int) -> KeyspaceDeclaration:
    """Few long ways down, with a short cut here and there."""
    names = _names(chance, size)
    implies: dict[str, list[str]] = {}
    for index, name in enumerate(names):
        ends = index + 1 == size or chance.random() < 4 / size
        implies[name] = [] if ends else [names[index + 1]]
        if chance.random() < 0.02:
            implies[name] += names[index + 2 : index + 30][-1:]
    return _declaration(chance, implies)


def fans(chance: random.Random, size: int) -> KeyspaceDeclaration:
    """A few scopes with much right below them, which others share."""
    names = _names(chance, size)
    hubs, leaves = names[:40], names[40:]
    implies: dict[str, list[str]] = {leaf: [] for leaf in leaves}
    for index, hub in enumerate(hubs):
        below = chance.sample(leaves, k=chance.randrange(1, size // 8))
        implies[hub] = [*below, *hubs[index + 1 : index + chance.randrange(1, 4)]]
    return _declaration(chance, implies)


def dense(chance: random.Random, size: int) -> KeyspaceDeclaration:
    """Dozens of ways from almost anywhere to almost anywhere below it."""
    names = _names(chance, size)
    return _declaration(
        chance,
        {
            name: chance.sample(names[:index], k=min(index, chance.randrange(40)))
            for index, name in enumerate(names)
        },
    )


def sparse(chance: random.Random, size: int) -> KeyspaceDeclaration:
    """None, one or two below each, none of them far."""
    names = _names(chance, size)
    return _declaration(
        chance,
        {
            name: chance.sample(names[max(0, index - 300) : index], k=min(index, index % 3))
            for index, name in enumerate(names)
        },
    )


def levels(chance: random.Random, size: int) -> KeyspaceDeclaration:
    """Resources with ordered levels, and scopes that imply some of those, or all."""
    resources: list[ResourceDeclaration] = []
    known: list[str] = []
    while len(known) < size * 3 // 4:
        name = f"{chance.choice(_PARTS)}:{len(resources)}"
        count = chance.choice([1, 2, 3, 4, 5, 12])
        # Ordered as declared, whatever the order of their names.
        named = chance.sample(range(100), k=count)
        resources.append(
            ResourceDeclaration(
                name=name, levels=tuple(LevelDeclaration(name=f"l{one}") for one in named)
            )
        )
        known += [f"{name}:l{one}" for one in named]
    implies: dict[str, list[str]] = {}
    for index in range(size - len(known)):
        some = chance.sample(known, k=2)
        if chance.random() < 0.3:
            some.append(f"{chance.choice(resources).name}:*")
        known.append(f"admin:{index}")
        implies[known[-1]] = some
    return _declaration(chance, implies, tuple(resources))


def wildcards(chance: random.Random, size: int) -> KeyspaceDeclaration:
    """A tree of names, where some imply all that is below their own prefix."""
    names: dict[str, None] = {}
    while len(names) < size * 9 // 10:
        parts = chance.choices(_PARTS, k=chance.randrange(1, 5))
        names[":".join([*parts, f"s{chance.randrange(size)}"])] = None
    prefixes = sorted({name.rpartition(":")[0] for name in names})
    implies: dict[str, list[str]] = {name: [] for name in names}
    while len(implies) < size:
        prefix = chance.choice(prefixes)
        implies[f"{prefix}:all"] = [f"{prefix}:*"]
        # Named apart, it is above every "all", and below none.
        implies[f"over.{len(implies)}"] = [f"{chance.choice(prefixes)}:*", f"{prefix}:all"]
    return _declaration(chance, implies)


SHAPES: Final[tuple[Callable[[random.Random, int], KeyspaceDeclaration], ...]] = (
    chains,
    fans,
    dense,
    sparse,
    levels,
    wildcards,
)


def grants(chance: random.Random, declaration: KeyspaceDeclaration, said: Said) -> Grants:
    """One of every kind: a scope, several, a wildcard of each depth, each preset, a mixture,
    and what is not registered."""
    names = sorted(said.direct)
    yield (chance.choice(names),)
    yield tuple(chance.sample(names, k=5))
    deep = [chance.choice(patterns) for patterns in said.wildcards().values()]
    for pattern in deep:
        yield (pattern,)
    for preset in declaration.presets:
        yield preset.scopes
    yield (chance.choice(names), deep[-1], "gone:x", "gone:*")
    yield ("gone:x", "a:gone:*")


def _names(chance: random.Random, size: int) -> list[str]:
    # Half of them below one wildcard.
    weights = [len(_PARTS) - 1, *(1 for _ in _PARTS[1:])]
    names = [
        f"{first}:{chance.choice(_PARTS)}:n{index}"
        for index, first in enumerate(chance.choices(_PARTS, weights, k=size))
    ]
    return chance.sample(names, k=size)


def _declaration(
    chance: random.Random,
    implies: Mapping[str, list[str]],
    resources: tuple[ResourceDeclaration, ...] = (),
) -> KeyspaceDeclaration:
    scopes = tuple(ScopeDeclaration(name=name, implies=tuple(implies[name])) for name in implies)
    some = [
        *(scope.name for scope in chance.sample(scopes, k=20)),
        *(f"{resource.name}:*" for resource in chance.sample(resources, k=min(9, len(resources)))),
    ]
    return KeyspaceDeclaration(
        name="large",
        scopes=scopes,
        resources=resources,
        presets=tuple(
            PresetDeclaration(name=f"p{index}", scopes=tuple(chance.sample(some, k=index)))
            for index in range(1, 12, 5)
        ),
    )
