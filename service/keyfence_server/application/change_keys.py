"""What changing, rotating and revoking a key have in common."""

from __future__ import annotations

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import Clock, Transaction
from keyfence_server.application.read_keyspaces import get_keyspace
from keyfence_server.domain.attenuation import is_administrator
from keyfence_server.domain.errors import Precondition
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keys import KeyId
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.system import ALL_KEYSPACES, SYSTEM_KEYSPACE
from keyfence_server.domain.verdicts import Reason


async def get_for_change(transaction: Transaction, caller: Caller, key_id: str) -> KeyFacts:
    """The key that a caller wants to change. Raises `Forbidden`, `ExceedsMaker`,
    `NotFound`."""
    caller.require_key_management("keys:write")
    lineage = await transaction.find_lineage(KeyId(key_id))
    key = caller.require_key(key_id, lineage[0] if lineage else None)
    lineage = lineage or (key,)
    caller.require_hold(lineage)
    return compile_facts(lineage, await get_keyspace(transaction, key.keyspace))


async def require_an_administrator(transaction: Transaction, keyspace: str, clock: Clock) -> None:
    """Refuses to lock everybody out. Called after a credential was changed.

    Raises:
        Precondition: no credential is left that can make every other one. The
            transaction must not be committed.
    """
    if keyspace != SYSTEM:
        return
    now = clock.timestamp()
    candidates = [key async for key in transaction.iterate_keys(SYSTEM)]
    for lineage in (await transaction.ancestors(candidates)).values():
        facts = compile_facts(lineage, SYSTEM_KEYSPACE)
        usable = facts.reason_at(now, None) in (Reason.OK, Reason.ADDRESS_NOT_ALLOWED)
        if usable and is_administrator(facts):
            return
    raise Precondition(
        "this would leave no operator credential that can make every other one: with the scope "
        f'"*", bound to "{ALL_KEYSPACES}" and "{SYSTEM}"; make another such one first',
        reason="LAST_OPERATOR",
    )
