"""The port between the RPCs and what answers them: a store, or the servers upstream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keyfence_server.application.callers import Caller
from keyfence_server.application.checks import Counting
from keyfence_server.application.imported_keys import ImportedKeys
from keyfence_server.application.ports import UseToAdd
from keyfence_server.application.presented_keys import Digests
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.composition.membership import Membership
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.rpc.pipeline import Service
from keyfence_server.telemetry.metrics import BackendStats


@dataclass(frozen=True, slots=True)
class FirstStartReport:
    """What the first start has done.

    Attributes:
        root_key_file: where the first credential is; None if it was given.
        keyspaces: those that were applied.
    """

    root_key_file: Path | None
    keyspaces: tuple[Keyspace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(ABC):
    """What answers the RPCs. A process has exactly one.

    Attributes:
        membership: what this process may answer from memory.
        digests: turns a presented key into what it is looked up by.
        imported: looks up keys by the hashes of other programs. None: the servers upstream do.
        sessions: looks up sessions by their tokens.
        counting: counts the checks of keys that have a rate limit.
        notes: writes down uses and failed attempts.
        stats: what the metrics show of this backend.
        services: what is served besides checks and replication.
    """

    membership: Membership
    digests: Digests
    imported: ImportedKeys | None = None
    sessions: PresentedSessions
    counting: Counting
    notes: WriteBehind
    stats: BackendStats
    services: Sequence[Service] = ()

    @abstractmethod
    def problems(self) -> list[str]:
        """Why this process must not be used, for an operator; empty if nothing is wrong. The
        lease is not among the reasons: health follows it by itself."""

    @abstractmethod
    def lease_problems(self) -> list[str]:
        """What keeps this process from having a lease, for an operator; empty if it has one, or
        if that is not known."""

    @abstractmethod
    async def uses_within_reach(
        self, uses: Sequence[UseToAdd], caller: Caller
    ) -> Sequence[UseToAdd]:
        """Those uses, reported by a holder, that its credential may report. Raises
        `StoreUnavailable` if the store cannot be asked."""

    async def first_start(self) -> FirstStartReport | None:
        """Does what is only done once in the life of a store.

        Called when the process may answer, and before it does. Returns None if it was done before,
        or there is nothing to do.
        """
        return None

    @abstractmethod
    async def finish(self) -> None:
        """Returns when no mutation is under way. Called when the server drains."""
