"""Replacing a key by a successor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from keyfence_server.application.audit import key_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.change_keys import get_for_change, require_an_administrator
from keyfence_server.application.create_key import (
    MadeKey,
    remember_request,
    require_may_make,
    require_new_request,
)
from keyfence_server.application.key_inputs import read_expire_time, read_request_id
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Change, ChangeKind, Clock, Transaction, Wanted
from keyfence_server.application.quotas import require_room_for_key
from keyfence_server.domain.errors import InvalidInput, Precondition
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.identifiers import new_key_id
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.secrets import Peppers, Plaintext

MAX_OVERLAP: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Which key to replace, and how. Fields as in `RotateKeyRequest`."""

    key_id: str
    overlap: timedelta = timedelta(0)
    expire_time: datetime | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class RotatedKey:
    """The successor, and the old key as it is now."""

    successor: MadeKey
    previous: KeyFacts


@dataclass(frozen=True, slots=True)
class RotateKey:
    """Replaces keys."""

    _mutations: Mutations
    _peppers: Peppers
    _clock: Clock

    async def rotate(self, caller: Caller, rotation: Rotation) -> Done[RotatedKey]:
        """Makes a successor with the same grants; the old key lives on for the overlap.

        Keys that were delegated from the old one stay with it, and end with it.

        Raises:
            InvalidInput: the overlap or the expiry is wrong.
            NotFound: there is no such key for this caller.
            ExceedsMaker: the successor could do more than the caller.
            AlreadyDone: the request was carried out before.
            Precondition: the key is revoked, or was rotated before.
        """
        if not timedelta(0) <= rotation.overlap <= MAX_OVERLAP:
            raise InvalidInput.field("overlap", f"from nothing to {MAX_OVERLAP.days} days")
        wanted = Wanted(keys=frozenset([KeyId(rotation.key_id)]))
        return await self._mutations.run(caller, partial(self._rotate, rotation), wanted=wanted)

    async def _rotate(
        self, rotation: Rotation, transaction: Transaction, maker: Caller
    ) -> Effect[RotatedKey]:
        before = await get_for_change(transaction, maker, rotation.key_id)
        request_id = read_request_id(rotation.request_id)
        await require_new_request(transaction, maker, request_id)
        _require_rotatable(before)
        now = self._clock.now()
        successor, plaintext = self._successor(maker, before, rotation, now)
        require_may_make(maker, successor)
        if rotation.overlap:
            await require_room_for_key(transaction, maker, before.keyspace, now)
        previous = _retired(before.key, successor, rotation.overlap, now)
        await transaction.insert_key(successor)
        await transaction.update_key(previous)
        await remember_request(transaction, maker, request_id, successor)
        revision = transaction.revision
        above = before.lineage[1:]
        made = MadeKey(
            compile_facts((replace(successor, revision=revision), *above), before.keyspace),
            plaintext,
        )
        old = compile_facts((replace(previous, revision=revision), *above), before.keyspace)
        await require_an_administrator(transaction, before, made.facts, self._clock)
        return Effect(
            RotatedKey(made, old),
            (
                Change(ChangeKind.KEY, successor.key_id, successor.keyspace, created=True),
                Change(ChangeKind.KEY, previous.key_id, previous.keyspace),
            ),
            key_event(
                "key.rotate",
                maker,
                previous,
                successor=successor.key_id,
                overlap_seconds=rotation.overlap.total_seconds(),
            ),
        )

    def _successor(
        self, maker: Caller, before: KeyFacts, rotation: Rotation, now: datetime
    ) -> tuple[Key, Plaintext]:
        old = before.key
        form = before.keyspace.forms[old.key_type, old.environment]
        plaintext = form.mint()
        successor = replace(
            old,
            key_id=new_key_id(now),
            digest=self._peppers.digest(plaintext.reveal()),
            display_prefix=form.display_prefix(plaintext),
            create_time=now,
            update_time=now,
            expire_time=_successor_expire_time(maker, before, rotation, now),
            rotated_from_key_id=old.key_id,
            first_key_id=old.line_id,
            created_by_key_id=maker.credential_id,
        )
        return successor, plaintext


def _successor_expire_time(
    maker: Caller, before: KeyFacts, rotation: Rotation, now: datetime
) -> datetime | None:
    """As asked; otherwise the old key's, unless the keyspace's or the maker's limit comes first."""
    old = before.key
    if rotation.expire_time is None and old.is_expired(now):
        raise InvalidInput.field(
            "expire_time", "the old key has expired; give its successor an expire_time"
        )
    latest = read_expire_time(
        rotation.expire_time, default=None, keyspace=before.keyspace, create_time=now, now=now
    )
    if rotation.expire_time is not None:
        return latest
    times = (old.expire_time, latest, maker.latest_expiry())
    return min((time for time in times if time is not None), default=None)


def _require_rotatable(before: KeyFacts) -> None:
    for key in before.lineage:
        key.require_not_revoked()
    successor = before.key.rotated_to_key_id
    if successor is not None:
        raise Precondition(
            f"{before.key_id} was already rotated; rotate its successor {successor} instead",
            reason="KEY_IS_ROTATED",
            key_id=before.key_id,
            successor_key_id=successor,
        )


def _retired(old: Key, successor: Key, overlap: timedelta, now: datetime) -> Key:
    named = old.edited(now, rotated_to_key_id=successor.key_id)
    if not overlap:
        return named.revoked(now)
    end = now + overlap
    return replace(named, expire_time=min(end, old.expire_time) if old.expire_time else end)
