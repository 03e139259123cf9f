"""Importing keys that other programs have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from keyfence_server.application.audit import import_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.key_inputs import (
    read_account_id,
    read_addresses,
    read_display_name,
    read_expire_time,
    read_labels,
    read_rate_limit,
)
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.pauses import Pauses
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Clock,
    Snapshot,
    Store,
    Transaction,
)
from keyfence_server.application.read_keyspaces import get_keyspace
from keyfence_server.application.wanted_keys import form_of, grants_of
from keyfence_server.domain.errors import DomainError, InvalidInput
from keyfence_server.domain.formats import KeyForm
from keyfence_server.domain.identifiers import new_key_id
from keyfence_server.domain.keys import Key
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.limits import Rate
from keyfence_server.domain.secrets import Digest, ForeignHash, Peppers, Plaintext

MAX_IMPORTED: Final = 500
"""Keys in a call: so many rows are written while the head is locked."""
_SLICE: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyToImport:
    """A key as another program has it. Fields and defaults as in the message of that name.

    Attributes:
        secret: its plaintext, or a hash of it; None for neither.
    """

    secret: Plaintext | tuple[ForeignHash, bytes] | None
    account_id: str = ""
    display_name: str = ""
    scopes: Sequence[str] = ()
    preset: str = ""
    key_type: str = ""
    environment: str = ""
    expire_time: datetime | None = None
    allowed_addresses: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    rate_limit: Rate | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of the keys of a call.

    Attributes:
        count: how many were imported, or would be.
        present: how many were there already.
        refused: why the others were not, by their places.
    """

    count: int
    present: int
    refused: tuple[tuple[int, DomainError], ...]


class ImportKeys:
    """Imports keys, for operators."""

    def __init__(self, store: Store, mutations: Mutations, peppers: Peppers, clock: Clock) -> None:
        self._store = store
        self._mutations = mutations
        self._peppers = peppers
        self._clock = clock

    async def import_keys(
        self, caller: Caller, keyspace: str, keys: Sequence[KeyToImport]
    ) -> Done[Imported]:
        """Imports the keys that can be imported, all at once. A key that is there already is left
        as it is.

        Raises:
            InvalidInput: too many keys, or none; or the keyspace can have no imported keys.
            Forbidden: the caller is no operator, or not bound to the keyspace.
            NotFound: there is no such keyspace.
        """

        async def work(transaction: Transaction, maker: Caller) -> Effect[Imported]:
            new, imported = await self._read(transaction, maker, keyspace, keys)
            if not new:
                return Effect(imported)
            await transaction.insert_keys(new)
            changes = tuple(
                Change(ChangeKind.KEY, key.key_id, keyspace, created=True) for key in new
            )
            return Effect(imported, changes, import_event(maker, keyspace, new))

        return await self._mutations.run(caller, work, alone=True)

    async def preview(
        self, caller: Caller, keyspace: str, keys: Sequence[KeyToImport]
    ) -> Done[Imported]:
        """What `import_keys` would do, without doing it. Raises as that does."""
        async with self._store.snapshot() as snapshot:
            maker = await caller.reread(snapshot, self._clock)
            _, imported = await self._read(snapshot, maker, keyspace, keys)
            return Done(imported, snapshot.revision)

    async def _read(
        self, snapshot: Snapshot, maker: Caller, name: str, keys: Sequence[KeyToImport]
    ) -> tuple[list[Key], Imported]:
        """The keys that are new, and what becomes of all of them."""
        maker.require_scope("keys:write")
        if name == SYSTEM:
            raise InvalidInput.field("keyspace", f'keys of "{SYSTEM}" are created, not imported')
        maker.require_reach(name)
        if not 1 <= len(keys) <= MAX_IMPORTED:
            raise InvalidInput.field("keys", f"1 to {MAX_IMPORTED} keys a call")
        keyspace = await get_keyspace(snapshot, name)
        wanted: dict[Digest, Key] = {}
        refused: list[tuple[int, DomainError]] = []
        pauses = Pauses(_SLICE)
        for index, key in enumerate(keys):
            await pauses.after()
            try:
                made = self._key(maker, keyspace, key)
            except DomainError as error:
                refused.append((index, error))
            else:
                # Of two that are the same, the second finds the first.
                wanted.setdefault(made.digest, made)
        present = await snapshot.find_digests(list(wanted))
        new = [key for digest, key in wanted.items() if digest not in present]
        count_present = len(keys) - len(refused) - len(new)
        return new, Imported(len(new), count_present, tuple(refused))

    def _key(self, maker: Caller, keyspace: Keyspace, wanted: KeyToImport) -> Key:
        now = self._clock.now()
        key_type = wanted.key_type or keyspace.default_key_type
        environment = wanted.environment or keyspace.default_environment
        form = form_of(keyspace, key_type, environment)
        grants, preset = grants_of(keyspace, wanted.scopes, wanted.preset, key_type)
        digest, display_prefix = self._digest(keyspace, form, wanted)
        return Key(
            key_id=new_key_id(now),
            keyspace=keyspace.name,
            account_id=read_account_id(wanted.account_id),
            display_name=read_display_name(
                "display_name", wanted.display_name or keyspace.default_display_name
            ),
            key_type=key_type,
            environment=environment,
            granted_scopes=grants,
            digest=digest,
            display_prefix=display_prefix,
            create_time=now,
            update_time=now,
            preset=preset,
            expire_time=read_expire_time(
                wanted.expire_time,
                default=keyspace.declaration.defaults.lifetime,
                keyspace=keyspace,
                create_time=now,
                now=now,
            ),
            allowed_addresses=read_addresses(wanted.allowed_addresses),
            labels=read_labels(wanted.labels),
            created_by_key_id=maker.credential_id,
            rate_limit=read_rate_limit(wanted.rate_limit, keyspace),
        )

    def _digest(self, keyspace: Keyspace, form: KeyForm, wanted: KeyToImport) -> tuple[Digest, str]:
        """What is kept of the key, and what is shown of it."""
        match wanted.secret:
            case Plaintext() as plaintext:
                text = plaintext.reveal()
                for one in (form, *keyspace.recognised_forms):
                    if text.startswith(one.prefix) and one.fits(text):
                        return self._peppers.digest(text), one.display_prefix(plaintext)
                raise InvalidInput.field(
                    "api_key",
                    f'the key has none of the forms of keyspace "{keyspace.name}", so it would '
                    "never be recognised; first apply that format to the keyspace, and then the "
                    "present one again",
                )
            case (kind, value):
                try:
                    digest = self._peppers.of_foreign(kind, value)
                except ValueError as error:
                    raise InvalidInput.field(kind.value, str(error)) from None
                # Nothing of the key's body is known.
                return digest, form.prefix + form.alphabet[0] * form.shown
            case None:
                raise InvalidInput.field("api_key", "give the key, or its sha256 or sha512")
