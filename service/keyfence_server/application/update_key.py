"""Changing a key's record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from keyfence_server.application.callers import Caller
from keyfence_server.application.change_keys import get_for_change, write_changed
from keyfence_server.application.create_key import require_may_make
from keyfence_server.application.key_inputs import (
    read_addresses,
    read_display_name,
    read_expire_time,
    read_grants,
    read_labels,
    read_rate_limit,
    require_changeable,
    require_grants_within_type,
)
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Clock, Transaction, Wanted
from keyfence_server.domain.errors import Conflict, InvalidInput
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import Key, KeyId, KeyState
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


@dataclass(frozen=True, slots=True)
class UpdateKey:
    """Changes keys' records."""

    _mutations: Mutations
    _clock: Clock

    async def update(self, caller: Caller, update: KeyUpdate) -> Done[KeyFacts]:
        """Changes what the update names and nothing else.

        Raises:
            InvalidInput, UnknownScope: a field cannot be changed, or not to that.
            NotFound: there is no such key for this caller.
            ExceedsMaker: the key would be able to do more than the caller.
            Conflict: the record is not at the revision that the update was made for.
            Precondition: the key is revoked, or is the last administrator's.
        """
        require_changeable(update.fields, _CHANGEABLE)
        restrictive = update.state is KeyState.DISABLED and not _may_widen(update)
        wanted = Wanted(keys=frozenset([KeyId(update.key_id)]))
        work = partial(self._update, update)
        return await self._mutations.run(caller, work, wanted=wanted, restrictive=restrictive)

    async def _update(
        self, update: KeyUpdate, transaction: Transaction, maker: Caller
    ) -> Effect[KeyFacts]:
        before = await get_for_change(transaction, maker, update.key_id)
        now = self._clock.now()
        key = before.key.edited(now)
        for name in sorted(update.fields):
            if name == "state":
                key = _with_state(key, update.state, now, by_operator=maker.is_operator)
            else:
                key = key.edited(now, **{name: _READERS[name](update, key, before.keyspace, now)})
        if key == replace(before.key, update_time=now):
            # Also at another revision: a call whose answer was lost may be made again.
            return Effect(before)
        if update.if_revision and update.if_revision != before.key.revision:
            raise Conflict.moved_on("the key", before.key.revision)
        if _may_widen(update):
            # A key that changes itself is measured by what it was before.
            require_may_make(maker, key)
        return await write_changed(
            transaction, maker, self._clock, before, key, "key.update", fields=sorted(update.fields)
        )


def _may_widen(update: KeyUpdate) -> bool:
    """Whether the update could let the key do more. A new name does not. Neither does disabling:
    a caller that may revoke a key may also disable it."""
    harmless = {"display_name", "labels"}
    if update.state is KeyState.DISABLED:
        harmless.add("state")
    return not harmless.issuperset(update.fields)


def _with_state(key: Key, state: KeyState | None, now: datetime, *, by_operator: bool) -> Key:
    if state is KeyState.ACTIVE:
        return key.enabled(now, by_operator=by_operator)
    if state is KeyState.DISABLED:
        return key.disabled(now, by_operator=by_operator)
    raise InvalidInput.field(
        "state", "must be active or disabled; to revoke the key, call RevokeKey"
    )


def _granted_scopes(update: KeyUpdate, key: Key, keyspace: Keyspace, _: datetime) -> object:
    grants = read_grants("granted_scopes", update.granted_scopes, keyspace)
    require_grants_within_type("granted_scopes", grants, keyspace, key.key_type)
    return grants


def _expire_time(update: KeyUpdate, key: Key, keyspace: Keyspace, now: datetime) -> object:
    wanted = update.expire_time
    if wanted is not None and wanted == key.expire_time:
        # Also when that time has passed: a call whose answer was lost may be made again.
        return wanted
    return read_expire_time(
        wanted, default=None, keyspace=keyspace, create_time=key.create_time, now=now
    )


_READERS: Final[Mapping[str, Callable[[KeyUpdate, Key, Keyspace, datetime], object]]] = {
    "display_name": lambda update, *_: read_display_name("display_name", update.display_name),
    "granted_scopes": _granted_scopes,
    "expire_time": _expire_time,
    "allowed_addresses": lambda update, *_: read_addresses(update.allowed_addresses),
    "labels": lambda update, *_: read_labels(update.labels),
    "rate_limit": lambda update, _, keyspace, __: read_rate_limit(update.rate_limit, keyspace),
}
"""How the new value of each field is read, the state aside."""
_CHANGEABLE: Final = frozenset({"state", *_READERS})
