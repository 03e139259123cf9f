"""What calls answer with: frozen values in Python's own types.

Times are aware and in UTC. Repeated fields are tuples. A text that the API leaves
empty is an empty text here; a time that it leaves out is None. What a keyspace declares,
which is large and is applied as it was read, stays the message of `keyfence.v1`.

A result can be used as a condition only where that says the right thing: those of
checks are true exactly if they are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from keyfence.errors import CallFailed

if TYPE_CHECKING:
    from keyfence.v1 import keyspace_pb2

Item = TypeVar("Item")


class Reason(StrEnum):
    """The one reason behind a verdict. See `keyfence.v1.Reason` for each."""

    UNRECOGNIZED = "UNRECOGNIZED"
    """A reason that this version of the library does not know. Never with an allow."""
    OK = "OK"
    CREDENTIAL_MISSING = "CREDENTIAL_MISSING"
    CREDENTIAL_MALFORMED = "CREDENTIAL_MALFORMED"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    KEYSPACE_MISMATCH = "KEYSPACE_MISMATCH"
    KEY_REVOKED = "KEY_REVOKED"
    KEY_EXPIRED = "KEY_EXPIRED"
    KEY_DISABLED = "KEY_DISABLED"
    ACCOUNT_DISABLED = "ACCOUNT_DISABLED"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    SCOPE_MISSING = "SCOPE_MISSING"
    RATE_LIMITED = "RATE_LIMITED"


class KeyState(StrEnum):
    """The state of a key. Expiry is not a state, because it follows from the time."""

    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this version of the library does not know."""
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"
    REVOKED = "REVOKED"


class AccountState(StrEnum):
    """The state of an account."""

    UNRECOGNIZED = "UNRECOGNIZED"
    """A state that this version of the library does not know."""
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whose key or session it is. The fields are those of `keyfence.v1.Principal`."""

    key_id: str
    account_id: str
    keyspace: str
    key_type: str
    environment: str
    display_name: str
    granted_scopes: tuple[str, ...]
    effective_scopes: tuple[str, ...]
    expire_time: datetime | None
    display_prefix: str
    parent_key_id: str
    labels: Mapping[str, str] = field(hash=False)
    bound_keyspaces: tuple[str, ...]
    session_id: str = ""
    effective_scopes_truncated: bool = False


class RateLimitSubject(StrEnum):
    """What a rate limit applies to. See `keyfence.v1.RateLimitSubject`."""

    UNRECOGNIZED = "UNRECOGNIZED"
    """A subject that this version of the library does not know."""
    KEY = "KEY"
    ACCOUNT = "ACCOUNT"


class RateLimitCount(StrEnum):
    """Where the uses are counted. See `keyfence.v1.RateLimitCount`."""

    UNRECOGNIZED = "UNRECOGNIZED"
    """A value that this version of the library does not know."""
    WHOLE = "WHOLE"
    LOCAL = "LOCAL"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A number of requests in a time, for example `RateLimit(60, timedelta(minutes=1))`."""

    requests: int
    window: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitStatus:
    """The state of a key's rate limit.

    Attributes:
        limit: how many requests the window allows.
        remaining: how many are left in it.
        reset_time: when the window ends, in UTC.
        retry_after: whole seconds until the same request can pass, as in the HTTP header
            `Retry-After`. None unless this request was limited, or if it can never pass.
        window: how long the window is.
        subject: whose limit it is: the key's own, or its account's.
        count: how completely the requests were counted.
    """

    limit: int
    remaining: int
    reset_time: datetime
    retry_after: int | None
    window: timedelta
    subject: RateLimitSubject
    count: RateLimitCount


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """Whether a key is good. True as a condition exactly if it is.

    Attributes:
        authenticated: whether the key is good.
        reason: why. `Reason.OK` exactly if `authenticated`.
        principal: whose key it is. Set also for a known key that is not good: look at
            `authenticated` first.
        revision: the revision that the answer reflects at least.
        rate_limit: where the key's rate limit stands, if it has one.
        stale: whether the answer may be out of date: an operator has asked for such answers
            when nothing better is to be had, and the key may have been revoked since.
    """

    authenticated: bool
    reason: Reason
    principal: Principal | None
    revision: int
    rate_limit: RateLimitStatus | None = None
    stale: bool = False

    def __bool__(self) -> bool:
        return self.authenticated


