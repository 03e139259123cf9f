"""The store: consistent readings, and mutations with one revision each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Protocol

from keyfence_server.application.ports.audit import (
    AuditCut,
    AuditEvent,
    ChainEnd,
    CredentialId,
    EventFilter,
    RecordedEvent,
)
from keyfence_server.application.ports.changes import Change
from keyfence_server.application.ports.fact_source import FactSnapshot, FactStore
from keyfence_server.application.ports.usage import KeyUse, NoteStore
from keyfence_server.domain.accounts import Account, AccountId, AccountState
from keyfence_server.domain.keys import Key, KeyId, KeyState, Lineage
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session, SessionId


class StoreProblem(StrEnum):
    """Why a store does not do what it is asked, as an operator needs to know it."""

    UNREACHABLE = "unreachable"
    """It cannot be connected to, or the connection was lost."""
    BUSY = "busy"
    """It works, and this took too long or was in the way of something else."""
    DISK_FULL = "disk_full"
    READ_ONLY = "read_only"
    LOGIN_REFUSED = "login_refused"
    """The password, the user, the database's name or a permission is wrong."""
    IO_ERROR = "io_error"
    DAMAGED = "damaged"


class StoreUnavailable(Exception):
    """The store cannot be reached, or does not answer in time. Nothing was changed,
    or, if a commit was under way, it is not known whether it took effect.

    Attributes:
        problem: why.
    """

    def __init__(
        self, message: str = "", *, problem: StoreProblem = StoreProblem.UNREACHABLE
    ) -> None:
        super().__init__(message)
        self.problem = problem


class StoreRefuses(StoreUnavailable):
    """The store can be reached, and does not let this process know anything any more."""


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys to list. None means any. `state` is the keys' own, not their lineage's."""

    keyspace: str
    account_id: str | None = None
    state: KeyState | None = None
    parent_key_id: KeyId | None = None
    key_type: str | None = None
    environment: str | None = None
    display_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class KeyCriteria:
    """What else listed keys must meet. The store examines keys one by one for it.

    Attributes:
        labels: the key has all of them, with these values.
        granted_any: the key has at least one of these scopes and wildcards among its grants.
            None: whatever it was granted.
        unused_since: the key was created before this time, and no use from it on is written down.
        never_used: no use of the key is written down.
        expiring: the key expires later than the first of the two times and before the second.
        not_revoked: the key's own state is not "revoked".
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    granted_any: Collection[str] | None = None
    unused_since: datetime | None = None
    never_used: bool = False
    expiring: tuple[datetime, datetime] | None = None
    not_revoked: bool = False


@dataclass(frozen=True, slots=True)
class SlowHash:
    """The slow hash of an imported key that was not used yet.

    Attributes:
        prefix: how the key begins.
        kept: the digest that stands for the key until then.
        text: the hash, as the other program has written it.
    """

    key_id: KeyId
    keyspace: str
    prefix: str
    kept: Digest
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewDigest:
    """A digest that takes the place of what was kept of an imported key.

    Attributes:
        kept: what was kept of the key.
        digest: of its plaintext.
        display_prefix: as its plaintext shows it.
    """

    key_id: KeyId
    keyspace: str
    kept: Digest
    digest: Digest
    display_prefix: str


@dataclass(frozen=True, slots=True)
class GrantedAlike:
    """So many keys of a type that were granted the same."""

    granted_scopes: tuple[str, ...]
    key_type: str
    count: int


@dataclass(frozen=True, slots=True)
class KeySpan:
    """The keys of a keyspace with an id above `after` and up to `end` that are not revoked and
    not expired by a time. None for no bound."""

    keyspace: str
    unexpired_at: datetime
    after: KeyId | None = None
    end: KeyId | None = None


