"""Random sound declarations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from hypothesis import assume
from hypothesis import strategies as st

from domain.graphs import dags
from keyfence_server.domain.declarations import (
    BodyDeclaration,
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyDefaults,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.formats import ALPHABETS, MINIMUM_ENTROPY_BITS
from keyfence_server.domain.redaction import id_prefix_of

KEY_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

texts = st.text(max_size=30)
literals = st.from_regex(r"[A-Za-z][A-Za-z0-9][A-Za-z0-9_-]{0,4}", fullmatch=True).filter(
    lambda text: not text.startswith(("key", "usr", "ses", "evt", "srv", "sdc", "sdk"))
)
parts = st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True)
marked_names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
markers = st.from_regex(r"([A-Za-z0-9_-]{1,8})?", fullmatch=True)
alphabets = st.one_of(
    st.sampled_from(sorted(ALPHABETS)),
    st.lists(st.sampled_from(KEY_CHARACTERS[:-2]), unique=True, min_size=2)
    .map("".join)
    .filter(lambda characters: characters not in ALPHABETS),
)
lifetimes = st.one_of(
    st.none(),
    st.integers(1, 36_500 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(1, 36_500).map(lambda days: timedelta(days=days)),
)


def enough_length(alphabet: str) -> int:
    """The shortest body with enough entropy."""
    return math.ceil(MINIMUM_ENTROPY_BITS / math.log2(len(ALPHABETS.get(alphabet, alphabet))))


@st.composite
def templates(draw: st.DrawFn) -> str:
    """A template with a literal start, some of the placeholders, and a separator."""
    middle = draw(st.lists(st.sampled_from(["{type}", "{environment}", "-", "_"]), max_size=3))
    tail = draw(st.sampled_from(["", "{checksum}"]))
    return draw(literals) + "".join(middle) + draw(st.sampled_from("_-")) + "{body}" + tail


@st.composite
def formats(draw: st.DrawFn, key_types: tuple[str, ...] = ()) -> FormatDeclaration:
    """A format with enough entropy."""
    alphabet = draw(alphabets)
    shortest = enough_length(alphabet)
    others = draw(st.lists(st.sampled_from(key_types), unique=True)) if key_types else []
    return FormatDeclaration(
        template=draw(templates()),
        body=BodyDeclaration(
            alphabet=alphabet,
            length=draw(st.integers(shortest, shortest + 8)),
            shown=draw(st.integers(0, 8)),
        ),
        templates_by_key_type={name: draw(templates()) for name in others},
    )


@st.composite
def declarations(draw: st.DrawFn) -> KeyspaceDeclaration:
    """A declaration that makes sense, with every field of it used now and then."""
    graph = draw(dags())
    known = [*graph, *(["a:*"] if any(name.startswith("a:") for name in graph) else []), "*"]
    some_scopes = st.lists(st.sampled_from(known), min_size=1, max_size=3).map(tuple)
    types = draw(st.lists(marked_names, unique=True, min_size=1, max_size=3))
    environments = draw(st.lists(marked_names, unique=True, min_size=1, max_size=3))
    presets = draw(st.lists(parts, unique=True, max_size=3))
    resources = draw(st.lists(parts.map("res:{}".format), unique=True, max_size=2))
    shorter, longer = sorted(
        draw(st.tuples(lifetimes, lifetimes)), key=lambda one: (one is None, one or timedelta(0))
    )
    declaration = KeyspaceDeclaration(
        name=draw(st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)),
        display_name=draw(texts),
        description=draw(texts),
        format=draw(formats(tuple(types))),
        scopes=tuple(
            ScopeDeclaration(name=name, description=draw(texts), implies=tuple(implied))
            for name, implied in graph.items()
        ),
        resources=tuple(
            ResourceDeclaration(
                name=name,
                display_name=draw(texts),
                levels=tuple(
                    LevelDeclaration(name=level, description=draw(texts))
                    for level in draw(st.lists(parts, unique=True, min_size=1, max_size=3))
                ),
            )
            for name in resources
        ),
        presets=tuple(
            PresetDeclaration(name=name, display_name=draw(texts), scopes=draw(some_scopes))
            for name in presets
        ),
        key_types=tuple(
            KeyTypeDeclaration(
                name=name,
                description=draw(texts),
                marker=draw(markers),
                scope_cap=draw(st.one_of(st.just(()), some_scopes)),
                manages_keys=draw(st.booleans()),
            )
            for name in types
        ),
        environments=tuple(
            EnvironmentDeclaration(name=name, description=draw(texts), marker=draw(markers))
            for name in environments
        ),
        defaults=KeyDefaults(
            display_name=draw(texts),
            key_type=draw(st.sampled_from(["", *types])),
            environment=draw(st.sampled_from(["", *environments])),
            preset=draw(st.sampled_from(["", *presets])),
            lifetime=shorter,
        ),
        max_lifetime=longer,
    )
    # A keyspace whose keys would begin as ids do is refused.
    assume(not any(map(id_prefix_of, prefixes_of(declaration))))
    return declaration


def prefixes_of(declaration: KeyspaceDeclaration) -> Iterator[str]:
    """What the keys of each type and environment begin with."""
    for kind in declaration.key_types:
        template = declaration.format.templates_by_key_type.get(
            kind.name, declaration.format.template
        )
        for place in declaration.environments:
            prefix = template.partition("{body}")[0]
            prefix = prefix.replace("{type}", kind.marker or kind.name)
            yield prefix.replace("{environment}", place.marker or place.name)
