"""The scope graph, held against a closure that is worked out the slow way.

The graphs here are small, so that what fails can be read; `test_large_graphs.py` has the
large ones.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.graphs import (
    PATTERNS,
    Implications,
    brief,
    closure,
    dags,
    distances,
    grants,
    graphs,
    has_cycle,
    stands_for,
    steps,
)
from keyfence_server.domain.catalog import LEFT_OUT, MAX_PATH, MAX_STEPS, ScopeCatalog
from keyfence_server.domain.errors import InvalidDeclaration


def problems_of(implications: Implications) -> dict[str, str]:
    """What is wrong with a graph, by path."""
    with pytest.raises(InvalidDeclaration) as caught:
        ScopeCatalog(implications)
    return {problem.where: problem.message for problem in caught.value.problems}


@brief
@given(dags(), grants())
def test_the_mask_is_the_closure(implications: Implications, granted: list[str]) -> None:
    catalog = ScopeCatalog(implications)
    names = catalog.names_in(catalog.mask(granted))
    assert set(names) == closure(implications, granted)
    assert list(names) == sorted(names)


@brief
@given(dags(), st.sampled_from(PATTERNS))
def test_the_grants_of_a_scope_are_all_that_bring_it_and_no_others(
    implications: Implications, pattern: str
) -> None:
    """A grant that is left out would hide the keys that hold the scope by it."""
    catalog = ScopeCatalog(implications)
    for scope in catalog.names:
        brings_it = scope in closure(implications, [pattern])
        assert (pattern in catalog.grants_of(scope)) == brings_it


@brief
@given(dags(), grants())
def test_the_explanation_agrees_with_the_mask_and_is_a_shortest_way(
    implications: Implications, granted: list[str]
) -> None:
    """Otherwise a verdict could be explained by a path that is not declared."""
    catalog = ScopeCatalog(implications)
    direct = steps(implications)
    shortest = distances(implications, granted)
    mask = catalog.mask(granted)
    for scope in catalog.names:
        found = catalog.explain(granted, scope)
        assert (found is not None) == bool(mask & catalog.required_mask([scope]))
        if found is None:
            continue
        assert found.granted in granted
        assert found.path[0] in stands_for(found.granted, implications)
        assert found.path[-1] == found.scope == scope
        assert all(below in direct[above] for above, below in itertools.pairwise(found.path))
        assert len(found.path) - 1 == shortest[scope]


@brief
@given(dags())
def test_what_a_scope_implies_and_what_implies_it_are_two_views_of_one_graph(
    implications: Implications,
) -> None:
    catalog = ScopeCatalog(implications)
    direct = steps(implications)
    down = {(scope, path.scope) for scope in catalog.names for path in catalog.implied_by(scope)}
    up = {(path.granted, scope) for scope in catalog.names for path in catalog.implying(scope)}
    naive = {
        (scope, other)
        for scope in catalog.names
        for other in closure(implications, [scope]) - {scope}
    }
    assert down == up == naive
    for scope in catalog.names:
        assert set(catalog.implied_directly(scope)) == direct[scope]
        for path in (*catalog.implied_by(scope), *catalog.implying(scope)):
            assert path.path[0] == path.granted
            assert path.path[-1] == path.scope
            assert all(b in direct[a] for a, b in itertools.pairwise(path.path))


@brief
@given(graphs())
def test_cycles_are_always_found_and_the_named_one_is_real(implications: Implications) -> None:
    if not has_cycle(implications):
        ScopeCatalog(implications)
        return
    ((path, message),) = problems_of(implications).items()
    circle = message.partition(": ")[2].partition(";")[0].split(" → ")
    direct = steps(implications)
    assert circle[0] == circle[-1]
    assert path == f"scopes[{circle[0]}].implies"
    assert all(below in direct[above] for above, below in itertools.pairwise(circle))


@brief
@given(dags(), st.lists(st.sampled_from(PATTERNS), max_size=4))
def test_the_smallest_grants_are_enough_and_none_can_be_spared(
    implications: Implications, asked: list[str]
) -> None:
    missing = [scope for scope in asked if scope in implications]
    smallest = ScopeCatalog(implications).smallest_grants(missing)
    needed = closure(implications, missing)
    assert closure(implications, smallest) == needed
    enough = [
        some
        for size in range(len(set(missing)) + 1)
        for some in itertools.combinations(sorted(set(missing)), size)
        if closure(implications, some) >= set(missing)
    ]
    assert smallest == min(enough, key=len)


def test_a_chain_of_thousands_is_closed_and_its_circle_is_named_in_brief() -> None:
    """A recursive walk would end in a RecursionError; a full path would fill the answer."""
    chain = {f"s:{n:04d}": [f"s:{n + 1:04d}"] for n in range(4999)} | {"s:4999": []}
    catalog = ScopeCatalog(chain)
    assert len(catalog.names_in(catalog.mask(["s:0000"]))) == 5000
    explained = catalog.explain(["s:0000"], "s:4999")
    assert explained is not None
    assert len(explained.path) == MAX_PATH
    assert explained.path[:3] == ("s:0000", LEFT_OUT, f"s:{5000 - MAX_PATH + 2:04d}")
    assert explained.path[-1] == "s:4999"
    (up, *_) = catalog.implying("s:4999")
    assert len(up.path) == MAX_PATH
    assert up.path[-3:] == (f"s:{MAX_PATH - 3:04d}", LEFT_OUT, "s:4999")
    ((path, message),) = problems_of({**chain, "s:4999": ["s:0000"]}).items()
    assert path == "scopes[s:0000].implies"
    assert "s:0000 → s:0001" in message
    assert "s:4999 → s:0000" in message
    assert "more)" in message
    assert len(message) < 1000


def test_a_wildcard_covers_what_is_registered_later() -> None:
    early = ScopeCatalog({"vps:read": []})
    late = ScopeCatalog({"vps:read": [], "vps:new": ["dns:read"], "dns:read": [], "vpsx:a": []})
    assert early.names_in(early.mask(["vps:*"])) == ("vps:read",)
    assert late.names_in(late.mask(["vps:*"])) == ("dns:read", "vps:new", "vps:read")
    assert late.names_in(late.mask(["*"])) == late.names


def test_a_scope_may_imply_the_wildcard_that_it_is_a_part_of() -> None:
    catalog = ScopeCatalog({"vps:admin": ["vps:*"], "vps:read": [], "vps:write": ["vps:read"]})
    assert catalog.names_in(catalog.mask(["vps:admin"])) == catalog.names
    assert catalog.implied_directly("vps:admin") == ("vps:read", "vps:write")


def test_two_scopes_under_one_wildcard_that_both_imply_it_are_a_circle() -> None:
    ((_, message),) = problems_of({"vps:admin": ["vps:*"], "vps:root": ["vps:*"]}).items()
    assert "vps:admin → vps:root → vps:admin" in message


def test_a_scope_that_names_itself_is_a_circle() -> None:
    ((path, message),) = problems_of({"a": ["a"]}).items()
    assert path == "scopes[a].implies"
    assert "a → a" in message


def test_every_unknown_and_malformed_name_is_named_with_its_place_and_the_nearest() -> None:
    found = problems_of(
        {
            "vps:read": [],
            "vps:write": ["vps:read", "vps:raed"],
            "Vps": [],
            "x": ["dns:*", "no such scope"],
        }
    )
    assert found.keys() == {
        "scopes[vps:write].implies[1]",
        "scopes[Vps]",
        "scopes[x].implies[0]",
        "scopes[x].implies[1]",
    }
    assert 'did you mean "vps:read"?' in found["scopes[vps:write].implies[1]"]
    assert 'below "dns:*"' in found["scopes[x].implies[0]"]


@pytest.mark.parametrize("size", [3, 5000])
def test_the_nearest_name_is_found_in_catalogs_of_any_size(size: int) -> None:
    catalog = ScopeCatalog({f"thing{number}:read": [] for number in range(size)} | {"vps:read": []})
    assert catalog.nearest("vps:raed") == "vps:read"
    assert catalog.nearest("nothing-at-all-like-it") is None


def test_a_grant_that_outlived_its_scope_counts_for_nothing() -> None:
    catalog = ScopeCatalog({"a": []})
    assert catalog.mask(["gone", "gone:*"]) == 0
    assert catalog.explain(["gone"], "a") is None


def test_a_check_of_what_is_not_registered_is_never_a_mask() -> None:
    """Were it an empty mask, every key would pass a check of a misspelt scope."""
    catalog = ScopeCatalog({"a": []})
    with pytest.raises(KeyError):
        catalog.required_mask(["a", "b"])
    with pytest.raises(KeyError):
        catalog.required_mask(["*"])


def test_wildcards_that_multiply_are_refused_before_they_are_spelt_out() -> None:
    """Ten thousand scopes that each imply "*" would be a hundred million steps in memory."""
    found = problems_of({f"s:{number}": ["*"] for number in range(10_000)})
    assert str(MAX_STEPS) in found["scopes"]


def test_a_flood_of_unknown_names_is_reported_in_part() -> None:
    """The nearest name is searched for each: a hundred thousand would stop the server."""
    catalog = {f"known:{number}": list[str]() for number in range(250)}
    found = problems_of({**catalog, "known:0": [f"unknown:{number}" for number in range(100_000)]})
    assert len(found) == 100


def test_equal_sets_of_scopes_are_held_in_memory_once() -> None:
    catalog = ScopeCatalog({f"s:{number}": [] for number in range(2000)})
    everything = catalog.mask(["*"])
    assert catalog.names_in(everything) is catalog.names_in(catalog.mask(["s:*"]))
    for number in range(3000):
        catalog.names_in(number)
    assert catalog.names_in(everything) == catalog.names
