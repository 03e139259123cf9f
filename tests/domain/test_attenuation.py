"""No caller makes a key that can do more than the caller: not today, and not later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.graphs import Implications, brief, closure, dags, grants, has_cycle
from keyfence_server.domain.attenuation import (
    Administration,
    administration_of,
    require_within,
)
from keyfence_server.domain.declarations import KeyTypeDeclaration, ScopeDeclaration
from keyfence_server.domain.errors import ExceedsMaker
from keyfence_server.domain.explanations import explain
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from support.builders import make_key, make_keyspace
from support.clock import START

TYPES = ("open", "capped")


def keyspace_of(implications: Implications, cap: Sequence[str]) -> Keyspace:
    return make_keyspace(
        scopes=tuple(
            ScopeDeclaration(name=name, implies=tuple(implied))
            for name, implied in implications.items()
        ),
        key_types=(
            KeyTypeDeclaration(name="open"),
            KeyTypeDeclaration(name="capped", scope_cap=tuple(cap)),
        ),
    )


def refusal(maker: KeyFacts, key: Key) -> str | None:
    """In what respect the key exceeds its maker; None if it does not."""
    try:
        require_within(maker, key)
    except ExceedsMaker as error:
        return error.metadata["exceeds"]
    return None


@st.composite
def makers_and_keys(draw: st.DrawFn) -> tuple[Implications, list[str], list[Key], Key]:
    """A graph, a cap, a maker's line and the key that it would make."""
    implications = draw(dags())
    known = sorted(implications)
    cap = draw(st.lists(st.sampled_from([*known, "*"]), min_size=1, max_size=3))

    def key() -> Key:
        return make_key(
            granted_scopes=tuple(sorted(set(draw(grants())))),
            key_type=draw(st.sampled_from(TYPES)),
        )

    return implications, cap, [key() for _ in range(draw(st.integers(1, 3)))], key()


@brief
@given(makers_and_keys(), dags(), st.data())
def test_what_is_let_through_stays_within_its_maker_whatever_is_registered_later(
    case: tuple[Implications, list[str], list[Key], Key], more: Implications, data: st.DataObject
) -> None:
    """A wildcard that only happens to be held today, or a name that is not registered today,
    would turn into more than the maker holds tomorrow."""
    implications, cap, line, key = case
    today = keyspace_of(implications, cap)
    if refusal(compile_facts(line, today), key) is not None:
        return
    some_names = st.sampled_from([*implications, *more, "gone:x", "gone:y"])
    grown = {
        name: [
            *implications.get(name, ()),
            *(more.get(name, ()) if data.draw(st.booleans()) else ()),
        ]
        for name in {*implications, *more, "gone:x", data.draw(some_names)}
    }
    keyspaces = [today] if has_cycle(grown) else [today, keyspace_of(grown, cap)]
    for keyspace in keyspaces:
        maker, made = compile_facts(line, keyspace), compile_facts([key], keyspace)
        assert not made.effective & ~maker.effective


@brief
@given(makers_and_keys())
def test_effective_scopes_are_the_grants_within_every_cap_of_the_line(
    case: tuple[Implications, list[str], list[Key], Key],
) -> None:
    implications, cap, line, _ = case
    expected = set(implications)
    for key in line:
        expected &= closure(implications, key.granted_scopes)
        if key.key_type == "capped":
            expected &= closure(implications, cap)
    assert set(compile_facts(line, keyspace_of(implications, cap)).effective_scopes) == expected


@brief
@given(makers_and_keys(), st.data())
def test_an_explanation_tells_held_from_missing_from_capped_and_its_advice_is_enough(
    case: tuple[Implications, list[str], list[Key], Key], data: st.DataObject
) -> None:
    implications, cap, line, _ = case
    keyspace = keyspace_of(implications, cap)
    facts = compile_facts(line, keyspace)
    required = data.draw(st.lists(st.sampled_from(sorted(implications)), min_size=1, max_size=4))
    found = explain(facts, required)
    held = [path.scope for path in found.held]
    capped = [one.scope for one in found.capped]
    assert held == [s for s in dict.fromkeys(required) if s in facts.effective_scopes]
    assert set(held).isdisjoint(capped)
    # With the advised grants the key has every scope that no cap excludes.
    mended = replace(line[0], granted_scopes=(*line[0].granted_scopes, *found.sufficient_grants))
    now_held = set(compile_facts([mended, *line[1:]], keyspace).effective_scopes)
    assert set(required) - set(capped) <= now_held
    everything = compile_facts([replace(line[0], granted_scopes=("*",)), *line[1:]], keyspace)
    assert set(capped) == set(required) - set(everything.effective_scopes)


