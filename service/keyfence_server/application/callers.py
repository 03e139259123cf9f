"""The four kinds of callers, and what each of them may act on.

There is a class for each kind:

- an `Operator`, whose credential is a key of the keyspace `system` bound to the
  keyspaces it may act on;
- an `AccountKey`, a key of any other keyspace, which acts on its own account's keys
  within what it may do itself;
- an `AccountSession`, which a log-in has begun; it acts on that account and on its keys;
- an `Anonymous` caller, who has sent no credential, for the few calls that need none.

Only the credential decides who the caller is, and nothing in the request: see `identify_caller`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, NamedTuple, NoReturn

from keyfence_server.application.calls import NO_CALL, Call
from keyfence_server.application.ports import (
    NOTHING_WANTED,
    Change,
    ChangeKind,
    Clock,
    CredentialId,
    Snapshot,
    Wanted,
)
from keyfence_server.domain.accounts import Account, AccountId
from keyfence_server.domain.addresses import find_address
from keyfence_server.domain.attenuation import require_grantable
from keyfence_server.domain.errors import (
    DomainError,
    ExceedsMaker,
    Forbidden,
    NotFound,
    Unauthenticated,
)
from keyfence_server.domain.facts import NEVER, KeyFacts, compile_facts, state_of_owner
from keyfence_server.domain.identifiers import is_session_id
from keyfence_server.domain.keys import Key, KeyId, Lineage
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.redaction import is_an_id
from keyfence_server.domain.sessions import SessionFacts, SessionId
from keyfence_server.domain.system import SYSTEM_KEYSPACE


class Owner(NamedTuple):
    """An account, which is known inside its keyspace alone."""

    keyspace: str
    account_id: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Caller(ABC):
    """The sender of a call.

    Attributes:
        call: which call that is. It holds plain values, so it outlives the call.
        is_operator: whether the credential is an operator's, and not an account's.
    """

    call: Call = NO_CALL
    is_operator: ClassVar[bool] = False

    @property
    def is_stale(self) -> bool:
        """Whether the credential may have been revoked meanwhile, which happens only where an
        operator has asked for stale answers."""
        return False

    @property
    @abstractmethod
    def credential_id(self) -> CredentialId | None:
        """What the credential is known by; None for none."""

    @property
    def own_account(self) -> Owner | None:
        """The one account that the caller acts on; None for callers who have none."""
        return None

    @property
    def wanted(self) -> Wanted:
        """What `reread` will read, as far as it is known."""
        return NOTHING_WANTED

    @property
    def expires_at(self) -> float:
        """When the credential, or one that it was delegated from, expires: in seconds since the
        epoch; infinity for never."""
        return NEVER

    def reaches(self, keyspace: str) -> bool:
        """Whether the caller may know of anything in the keyspace."""
        return self.own_account is not None and keyspace == self.own_account.keyspace

    @abstractmethod
    async def reread(self, snapshot: Snapshot, clock: Clock) -> Caller:
        """The caller as the store knows it now. Raises `Unauthenticated`."""

    def is_concerned_by(self, change: Change) -> bool:
        """Whether the change may take away what the caller was let in for."""
        return change.subject == self.credential_id

    def require_reach(self, keyspace: str) -> None:
        """Raises `Forbidden` unless the caller may act on the keyspace."""
        if not self.reaches(keyspace):
            raise Forbidden(
                f'this credential is not bound to the keyspace "{keyspace}"',
                reason="KEYSPACE_NOT_BOUND",
                keyspace=keyspace,
            )

    def may_know(self, owner: Owner) -> bool:
        """Whether the caller may know of what this account has, and of the account: to
        others it is not there."""
        return self.reaches(owner.keyspace) and self.own_account in (None, owner)

    def require_key(self, key_id: str, found: Key | None) -> Key:
        """The key, if there is one and the caller may know of it. Raises `NotFound`."""
        if found is None or not self.may_know(Owner(found.keyspace, found.account_id)):
            raise _nothing_called("key", "key_", "KEY_NOT_FOUND", key_id=key_id)
        return found

    def require_account(self, account_id: str, found: Account | None) -> Account:
        """The account, if there is one and the caller may know of it. Raises `NotFound`."""
        if found is None or not self.may_know(Owner(found.keyspace, found.account_id)):
            raise _nothing_called(
                "registered account", "usr_", "ACCOUNT_NOT_FOUND", account_id=account_id
            )
        return found

    def require_scope(self, scope: str, *, method: str = "") -> None:
        """Makes sure that an operator holds a scope of the keyspace `system`.

        Raises:
            Forbidden: the credential lacks it, or is not an operator's.
        """
        raise Forbidden(
            f'this call needs an operator credential with the scope "{scope}"',
            reason="SCOPE_REQUIRED",
            required_scope=scope,
            **({"method": method} if method else {}),
        )

    def require_key_management(self, scope: str, *, method: str = "") -> None:
        """Makes sure that the caller may manage keys, an operator by the scope. Raises
        `Forbidden`."""
        self.require_scope(scope, method=method)

    def require_account_management(self, scope: str, *, method: str = "") -> None:
        """Makes sure that the caller may manage accounts, an operator by the scope. Raises
        `Forbidden`."""
        self.require_scope(scope, method=method)

    def bounding_keys(self, keyspace: str) -> Sequence[KeyFacts]:
        """The keys within which a key of this keyspace must stay if this caller makes it."""
        return ()

    def require_grantable(self, key: Key) -> None:  # noqa: B027 - most keep to nothing more
        """Makes sure that the caller may make a key like this, besides its `bounding_keys`.
        Raises `ExceedsMaker`."""

    def latest_expiry(self) -> datetime | None:
        """When a key that the caller makes must expire at the latest, besides its `bounding_keys`;
        None for no such time."""
        return None

    def delegated_in(self, keyspace: str) -> KeyId | None:
        """The credential's id, if it is a delegated key of this keyspace."""
        return None

    def require_delegated_from_self(self, lineage: Lineage) -> None:
        """Makes sure that a delegated key changes only itself and the keys delegated from it.

        Otherwise it could gain control of a key that stays after its own revocation: it could
        rotate the key that it was delegated from, for example, and keep the successor.

        Raises:
            ExceedsMaker: the key was not delegated from the caller's key.
        """
        delegated = self.delegated_in(lineage[0].keyspace)
        if delegated is not None and all(key.key_id != delegated for key in lineage):
            raise ExceedsMaker(
                f"{delegated} was delegated, so it manages only keys that were delegated from "
                f"it, and {lineage[0].key_id} was not",
                exceeds="parent_key_id",
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Key(Caller):
    """The bearer of a key."""

    facts: KeyFacts

    @property
    def is_stale(self) -> bool:
        return self.facts.is_stale

    @property
    def credential_id(self) -> KeyId:
        return self.facts.key_id

    @property
    def wanted(self) -> Wanted:
        return Wanted(keys=frozenset([self.credential_id]))

    @property
    def expires_at(self) -> float:
        return self.facts.expires_at

    def is_concerned_by(self, change: Change) -> bool:
        # The key, each that it was delegated from, and their account.
        if change.kind is ChangeKind.ACCOUNT:
            return change.subject == self.facts.key.account_id
        return change.kind is ChangeKind.KEY and any(
            one.key_id == change.subject for one in self.facts.lineage
        )

    def delegated_in(self, keyspace: str) -> KeyId | None:
        key = self.facts.key
        return key.key_id if key.parent_key_id is not None and key.keyspace == keyspace else None

    async def reread(self, snapshot: Snapshot, clock: Clock) -> Caller:
        lineage = await snapshot.find_lineage(self.facts.key_id)
        keyspace = await _find_keyspace(snapshot, lineage[0].keyspace) if lineage else None
        if lineage is None or keyspace is None:
            raise rejection(Reason.KEY_UNKNOWN)
        account = await snapshot.find_account(AccountId(lineage[0].account_id))
        facts = compile_facts(lineage, keyspace, state_of_owner(lineage[0], account))
        return caller_with_key(facts, clock, self.call)


@dataclass(frozen=True, slots=True, eq=False)
class Operator(_Key):
    """The bearer of an operator credential."""

    is_operator = True

    def reaches(self, keyspace: str) -> bool:
        """See `Caller`. As far as the credential is bound."""
        return self.facts.acts_on(keyspace)

    def require_scope(self, scope: str, *, method: str = "") -> None:
        if not self.facts.effective & SYSTEM_KEYSPACE.catalog.required_mask([scope]):
            Caller.require_scope(self, scope, method=method)

    def bounding_keys(self, keyspace: str) -> Sequence[KeyFacts]:
        """See `Caller`. An operator's scopes are those of Keyfence's own RPCs. They do not bound
        the scopes of keys of other keyspaces."""
        return (self.facts,) if keyspace == SYSTEM else ()


@dataclass(frozen=True, slots=True, eq=False)
class AccountKey(_Key):
    """The bearer of an account's key."""

    @property
    def own_account(self) -> Owner:
        key = self.facts.key
        return Owner(key.keyspace, key.account_id)

    def require_key_management(self, scope: str, *, method: str = "") -> None:
        """See `Caller`. By the key's type and by the types of those that it was delegated from."""
        for key in self.facts.lineage:
            kind = self.facts.keyspace.find_key_type(key.key_type)
            if kind is None or not kind.manages_keys:
                raise Forbidden(
                    f'a key of type "{key.key_type}" may not manage keys, nor may one that was '
                    "delegated from it",
                    reason="KEY_TYPE_MAY_NOT_MANAGE",
                    key_type=key.key_type,
                )

    def require_account_management(self, scope: str, *, method: str = "") -> NoReturn:
        """See `Caller`. A key is for programs. Only a person who has logged in may change a
        password."""
        raise Forbidden(
            "a key does not manage its account; log in, and call with the session's token",
            reason="SESSION_REQUIRED",
        )

    def bounding_keys(self, keyspace: str) -> Sequence[KeyFacts]:
        return (self.facts,)


@dataclass(frozen=True, slots=True, eq=False)
class AccountSession(Caller):
    """The bearer of a session's token."""

    facts: SessionFacts

    @property
    def credential_id(self) -> SessionId:
        """The session's id."""
        return self.facts.session_id

    @property
    def own_account(self) -> Owner:
        session = self.facts.session
        return Owner(session.keyspace, session.account_id)

    @property
    def wanted(self) -> Wanted:
        session = self.facts.session
        return Wanted(
            accounts=frozenset([session.account_id]), keyspaces=frozenset([session.keyspace])
        )

    def require_key_management(self, scope: str, *, method: str = "") -> None:
        """See `Caller`. It is what sessions are for."""

    def require_account_management(self, scope: str, *, method: str = "") -> None:
        """See `Caller`. It is what sessions are for."""

    def require_grantable(self, key: Key) -> None:
        """See `Caller`. The measure is the keyspace: what its accounts may grant."""
        require_grantable(self.facts.keyspace, key)
        latest = self.latest_expiry()
        made_in_session = key.created_by_key_id is not None and is_session_id(key.created_by_key_id)
        if latest is None or not made_in_session:
            return
        if key.expire_time is None or key.expire_time > latest:
            raise ExceedsMaker(
                f'a key that is made in a session of keyspace "{key.keyspace}" ends with the '
                f"session; give an expire_time up to {latest.isoformat(timespec='seconds')}",
                exceeds="expire_time",
            )

    def latest_expiry(self) -> datetime | None:
        """See `Caller`. The session's own, if the keyspace says that keys end with it."""
        accounts = self.facts.keyspace.declaration.accounts
        ends = accounts is not None and accounts.keys_end_with_session
        return self.facts.session.expire_time if ends else None

    async def reread(self, snapshot: Snapshot, clock: Clock) -> Caller:
        session = await snapshot.find_session(self.facts.session_id)
        account = await snapshot.find_account(self.facts.session.account_id)
        keyspace = await _find_keyspace(snapshot, self.facts.session.keyspace)
        if session is None or account is None or keyspace is None:
            raise rejection(Reason.KEY_UNKNOWN)
        facts = SessionFacts(session, account.state, keyspace)
        return caller_with_session(facts, clock, self.call)


@dataclass(frozen=True, slots=True, eq=False)
class Anonymous(Caller):
    """A caller without a credential."""

    @property
    def credential_id(self) -> None:
        return

    async def reread(self, snapshot: Snapshot, clock: Clock) -> Caller:
        """The same caller: there is nothing to be read."""
        return self


def caller_with_key(facts: KeyFacts, clock: Clock, call: Call) -> Operator | AccountKey:
    """The bearer of this key. Raises `Unauthenticated` if it does not pass."""
    address = find_address(call.address) if facts.allow_lists else None
    reason = facts.reason_at(clock.timestamp(), address)
    if reason is not Reason.OK:
        raise rejection(reason)
    kind = Operator if facts.keyspace is SYSTEM_KEYSPACE else AccountKey
    return kind(facts, call=call)


def caller_with_session(facts: SessionFacts, clock: Clock, call: Call) -> AccountSession:
    """The bearer of this session's token. Raises `Unauthenticated` if it does not pass."""
    reason = facts.reason_at(clock.timestamp())
    if reason is not Reason.OK:
        raise rejection(reason)
    return AccountSession(facts, call=call)


def rejection(reason: Reason) -> DomainError:
    """The error for a credential that does not pass."""
    if reason is Reason.CREDENTIAL_MISSING:
        return Unauthenticated(
            'this call needs a credential: send it as metadata "authorization: Bearer ..."',
            reason="CREDENTIAL_REQUIRED",
            cause=reason.name,
        )
    return Unauthenticated(
        "the credential of this call is not accepted: it is mistyped, unknown, expired, disabled "
        "or revoked; the server's log says which",
        cause=reason.name,
    )


def _nothing_called(what: str, prefix: str, reason: str, **sent: str) -> NotFound:
    """The error for an id that was not found. Text that is not an id may be a key, so it is not
    repeated."""
    if all(map(is_an_id, sent.values())):
        (text,) = sent.values()
        message = f'there is no {what} "{text}" that this credential may see'
        return NotFound(message, reason=reason, **sent)
    return NotFound(f"there is no such {what}: the id of one begins with {prefix}", reason=reason)


async def _find_keyspace(snapshot: Snapshot, name: str) -> Keyspace | None:
    return SYSTEM_KEYSPACE if name == SYSTEM else await snapshot.find_keyspace(name)
