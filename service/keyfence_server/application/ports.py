"""What the use cases need from the world, and what each of it promises.

Every docstring here is a contract: whoever implements a port keeps it, and the
conformance suite (`tests/store_contract`) holds stores to it. Times are aware,
in UTC, to the microsecond. Ids, names and digests compare byte by byte: never by a
collation that folds or trims.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Final, Protocol, TypeAlias

from keyfence_server.domain.accounts import Account, AccountId, AccountState, PasswordHash
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keys import Key, KeyId, KeyState, Lineage
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest, Plaintext
from keyfence_server.domain.sessions import Session, SessionFacts, SessionId

CredentialId: TypeAlias = KeyId | SessionId
"""What a caller is known by."""

MAX_USE_COUNT: Final = 2**53 - 1
"""The most that a count of uses says: what JSON's readers keep exactly. Sums saturate there."""


class StoreUnavailable(Exception):
    """The store cannot be reached, or does not answer in time. Nothing was changed,
    or, if a commit was under way, it is not known whether it took effect."""


class StoreRefuses(StoreUnavailable):
    """The store can be reached, and does not let this process know anything any more."""


class Clock(Protocol):
    """The time, passed in so that tests can hold it."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        ...

    def timestamp(self) -> float:
        """The same moment as seconds since the epoch: what a hot path compares."""
        ...


class ChangeKind(Enum):
    """What a change is about."""

    KEY = "key"
    KEYSPACE = "keyspace"
    ACCOUNT = "account"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Change:
    """That something is no longer as it was: all that a cache needs to forget it.

    Attributes:
        subject: the key's, account's or session's id, or the keyspace's name. A change of
            an account concerns all its keys and sessions as well.
        keyspace: the keyspace that the subject is in, or is.
        created: whether the subject was not there before, so that a cache which
            remembers absence must forget that.
    """

    kind: ChangeKind
    subject: str
    keyspace: str
    created: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """That somebody did something. Written in the transaction that did it.

    Attributes:
        action: "key.create", "key.update", "key.rotate", "key.revoke",
            "keyspace.apply", "account.register", "account.update", "account.disable",
            "account.enable", "account.log_in", "account.log_out".
        actor_key_id: the credential that asked for it, a key or a session; None where none
            was needed: when the server makes the first credential itself, and where
            anybody may register or log in.
        subject: the key's, account's or session's id, or the keyspace's name.
        request_id: of the RPC, as in the log.
        details: what a reader would ask next, never a secret.
    """

    event_id: str
    time: datetime
    action: str
    actor_key_id: CredentialId | None
    keyspace: str
    account_id: str | None
    subject: str
    request_id: str | None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """An event and its place in the chain of all of them.

    Attributes:
        sequence: 1 for the first event, and so on without gaps.
        revision: of the mutation that it tells of; None if it tells of none.
        hash: of the event and of the hash of the one before, as `audit_chain` says.
    """

    sequence: int
    revision: int | None
    event: AuditEvent
    hash: bytes


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """How many events there are, and the hash of the last one."""

    count: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list. None means any.

    Attributes:
        action_prefix: what the action begins with, such as "key." or "key.revoke".
        start_time: not before this.
        end_time: before this.
        after_sequence: behind this place in the chain.
        but_keyspace: none of this keyspace.
    """

    keyspaces: frozenset[str] | None = None
    but_keyspace: str | None = None
    account_id: str | None = None
    subject: str | None = None
    actor_key_id: str | None = None
    action_prefix: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    after_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How a key has been used.

    Attributes:
        last_used_address: where the key was presented from then; empty for unknown.
        count: how often, in all.
    """

    last_used_time: datetime
    last_used_address: str
    count: int


@dataclass(frozen=True, slots=True)
class UseToAdd:
    """That a key was used so often since somebody last said so.

    Attributes:
        day: on which day, in UTC.
    """

    key_id: KeyId
    day: date
    use: KeyUse


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys to list. None means any. `state` is the keys' own, not their lineage's."""

    keyspace: str
    account_id: str | None = None
    state: KeyState | None = None
    parent_key_id: KeyId | None = None


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts to list. None means any."""

    keyspace: str
    state: AccountState | None = None


class FactSnapshot(Protocol):
    """What a cache of facts reads: from a store, or from another Keyfence."""

    @property
    def revision(self) -> int:
        """The revision that this reading shows at least. 0 before the first mutation."""
        ...

    async def find_lineage_by_digest(self, candidates: Sequence[Digest]) -> Lineage | None:
        """The key kept under any of these digests, with those it was delegated from.

        A digest matches by its value and its pepper version together.
        """
        ...

    async def list_keyspaces(self, *, after: str | None, limit: int) -> list[Keyspace]:
        """At most `limit` keyspaces with a name above `after`, in the order of their names."""
        ...

    async def find_owner_state(self, key: Key) -> AccountState | None:
        """Whether the key's owner works, if that is a registered account of its keyspace."""
        ...

    async def find_session(self, session_id: SessionId) -> Session | None:
        """The session with this id."""
        ...

    async def find_account(self, account_id: AccountId) -> Account | None:
        """The registered account with this id."""
        ...