def made_by(key: Key, *above: Key) -> KeyFacts:
    return compile_facts([key, *above], make_keyspace())


def test_a_grant_that_is_not_registered_is_passed_on_only_by_a_key_that_has_it() -> None:
    """An old key carries the name of a scope that was dropped. A lesser key that could rotate
    it would hold the scope from the day on which it is registered again."""
    old = make_key(granted_scopes=("vps:read", "vps:secret"))
    assert refusal(made_by(make_key(granted_scopes=("vps:read",))), old) == "scopes"
    assert refusal(made_by(make_key(granted_scopes=("vps:read", "vps:write"))), old) == "scopes"
    assert refusal(made_by(make_key(granted_scopes=("vps:*",))), old) is None
    assert refusal(made_by(make_key(granted_scopes=("vps:read", "vps:secret"))), old) is None


@pytest.mark.parametrize(
    ("grants_of_maker", "wanted", "allowed"),
    [
        (("vps:write",), ("vps:read",), True),
        (("vps:read",), ("vps:write",), False),
        (("vps:read", "vps:write"), ("vps:*",), False),
        (("vps:*",), ("vps:*",), True),
        (("*",), ("vps:*",), True),
        (("vps:*",), ("*",), False),
        (("*",), ("*",), True),
        ((), (), True),
    ],
    ids=str,
)
def test_scopes_within(
    grants_of_maker: tuple[str, ...], wanted: tuple[str, ...], allowed: bool
) -> None:
    maker = made_by(make_key(granted_scopes=grants_of_maker))
    assert refusal(maker, make_key(granted_scopes=wanted)) == (None if allowed else "scopes")


def test_a_wildcard_must_be_within_the_makers_cap_for_all_time() -> None:
    """Today the cap takes nothing of "vps:*" away; the next scope below it, it would."""
    maker = make_key(granted_scopes=("vps:*",), key_type="capped")
    wanted = make_key(granted_scopes=("vps:*",), key_type="capped")
    for cap, expected in ((["vps:read"], "scopes"), (["vps:*"], None), (["*"], None)):
        assert refusal(compile_facts([maker], keyspace_of({"vps:read": []}, cap)), wanted) == (
            expected
        )


def test_a_makers_measure_is_not_softened_by_the_new_keys_own_cap() -> None:
    """The cap leaves "b:y" of the grant for now. What "a:x" comes to imply, or what the cap
    comes to allow, the maker would not hold."""
    keyspace = keyspace_of({"a:x": ["b:y"], "b:y": []}, ["b:*"])
    maker = compile_facts([make_key(granted_scopes=("b:y",), key_type="open")], keyspace)
    assert refusal(maker, make_key(granted_scopes=("a:x",), key_type="capped")) == "scopes"


def test_a_wildcard_must_be_held_by_the_whole_line() -> None:
    child, parent = make_key(granted_scopes=("*",)), make_key(granted_scopes=("vps:*",))
    assert refusal(made_by(child, parent), make_key(granted_scopes=("*",))) == "scopes"
    assert refusal(made_by(child, parent), make_key(granted_scopes=("vps:*",))) is None


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("own", "wanted", "allowed"),
    [
        (None, None, True),
        (None, START + DAY, True),
        (START + DAY, None, False),
        (START + DAY, START + DAY, True),
        (START + DAY, START + DAY + timedelta(microseconds=1), False),
    ],
)
def test_lifetimes_within(own: datetime | None, wanted: datetime | None, allowed: bool) -> None:
    maker = made_by(make_key(expire_time=own))
    assert refusal(maker, make_key(expire_time=wanted)) == (None if allowed else "expire_time")


def test_a_lifetime_stays_within_that_of_the_whole_line() -> None:
    maker = made_by(make_key(), make_key(expire_time=START + DAY))
    assert refusal(maker, make_key()) == "expire_time"


