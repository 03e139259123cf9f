"""What the scenarios are about: some keys and their keyspace, and what is true of them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from application.authority import ACME, PEPPERS
from keyfence_server.application.audit import key_event
from keyfence_server.application.callers import Operator
from keyfence_server.application.mutations import Done, Effect
from keyfence_server.application.ports import Change, ChangeKind, Transaction
from keyfence_server.application.update_key import KeyUpdate
from keyfence_server.domain.facts import compile_facts
from keyfence_server.domain.keys import Key, KeyId, KeyState, state_of
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace, with_history
from keyfence_server.domain.secrets import Peppers, Plaintext
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from simulation.database import Contents
from simulation.topology import SCOPE, Server
from support.builders import make_key
from support.clock import START

KEYS: Final = 5
PARENT: Final = 0
CHILD: Final = 1
"""Delegated from the parent, and narrowed with it."""
LATER: Final = 4
"""Not there in the beginning."""
PEPPER_BOX: Final = Peppers(PEPPERS)

_CAP: Final = ("dns:read",)
_WIDE: Final = with_history(compile_keyspace(ACME), create_time=START, update_time=START)
_NARROW: Final = with_history(
    compile_keyspace(
        replace(ACME, key_types=(replace(ACME.key_types[0], scope_cap=_CAP), ACME.key_types[1]))
    ),
    create_time=START,
    update_time=START,
)
_FORM: Final = _WIDE.forms["secret", "live"]
TEXTS: Final = [_FORM.mint().reveal() for _ in range(KEYS)]

Mutation = Callable[[Server], Awaitable[Done[Any]]]


def _key_id(number: int) -> KeyId:
    return KeyId(f"key_{number:026d}")


def _key(number: int) -> Key:
    return make_key(
        _key_id(number),
        keyspace="acme",
        granted_scopes=(SCOPE,),
        digest=PEPPER_BOX.digest(TEXTS[number]),
        display_prefix=_FORM.display_prefix(Plaintext(TEXTS[number])),
        parent_key_id=_key_id(PARENT) if number == CHILD else None,
    )


_ALL: Final = [_key(number) for number in range(KEYS)]
_ROOT: Final = make_key(
    "key_root",
    keyspace="system",
    key_type=next(iter(SYSTEM_KEYSPACE.declaration.key_types)).name,
    granted_scopes=("*",),
    bound_keyspaces=("*",),
)
OPERATOR: Final = Operator(compile_facts((_ROOT,), SYSTEM_KEYSPACE))
ROGUE: Final = Operator(
    compile_facts((replace(_ROOT, key_id=KeyId("key_rogue")),), SYSTEM_KEYSPACE)
)
"""The credential of holders that misbehave."""


def at_first() -> Contents:
    """What the database begins with."""
    keys = [key for key in _ALL if key is not _ALL[LATER]]
    return Contents(
        revision=0,
        keys={key.key_id: key for key in (*keys, _ROOT)},
        keyspaces={"acme": _WIDE},
        changes=(),
        processes={},
        settled=frozenset({"1"}),
    )


def line_allows(number: int, contents: Contents) -> bool:
    """Whether the key may, as far as it and its parent go: worked out without any of the
    code under test."""
    key = contents.keys.get(_ALL[number].key_id)
    if key is None:
        return False
    line = [key, *([contents.keys[key.parent_key_id]] if key.parent_key_id else [])]
    return state_of(line) is KeyState.ACTIVE and all(SCOPE in one.granted_scopes for one in line)


def keyspace_allows(contents: Contents) -> bool:
    """Whether keys may, as far as their keyspace goes."""
    return contents.keyspaces["acme"].declaration.key_types[0].scope_cap != _CAP


def draw_mutation(source: random.Random, number: int, contents: Contents) -> tuple[str, Mutation]:
    """Something that changes what a check of this key says; now and then, something that
    may change nothing."""
    if source.random() < 0.1 or not keyspace_allows(contents):
        name = "narrow" if keyspace_allows(contents) else "widen"
        return f"{name} the keyspace", turn_keyspace(contents)
    key = contents.keys.get(_key_id(number))
    if key is None:
        return f"create {number}", lambda server: server.mutations.run_as_server(_create)
    if key.parent_key_id is not None and source.random() < 0.5:
        key, number = contents.keys[key.parent_key_id], PARENT
    if source.random() < 0.03:
        return f"revoke {number}", lambda server: server.revoke.revoke(OPERATOR, key.key_id)
    return _draw_update(source, number, key)


def _draw_update(source: random.Random, number: int, key: Key) -> tuple[str, Mutation]:
    name = source.choice(("disable", "narrow"))
    if source.random() < 0.9:
        if key.state is KeyState.DISABLED:
            name = "enable"
        elif SCOPE not in key.granted_scopes:
            name = "widen"
    updates: dict[str, dict[str, Any]] = {
        "disable": {"state": KeyState.DISABLED},
        "enable": {"state": KeyState.ACTIVE},
        "narrow": {"granted_scopes": list(_CAP)},
        "widen": {"granted_scopes": [SCOPE]},
    }
    asked = KeyUpdate(key_id=key.key_id, fields=set(updates[name]), **updates[name])
    return f"{name} {number}", lambda server: server.update.update(OPERATOR, asked)


def turn_keyspace(contents: Contents) -> Mutation:
    """A change that every holder must apply."""
    return _put(_NARROW if keyspace_allows(contents) else _WIDE)


def _put(keyspace: Keyspace) -> Mutation:
    async def put(transaction: Transaction) -> Effect[None]:
        await transaction.put_keyspace(keyspace)
        return Effect(
            None,
            (Change(ChangeKind.KEYSPACE, "acme", "acme"),),
            key_event("keyspace.apply", OPERATOR, _ROOT),
        )

    return lambda server: server.mutations.run_as_server(put)


async def _create(transaction: Transaction) -> Effect[None]:
    key = _ALL[LATER]
    if await transaction.find_key(key.key_id) is not None:
        return Effect(None)
    await transaction.insert_key(key)
    return Effect(
        None,
        (Change(ChangeKind.KEY, key.key_id, "acme", created=True),),
        key_event("key.create", OPERATOR, key),
    )