class Snapshot(FactSnapshot, Protocol):
    """A consistent reading of the store: all its answers are of one revision."""

    async def find_key(self, key_id: KeyId) -> Key | None:
        """The key with this id."""

    async def find_digests(self, digests: Collection[Digest]) -> Collection[Digest]:
        """Which of these digests keys are kept under, or were before `replace_digest`. A digest
        matches by its value and its pepper version together."""

    async def find_slow_hashes(
        self, keyspaces: Collection[str], prefixes: Collection[str], *, limit: int
    ) -> list[SlowHash]:
        """At most `limit` slow hashes of these keyspaces with one of these prefixes, the longest
        prefixes first."""

    async def count_slow_hashes(
        self, keyspace: str, prefixes: Collection[str]
    ) -> Mapping[str, int]:
        """How many slow hashes of the keyspace have each of these prefixes. None is left out."""

    async def find_lineage(self, key_id: KeyId) -> Lineage | None:
        """The key with this id, and the keys that it was delegated from, in order."""

    async def find_keyspaces_of(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, str]:
        """In which keyspace each of the keys is. Those that are not there are left out."""

    async def ancestors(self, keys: Collection[Key]) -> Mapping[KeyId, Lineage]:
        """For each of the keys its lineage, in as many queries as the deepest is deep."""

    async def list_keys(self, which: KeyFilter, *, after: KeyId | None, limit: int) -> list[Key]:
        """At most `limit` keys with an id above `after`, in the order of their ids."""

    async def search_keys(
        self,
        which: KeyFilter,
        criteria: KeyCriteria,
        *,
        after: KeyId | None,
        limit: int,
        examined: int,
        most_text: int,
    ) -> tuple[list[Key], KeyId | None]:
        """Keys with an id above `after` that pass the filter and meet the criteria, in the order
        of their ids.

        The search examines a bounded number of keys, so that the time for one search does not
        grow with the keyspace.

        Args:
            limit: how many keys to return at most.
            examined: how many keys to examine at most.
            most_text: about how many characters the scopes, addresses and labels of the keys may
                have together. The keys end early where these are large.

        Returns:
            The keys, and after which id the search continues; None if there is nothing more to
            examine.
        """

    def iterate_keys(self, keyspace: str) -> AsyncIterator[Key]:
        """Every key of the keyspace that is not revoked, in no particular order, without
        holding them all in memory. The caller finishes it before asking anything else."""

    async def first_span(self, span: KeySpan, *, examined: int) -> KeySpan:
        """The first part of a span, which ends with so many keys of the keyspace."""

    async def count_grants(self, span: KeySpan) -> tuple[list[GrantedAlike], int]:
        """What the keys of a span were granted, and how many other keys of it are delegated.

        The work grows with the span; what is returned, with the number of different grants.
        """

    async def list_granted(
        self, span: KeySpan, grants: Collection[tuple[str, ...]] | None, *, limit: int
    ) -> list[Key]:
        """At most `limit` keys of a span, in the order of their ids: those that are not delegated
        and were granted one of these; None: those that are delegated."""

    async def count_keys(
        self,
        keyspace: str,
        *,
        key_type: str | None = None,
        environment: str | None = None,
        account_id: str | None = None,
        unexpired_at: datetime | None = None,
    ) -> int:
        """How many keys that are not revoked the keyspace has. None means any.

        Args:
            unexpired_at: only keys that are not expired by then.
        """

    async def prepare_keyspace(self, keyspace: Keyspace) -> None:
        """Makes ready what `Transaction.put_keyspace` will write, so that no other transaction
        waits for it: a large keyspace takes long to be written as a document."""

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace with this name. Never the built-in one."""

    async def find_request(self, caller: CredentialId, request_id: str) -> KeyId | None:
        """The key that the caller's request of this id made."""

    async def find_account_by_email(self, keyspace: str, identity: str) -> Account | None:
        """The account of this keyspace whose address has this identity."""

    async def list_accounts(
        self,
        keyspace: str,
        state: AccountState | None = None,
        *,
        after: AccountId | None,
        limit: int,
    ) -> list[Account]:
        """At most `limit` accounts of the keyspace, in this state or in any, with an id above
        `after`, in the order of their ids."""

    async def list_events(
        self, which: EventFilter, *, after: int | None, limit: int, newest_first: bool = False
    ) -> list[RecordedEvent]:
        """At most `limit` audit events in the order of their sequence: those above `after`,
        or, the newest first, those below it. None for `after` begins at the end."""

    async def find_event(self, event_id: str, which: EventFilter) -> int | None:
        """The sequence of the audit event with this id, if it passes the filter."""

    async def end_of_events(self) -> ChainEnd:
        """Where the chain of audit events ends, as the store remembers it apart from them."""

    async def audit_cut(self) -> AuditCut:
        """How far the events were exported, and how far they were removed."""

    async def find_uses(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, KeyUse]:
        """How these keys have been used, as far as it is written down; what was never
        used is left out."""

    async def list_use_days(
        self, key_id: KeyId, *, first: date, last: date
    ) -> list[tuple[date, int]]:
        """How often a key was used on each of these days, in order, without those on which
        it was not."""

    async def list_changes(self, *, after: int, limit: int) -> list[tuple[int, Change]]:
        """At most `limit` changes with a revision above `after`, in order of revision and
        of position inside it; never a part of a revision's changes alone, unless
        `limit` is smaller than that revision."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What mutations will probably read, so that the store reads it at once.

    Attributes:
        keys: with their lineages, their owners and their keyspaces.
        accounts: registered or not.
    """

    keys: frozenset[KeyId] = frozenset()
    accounts: frozenset[AccountId] = frozenset()
    keyspaces: frozenset[str] = frozenset()

    def __or__(self, other: Wanted) -> Wanted:
        """What is in either of them."""
        return Wanted(
            self.keys | other.keys, self.accounts | other.accounts, self.keyspaces | other.keyspaces
        )