@dataclass(frozen=True, slots=True)
class ScopePath:
    """How a grant leads to a scope: `path` runs from what `granted` names to `scope`."""

    scope: str
    granted: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CappedScope:
    """A scope that a cap excludes; the cap is, for example, "key_type:publishable"."""

    scope: str
    capped_by: str


@dataclass(frozen=True, slots=True)
class ScopeExplanation:
    """Why a key has or lacks the required scopes.

    Attributes:
        held: one path for each required scope that the key holds.
        sufficient_grants: the smallest grants that would have made up for the rest.
        capped: required scopes that were granted, but taken away by a cap.
    """

    held: tuple[ScopePath, ...]
    sufficient_grants: tuple[str, ...]
    capped: tuple[CappedScope, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Whether a key may do what was asked. True as a condition exactly if it may.

    Attributes:
        allowed: whether the key is good and holds every required scope.
        reason: why. `Reason.OK` exactly if `allowed`.
        missing_scopes: with `Reason.SCOPE_MISSING`, what the key lacks.
        principal: as in `Authentication`.
        revision: the revision that the answer reflects at least.
        explanation: why, at length, if that was asked for and the key is known.
        rate_limit: where the key's rate limit stands, if it has one.
        stale: whether the answer may be out of date: an operator has asked for such answers
            when nothing better is to be had, and the key may have been revoked since.
    """

    allowed: bool
    reason: Reason
    missing_scopes: tuple[str, ...]
    principal: Principal | None
    revision: int
    explanation: ScopeExplanation | None
    rate_limit: RateLimitStatus | None = None
    stale: bool = False

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check of a batch that could not be answered. Never allowed, and always false.

    It is a value beside the results, and not the error itself: an exception in a list
    is true as a condition, and would pass for an allow.

    Attributes:
        error: what the check would have raised on its own.
    """

    error: CallFailed

    @property
    def allowed(self) -> Literal[False]:
        """False: without an answer there is no permission."""
        return False

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeCheck:
    """One check of a batch. Its `repr` does not show the key.

    Attributes:
        api_key: the key that a caller presented.
        required_scopes: the scopes that are needed, all of them.
        keyspace, client_address, at_least_revision, explain, cost: as in `check_scope`.
    """

    api_key: str = field(repr=False)
    required_scopes: tuple[str, ...]
    keyspace: str | None = None
    client_address: str | None = None
    at_least_revision: int = 0
    explain: bool = False
    cost: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The bearer of the client's token.

    Attributes:
        principal: the bearer of the client's token.
        revision: the revision that the answer reflects at least.
    """

    principal: Principal
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key's record, without anything that could be used as the key.

    The fields are those of `keyfence.v1.Key`.
    """

    key_id: str
    keyspace: str
    account_id: str
    display_name: str
    granted_scopes: tuple[str, ...]
    effective_scopes: tuple[str, ...]
    state: KeyState
    expire_time: datetime | None
    key_type: str
    environment: str
    display_prefix: str
    preset: str
    create_time: datetime | None
    update_time: datetime | None
    revoke_time: datetime | None
    revision: int
    allowed_addresses: tuple[str, ...]
    parent_key_id: str
    rotated_from_key_id: str
    rotated_to_key_id: str
    created_by_key_id: str
    labels: Mapping[str, str] = field(hash=False)
    bound_keyspaces: tuple[str, ...]
    rate_limit: RateLimit | None = None
    last_used_time: datetime | None = None
    last_used_address: str = ""
    use_count: int = 0
    effective_scopes_truncated: bool = False


@dataclass(frozen=True, slots=True)
class KeyUsageDay:
    """How often a key was used on a day, in UTC."""

    day: date
    use_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """An action, or a failed attempt, in the audit log. The fields are those of
    `keyfence.v1.AuditEvent`."""

    event_id: str
    time: datetime
    action: str
    keyspace: str
    account_id: str
    subject: str
    actor_id: str
    request_id: str
    details: Mapping[str, object] = field(hash=False)
    sequence: int
    revision: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerification:
    """How far the chain of audit events is intact.

    Attributes:
        sequence: the last event up to which it does.
        hash: that event's. Noted elsewhere, it shows later whether anything up to it was
            changed.
        complete: whether that is the end of the chain.
        problem: what is wrong with the event behind it. Empty: nothing.
        removed_sequence: the last event that was removed after its export. 0: none was.
        removed_hash: the hash of that event.
    """

    sequence: int
    hash: bytes
    complete: bool
    problem: str
    removed_sequence: int = 0
    removed_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class ExportedAuditEvent:
    """An audit event as the text that its hash covers.

    Attributes:
        text: a JSON object.
        hash: SHA-256 of the previous event's hash, followed by the text.
    """

    text: str
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditExport:
    """A part of the audit log for an archive.

    Attributes:
        events: without gaps. Empty: there are no more, for now.
        previous_sequence: the event before the first of them.
        previous_hash: the hash of that event.
    """

    events: tuple[ExportedAuditEvent, ...]
    previous_sequence: int
    previous_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    """A new key, with its plaintext. Its `repr` does not show the plaintext.

    Attributes:
        key: the record.
        api_key: the key itself. It cannot be had again.
        revision: the revision of the mutation.
    """

    key: Key
    api_key: str = field(repr=False)
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyToImport:
    """A key that another program has made, by its plaintext or by a hash of it.

    Attributes:
        api_key: the key itself. It or one of the hashes is given, and no other.
        sha256, sha512: the hash of the key, as bytes.
        hmac_sha256: its HMAC under a secret that the server has in `KEYFENCE_IMPORT_SECRET_FILE`.
        password_hash: a slow hash as its text: Argon2, bcrypt, or as Django writes it. With it
            goes `prefix`, how the key begins.
    """

    account_id: str
    api_key: str | None = field(default=None, repr=False)
    sha256: bytes | None = field(default=None, repr=False)
    sha512: bytes | None = field(default=None, repr=False)
    hmac_sha256: bytes | None = field(default=None, repr=False)
    password_hash: str | None = field(default=None, repr=False)
    prefix: str | None = None
    display_name: str | None = None
    scopes: Sequence[str] = ()
    preset: str | None = None
    key_type: str | None = None
    environment: str | None = None
    expire_time: datetime | None = None
    allowed_addresses: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class RefusedImport:
    """A key that was not imported.

    Attributes:
        index: its place in the call, from 0 on.
        reason: an error reason, for example "UNKNOWN_SCOPE".
        message: what is wrong, and what to do about it.
    """

    index: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedKeys:
    """What came of the keys of a call.

    Attributes:
        imported_count: how many were imported, or would be.
        present_count: how many were there already.
        refused: the others, in order.
        revision: the revision of the mutation.
    """

    imported_count: int
    present_count: int
    refused: tuple[RefusedImport, ...]
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatedKey:
    """A key's successor, with its plaintext. Its `repr` does not show the plaintext.

    Attributes:
        key: the successor's record.
        api_key: the successor itself. It cannot be had again.
        previous_key: the old key's record as it is now.
        revision: the revision of the mutation.
    """

    key: Key
    api_key: str = field(repr=False)
    previous_key: Key
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedKey:
    """A key that was updated or revoked.

    Attributes:
        key: the record as it is now.
        revision: the revision of the mutation.
    """

    key: Key
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedScope:
    """How a scope is connected with others. Fields of `keyfence.v1.ExplainScopeResponse`."""

    scope: str
    description: str
    implies: tuple[ScopePath, ...]
    implied_by: tuple[ScopePath, ...]
    presets: tuple[str, ...]
    capped_key_types: tuple[str, ...]
    active_key_count: int
    implies_count: int
    implied_by_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyspace:
    """A keyspace.

    Attributes:
        declaration: what it declares, as `apply_keyspace` takes it.
        revision: at which it last changed; 0 for one that would only be made.
    """

    name: str
    declaration: keyspace_pb2.Keyspace = field(repr=False, hash=False)
    revision: int
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyScopeChange:
    """How one key's effective scopes differ."""

    key_id: str
    account_id: str
    display_name: str
    gained_scopes: tuple[str, ...]
    lost_scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOffKey:
    """A key that stops working, or may, since its format is dropped."""

    key_id: str
    account_id: str
    display_name: str
    display_prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyspaceDiff:
    """What a declaration changes. The fields are those of `keyfence.v1.KeyspaceDiff`."""

    created: bool
    added_scopes: tuple[str, ...]
    removed_scopes: tuple[str, ...]
    changed_scopes: tuple[str, ...]
    changed_fields: tuple[str, ...]
    affected_keys: tuple[KeyScopeChange, ...]
    affected_key_count: int
    dropped_formats: tuple[str, ...]
    cut_off_keys: tuple[CutOffKey, ...]
    cut_off_key_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedKeyspace:
    """A keyspace that was applied, or would be.

    Attributes:
        keyspace: as it is now, or would be.
        diff: what that changes.
        revision: the revision of the mutation; of the store, if nothing was changed.
    """

    keyspace: Keyspace
    diff: KeyspaceDiff
    revision: int


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a listing.

    Attributes:
        items: the things.
        next_page_token: where the next page starts. Empty: this was the last.
    """

    items: tuple[Item, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A registered account. The fields are those of `keyfence.v1.Account`."""

    account_id: str
    keyspace: str
    email: str
    display_name: str
    plan: str
    state: AccountState
    labels: Mapping[str, str] = field(hash=False)
    create_time: datetime | None
    update_time: datetime | None
    disable_time: datetime | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedAccount:
    """An account that was registered, updated, disabled or enabled.

    Attributes:
        account: the record as it is now.
        revision: the revision of the mutation.
    """

    account: Account
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session. The fields are those of `keyfence.v1.Session`."""

    session_id: str
    account_id: str
    keyspace: str
    create_time: datetime | None
    expire_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A session that has begun, with its token. Its `repr` does not show the token.

    Attributes:
        session_token: what a client of the session is made with, as its `token`. It cannot
            be had again.
        session: the record.
        account: whose session it is.
        revision: the revision of the mutation.
    """

    session_token: str = field(repr=False)
    session: Session
    account: Account
    revision: int


class HolderKind(StrEnum):
    """The kind of a holder."""

    SERVER = "server"
    SIDECAR = "sidecar"
    SDK = "sdk"
    UNRECOGNIZED = "unrecognized"
    """A kind that this version of the library does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A holder, which answers checks from memory, as its grantor knows it.

    Attributes:
        grantor_id: the grantor of the lease; empty for the store.
        applied_revision: the holder has acknowledged every change up to this revision.
        lease_age: time since the lease was renewed. For another server it is exact only to
            one interval of renewal, because servers read each other's state that often.
        join_time: None if the grantor does not know it.
    """

    holder_id: str
    kind: HolderKind
    display_name: str
    grantor_id: str
    applied_revision: int
    lease_age: timedelta | None
    join_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The holders that one server knows.

    Attributes:
        items: the holders; each stands after its grantor.
        head_revision: the newest revision; `head_revision - applied_revision` is a holder's lag.
    """

    items: tuple[Replica, ...]
    head_revision: int
