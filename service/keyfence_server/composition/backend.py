"""The port between the RPCs and what answers them: a store, or the servers upstream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keyfence_server.application.callers import Caller
from keyfence_server.application.checks import Counting
from keyfence_server.application.imported_keys import ImportedKeys
from keyfence_server.application.ports import UseToAdd
from keyfence_server.application.presented_keys import Digests
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.rate_limits import RateLimitStats
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.replica import SeenProcess
from keyfence_server.composition.membership import Membership
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.rpc.pipeline import Service
from keyfence_server.telemetry.measured_fence import FenceStats
from keyfence_server.telemetry.measured_store import StoreStats
from keyfence_server.telemetry.upstream_stats import UpstreamStats


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
class BackendStats:
    """What the metrics show of a backend. What a backend does not do stays at zero."""

    rate_limits: RateLimitStats
    store: StoreStats
    fence: FenceStats
    upstream: UpstreamStats
    clock_skew_seconds: Callable[[], float] = lambda: 0.0
    mutations_under_way: Callable[[], int] = lambda: 0
    mutations_waiting: Callable[[], int] = lambda: 0


class Backend(Protocol):
    """What answers the RPCs. A process has exactly one."""

    @property
    def membership(self) -> Membership:
        """What this process may answer from memory."""
        ...

    @property
    def digests(self) -> Digests:
        """Turns a presented key into what it is looked up by."""
        ...

    @property
    def imported(self) -> ImportedKeys | None:
        """Looks up keys by the hashes of other programs. None: the servers upstream do."""
        ...

    @property
    def sessions(self) -> PresentedSessions:
        """Looks up sessions by their tokens."""
        ...

    @property
    def counting(self) -> Counting:
        """Counts the checks of keys that have a rate limit."""
        ...

    @property
    def notes(self) -> WriteBehind:
        """Writes down uses and failed attempts."""
        ...

    @property
    def stats(self) -> BackendStats:
        """What the metrics show of this backend."""
        ...

    @property
    def services(self) -> Sequence[Service]:
        """What is served besides checks and replication."""
        ...

    def problems(self) -> list[str]:
        """Why this process must not be used, for an operator; empty if nothing is wrong. The
        lease is not among the reasons: health follows it by itself."""
        ...

    def lease_problems(self) -> list[str]:
        """What keeps this process from having a lease, for an operator; empty if it has one, or
        if that is not known."""
        ...

    async def list_processes(self) -> list[SeenProcess]:
        """The server processes on the store; none where this process is alone, or a sidecar.

        Raises:
            StoreUnavailable: the store cannot be asked.
        """
        ...

    async def uses_within_reach(
        self, uses: Sequence[UseToAdd], caller: Caller
    ) -> Sequence[UseToAdd]:
        """Those uses, reported by a holder, that its credential may report.

        Raises:
            StoreUnavailable: the store cannot be asked.
        """
        ...

    async def first_start(self) -> FirstStartReport | None:
        """Does what is only done once in the life of a store.

        Called when the process may answer, and before it does.

        Returns:
            None if it was done before, or there is nothing to do.
        """
        ...

    async def finish(self) -> None:
        """Returns when no mutation is under way. Called when the server drains."""
        ...