@pytest.mark.parametrize(
    ("own", "wanted", "allowed"),
    [
        ((), (), True),
        ((), ("10.0.0.0/8",), True),
        (("10.0.0.0/8",), (), False),
        (("10.0.0.0/8",), ("10.1.0.0/16", "10.2.0.1/32"), True),
        (("10.0.0.0/8",), ("10.1.0.0/16", "11.0.0.0/8"), False),
        (("10.0.0.0/8",), ("0.0.0.0/0",), False),
        (("10.0.0.0/8",), ("2001:db8::/32",), False),
    ],
    ids=str,
)
def test_addresses_within(own: tuple[str, ...], wanted: tuple[str, ...], allowed: bool) -> None:
    maker = made_by(make_key(allowed_addresses=own))
    key = make_key(allowed_addresses=wanted)
    assert refusal(maker, key) == (None if allowed else "allowed_addresses")


def operator(*bound: str, **fields: Any) -> Key:
    return make_key(
        keyspace="system",
        key_type="operator",
        granted_scopes=fields.pop("granted_scopes", ("*",)),
        bound_keyspaces=bound,
        **fields,
    )


@pytest.mark.parametrize(
    ("own", "wanted", "allowed"),
    [
        (("acme",), ("acme",), True),
        (("acme",), ("other",), False),
        (("acme",), ("*",), False),
        (("acme",), ("system",), False),
        (("*",), ("acme",), True),
        (("*",), ("*",), True),
        (("*",), ("system",), False),
        (("*", "system"), ("*", "system"), True),
        (("system",), ("*",), False),
        ((), ("acme",), False),
    ],
    ids=str,
)
def test_keyspaces_within(own: tuple[str, ...], wanted: tuple[str, ...], allowed: bool) -> None:
    maker = compile_facts([operator(*own)], SYSTEM_KEYSPACE)
    assert refusal(maker, operator(*wanted)) == (None if allowed else "bound_keyspaces")


@pytest.mark.parametrize(
    ("bound", "keyspace", "acts"),
    [
        ((), "acme", False),
        (("acme",), "acme", True),
        (("acme",), "acm", False),
        (("acme",), "system", False),
        (("*",), "acme", True),
        (("*",), "system", False),
        (("system",), "system", True),
        (("system",), "acme", False),
    ],
    ids=str,
)
def test_a_credential_acts_where_it_is_bound_and_nowhere_when_it_is_bound_to_nothing(
    bound: tuple[str, ...], keyspace: str, acts: bool
) -> None:
    """An empty list must not mean everywhere, and "*" must not mean Keyfence itself."""
    assert compile_facts([operator(*bound)], SYSTEM_KEYSPACE).acts_on(keyspace) is acts
    delegated = compile_facts([operator("*", "system"), operator(*bound)], SYSTEM_KEYSPACE)
    assert delegated.acts_on(keyspace) is acts


def test_an_administrator_can_make_every_other_credential() -> None:
    """Were it enough to manage keys, the last credential that may apply keyspaces could be
    revoked, and no credential could ever be given that scope again."""

    def administration(*line: Key) -> Administration:
        return administration_of(compile_facts(line, SYSTEM_KEYSPACE), START.timestamp())

    lasting, limited, none = Administration.LASTING, Administration.LIMITED, Administration.NONE
    root = operator("*", "system")
    tomorrow = START + timedelta(days=1)
    assert administration(root) is lasting
    assert administration(root, root) is lasting
    assert administration(operator("*")) is none
    assert administration(operator("system")) is none
    assert administration(operator("*", "system", granted_scopes=("keys:*",))) is none
    assert administration(root, operator("system")) is none
    assert administration(operator("*", "system", expire_time=tomorrow)) is limited
    assert administration(root, operator("*", "system", expire_time=tomorrow)) is limited
    assert administration(operator("*", "system", expire_time=START)) is none
    assert administration(operator("*", "system", allowed_addresses=("10.0.0.1",))) is limited
    assert administration(operator("*", "system", state=KeyState.DISABLED)) is none
    assert administration(root, operator("*", "system", state=KeyState.REVOKED)) is none
