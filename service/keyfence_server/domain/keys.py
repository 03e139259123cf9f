"""What a key is, and how it can change.

A `Key` is a record without the plaintext: it does not pass a check. A record never
changes; a transition makes the record that replaces it, or raises. `facts` decides
whether a key passes a check, over its whole `Lineage`: the key itself and the keys
that it was delegated from, since a key can never outlive or outdo those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from enum import Enum
from typing import Final, NewType

from keyfence_server.domain.errors import ExceedsMaker, Precondition
from keyfence_server.domain.frozen import frozen
from keyfence_server.domain.limits import Rate
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import SessionId

KeyId = NewType("KeyId", str)

MAX_LINEAGE: Final = 4
"""The most keys in a line of delegation, the first one included."""


class KeyState(Enum):
    """What has become of a key. Expiry is not among them: it comes by time alone."""

    ACTIVE = "active"
    DISABLED = "disabled"
    REVOKED = "revoked"

    # The hash of `Enum` is a function in Python, and a page of keys looks up a thousand states.
    __hash__ = object.__hash__


@frozen()
class Key:
    """A key's record. Times are aware and in UTC, with microseconds. Written with names, except
    where thousands are read: a call with 27 names takes five times as long.

    Attributes:
        granted_scopes: as granted, wildcards included; sorted, without repetition.
        allowed_addresses: CIDR networks in canonical form; empty means from anywhere.
        bound_keyspaces: for operator credentials: the keyspaces they may act on, "*"
            for all but `system`. Empty for every other key.
        expire_time: None means never, by time.
        first_key_id: of the line of rotations that has led to it, the key that it began
            with. None: this one.
        created_by_key_id: the credential that made it: a key, or a session.
        disabled_by_operator: whether an operator disabled it, so that its account cannot
            enable it. False unless it is disabled.
        rate_limit: the key's own; None: what its keyspace says.
        revision: the revision at which this record was written.
    """

    key_id: KeyId
    keyspace: str
    account_id: str
    display_name: str
    key_type: str
    environment: str
    granted_scopes: Sequence[str]
    digest: Digest
    display_prefix: str
    create_time: datetime
    update_time: datetime
    state: KeyState = KeyState.ACTIVE
    preset: str | None = None
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    allowed_addresses: tuple[str, ...] = ()
    bound_keyspaces: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    parent_key_id: KeyId | None = None
    rotated_from_key_id: KeyId | None = None
    rotated_to_key_id: KeyId | None = None
    created_by_key_id: KeyId | SessionId | None = None
    rate_limit: Rate | None = None
    revision: int = 0
    first_key_id: KeyId | None = None
    disabled_by_operator: bool = False

    @property
    def line_id(self) -> KeyId:
        """What stays the same when the key is rotated: the id of the line's first key."""
        return self.first_key_id or self.key_id

    def is_expired(self, now: datetime) -> bool:
        """Whether the key's time is up: from `expire_time` on, not only after it."""
        return self.expire_time is not None and now >= self.expire_time

    def disabled(self, now: datetime, *, by_operator: bool) -> Key:
        """The key, not working for now. Raises `Precondition` on a revoked key.

        A key that an operator has disabled stays disabled by an operator.
        """
        self.require_not_revoked()
        return replace(
            self,
            state=KeyState.DISABLED,
            update_time=now,
            disabled_by_operator=by_operator or self.disabled_by_operator,
        )

    def enabled(self, now: datetime, *, by_operator: bool) -> Key:
        """The key, working again.

        Raises:
            Precondition: the key is revoked.
            ExceedsMaker: an operator has disabled it, and an account's credential would enable it.
        """
        self.require_not_revoked()
        if self.disabled_by_operator and not by_operator:
            raise ExceedsMaker(
                f"key {self.key_id} was disabled by an operator, so only an operator can enable it",
                exceeds="state",
            )
        return replace(self, state=KeyState.ACTIVE, update_time=now, disabled_by_operator=False)

    def revoked(self, now: datetime) -> Key:
        """The key, revoked for good. A revoked key stays as it was."""
        if self.state is KeyState.REVOKED:
            return self
        return replace(
            self,
            state=KeyState.REVOKED,
            revoke_time=now,
            update_time=now,
            disabled_by_operator=False,
        )

    def edited(self, now: datetime, **fields: object) -> Key:
        """The key with other fields. Raises `Precondition` on a revoked key."""
        self.require_not_revoked()
        return replace(self, update_time=now, **fields)  # type: ignore[arg-type]

    def require_not_revoked(self) -> None:
        """Raises `Precondition` on a revoked key."""
        if self.state is KeyState.REVOKED:
            raise Precondition(
                f"key {self.key_id} was revoked, which is final; make a new key instead",
                reason="KEY_IS_REVOKED",
                key_id=self.key_id,
            )


Lineage = Sequence[Key]
"""A key, the key that it was delegated from, and so on: at least one, at most MAX_LINEAGE."""


def state_of(lineage: Lineage) -> KeyState:
    """What has become of a key, given what has become of those above it."""
    worst = KeyState.ACTIVE
    for key in lineage:
        if key.state is KeyState.REVOKED:
            return KeyState.REVOKED
        if key.state is KeyState.DISABLED:
            worst = KeyState.DISABLED
    return worst
