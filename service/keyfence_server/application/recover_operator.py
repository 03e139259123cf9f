"""Makes an operator credential without one, when every other is lost or locked out.

Only a person with the database and its pepper can do this: it runs where the database is, and
not over an RPC.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyfence_server.application.audit import key_event
from keyfence_server.application.first_start import new_root_credential, root_key
from keyfence_server.application.ports import Change, ChangeKind, Clock, SetUp, Store
from keyfence_server.domain.identifiers import new_key_id
from keyfence_server.domain.keys import Key
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.secrets import Peppers, Plaintext


class CannotRecover(Exception):
    """Why no credential was made, and what to do."""


@dataclass(frozen=True, slots=True)
class RecoverOperator:
    """Makes operator credentials in a store that has no server, or beside its servers."""

    _store: Store
    _set_up: SetUp
    _peppers: Peppers
    _clock: Clock

    async def recover(self, display_name: str, **details: object) -> tuple[Key, Plaintext]:
        """Makes a credential with every permission, and records it in the audit log.

        No fence is waited for. A server that runs beside has never seen the new credential, so
        nothing in its memory contradicts it.

        Args:
            details: what the audit log should say besides.

        Raises:
            CannotRecover: the peppers are not those of this database, or no server has used it yet.
            StoreUnavailable: the store does not answer.
        """
        await self._require_the_pepper()
        plaintext = new_root_credential()
        now = self._clock.now()
        key = root_key(new_key_id(now), plaintext, self._peppers, now, display_name)
        async with self._store.transaction() as transaction:
            await transaction.insert_key(key)
            transaction.keep(
                (Change(ChangeKind.KEY, key.key_id, SYSTEM, created=True),),
                key_event("operator.recover", None, key, **details),
            )
            await transaction.commit()
        return key, plaintext

    async def withdraw(self, key: Key) -> None:
        """Revokes a credential that `recover` has made, in a store that no server uses.

        It may be the last operator credential, which `RevokeKey` refuses to revoke.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        async with self._store.transaction() as transaction:
            revoked = key.revoked(self._clock.now())
            await transaction.update_key(revoked)
            transaction.keep(
                (Change(ChangeKind.KEY, key.key_id, SYSTEM),),
                key_event("key.revoke", None, revoked),
            )
            await transaction.commit()

    async def _require_the_pepper(self) -> None:
        given = self._peppers.fingerprints()
        known = await self._set_up.known_peppers()
        if not known:
            raise CannotRecover(
                "no server has used this database yet; start one, and it makes the first "
                "operator credential"
            )
        wrong = sorted(version for version in given if known.get(version) != given[version])
        if wrong:
            raise CannotRecover(
                f"the pepper of version {wrong[0]} is not one under which this database's keys "
                "were made; give the peppers with which its servers run"
            )
        if max(known) not in given:
            # A retired pepper may have leaked, and servers may no longer take keys made under it.
            raise CannotRecover(
                f"the pepper of version {max(known)}, this database's newest, is missing; give "
                "the peppers with which its servers run"
            )
