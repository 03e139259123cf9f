"""What changing, rotating and revoking a key have in common."""

from __future__ import annotations

from dataclasses import replace

from keyfence_server.application.audit import key_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.mutations import Effect
from keyfence_server.application.ports import Change, ChangeKind, Clock, Transaction
from keyfence_server.application.read_keyspaces import get_keyspace
from keyfence_server.domain.attenuation import administration_of
from keyfence_server.domain.errors import Precondition
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.scopes import EVERYTHING
from keyfence_server.domain.system import ALL_KEYSPACES, SYSTEM_KEYSPACE


async def get_for_change(transaction: Transaction, caller: Caller, key_id: str) -> KeyFacts:
    """The key that a caller wants to change. Raises `Forbidden`, `ExceedsMaker`, `NotFound`."""
    caller.require_key_management("keys:write")
    lineage = await transaction.find_lineage(KeyId(key_id))
    key = caller.require_key(key_id, lineage[0] if lineage else None)
    lineage = lineage or (key,)
    caller.require_delegated_from_self(lineage)
    return compile_facts(lineage, await get_keyspace(transaction, key.keyspace))


async def write_changed(
    transaction: Transaction,
    caller: Caller,
    clock: Clock,
    before: KeyFacts,
    key: Key,
    action: str,
    **details: object,
) -> Effect[KeyFacts]:
    """Replaces the record of a key by the changed one. Raises as `require_an_administrator`.

    Args:
        action: what the audit log calls the change, with its details.
    """
    await transaction.update_key(key)
    stored = replace(key, revision=transaction.revision)
    after = compile_facts((stored, *before.lineage[1:]), before.keyspace)
    await require_an_administrator(transaction, before, after, clock)
    change = Change(ChangeKind.KEY, key.key_id, key.keyspace)
    return Effect(after, (change,), key_event(action, caller, key, **details))


async def require_an_administrator(
    transaction: Transaction, before: KeyFacts, after: KeyFacts, clock: Clock
) -> None:
    """Refuses a change that takes the last administrator away. Called after the change was
    written and before it is committed.

    The last credential that can make every other one, at any time and from anywhere, keeps
    its scopes, its state, its unlimited lifetime and its unlimited addresses. Other
    credentials can always be changed and revoked.

    Args:
        before: the changed credential as it was.
        after: the credential as it becomes, or its successor.

    Raises:
        Precondition: no other credential could replace it. The transaction must not be committed.
    """
    if before.keyspace is not SYSTEM_KEYSPACE:
        return
    now = clock.timestamp()
    needed = administration_of(before, now)
    if administration_of(after, now) >= needed:
        return
    candidates = [
        key async for key in transaction.iterate_keys(SYSTEM) if EVERYTHING in key.granted_scopes
    ]
    for lineage in (await transaction.ancestors(candidates)).values():
        if administration_of(compile_facts(lineage, SYSTEM_KEYSPACE), now) >= needed:
            return
    raise Precondition(
        "this would leave no operator credential that can create all others at any "
        'time and from any address; first create another one with the scope "*", bound '
        f'to "{ALL_KEYSPACES}" and "{SYSTEM}", without an expiry and without '
        "allowed_addresses",
        reason="LAST_OPERATOR",
    )
