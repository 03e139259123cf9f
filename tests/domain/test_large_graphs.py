"""Graphs of thousands of scopes, held against what their declarations say line by line.

The small graphs of `test_scope_graph.py` find what is wrong in principle. What goes wrong
with size is found here: a walk that gives up, a mask that is cut off, a shorter answer for
longer ways.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections.abc import Callable, Sequence

import pytest

from domain.large_graphs import SHAPES, Said, grants
from keyfence_server.domain.catalog import LEFT_OUT, MAX_PATH, ScopePath
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.explanations import explain
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from support.builders import make_key

Shape = Callable[[random.Random, int], KeyspaceDeclaration]

# Beyond this, it is not "well under a second" on any machine: it takes a
# small part of it.
MOST_CPU_SECONDS = 5.0

graphs = pytest.mark.parametrize("seed", [1, 2, 3])
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)


@functools.cache
def made(shape: Shape, seed: int) -> tuple[KeyspaceDeclaration, Keyspace, Said]:
    """A graph of two to five thousand scopes, compiled, and what its declaration says."""
    chance = random.Random(seed)
    declaration = shape(chance, chance.randrange(2_000, 5_001))
    return declaration, compile_keyspace(declaration), Said.by(declaration)


def facts_of(granted: Sequence[str], keyspace: Keyspace) -> KeyFacts:
    return compile_facts([make_key(granted_scopes=tuple(granted))], keyspace)


def assert_is_a_shortest_way(path: ScopePath, said: Said, distance: int) -> None:
    assert path.path[0] in said.stands_for(path.granted)
    assert path.path[-1] == path.scope
    for above, below in itertools.pairwise(path.path):
        if LEFT_OUT not in {above, below}:
            assert below in said.direct[above], f"{above} → {below} is not declared"
    assert len(path.path) == min(distance + 1, MAX_PATH)
    assert (LEFT_OUT in path.path) == (distance + 1 > MAX_PATH)


@graphs
@shapes
def test_every_mask_is_the_scope_and_the_masks_of_what_it_implies(shape: Shape, seed: int) -> None:
    """Of all scopes, without a sample: as there is no circle, no other masks satisfy this."""
    _, keyspace, said = made(shape, seed)
    catalog = keyspace.catalog
    assert catalog.names == tuple(sorted(said.direct))
    for scope, below in said.direct.items():
        mask = catalog.required_mask([scope])
        for name in below:
            mask |= catalog.mask([name])
        assert catalog.mask([scope]) == mask
        assert catalog.implied_directly(scope) == tuple(sorted(below))


@graphs
@shapes
def test_a_key_holds_what_comes_with_its_grants_and_each_check_is_explained(
    shape: Shape, seed: int
) -> None:
    """Mask, explanation and smallest grants agree with the closure."""
    declaration, keyspace, said = made(shape, seed)
    chance = random.Random(seed)
    names = sorted(said.direct)
    for granted in grants(chance, declaration, said):
        facts = facts_of(granted, keyspace)
        held = said.distances(granted)
        assert facts.effective_scopes == tuple(sorted(held))
        assert facts.effective == keyspace.catalog.required_mask(held)

        farthest = max(held, key=lambda name: (held[name], name), default=names[0])
        asked = dict.fromkeys([farthest, *chance.sample(names, k=4)])
        explained = explain(facts, [*asked])
        assert [path.scope for path in explained.held] == [name for name in asked if name in held]
        for path in explained.held:
            assert path.granted in granted
            assert_is_a_shortest_way(path, said, held[path.scope])

        missing = {name for name in asked if name not in held}
        enough = explained.sufficient_grants
        assert set(enough) <= missing
        assert asked.keys() <= said.distances([*granted, *enough]).keys()
        assert not explain(facts_of([*granted, *enough], keyspace), [*asked]).sufficient_grants
        for spared in enough:
            others = {*granted, *enough} - {spared}
            assert not missing <= said.distances(others).keys()


@graphs
@shapes
def test_the_smallest_grants_of_many_scopes_leave_out_what_comes_with_others(
    shape: Shape, seed: int
) -> None:
    """A scope, much of what comes with it, and some others: only what is on top is named."""
    _, keyspace, said = made(shape, seed)
    chance = random.Random(seed)
    names = sorted(said.direct)
    top = max(chance.sample(names, k=10), key=lambda name: len(said.distances([name])))
    below = sorted(said.distances([top]))
    missing = {top, *chance.sample(below, k=min(15, len(below))), *chance.sample(names, k=5)}
    comes_with_another = {
        name for other in missing for name in said.distances([other]).keys() - {other}
    }
    assert set(explain(facts_of((), keyspace), [*missing]).sufficient_grants) == (
        missing - comes_with_another
    )


@graphs
@shapes
def test_what_a_scope_implies_and_what_implies_it_are_found_the_shortest_way(
    shape: Shape, seed: int
) -> None:
    _, keyspace, said = made(shape, seed)
    chance = random.Random(seed)
    names = sorted(said.direct)
    for scope in chance.sample(names, k=3):
        down = said.distances([scope])
        paths = [*keyspace.catalog.implied_by(scope)]
        assert [path.scope for path in paths] == sorted(down.keys() - {scope})
        for path in chance.sample(paths, k=min(40, len(paths))):
            assert path.path[0] == path.granted == scope
            assert_is_a_shortest_way(path, said, down[path.scope])
    for scope in chance.sample(names, k=2):
        up = said.upside_down().distances([scope])
        paths = [*keyspace.catalog.implying(scope)]
        assert [path.granted for path in paths] == sorted(up.keys() - {scope})
        for path in chance.sample(paths, k=min(40, len(paths))):
            assert path.path[0] == path.granted
            assert path.scope == scope
            assert_is_a_shortest_way(path, said, up[path.granted])


@shapes
def test_five_thousand_scopes_are_compiled_in_no_time(shape: Shape) -> None:
    """In processor time, and with much to spare: a busy machine does not matter, an
    algorithm that has become another one does."""
    declaration = shape(random.Random(5), 5_000)
    began = time.process_time()
    keyspace = compile_keyspace(declaration)
    held = facts_of(["*"], keyspace).effective_scopes
    took = time.process_time() - began
    assert len(held) >= 5_000
    assert took < MOST_CPU_SECONDS
