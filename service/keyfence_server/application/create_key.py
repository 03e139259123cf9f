"""Making a key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from keyfence_server.application.audit import key_event, listed
from keyfence_server.application.callers import Caller
from keyfence_server.application.key_inputs import read_bound_keyspaces, read_request_id
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Change, ChangeKind, Clock, Transaction, Wanted
from keyfence_server.application.quotas import require_room_for_key
from keyfence_server.application.read_keyspaces import get_keyspace
from keyfence_server.application.wanted_keys import WantedKey, form_of, grants_of, record_of
from keyfence_server.domain.accounts import AccountId
from keyfence_server.domain.attenuation import (
    inherited_environment,
    inherited_rate,
    inherited_type,
    require_within,
)
from keyfence_server.domain.errors import AlreadyDone, InvalidInput, Precondition
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.frozen import frozen
from keyfence_server.domain.identifiers import new_key_id
from keyfence_server.domain.keys import MAX_LINEAGE, Key, KeyId
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.secrets import Peppers, Plaintext
from keyfence_server.domain.system import ALL_KEYSPACES, SYSTEM_KEYSPACE

_MAX_NAMES_TO_COMPARE: Final = 500


@frozen(kw_only=True)
class NewKey(WantedKey):
    """The wanted properties of a new key. Fields and defaults as in `CreateKeyRequest`."""

    keyspace: str = ""
    request_id: str = ""
    parent_key_id: str = ""
    bound_keyspaces: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key: its record, and the only copy of its plaintext."""

    facts: KeyFacts
    plaintext: Plaintext


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Makes keys, for operators and for accounts."""

    _mutations: Mutations
    _peppers: Peppers
    _clock: Clock

    async def create(self, caller: Caller, wanted: NewKey) -> Done[MadeKey]:
        """Makes a key that its maker may make.

        Raises:
            InvalidInput, UnknownScope: the key cannot be as wanted.
            Forbidden, ExceedsMaker: the caller may not make it.
            NotFound: no such keyspace, or no such parent.
            AlreadyDone: the request was carried out before.
            QuotaReached: the account has as many keys as it may have.
            Precondition: the parent is revoked, or too deep down.
        """
        read = Wanted(
            keys=frozenset([KeyId(wanted.parent_key_id)] if wanted.parent_key_id else ()),
            accounts=frozenset([AccountId(wanted.account_id)]),
            keyspaces=frozenset([wanted.keyspace]),
        )
        return await self._mutations.run(caller, partial(self._create, wanted), wanted=read)

    async def _create(
        self, wanted: NewKey, transaction: Transaction, maker: Caller
    ) -> Effect[MadeKey]:
        maker.require_key_management("keys:write")
        keyspace = await self._keyspace_for(transaction, maker, wanted)
        request_id = read_request_id(wanted.request_id)
        await require_new_request(transaction, maker, request_id)
        parent = await self._parent(transaction, maker, keyspace, wanted)
        key, plaintext = self._mint(maker, keyspace, parent, wanted)
        require_may_make(maker, key, parent)
        await _require_owner_works(transaction, key)
        await require_room_for_key(transaction, maker, keyspace, key.create_time)
        await _require_bound_to_what_is_there(transaction, maker, key)
        await transaction.insert_key(key)
        await remember_request(transaction, maker, request_id, key)
        stored = replace(key, revision=transaction.revision)
        facts = compile_facts((stored, *(parent.lineage if parent else ())), keyspace)
        return Effect(
            MadeKey(facts, plaintext),
            (Change(ChangeKind.KEY, key.key_id, keyspace.name, created=True),),
            key_event("key.create", maker, key, **listed("scopes", key.granted_scopes)),
        )

    @staticmethod
    async def _keyspace_for(transaction: Transaction, maker: Caller, wanted: NewKey) -> Keyspace:
        name = wanted.keyspace
        if maker.own_account is not None:
            name = name or maker.own_account.keyspace
            if wanted.account_id not in ("", maker.own_account.account_id):
                raise InvalidInput.field(
                    "account_id", "an account's credential can make keys for its own account only"
                )
        elif not name:
            raise InvalidInput.field("keyspace", "name the keyspace that the key is for")
        maker.require_reach(name)
        return await get_keyspace(transaction, name)

    @staticmethod
    async def _parent(
        transaction: Transaction, maker: Caller, keyspace: Keyspace, wanted: NewKey
    ) -> KeyFacts | None:
        # What a delegated key makes must not outlive what it was delegated from.
        parent_key_id = wanted.parent_key_id or maker.delegated_in(keyspace.name)
        if not parent_key_id:
            return None
        lineage = await transaction.find_lineage(KeyId(parent_key_id))
        parent = maker.require_key(parent_key_id, lineage[0] if lineage else None)
        if lineage is None or parent.keyspace != keyspace.name:
            raise InvalidInput.field("parent_key_id", "the parent is a key of another keyspace")
        if maker.is_operator and parent.account_id != wanted.account_id:
            raise InvalidInput.field("parent_key_id", "the parent is a key of another account")
        if len(lineage) >= MAX_LINEAGE:
            raise Precondition(
                f"a line of delegation has at most {MAX_LINEAGE} keys, and {parent.key_id} is "
                "the last of one; delegate from a key further up",
                reason="DELEGATION_TOO_DEEP",
                limit=str(MAX_LINEAGE),
            )
        for key in lineage:
            key.require_not_revoked()
        maker.require_delegated_from_self(lineage)
        return compile_facts(lineage, keyspace)

    def _mint(
        self, maker: Caller, keyspace: Keyspace, parent: KeyFacts | None, wanted: NewKey
    ) -> tuple[Key, Plaintext]:
        now = self._clock.now()
        above = bounding_keys_of(maker, keyspace.name, parent)
        key_type = wanted.key_type or inherited_type(above, keyspace)
        environment = wanted.environment or inherited_environment(above, keyspace)
        form = form_of(keyspace, key_type, environment)
        plaintext = form.mint()
        own = maker.own_account
        key = record_of(
            wanted,
            keyspace,
            key_id=new_key_id(now),
            account_id=own.account_id if own is not None else wanted.account_id,
            key_type=key_type,
            environment=environment,
            granted=grants_of(keyspace, wanted.scopes, wanted.preset, key_type),
            digest=self._peppers.digest(plaintext.reveal()),
            display_prefix=form.display_prefix(plaintext),
            made_by=maker.credential_id,
            now=now,
        )
        # The nearest allow-list above, if the maker names no addresses.
        allow_lists = (key.allowed_addresses for facts in above for key in facts.lineage)
        inherited_end = _not_after(above, key.expire_time, maker.latest_expiry())
        key = replace(
            key,
            expire_time=key.expire_time if wanted.expire_time else inherited_end,
            allowed_addresses=key.allowed_addresses or next(filter(None, allow_lists), ()),
            bound_keyspaces=read_bound_keyspaces(wanted.bound_keyspaces, keyspace.name),
            parent_key_id=parent.key_id if parent else None,
            rate_limit=key.rate_limit or inherited_rate(above, keyspace),
        )
        return key, plaintext


async def _require_owner_works(transaction: Transaction, key: Key) -> None:
    """Refuses a key of a disabled account. An owner that is not registered cannot be disabled."""
    owner = await transaction.find_account(AccountId(key.account_id))
    if owner is not None and owner.keyspace == key.keyspace and owner.is_disabled:
        raise Precondition(
            f"the account {owner.account_id} is disabled; enable it first",
            reason="ACCOUNT_IS_DISABLED",
            account_id=owner.account_id,
        )


async def _require_bound_to_what_is_there(
    transaction: Transaction, maker: Caller, key: Key
) -> None:
    """Refuses a credential that is bound to a keyspace that is not there, most likely for a
    slip of the pen. One that may apply keyspaces is let through: so a keyspace can be made by
    a credential that is bound to it alone.

    Called when it is known that the maker may bind the key so: others must not learn which
    keyspaces there are.

    Raises:
        InvalidInput: with the nearest name that the maker may know of.
    """
    if key.keyspace != SYSTEM:
        return
    effective = SYSTEM_KEYSPACE.catalog.mask(key.granted_scopes)
    if effective & SYSTEM_KEYSPACE.catalog.required_mask(["keyspaces:write"]):
        return
    for index, name in enumerate(key.bound_keyspaces):
        if name in (ALL_KEYSPACES, SYSTEM) or await transaction.find_keyspace(name) is not None:
            continue
        known = await transaction.list_keyspaces(after=None, limit=_MAX_NAMES_TO_COMPARE)
        reached = [one.name for one in known if maker.reaches(one.name)]
        nearest = difflib.get_close_matches(name, reached, n=1)
        hint = f'did you mean "{nearest[0]}"?' if nearest else "apply it first"
        raise InvalidInput.field(
            f"bound_keyspaces[{index}]", f'there is no keyspace "{name}"; {hint}'
        )


def bounding_keys_of(
    maker: Caller, keyspace: str, parent: KeyFacts | None = None
) -> list[KeyFacts]:
    """The keys that a new or changed key must stay within."""
    return [*maker.bounding_keys(keyspace), *([parent] if parent else ())]


def require_may_make(maker: Caller, key: Key, parent: KeyFacts | None = None) -> None:
    """Makes sure that a new or changed key stays within its maker and its parent. Raises
    `ExceedsMaker`."""
    for bounding in bounding_keys_of(maker, key.keyspace, parent):
        require_within(bounding, key)
    maker.require_grantable(key)


async def remember_request(
    transaction: Transaction, maker: Caller, request_id: str | None, made: Key
) -> None:
    """Records the key that a request has made, if the request has an id and its caller has a
    credential by which it is recognised again."""
    if request_id is not None and maker.credential_id is not None:
        await transaction.insert_request(
            maker.credential_id, request_id, made.key_id, made.create_time
        )


async def require_new_request(
    transaction: Transaction, maker: Caller, request_id: str | None
) -> None:
    """Refuses a request that was carried out before. Raises `AlreadyDone`."""
    if request_id is None or maker.credential_id is None:
        return
    made = await transaction.find_request(maker.credential_id, request_id)
    if made is not None:
        raise AlreadyDone(
            f"this request_id has already made the key {made}; its plaintext was in that answer "
            "alone; if it was lost, rotate the key",
            key_id=made,
        )


def _not_after(above: Sequence[KeyFacts], *times: datetime | None) -> datetime | None:
    """The expiry of a key whose maker asks for none: the earliest of these times and of the
    expiries of the keys above; None if there is none."""
    ends = [key.expire_time for facts in above for key in facts.lineage if key.expire_time]
    return min([*ends, *(time for time in times if time is not None)], default=None)
