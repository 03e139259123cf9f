"""The graph of a keyspace's scopes, closed over what implies what.

Every registered scope is a bit. Compiling the catalog walks the graph once and gives each scope the
mask of the scopes that it implies, so the effective scopes of a key are an OR of masks, and a check
is one AND. Explanations walk the graph again, off the hot path. The tests compare the two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from operator import is_
from sys import intern
from typing import Final

from keyfence_server.domain.compact_names import NameTable
from keyfence_server.domain.errors import InvalidDeclaration, Name, Problem
from keyfence_server.domain.scopes import (
    EVERYTHING,
    MAX_SCOPE_LENGTH,
    NAME_RULE,
    is_scope_name,
    is_wildcard,
    size_of_name,
    wildcards_over,
)

MAX_STEPS: Final = 200_000
"""The most implications of a catalog, wildcards resolved: it bounds the work and the
memory that a declaration of a few kilobytes can ask for."""

MAX_PATH: Final = 32
"""The most scopes of a path that are named."""
LEFT_OUT: Final = "…"
"""Stands in a path for the scopes that are left out."""

_NEAREST_CANDIDATES: Final = 256
_MAX_PROBLEMS: Final = 100
_MAX_NAMED: Final = 40
_SIMILAR: Final = 0.4
_REMEMBERED_SETS: Final = 1024
_MORE_NAMES: Final = 1_000
FEW_GRANTS: Final = 16
"""Grants up to this number are kept as they are, and their mask with them."""
_REMEMBERED_NAMES: Final = 100_000


@dataclass(frozen=True, slots=True)
class ScopePath:
    """How a grant leads to a scope.

    Attributes:
        scope: the scope that it leads to.
        granted: the scope or wildcard that it starts from.
        path: from a scope that `granted` stands for down to `scope`, both included,
            each implying the next. One of the shortest. A path of more than `MAX_PATH`
            scopes is cut: `LEFT_OUT` stands for those that are left out.
    """

    scope: str
    granted: str
    path: tuple[str, ...]


class ScopeCatalog:
    """Registered scopes and what each of them implies.

    Args:
        implications: every registered scope, with the scopes and wildcards that it
            implies directly.

    Raises:
        InvalidDeclaration: a malformed name, an implication of something that is not registered, or
            a cycle; each problem's path is `scopes[NAME]` or `scopes[NAME].implies[INDEX]`.
    """

    def __init__(self, implications: Mapping[str, Sequence[str]]) -> None:
        self.names: Final = tuple(sorted(map(intern, implications)))
        """Every registered scope, sorted. A scope's bit is its index."""
        self._bits: Final = {name: index for index, name in enumerate(self.names)}
        self._own_masks: Final = {name: 1 << bit for name, bit in self._bits.items()}
        self._names_by_mask: Final[dict[int, tuple[str, ...]]] = {}
        self.shared_mask: Final = lru_cache(_REMEMBERED_SETS)(int)
        """An equal mask, the same object for all that ask for it: in a catalog of thousands,
        a mask takes more than a kilobyte."""
        self._remembered_names = 0
        self._grants: Final[dict[tuple[str, ...], tuple[str, ...]]] = {}
        # Wildcards, and scopes that are gone, are granted, too.
        self._table: Final = NameTable(self.names, len(self.names) + _MORE_NAMES)
        self._effective: Final[OrderedDict[object, int]] = OrderedDict()
        self._last_walk: tuple[tuple[str, ...], dict[str, str], _Walk] | None = None
        self._backwards: tuple[str, ...] | None = None
        self._edges: Final = self._resolve(implications)
        self._closures: Final = self._close()

    def __contains__(self, scope: object) -> bool:
        return scope in self._bits

    def __len__(self) -> int:
        return len(self.names)

    def implied_directly(self, scope: str) -> tuple[str, ...]:
        """The scopes that a registered scope implies in one step, wildcards resolved. Sorted."""
        return self._edges[scope]

    def matches(self, pattern: str) -> Sequence[str]:
        """The registered scopes that a scope or wildcard stands for, without what they
        imply. Sorted."""
        if pattern == EVERYTHING:
            return self.names
        if pattern.endswith(":*"):
            # The names are sorted, so those with one prefix stand together, and ";" is
            # the character after ":".
            prefix = pattern[:-1]
            first = bisect_left(self.names, prefix)
            return self.names[first : bisect_left(self.names, f"{prefix[:-1]};", first)]
        return (pattern,) if pattern in self._bits else ()

    def knows(self, pattern: str) -> bool:
        """Whether a scope is registered, or a wildcard stands for at least one that is."""
        return bool(self.matches(pattern))

    def mask(self, patterns: Iterable[str]) -> int:
        """All that comes with the given scopes and wildcards, as a mask.

        What is not registered counts for nothing: a grant may outlive the scope.
        """
        mask = 0
        for pattern in set(patterns):
            if pattern == EVERYTHING:
                return (1 << len(self.names)) - 1
            if (bit := self._bits.get(pattern)) is not None:
                mask |= self._closures[bit]
            else:
                for name in self.matches(pattern):
                    mask |= self._closures[self._bits[name]]
        return mask

    def required_mask(self, scopes: Iterable[str]) -> int:
        """The named scopes alone, as a mask: what a check asks for.

        Raises:
            KeyError: a scope that is not registered; its argument is the scope.
        """
        own = self._own_masks
        mask = 0
        for scope in scopes:
            mask |= own[scope]
        return mask

    def names_in(self, mask: int) -> tuple[str, ...]:
        """The scopes of a mask, sorted.

        Most keys hold one of a few sets of scopes, so the answers are remembered and shared,
        within a bound for their names in all.
        """
        found = self._names_by_mask.get(mask)
        if found is None:
            # In one pass over the digits: to clear bit by bit would take quadratic time.
            found = tuple(compress(self.names, map("1".__eq__, reversed(f"{mask:b}"))))
            self._remembered_names += len(found)
            if (
                len(self._names_by_mask) >= _REMEMBERED_SETS
                or self._remembered_names > _REMEMBERED_NAMES
            ):
                self._names_by_mask.clear()
                self._remembered_names = len(found)
            self._names_by_mask[mask] = found
        return found

    def first_names_in(self, mask: int, most_bytes: int) -> tuple[tuple[str, ...], bool]:
        """The first scopes of a mask, sorted, within so many bytes of a message, and whether some
        are left out. The work is bounded by the bytes, and not by the mask."""
        found: list[str] = []
        while mask:
            first = mask & -mask
            name = self.names[first.bit_length() - 1]
            most_bytes -= size_of_name(name)
            if most_bytes < 0:
                return tuple(found), True
            found.append(name)
            mask ^= first
        return tuple(found), False

    def recent_mask(self, place: Hashable, make: Callable[[], int]) -> int:
        """A mask that is made again when it has not been asked for lately.

        Args:
            place: what the mask follows from, in this catalog.
        """
        mask = self._effective.get(place)
        if mask is None:
            mask = self._effective[place] = make()
            if len(self._effective) > _REMEMBERED_SETS:
                self._effective.popitem(last=False)
        else:
            self._effective.move_to_end(place)
        return mask

    def shared_grants(self, granted: Sequence[str]) -> Sequence[str]:
        """Equal grants with the names that the catalog has in memory: a few as the same tuple for
        all that ask for it, many in a form that takes little memory."""
        if not isinstance(granted, tuple):
            return granted
        if len(granted) > FEW_GRANTS:
            return self._table.compact(granted)
        found = self._grants.get(granted)
        if found is None:
            if len(self._grants) >= _REMEMBERED_SETS:
                self._grants.clear()
            names, bits = self.names, self._bits
            found = tuple(names[bits[one]] if one in bits else one for one in granted)
            if all(map(is_, found, granted)):
                found = granted
            self._grants[found] = found
        return found

    def explain(self, granted: Iterable[str], scope: str) -> ScopePath | None:
        """How the grants lead to a registered scope; None if they do not.

        Of several ways it gives one with the fewest implications.
        """
        grants = tuple(granted)
        direct = {EVERYTHING, scope, *wildcards_over(scope)}
        for pattern in grants:
            if pattern in direct:
                return ScopePath(scope, pattern, (scope,))
        if self._last_walk is None or self._last_walk[0] != grants:
            # A check asks about many scopes of one key: one walk answers for all of them.
            patterns: dict[str, str] = {}
            for pattern in grants:
                for name in self.matches(pattern):
                    patterns.setdefault(name, pattern)
            self._last_walk = (grants, patterns, _walk(patterns, self._edges))
        _, patterns, walk = self._last_walk
        if scope not in walk.came_from:
            return None
        return ScopePath(scope, patterns[walk.roots[scope]], _trail(walk, scope))

    def implied_by(self, scope: str) -> Iterator[ScopePath]:
        """Every scope that comes with a registered scope, itself left out, sorted."""
        walk = _walk([scope], self._edges)
        for name in sorted(walk.came_from.keys() - {scope}):
            yield ScopePath(name, scope, _trail(walk, name))

    def implying(self, scope: str) -> Iterator[ScopePath]:
        """Every other scope that a registered scope comes with, sorted."""
        sources: dict[str, list[str]] = {name: [] for name in self.names}
        for name, targets in self._edges.items():
            for target in targets:
                sources[target].append(name)
        walk = _walk([scope], sources)
        for name in sorted(walk.came_from.keys() - {scope}):
            yield ScopePath(scope, name, tuple(reversed(_trail(walk, name))))

    def grants_of(self, scope: str) -> tuple[str, ...]:
        """The scopes and wildcards of which each, granted by itself, brings a registered scope."""
        own = self._own_masks[scope]
        grants = {EVERYTHING}
        for name, closure in zip(self.names, self._closures, strict=True):
            if closure & own:
                grants.add(name)
                grants.update(wildcards_over(name))
        return tuple(sorted(grants))

    def count_implied_by(self, scope: str) -> int:
        """How many scopes `implied_by` gives."""
        return self._closures[self._bits[scope]].bit_count() - 1

    def count_implying(self, scope: str) -> int:
        """How many scopes `implying` gives."""
        own = self._own_masks[scope]
        return sum(1 for closure in self._closures if closure & own) - 1

    def smallest_grants(self, missing: Iterable[str]) -> tuple[str, ...]:
        """The fewest grants that bring all the missing scopes and nothing that is not needed:
        those of them that no other one of them implies. Sorted."""
        wanted = sorted(set(missing))
        implied = 0
        for scope in wanted:
            implied |= self._closures[self._bits[scope]] & ~self._own_masks[scope]
        return tuple(scope for scope in wanted if not implied & self._own_masks[scope])

    def nearest(self, name: str) -> str | None:
        """The registered scope that was probably meant; None if none is similar.

        Bounded work in a catalog of any size: in a large one, only the names that are next to
        the unknown one are compared, in the order of the alphabet and in that of the names
        read backwards.
        """
        name = name[:MAX_SCOPE_LENGTH]
        candidates: Sequence[str] = self.names
        if len(self.names) > _NEAREST_CANDIDATES:
            if self._backwards is None:
                self._backwards = tuple(sorted(one[::-1] for one in self.names))
            candidates = [
                *_around(self.names, name),
                *(one[::-1] for one in _around(self._backwards, name[::-1])),
            ]
        nearest = min(candidates, key=lambda one: _difference(name, one), default="")
        is_similar = _difference(name, nearest) <= _SIMILAR * max(len(name), len(nearest))
        return nearest if nearest and is_similar else None

    def _resolve(self, implications: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
        problems: list[Problem] = []
        edges: dict[str, tuple[str, ...]] = {}
        steps = 0
        for scope in self.names:
            if not is_scope_name(scope):
                problems.append(Problem(("scopes", Name(scope)), NAME_RULE))
            edges[scope] = self._targets(scope, implications[scope], problems)
            steps += len(edges[scope])
            if steps > MAX_STEPS:
                problems.append(
                    Problem(
                        ("scopes",),
                        f"more than {MAX_STEPS} implications, wildcards counted by what they stand "
                        "for; let a scope imply another one that implies the rest",
                    )
                )
            # Each problem looks for the nearest name, which takes time.
            if steps > MAX_STEPS or len(problems) >= _MAX_PROBLEMS:
                break
        if problems:
            raise InvalidDeclaration(problems)
        return edges

    def _targets(
        self, scope: str, implied: Sequence[str], problems: list[Problem]
    ) -> tuple[str, ...]:
        targets: set[str] = set()
        for pattern in dict.fromkeys(implied):
            found = self.matches(pattern)
            if not found and len(problems) < _MAX_PROBLEMS:
                path = ("scopes", Name(scope), "implies", implied.index(pattern))
                problems.append(Problem(path, self.describe_unknown(pattern)))
            # "vps:admin" may imply "vps:*", of which it is itself a part.
            targets.update(name for name in found if name != scope or not is_wildcard(pattern))
        return tuple(sorted(targets))

    def describe_unknown(self, pattern: str) -> str:
        """The message for a scope or wildcard that stands for no registered scope."""
        if is_wildcard(pattern):
            return f'no registered scope is below "{pattern}"'
        if not is_scope_name(pattern):
            return f'"{pattern[:200]}" is not a scope: {NAME_RULE}'
        nearest = self.nearest(pattern)
        hint = f'; did you mean "{nearest}"?' if nearest else ""
        return f'scope "{pattern}" is not registered{hint}'

    def _close(self) -> tuple[int, ...]:
        """Each scope's mask with all that it implies, in one walk without recursion."""
        closures: dict[str, int] = {}
        for root in self.names:
            if root in closures:
                continue
            path: dict[str, Iterator[str]] = {root: iter(self._edges[root])}
            while path:
                scope, remaining = next(reversed(path.items()))
                target = next((t for t in remaining if t not in closures), None)
                if target is None:
                    mask = 1 << self._bits[scope]
                    for implied in self._edges[scope]:
                        mask |= closures[implied]
                    closures[scope] = mask
                    del path[scope]
                elif target in path:
                    raise self._cycle([*path], target)
                else:
                    path[target] = iter(self._edges[target])
        return tuple(closures[name] for name in self.names)

    @staticmethod
    def _cycle(path: list[str], back_to: str) -> InvalidDeclaration:
        cycle = [*path[path.index(back_to) :], back_to]
        named = cycle
        if len(cycle) > _MAX_NAMED:
            half = _MAX_NAMED // 2
            left_out = len(cycle) - 2 * half
            named = [*cycle[:half], f"({left_out} more)", *cycle[-half:]]
        arrows = " → ".join(named)
        return InvalidDeclaration.field(
            ("scopes", Name(cycle[0]), "implies"),
            f"scopes imply each other in a cycle: {arrows}; remove one of the steps",
        )


@dataclass(frozen=True, slots=True)
class _Walk:
    """What can be reached from some scopes.

    Attributes:
        came_from: each scope that is reached, and from where; None for an origin.
        roots: each scope that is reached, and the origin that it is reached from.
    """

    came_from: Mapping[str, str | None]
    roots: Mapping[str, str]


def _walk(origins: Iterable[str], edges: Mapping[str, Sequence[str]]) -> _Walk:
    """Walks breadth first, so that every way is one of the shortest."""
    came_from: dict[str, str | None] = dict.fromkeys(origins)
    roots = {origin: origin for origin in came_from}
    waiting = deque(came_from)
    while waiting:
        here = waiting.popleft()
        for target in edges[here]:
            if target not in came_from:
                came_from[target] = here
                roots[target] = roots[here]
                waiting.append(target)
    return _Walk(came_from, roots)


def _difference(name: str, other: str) -> int:
    """How many characters there are between what two names begin and end with in common: a
    misspelling is in one place. Linear, unlike an edit distance."""
    shorter = min(len(name), len(other))
    begin = next((i for i in range(shorter) if name[i] != other[i]), shorter)
    left = shorter - begin
    end = next((i for i in range(left) if name[-1 - i] != other[-1 - i]), left)
    return max(len(name), len(other)) - begin - end


def _around(names: Sequence[str], name: str) -> Sequence[str]:
    """The names that are next to the given one in a sorted sequence."""
    place = bisect_left(names, name)
    half = _NEAREST_CANDIDATES // 4
    return names[max(0, place - half) : place + half]


def _trail(walk: _Walk, scope: str) -> tuple[str, ...]:
    """The way from an origin of the walk to a scope that it reached. Of a way that is too
    long, the part behind the origin is left out, and is not walked."""
    trail = [scope]
    while (previous := walk.came_from[trail[-1]]) is not None:
        if len(trail) == MAX_PATH:
            trail[-2:] = [LEFT_OUT, walk.roots[scope]]
            break
        trail.append(previous)
    return tuple(reversed(trail))
