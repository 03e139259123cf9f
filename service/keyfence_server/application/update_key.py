"""Changing a key's record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from keyfence_server.application.audit import key_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.change_keys import get_for_change, require_an_administrator
from keyfence_server.application.create_key import require_may_make
from keyfence_server.application.key_inputs import (
    read_addresses,
    read_display_name,
    read_expire_time,
    read_grants,
    read_labels,
    read_rate_limit,
    require_grants_within_type,
)
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Change, ChangeKind, Clock, Transaction
from keyfence_server.domain.errors import Conflict, InvalidInput
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.limits import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUpdate:
    """How a key's record should become. Only the fields that `fields` names count."""

    key_id: str
    fields: Collection[str]
    display_name: str = ""
    granted_scopes: Sequence[str] = ()
    state: KeyState | None = None
    expire_time: datetime | None = None
    allowed_addresses: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    rate_limit: Rate | None = None
    if_revision: int = 0


class UpdateKey:
    """Changes keys' records."""

    def __init__(self, mutations: Mutations, clock: Clock) -> None:
        self._mutations = mutations
        self._clock = clock

    async def update(self, caller: Caller, update: KeyUpdate) -> Done[KeyFacts]:
        """Changes what the update names and nothing else.

        Raises:
            InvalidInput, UnknownScope: a field cannot be changed, or not to that.
            NotFound: there is no such key for this caller.
            ExceedsMaker: the key would be able to do more than the caller.
            Conflict: the record is not at the revision that the update was made for.
            Precondition: the key is revoked, or is the last administrator's.
        """
        unknown = sorted(set(update.fields) - _SETTERS.keys())
        if unknown or not update.fields:
            raise InvalidInput.field(
                "update_mask",
                (f"{unknown[0]!r} cannot be changed; " if unknown else "name what to change; ")
                + f"possible: {', '.join(sorted(_SETTERS))}",
            )

        async def work(transaction: Transaction, maker: Caller) -> Effect[KeyFacts]:
            return await self._update(transaction, maker, update)

        restrictive = update.state is KeyState.DISABLED and not _may_widen(update)
        return await self._mutations.run(caller, work, restrictive=restrictive)

    async def _update(
        self, transaction: Transaction, maker: Caller, update: KeyUpdate
    ) -> Effect[KeyFacts]:
        before = await get_for_change(transaction, maker, update.key_id)
        now = self._clock.now()
        key = before.key.edited(now)
        for name in sorted(update.fields):
            key = _SETTERS[name](key, update, _Setting(before.keyspace, now, maker.is_operator))
        if key == replace(before.key, update_time=now):
            # Also at another revision: a call whose answer was lost may be made again.
            return Effect(before)
        if update.if_revision and update.if_revision != before.key.revision:
            raise Conflict(
                f"the key is at revision {before.key.revision} by now; read it again and decide "
                "again",
                revision=str(before.key.revision),
            )
        if _may_widen(update):
            # A key that changes itself is measured by what it was before.
            require_may_make(maker, key)
        await transaction.update_key(key)
        stored = replace(key, revision=transaction.revision)
        after = compile_facts((stored, *before.lineage[1:]), before.keyspace)
        await require_an_administrator(transaction, before, after, self._clock)
        return Effect(
            after,
            (Change(ChangeKind.KEY, key.key_id, key.keyspace),),
            key_event("key.update", maker, key, fields=sorted(update.fields)),
        )


def _may_widen(update: KeyUpdate) -> bool:
    """Whether the update could let the key do more. A new name does not. Neither does disabling:
    a caller that may revoke a key may also disable it."""
    harmless = {"display_name", "labels"}
    if update.state is KeyState.DISABLED:
        harmless.add("state")
    return not harmless.issuperset(update.fields)


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a change of a field depends on besides the key and the wanted value."""

    keyspace: Keyspace
    now: datetime
    is_operator: bool


def _set_display_name(key: Key, update: KeyUpdate, at: _Setting) -> Key:
    return key.edited(at.now, display_name=read_display_name("display_name", update.display_name))


def _set_granted_scopes(key: Key, update: KeyUpdate, at: _Setting) -> Key:
    grants = read_grants("granted_scopes", update.granted_scopes, at.keyspace)
    require_grants_within_type("granted_scopes", grants, at.keyspace, key.key_type)
    return key.edited(at.now, granted_scopes=grants)


def _set_state(key: Key, update: KeyUpdate, at: _Setting) -> Key:
    if update.state is KeyState.ACTIVE:
        return key.enabled(at.now, by_operator=at.is_operator)
    if update.state is KeyState.DISABLED:
        return key.disabled(at.now, by_operator=at.is_operator)
    raise InvalidInput.field(
        "state", "must be active or disabled; to revoke the key, call RevokeKey"
    )


def _set_expire_time(key: Key, update: KeyUpdate, at: _Setting) -> Key:
    if update.expire_time is not None and update.expire_time == key.expire_time:
        # Also when that time has passed: a call whose answer was lost may be made again.
        return key
    expire_time = read_expire_time(
        update.expire_time,
        default=None,
        keyspace=at.keyspace,
        create_time=key.create_time,
        now=at.now,
    )
    return key.edited(at.now, expire_time=expire_time)


def _set_allowed_addresses(key: Key, update: KeyUpdate, at: _Setting) -> Key:
    return key.edited(at.now, allowed_addresses=read_addresses(update.allowed_addresses))


def _set_labels(key: Key, update: KeyUpdate, at: _Setting) -> Key:
    return key.edited(at.now, labels=read_labels(update.labels))


def _set_rate_limit(key: Key, update: KeyUpdate, at: _Setting) -> Key:
    return key.edited(at.now, rate_limit=read_rate_limit(update.rate_limit, at.keyspace))


_SETTERS: Final[Mapping[str, Callable[[Key, KeyUpdate, _Setting], Key]]] = {
    "display_name": _set_display_name,
    "granted_scopes": _set_granted_scopes,
    "state": _set_state,
    "expire_time": _set_expire_time,
    "allowed_addresses": _set_allowed_addresses,
    "labels": _set_labels,
    "rate_limit": _set_rate_limit,
}