class FactStore(Protocol):
    """Where a cache of facts loads them from."""

    def snapshot(self) -> AbstractAsyncContextManager[FactSnapshot]:
        """Opens a reading. Raises `StoreUnavailable`."""
        ...


class Snapshot(FactSnapshot, Protocol):
    """A consistent reading of the store: all its answers are of one revision."""

    async def find_key(self, key_id: KeyId) -> Key | None:
        """The key with this id."""
        ...

    async def find_lineage(self, key_id: KeyId) -> Lineage | None:
        """The key with this id, and the keys that it was delegated from, in order."""
        ...

    async def find_keyspaces_of(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, str]:
        """In which keyspace each of the keys is. Those that are not there are left out."""
        ...

    async def ancestors(self, keys: Collection[Key]) -> Mapping[KeyId, Lineage]:
        """For each of the keys its lineage, in as many queries as the deepest is deep."""
        ...

    async def list_keys(self, which: KeyFilter, *, after: KeyId | None, limit: int) -> list[Key]:
        """At most `limit` keys with an id above `after`, in the order of their ids."""
        ...

    def iterate_keys(self, keyspace: str) -> AsyncIterator[Key]:
        """Every key of the keyspace that is not revoked, in no particular order, without
        holding them all in memory. The caller finishes it before asking anything else."""
        ...

    async def count_keys(
        self, keyspace: str, *, key_type: str | None = None, environment: str | None = None
    ) -> int:
        """How many keys that are not revoked the keyspace has, of this type and environment."""
        ...

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace with this name. Never the built-in one."""
        ...

    async def find_request(self, caller: CredentialId, request_id: str) -> KeyId | None:
        """The key that the caller's request of this id made."""
        ...

    async def find_account_by_email(self, keyspace: str, identity: str) -> Account | None:
        """The account of this keyspace whose address has this identity."""
        ...

    async def list_accounts(
        self, which: AccountFilter, *, after: AccountId | None, limit: int
    ) -> list[Account]:
        """At most `limit` accounts with an id above `after`, in the order of their ids."""
        ...

    async def list_events(
        self,
        which: EventFilter,
        *,
        after: int | None,
        limit: int,
        newest_first: bool = False,
    ) -> list[RecordedEvent]:
        """At most `limit` audit events in the order of their sequence: those above `after`,
        or, the newest first, those below it. None for `after` begins at the end."""
        ...

    async def end_of_events(self) -> ChainEnd:
        """Where the chain of audit events ends, as the store remembers it apart from them."""
        ...

    async def find_uses(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, KeyUse]:
        """How these keys have been used, as far as it is written down; what was never
        used is left out."""
        ...

    async def list_use_days(
        self, key_id: KeyId, *, first: date, last: date
    ) -> list[tuple[date, int]]:
        """How often a key was used on each of these days, in order, without those on which
        it was not."""
        ...

    async def list_changes(self, *, after: int, limit: int) -> list[tuple[int, Change]]:
        """At most `limit` changes with a revision above `after`, in order of revision and
        of position inside it; never a part of a revision's changes alone, unless
        `limit` is smaller than that revision."""
        ...


