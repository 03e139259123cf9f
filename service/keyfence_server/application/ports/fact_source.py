"""The facts that checks are answered from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from keyfence_server.domain.accounts import Account, AccountId, AccountState
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keys import Lineage
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session, SessionFacts, SessionId


class FoundKey(NamedTuple):
    """A key as a store has it.

    Attributes:
        lineage: the key, and the keys that it was delegated from.
        owner_state: the state of the registered account that owns the key; None if the owner is
            not registered.
    """

    lineage: Lineage
    owner_state: AccountState | None


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """The answers to several questions for keys.

    Attributes:
        revision: the revision that every answer shows at least. 0 before the first mutation.
        answers: one for each question, in order. None: there is no such key. An error concerns
            its question alone.
        has_slow_hashes: whether there are imported keys that no digest finds.
    """

    revision: int
    answers: Sequence[FoundKey | Exception | None]
    has_slow_hashes: bool = False


class FactSnapshot(Protocol):
    """What a cache of facts reads of keyspaces and sessions: from a store, or from another
    Keyfence."""

    @property
    def revision(self) -> int:
        """The revision that this reading shows at least. 0 before the first mutation. It may be
        higher after something was read, for all that was read."""

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name; not the built-in one."""

    async def list_keyspaces(self, *, after: str | None, limit: int) -> list[Keyspace]:
        """At most `limit` keyspaces with a name above `after`, in the order of their names."""

    async def find_session(self, session_id: SessionId) -> Session | None:
        """The session with this id."""

    async def find_account(self, account_id: AccountId) -> Account | None:
        """The registered account with this id."""


class FactStore(Protocol):
    """Where a cache of facts loads them from."""

    def snapshot(self) -> AbstractAsyncContextManager[FactSnapshot]:
        """Opens a reading. Raises `StoreUnavailable`."""

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        """For each question the key that is kept under any of its digests.

        A digest matches by its value and its pepper version together. A SQL store answers all
        questions by one statement for each 256 digests.

        Raises:
            StoreUnavailable: no question can be answered.
        """


class FactSource(Protocol):
    """Answers about keys and keyspaces: from memory where that is allowed, else from
    the store. What it answers is never older than any mutation that was fenced before
    the question was asked. `StaleIfError` is the one exception. What waits for the store raises
    `StoreUnavailable`."""

    @property
    def revision(self) -> int:
        """The revision that every answer from now on reflects at least."""

    @property
    def has_slow_hashes(self) -> bool:
        """Whether a key that was just not found may be one of those that were imported by a slow
        hash."""

    def recall(self, digest: bytes) -> KeyFacts | None:
        """What memory holds of the key with this digest; None if it must be looked up.

        Made for the hot path: no I/O, no waiting. Raises nothing: without a lease it returns None.
        """

    async def find_facts(self, candidates: Sequence[Digest]) -> KeyFacts | None:
        """The key kept under any of these digests."""

    async def find_session(self, session_id: SessionId) -> SessionFacts | None:
        """The session with this id."""

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too."""

    async def list_keyspaces(self) -> Sequence[Keyspace]:
        """Every keyspace, the built-in one too."""

    async def recogniser(self, concerns: Callable[[str], bool] = ...) -> Recogniser:
        """Tells which keyspaces' keys a text could be.

        Args:
            concerns: of which keyspaces, by name, it must know the newest forms; by default of all.
                Of the others it may know earlier ones, while a change of them is being read.
        """
