"""The graph of a keyspace's scopes, closed over what implies what.

Every registered scope is a bit. Compiling the catalog walks the graph once and
gives each scope the mask of all that comes with it, so that the effective scopes
of a key are an OR of masks, and a check is one AND. What a verdict says about
*why* is found by walking the graph again, off the hot path, and the two are tested
against each other.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from keyfence_server.domain.errors import InvalidDeclaration, Name, Problem
from keyfence_server.domain.scopes import EVERYTHING, NAME_RULE, is_scope_name, is_wildcard

MAX_STEPS: Final = 200_000
"""The most implications of a catalog, wildcards resolved: it bounds the work and the
memory that a declaration of a few kilobytes can ask for."""

_NEAREST_CANDIDATES: Final = 256
_MAX_PROBLEMS: Final = 100
_MAX_NAMED: Final = 40
_REMEMBERED_MASKS: Final = 1024


@dataclass(frozen=True, slots=True)
class ScopePath:
    """How a grant leads to a scope.

    Attributes:
        scope: the scope that it leads to.
        granted: the scope or wildcard that it starts from.
        path: from a scope that `granted` stands for down to `scope`, both included,
            each implying the next. One of the shortest.
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
        InvalidDeclaration: a malformed name, an implication of something that is not
            registered, or a cycle; each problem's path is `scopes[NAME]` or
            `scopes[NAME].implies[INDEX]`.
    """

    __slots__ = ("_bits", "_closures", "_edges", "_names_by_mask", "_own_masks", "names")

    def __init__(self, implications: Mapping[str, Sequence[str]]) -> None:
        self.names: Final = tuple(sorted(implications))
        """Every registered scope, sorted. A scope's bit is its index."""
        self._bits: Final = {name: index for index, name in enumerate(self.names)}
        self._own_masks: Final = {name: 1 << bit for name, bit in self._bits.items()}
        self._names_by_mask: Final[dict[int, tuple[str, ...]]] = {}
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

    def holds_all(self, mask: int, scopes: Sequence[str]) -> bool:
        """Whether all the scopes are registered, and in the mask."""
        own = self._own_masks
        required = 0
        for scope in scopes:
            bit = own.get(scope)
            if bit is None:
                return False
            required |= bit
        return required & mask == required

    def names_in(self, mask: int) -> tuple[str, ...]:
        """The scopes of a mask, sorted.

        Most keys hold one of a few sets of scopes, so the answers are shared: a cache of
        many keys with "*" in a catalog of thousands holds the names once.
        """
        found = self._names_by_mask.get(mask)
        if found is None:
            if len(self._names_by_mask) >= _REMEMBERED_MASKS:
                self._names_by_mask.clear()
            found = self._names_by_mask[mask] = tuple(self._each_in(mask))
        return found

    def _each_in(self, mask: int) -> Iterator[str]:
        while mask:
            lowest = mask & -mask
            yield self.names[lowest.bit_length() - 1]
            mask ^= lowest

    def explain(self, granted: Iterable[str], scope: str) -> ScopePath | None:
        """How the grants lead to a registered scope; None if they do not.

        Of several ways it gives one with the fewest implications.
        """
        origins: dict[str, str] = {}
        for pattern in granted:
            for name in self.matches(pattern):
                origins.setdefault(name, pattern)
        came_from = self._walk(origins, self._edges)
        if scope not in came_from:
            return None
        path = _trail(came_from, scope)
        return ScopePath(scope, origins[path[0]], path)

    def implied_by(self, scope: str) -> Iterator[ScopePath]:
        """Every scope that comes with a registered scope, itself left out, sorted."""
        came_from = self._walk([scope], self._edges)
        for name in sorted(came_from.keys() - {scope}):
            yield ScopePath(name, scope, _trail(came_from, name))

    def implying(self, scope: str) -> Iterator[ScopePath]:
        """Every other scope that a registered scope comes with, sorted."""
        sources: dict[str, list[str]] = {name: [] for name in self.names}
        for name, targets in self._edges.items():
            for target in targets:
                sources[target].append(name)
        came_from = self._walk([scope], sources)
        for name in sorted(came_from.keys() - {scope}):
            yield ScopePath(scope, name, tuple(reversed(_trail(came_from, name))))

    def smallest_grants(self, missing: Iterable[str]) -> tuple[str, ...]:
        """The fewest grants that bring all the missing scopes and nothing that is not needed:
        those of them that no other one of them implies. Sorted."""
        wanted = sorted(set(missing))
        return tuple(
            scope
            for scope in wanted
            if not any(
                self._closures[self._bits[other]] >> self._bits[scope] & 1
                for other in wanted
                if other != scope
            )
        )

    def nearest(self, name: str) -> str | None:
        """The registered scope that somebody probably meant; None if nothing is near.

        Bounded work, however large the catalog: an unknown name costs its asker more
        than it costs the server.
        """
        if len(self.names) <= _NEAREST_CANDIDATES:
            candidates: Sequence[str] = self.names
        else:
            candidates = self._similar_in_shape(name)
        found = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
        return found[0] if found else None

    def _similar_in_shape(self, name: str) -> list[str]:
        alike: list[str] = []
        for candidate in self.names:
            if abs(len(candidate) - len(name)) <= 2 and (
                candidate[:3] == name[:3] or candidate[-3:] == name[-3:]
            ):
                alike.append(candidate)
                if len(alike) == _NEAREST_CANDIDATES:
                    break
        return alike

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
            # Finding the nearest name has its price, and nobody reads on for ever.
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
        """What to tell somebody who named a scope or wildcard that stands for nothing."""
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
        return InvalidDeclaration(
            [
                Problem(
                    ("scopes", Name(cycle[0]), "implies"),
                    f"scopes imply each other in a circle: {arrows}; remove one of the steps",
                )
            ]
        )

    @staticmethod
    def _walk(origins: Iterable[str], edges: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
        """Breadth first from the origins: each scope that is reached, and from where."""
        came_from: dict[str, str | None] = dict.fromkeys(origins)
        waiting = deque(came_from)
        while waiting:
            here = waiting.popleft()
            for target in edges[here]:
                if target not in came_from:
                    came_from[target] = here
                    waiting.append(target)
        return came_from


def _trail(came_from: Mapping[str, str | None], scope: str) -> tuple[str, ...]:
    """The way from an origin of the walk to a scope that it reached."""
    trail = [scope]
    while (previous := came_from[trail[-1]]) is not None:
        trail.append(previous)
    return tuple(reversed(trail))
