"""Revoking a key."""

from __future__ import annotations

from dataclasses import dataclass

from keyfence_server.application.callers import Caller
from keyfence_server.application.change_keys import get_for_change, write_changed
from keyfence_server.application.key_inputs import read_comment
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Clock, Transaction, Wanted
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import KeyId, KeyState


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """Revokes keys."""

    _mutations: Mutations
    _clock: Clock

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
            return await write_changed(
                transaction, current_caller, self._clock, before, key, "key.revoke", comment=comment
            )

        wanted = Wanted(keys=frozenset([KeyId(key_id)]))
        return await self._mutations.run(caller, work, wanted=wanted, restrictive=True)
