"""What can stand behind the RPCs: an authority with its store, or another Keyfence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from keyfence_server.application.checks import Counting
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.presented_keys import Digests
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.rate_limits import RateLimitStats
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.replica import ListProcesses
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.membership import Membership
from keyfence_server.rpc.pipeline import Service
from keyfence_server.rpc.replication import KeyspacesOf
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
class Back:
    """What stands behind the RPCs.

    Attributes:
        membership: what this process may do from memory.
        digests: by what keys are looked up.
        counting: counts the checks of keys that have a rate limit.
        rate_limit_stats: what that has come to.
        notes: writes down uses and failed attempts.
        upstream_stats: what was asked of the servers upstream, where there can be any.
        own_services: what is served besides checks and replication.
        sessions: looks up sessions by their tokens, where there can be any.
        list_processes: the processes on the store, where there can be others.
        keyspaces_of: in which keyspaces keys are, where there is a store to ask.
        mutations: those under way, where there can be any.
        first_start: what to do when the process may answer, before it does.
    """

    membership: Membership
    digests: Digests
    counting: Counting
    rate_limit_stats: RateLimitStats
    notes: WriteBehind
    store_stats: StoreStats
    fence_stats: FenceStats
    upstream_stats: UpstreamStats = field(default_factory=UpstreamStats)
    own_services: list[Service] = field(default_factory=list)
    sessions: PresentedSessions | None = None
    list_processes: ListProcesses | None = None
    keyspaces_of: KeyspacesOf | None = None
    mutations: Mutations | None = None
    first_start: Callable[[], Awaitable[FirstStartReport | None]] | None = None
