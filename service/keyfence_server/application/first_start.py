"""Makes the first operator credential, once.

There is no default credential. The first one is drawn at random, or given by the operator who sets
the server up. It is made only in a store that has never had an operator credential.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keyfence_server.application.audit import key_event
from keyfence_server.application.mutations import Effect, Mutations
from keyfence_server.application.ports import Change, ChangeKind, Clock, KeyFilter, Transaction
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.identifiers import new_key_id
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.secrets import Peppers, Plaintext
from keyfence_server.domain.system import ALL_KEYSPACES, OPERATOR_ACCOUNT, SYSTEM_KEYSPACE

_FORM = SYSTEM_KEYSPACE.forms[SYSTEM_KEYSPACE.default_key_type, SYSTEM_KEYSPACE.default_environment]


def new_root_credential() -> Plaintext:
    """A new operator credential, not stored anywhere yet."""
    return _FORM.mint()


def read_root_credential(text: str) -> Plaintext:
    """A credential that was made elsewhere, for example with `keyfence root-key`.

    Raises:
        InvalidInput: it does not have the form of one; the message does not repeat it.
    """
    if not Recogniser({SYSTEM: [_FORM]}).keyspaces_of(text):
        raise InvalidInput.field(
            "KEYFENCE_ROOT_KEY",
            f'is not an operator credential: it must be "{_FORM.prefix}", {_FORM.length} letters '
            "and digits and their checksum; let the server make one by leaving this unset",
        )
    return Plaintext(text)


def root_key(
    key_id: KeyId, credential: Plaintext, peppers: Peppers, now: datetime, display_name: str
) -> Key:
    """The record of an operator credential with every permission."""
    return Key(
        key_id=key_id,
        keyspace=SYSTEM,
        account_id=OPERATOR_ACCOUNT,
        display_name=display_name,
        key_type=SYSTEM_KEYSPACE.default_key_type,
        environment=SYSTEM_KEYSPACE.default_environment,
        granted_scopes=("*",),
        preset="admin",
        digest=peppers.digest(credential.reveal()),
        display_prefix=_FORM.display_prefix(credential),
        create_time=now,
        update_time=now,
        bound_keyspaces=(ALL_KEYSPACES, SYSTEM),
    )


@dataclass(frozen=True, slots=True)
class FirstStart:
    """Makes the first credential."""

    _mutations: Mutations
    _peppers: Peppers
    _clock: Clock

    async def make_root(self, credential: Plaintext) -> bool:
        """Makes this the first operator credential, if there has never been one.

        Returns:
            Whether it is the store's. It is not, if the store holds any other credential,
            even a revoked one.
        """

        async def work(transaction: Transaction) -> Effect[bool]:
            # Revoked ones too: what has had an operator once is not open to the next comer.
            any_credential = KeyFilter(keyspace=SYSTEM)
            if await transaction.list_keys(any_credential, after=None, limit=1):
                # It is there already if a first start was cut off behind it.
                candidates = self._peppers.candidates(credential.reveal())
                return Effect(bool(await transaction.find_digests(candidates)))
            now = self._clock.now()
            key = root_key(new_key_id(now), credential, self._peppers, now, "Root")
            await transaction.insert_key(key)
            return Effect(
                True,
                (Change(ChangeKind.KEY, key.key_id, SYSTEM, created=True),),
                key_event("key.create", None, key, scopes=list(key.granted_scopes)),
            )

        return (await self._mutations.run_as_server(work)).value