NOTHING_WANTED: Final = Wanted()


def not_urgent() -> bool:
    """Lets urgent transactions go first."""
    return False


class Transaction(Snapshot, Protocol):
    """One or several mutations under way. It has locked the head, so no other is: what it
    reads stays true until it ends.

    Each mutation has a revision of its own, and all of them become durable with one commit.
    Leaving the transaction without `commit` undoes all of it.

    Every record that a mutation writes is stamped with its revision. What is inserted must be new
    by its id. An update replaces the record with the same id: exactly one row is touched, or
    nothing is and an error is raised.
    """

    @property
    def revision(self) -> int:
        """The revision that the mutation at hand will have: one above the last that was kept,
        or above the head."""

    def mutation(self) -> AbstractAsyncContextManager[None]:
        """Around each mutation of several.

        If the block raises, or ends without `keep`, what it wrote is undone, and the mutations
        kept before it are as they were. While none is kept, nothing can be undone alone: after a
        block that raised the transaction is not to be used any more, and a block that wrote must
        keep, or an error is raised.

        Keys and requests that the block adds or replaces may be written as late as with the commit.
        If the database refuses one of them then, the commit fails.

        Raises:
            StoreUnavailable: it could not be undone, because the connection was lost or the
                database did not answer. The transaction is over, and nothing of it is durable.
        """

    def keep(self, changes: Sequence[Change], event: AuditEvent) -> int:
        """Ends the mutation at hand, which becomes durable with the commit.

        Args:
            changes: at least one, in order.

        Returns:
            Its revision.
        """

    async def commit(self) -> int:
        """Makes all mutations that were kept durable at once: rows, revisions, changes and
        audit events.

        Returns:
            The revision of the last.

        Raises:
            StoreUnavailable: it is not known whether they took effect.
        """

    async def insert_key(self, key: Key) -> None:
        """Adds a key. Its digest must be new, too."""

    async def insert_keys(self, keys: Sequence[Key]) -> None:
        """Adds several keys, like `insert_key`. If one of them cannot be added, none is."""

    async def insert_slow_hashes(self, hashes: Sequence[SlowHash]) -> None:
        """Adds slow hashes of keys that are there and have none."""

    async def replace_digest(self, new: NewDigest) -> bool:
        """Replaces what is kept of a key, and drops its slow hash. False: something else is kept of
        the key by now, and nothing is touched."""

    async def update_key(self, key: Key) -> None:
        """Replaces a key's record."""

    async def revoke_keys(self, key_ids: Collection[KeyId], time: datetime) -> None:
        """Revokes these keys. Exactly as many rows are touched as there are ids, or an error is
        raised: so each id must be of a key that is not revoked."""

    async def put_keyspace(self, keyspace: Keyspace) -> None:
        """Adds or replaces the keyspace of that name."""

    async def insert_account(self, account: Account) -> None:
        """Adds an account. Its address must be new in its keyspace."""

    async def update_account(self, account: Account) -> None:
        """Replaces an account's record. An error is raised if another account of the keyspace has
        its address."""

    async def insert_session(self, session: Session) -> None:
        """Adds a session, whose account must be there. Also deletes some of the account's sessions
        that are over, except for the newest ones."""

    async def end_oldest_sessions(
        self, account_id: AccountId, time: datetime, *, keep: int
    ) -> Sequence[SessionId]:
        """Ends the account's oldest sessions, so that at most `keep` have neither ended nor
        expired, and returns their ids: at most 1,000, so that the work is bounded."""

    async def update_session(self, session: Session) -> None:
        """Replaces a session's record."""

    async def end_sessions(
        self, account_id: AccountId, time: datetime, *, but: SessionId | None = None
    ) -> int:
        """Ends every session of the account that has not ended and is not past its time,
        save for one, and tells how many they were."""

    async def insert_request(
        self, caller: CredentialId, request_id: str, key_id: KeyId, time: datetime
    ) -> None:
        """Remembers what a request made."""


class Store(FactStore, NoteStore, Protocol):
    """Where the truth is kept."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Opens a consistent reading. Raises `StoreUnavailable`."""

    def transaction(
        self,
        wanted: Callable[[], Wanted] = Wanted,
        is_urgent: Callable[[], bool] = not_urgent,
    ) -> AbstractAsyncContextManager[Transaction]:
        """Opens a transaction, once every other has ended. Raises `StoreUnavailable`.

        Args:
            wanted: asked when the transaction has the head's lock. It changes no answer. By
                default each reading is left to the mutation.
            is_urgent: whether the transaction goes before those of other processes that are not
                urgent. It is asked again while the transaction waits.
        """

    async def ping(self) -> None:
        """Returns if the store answers. Raises `StoreUnavailable`."""

    async def close(self) -> None:
        """Lets go of every connection. Nothing may be asked afterwards."""