class Transaction(Snapshot, Protocol):
    """A mutation under way. It has locked the head, so no other mutation is: what it
    reads stays true until it ends.

    Leaving the transaction without `commit` undoes all of it.
    """

    @property
    def revision(self) -> int:
        """The revision that this mutation will have: the head's plus one."""
        ...

    async def insert_key(self, key: Key) -> None:
        """Adds a key, stamped with this revision. Its id and digest must be new."""
        ...

    async def update_key(self, key: Key) -> None:
        """Replaces the record with the key's id, stamped with this revision.

        Exactly one row is touched, or nothing is and an error is raised.
        """
        ...

    async def put_keyspace(self, keyspace: Keyspace) -> None:
        """Adds or replaces the keyspace of that name, stamped with this revision."""
        ...

    async def insert_account(self, account: Account) -> None:
        """Adds an account, stamped with this revision. Its id must be new, and its address
        in its keyspace."""
        ...

    async def update_account(self, account: Account) -> None:
        """Replaces the record with the account's id, stamped with this revision.

        Exactly one row is touched, or nothing is and an error is raised. So is an error
        if another account of the keyspace has its address.
        """
        ...

    async def insert_session(self, session: Session) -> None:
        """Adds a session, stamped with this revision. Its id must be new, and its account
        there. Also forgets, at its leisure, sessions that were past their time a day
        before this one began."""
        ...

    async def update_session(self, session: Session) -> None:
        """Replaces the record with the session's id, stamped with this revision.

        Exactly one row is touched, or nothing is and an error is raised.
        """
        ...

    async def end_sessions(
        self, account_id: AccountId, time: datetime, *, but: SessionId | None = None
    ) -> int:
        """Ends every session of the account that has not ended and is not past its time,
        save for one; stamps them with this revision, and tells how many they were."""
        ...

    async def insert_request(
        self, caller: CredentialId, request_id: str, key_id: KeyId, time: datetime
    ) -> None:
        """Remembers what a request made. Also forgets, at its leisure, requests that are
        older than 24 hours before `time`."""
        ...

    async def commit(self, changes: Sequence[Change], event: AuditEvent) -> int:
        """Makes everything durable at once: rows, revision, changes and audit event.

        Args:
            changes: at least one, in order.

        Returns:
            The revision, one above the head that the transaction found.

        Raises:
            StoreUnavailable: it is not known whether the mutation took effect.
        """
        ...


class NoteStore(Protocol):
    """Where what was noted in passing is written down."""

    async def add_uses(self, uses: Sequence[UseToAdd], *, forget_before: date) -> None:
        """Adds to what is known of keys' uses, all of it or nothing.

        It is no mutation: nothing that caches keep is touched, and there is no revision.
        A time or address that is older than what is known already changes neither. Sums
        saturate at `MAX_USE_COUNT`.

        Args:
            uses: at most one for each key and day.
            forget_before: what was counted for earlier days is forgotten.

        Raises:
            StoreUnavailable: nothing was added, or it is not known whether it was.
        """
        ...

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """Adds audit events that tell of no mutation to the chain, all of them or none.

        Raises:
            StoreUnavailable: nothing was added, or it is not known whether it was.
        """
        ...


