"""Ending sessions together with the keys that were made in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from keyfence_server.application.ports import Change, ChangeKind, KeyFilter, Transaction
from keyfence_server.domain.accounts import Account
from keyfence_server.domain.identifiers import is_session_id
from keyfence_server.domain.keys import Key, KeyId, KeyState
from keyfence_server.domain.sessions import SessionId

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of some sessions of an account, in a transaction."""

    transaction: Transaction
    account: Account
    now: datetime

    async def revoke_keys(
        self, is_meant: Callable[[SessionId], bool], *, on_demand: bool = False
    ) -> int:
        """Revokes the keys of the account that were made in some of its sessions, and tells
        how many they were. The caller commits a change of the account.

        A key that such a key made was made in the session, too, and so was the successor of a
        key that the session rotated: the holder of the session knows its plaintext.

        Args:
            is_meant: tells of a session whether its keys are to be revoked.
            on_demand: whether to revoke them also where the keyspace does not demand that keys end
                with the session that they were made in.
        """
        keyspace = await self.transaction.find_keyspace(self.account.keyspace)
        accounts = keyspace.declaration.accounts if keyspace is not None else None
        if not on_demand and (accounts is None or not accounts.keys_end_with_session):
            return 0
        keys = await self._keys()
        meant = [
            key_id
            for key_id, key in keys.items()
            if key.state is not KeyState.REVOKED
            and (session := session_of(key, keys)) is not None
            and is_meant(session)
        ]
        await self.transaction.revoke_keys(meant, self.now)
        return len(meant)

    async def _keys(self) -> dict[KeyId, Key]:
        """The keys of the account, revoked ones too, since those may have made others."""
        which = KeyFilter(keyspace=self.account.keyspace, account_id=self.account.account_id)
        found: dict[KeyId, Key] = {}
        after: KeyId | None = None
        while page := await self.transaction.list_keys(which, after=after, limit=_BATCH):
            found |= {key.key_id: key for key in page}
            after = page[-1].key_id
        return found


def session_of(key: Key, keys: Mapping[KeyId, Key]) -> SessionId | None:
    """The session in which a key was made, by the session itself or by a key that was made in
    it; None if it was made in none.

    Args:
        keys: the keys of the account, revoked ones too.
    """
    maker = key.created_by_key_id
    while maker is not None and not is_session_id(maker):
        # Each key is older than those that it made, so this ends.
        made_by = keys.get(KeyId(maker))
        maker = made_by.created_by_key_id if made_by is not None else None
    return SessionId(maker) if maker is not None else None


def account_change(account: Account) -> Change:
    """That the account, its keys and its sessions are no longer as they were."""
    return Change(ChangeKind.ACCOUNT, account.account_id, account.keyspace)
