"""Importing keys that other programs have made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

from keyfence_server.application.audit import keys_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.pauses import Pauses
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Clock,
    SlowHash,
    SlowHashes,
    Snapshot,
    Store,
    Transaction,
)
from keyfence_server.application.read_keyspaces import get_keyspace
from keyfence_server.application.wanted_keys import WantedKey, form_of, grants_of, record_of
from keyfence_server.domain.errors import DomainError, InvalidInput
from keyfence_server.domain.formats import MAX_SLOW_PREFIX, MIN_SLOW_PREFIX
from keyfence_server.domain.frozen import frozen
from keyfence_server.domain.identifiers import new_key_ids
from keyfence_server.domain.keys import Key
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.secrets import Digest, ForeignHash, Peppers, Plaintext

MAX_IMPORTED: Final = 500
"""Keys in a call: so many rows are written while the head is locked."""
MAX_WITH_PREFIX: Final = 4
"""Keys of a keyspace that are kept by slow hashes and found by the same prefix."""
_SLICE: Final = 200  # parts of keys that are read before other calls have their turn
_PARTS_OF_SLOW_HASH: Final = 10  # it takes as long to be read as so many parts


@dataclass(frozen=True, slots=True)
class SlowHashToImport:
    """A slow hash of a key, and how the key begins."""

    prefix: str
    text: str = field(repr=False)


@frozen(kw_only=True)
class KeyToImport(WantedKey):
    """A key as another program has it. Fields and defaults as in the message of that name.

    Attributes:
        secret: its plaintext, or a hash of it; None for neither.
    """

    secret: Plaintext | tuple[ForeignHash, bytes] | SlowHashToImport | None


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


@dataclass(frozen=True, slots=True)
class ImportKeys:
    """Imports keys, for operators."""

    _store: Store
    _mutations: Mutations
    _peppers: Peppers
    _hashes: SlowHashes
    _clock: Clock

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
        # The keys are read before the turn of the mutation: meanwhile another one has the store.
        _require_importer(caller, keyspace)
        async with self._store.snapshot() as snapshot:
            read_for = await get_keyspace(snapshot, keyspace)
        read = await self._read(caller, read_for, keys)

        async def work(transaction: Transaction, maker: Caller) -> Effect[Imported]:
            nonlocal read_for, read
            _require_importer(maker, keyspace)
            found = await get_keyspace(transaction, keyspace)
            if found is not read_for:
                # It was changed in the meantime, or forgotten.
                read_for, read = found, await self._read(maker, found, keys)
            new, imported = await _new_ones(transaction, keyspace, read)
            if not new:
                return Effect(imported)
            await transaction.insert_keys([one.key for one in new])
            slow = [one.slow_hash for one in new if one.slow_hash is not None]
            if slow:
                await transaction.insert_slow_hashes(slow)
            # Holders forget what they remember as unknown, and that is all that a new key asks of
            # them. So one change tells of all.
            changes = (Change(ChangeKind.KEY, new[0].key.key_id, keyspace, created=True),)
            key_ids = [one.key.key_id for one in new]
            event = keys_event("key.import", maker, keyspace, key_ids, new[0].key.update_time)
            return Effect(imported, changes, event)

        return await self._mutations.run(caller, work, ungrouped=True)

    async def preview(
        self, caller: Caller, keyspace: str, keys: Sequence[KeyToImport]
    ) -> Done[Imported]:
        """What `import_keys` would do, without doing it. Raises as that does."""
        async with self._store.snapshot() as snapshot:
            maker = await caller.reread(snapshot, self._clock)
            _require_importer(maker, keyspace)
            read = await self._read(maker, await get_keyspace(snapshot, keyspace), keys)
            _, imported = await _new_ones(snapshot, keyspace, read)
            return Done(imported, snapshot.revision)

    async def _read(
        self, maker: Caller, keyspace: Keyspace, keys: Sequence[KeyToImport]
    ) -> list[_New | DomainError]:
        """Reads the keys, without asking the store for them. An error says why a key may not be
        imported."""
        if not 1 <= len(keys) <= MAX_IMPORTED:
            raise InvalidInput.field("keys", f"1 to {MAX_IMPORTED} keys a call")
        read: list[_New | DomainError] = []
        # Most keys of a file hold the same as others.
        granted = cache(partial(grants_of, keyspace))
        now = self._clock.now()
        pauses = Pauses(_SLICE)
        for wanted, key_id in zip(keys, new_key_ids(now, len(keys)), strict=True):
            await pauses.after(_parts_of(wanted))
            try:
                kept_as, shown = self._digests(keyspace, wanted)
                key_type = wanted.key_type or keyspace.default_key_type
                environment = wanted.environment or keyspace.default_environment
                form = form_of(keyspace, key_type, environment)
                key = record_of(
                    wanted,
                    keyspace,
                    key_id=key_id,
                    account_id=wanted.account_id,
                    key_type=key_type,
                    environment=environment,
                    granted=granted(tuple(wanted.scopes), wanted.preset, key_type),
                    digest=kept_as[0],
                    # Of a hash nothing is known of the key's body.
                    display_prefix=shown or form.unknown_prefix(),
                    made_by=maker.credential_id,
                    now=now,
                )
            except DomainError as error:
                read.append(error)
            else:
                read.append(_New(key, _slow_hash_of(key, wanted), kept_as))
        return read

    def _digests(self, keyspace: Keyspace, wanted: KeyToImport) -> tuple[tuple[Digest, ...], str]:
        """What is kept of the key, what else may have been kept of it before, and what is shown of
        it; nothing, if that is not known."""
        match wanted.secret:
            case Plaintext() as plaintext:
                text = plaintext.reveal()
                if shown := keyspace.display_prefix_of(text):
                    return self._peppers.candidates(text, (keyspace.name,)), shown
                raise InvalidInput.field(
                    "api_key",
                    f'the key has none of the formats of keyspace "{keyspace.name}", so it would '
                    "never be recognised; apply the key's format to the keyspace, and then the "
                    "present format again",
                )
            case SlowHashToImport(prefix, text):
                self._require_slow_hash(keyspace, prefix, text)
                return self._peppers.of_slow_hash(keyspace.name, text), ""
            case (kind, value):
                try:
                    return self._peppers.of_foreign(kind, value, keyspace.name), ""
                except ValueError as error:
                    raise InvalidInput.field(kind.value, str(error)) from None
            case None:
                raise InvalidInput.field("api_key", "give the key, or a hash of it")

    def _require_slow_hash(self, keyspace: Keyspace, prefix: str, text: str) -> None:
        forms = [form for form in keyspace.recognised_forms if form.tells_apart(prefix)]
        if not forms:
            raise InvalidInput.field(
                "password_hash.prefix",
                f"keys are found by it, so give the first {MIN_SLOW_PREFIX} to "
                f"{MAX_SLOW_PREFIX} characters of the key, at least 4 of them after the prefix "
                f'that all keys of keyspace "{keyspace.name}" have',
            )
        try:
            self._hashes.require_usable(text, max(form.total_length() for form in forms))
        except ValueError as error:
            raise InvalidInput.field("password_hash.hash", str(error)) from None


@frozen()
class _New:
    """A key that may be imported.

    Attributes:
        slow_hash: by which it is recognised, if by a slow one.
        kept_as: what is kept of the key from now on, and what else may be kept of it if it is
            there already.
    """

    key: Key
    slow_hash: SlowHash | None
    kept_as: tuple[Digest, ...]


def _slow_hash_of(key: Key, wanted: KeyToImport) -> SlowHash | None:
    if not isinstance(wanted.secret, SlowHashToImport):
        return None
    prefix, text = wanted.secret.prefix, wanted.secret.text
    return SlowHash(key.key_id, key.keyspace, prefix, key.digest, text)


def _require_importer(maker: Caller, keyspace: str) -> None:
    maker.require_scope("keys:write")
    if keyspace == SYSTEM:
        raise InvalidInput.field("keyspace", f'keys of "{SYSTEM}" are created, not imported')
    maker.require_reach(keyspace)


def _parts_of(key: KeyToImport) -> int:
    parts = 2 + len(key.scopes) + len(key.allowed_addresses) + len(key.labels)
    return parts + _PARTS_OF_SLOW_HASH if isinstance(key.secret, SlowHashToImport) else parts


async def _new_ones(
    snapshot: Snapshot, keyspace: str, read: Sequence[_New | DomainError]
) -> tuple[list[_New], Imported]:
    """The keys that are not there already, and what becomes of all of them."""
    wanted = [one for one in read if isinstance(one, _New)]
    known = set(await snapshot.find_digests({name for one in wanted for name in one.kept_as}))
    prefixes = {one.slow_hash.prefix for one in wanted if one.slow_hash is not None}
    found = await snapshot.count_slow_hashes(keyspace, prefixes) if prefixes else {}
    with_prefix = Counter(found)
    new: list[_New] = []
    refused: list[tuple[int, DomainError]] = []
    for index, one in enumerate(read):
        if isinstance(one, DomainError):
            refused.append((index, one))
        elif known.isdisjoint(one.kept_as):
            # Of two that are the same, the second finds the first.
            known.update(one.kept_as)
            if (slow := one.slow_hash) is not None:
                with_prefix[slow.prefix] += 1
            if slow is not None and with_prefix[slow.prefix] > MAX_WITH_PREFIX:
                crowded = InvalidInput.field(
                    "password_hash.prefix",
                    f"{MAX_WITH_PREFIX} keys of the keyspace have this prefix already, and each "
                    "would have to be compared with a presented key; give a longer prefix",
                )
                refused.append((index, crowded))
            else:
                new.append(one)
    return new, Imported(len(new), len(read) - len(new) - len(refused), tuple(refused))
