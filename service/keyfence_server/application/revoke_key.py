"""Revoking a key."""

from __future__ import annotations

from dataclasses import replace

from keyfence_server.application.audit import key_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.change_keys import get_for_change, require_an_administrator
from keyfence_server.application.key_inputs import read_comment
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Change, ChangeKind, Clock, Transaction
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keys import KeyState


class RevokeKey:
    """Revokes keys."""

    def __init__(self, mutations: Mutations, clock: Clock) -> None:
        self._mutations = mutations
        self._clock = clock

    async def revoke(self, caller: Caller, key_id: str, *, comment: str = "") -> Done[KeyFacts]:
        """Revokes a key and every key that was delegated from it.

        When this returns, no server and no cache accepts the key. Revoking a revoked
        key changes nothing and is no error.

        Raises:
            InvalidInput: the comment is too long.
            NotFound: there is no such key for this caller.
            Precondition: it is the last administrator's credential.
        """
        read_comment(comment)

        async def work(transaction: Transaction, current_caller: Caller) -> Effect[KeyFacts]:
            before = await get_for_change(transaction, current_caller, key_id)
            if before.key.state is KeyState.REVOKED:
                return Effect(before)
            key = before.key.revoked(self._clock.now())
            await transaction.update_key(key)
            stored = replace(key, revision=transaction.revision)
            after = compile_facts((stored, *before.lineage[1:]), before.keyspace)
            await require_an_administrator(transaction, before, after, self._clock)
            return Effect(
                after,
                (Change(ChangeKind.KEY, key.key_id, key.keyspace),),
                key_event("key.revoke", current_caller, key, comment=comment),
            )

        return await self._mutations.run(caller, work, restrictive=True)