class Store(NoteStore, Protocol):
    """Where the truth is kept."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Opens a consistent reading. Raises `StoreUnavailable`."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Opens a mutation, once every other has ended. Raises `StoreUnavailable`."""
        ...

    async def ping(self) -> None:
        """Returns if the store answers. Raises `StoreUnavailable`."""
        ...

    async def close(self) -> None:
        """Lets go of every connection. Nothing may be asked afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class UsesOfPeppers:
    """What some peppers are still needed for.

    Attributes:
        keys: how many keys that are neither revoked nor expired.
        passwords: how many accounts' passwords.
    """

    keys: int
    passwords: int


class SetUp(Protocol):
    """What the store remembers of how it was set up. None of it is a mutation.

    Every method raises `StoreUnavailable`.
    """

    async def is_first_start_over(self) -> bool:
        """Whether `end_first_start` was ever called on this store."""
        ...

    async def end_first_start(self) -> None:
        """Remembers for good that the first start is over."""
        ...

    async def register_peppers(
        self, fingerprints: Mapping[int, bytes]
    ) -> Mapping[int, bytes | None]:
        """Writes down the fingerprints of versions that have none yet, and no others.

        Returns:
            All that are known by then. None for a version that something is under, and
            whose pepper nobody has given yet.
        """
        ...

    async def count_uses_of_peppers(
        self, versions: Collection[int], now: datetime
    ) -> UsesOfPeppers:
        """What the peppers of these versions are needed for."""
        ...


class FenceEnd(Enum):
    """By what it is known that nobody answers from before a revision any more."""

    ACKNOWLEDGEMENTS = "acknowledgements"
    """Everyone has said so."""
    TIME = "time"
    """Somebody has not, and has no lease any more from before it."""


class Fence(Protocol):
    """Knows when a mutation holds everywhere."""

    async def wait(self, revision: int, changes: Sequence[Change]) -> FenceEnd:
        """Returns when no holder answers from before `revision` any more, and by what that
        is known.

        Called after every commit, once, in a task that nobody cancels. Until it has
        returned the mutation is not acknowledged to its caller. The head is not locked any
        more: fences of several mutations may be waited for at once, in any order.
        """
        ...

    async def settle(self, revision: int) -> FenceEnd:
        """Returns when everything up to `revision` holds everywhere, and by what that is
        known.

        Called for an answer that changed nothing because it found things to be so
        already: the mutation that made them so may still be waiting for its fence, or
        may never have got that far.
        """
        ...

    async def forget_everything(self) -> None:
        """Called when the outcome of a commit is not known: no holder may go on
        answering from what it remembers."""
        ...


class FactSource(Protocol):
    """Answers about keys and keyspaces: from memory where that is allowed, else from
    the store. What it answers is never older than any mutation that was fenced before
    the question was asked."""

    @property
    def revision(self) -> int:
        """The revision that every answer from now on reflects at least."""
        ...

    def recall(self, digest: bytes) -> KeyFacts | None:
        """What memory holds of the key with this digest; None if it must be looked up.

        Made for the hot path: no I/O, no waiting. Raises `StoreUnavailable` if nothing
        may be answered from memory for now, nor from anywhere else.
        """
        ...

    async def find_facts(self, candidates: Sequence[Digest]) -> KeyFacts | None:
        """The key kept under any of these digests. Raises `StoreUnavailable`."""
        ...

    async def find_session(self, session_id: SessionId) -> SessionFacts | None:
        """The session with this id, from memory where that is allowed. Raises
        `StoreUnavailable`."""
        ...

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too. Raises `StoreUnavailable`."""
        ...

    async def list_keyspaces(self) -> Sequence[Keyspace]:
        """Every keyspace, the built-in one too. Raises `StoreUnavailable`."""
        ...

    async def recogniser(self) -> Recogniser:
        """Tells which keyspaces' keys a text could be. Raises `StoreUnavailable`."""
        ...


class PasswordHashes(Protocol):
    """Hashes passwords, slowly on purpose, and apart from everything that must not wait."""

    def turn(self) -> AbstractContextManager[None]:
        """A place among those whose passwords are hashed, for as long as it is held. There
        are not many. Raises `Overloaded` when all are taken."""
        ...

    async def hash(self, password: Plaintext) -> PasswordHash:
        """What to keep of a password. To be called in a turn."""
        ...

    async def verify(self, password: Plaintext, kept: PasswordHash | None) -> bool:
        """Whether this is the password that was kept. To be called in a turn.

        Args:
            kept: None: there is none, which takes the same work to find out.
        """
        ...

    def is_outdated(self, kept: PasswordHash) -> bool:
        """Whether the password would be kept in another way today."""
        ...


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """What a session's token says. Its signature was good; nothing else is checked yet.

    Attributes:
        expires_at: seconds since the epoch, whole.
    """

    session_id: SessionId
    account_id: AccountId
    keyspace: str
    expires_at: int


class SessionTokens(Protocol):
    """Signs sessions, and reads what it has signed."""

    def sign(self, session: Session) -> Plaintext:
        """The token for the session's holder."""
        ...

    def looks_like_one(self, text: str) -> bool:
        """Whether a text has the form of a token, which no key can have."""
        ...

    def read(self, text: str) -> SessionClaims | None:
        """What a token says; None if it was not signed here, in every respect."""
        ...
