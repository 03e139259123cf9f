"""The backend of a sidecar: the servers upstream take the place of the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.adapters.upstream.counting import CountedUpstream
from keyfence_server.adapters.upstream.notes import UpstreamNotes
from keyfence_server.adapters.upstream.store import PresentedDigests
from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import Clock, UseToAdd
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.clock_watch import SIDECAR, ClockWatch
from keyfence_server.composition.backend import Backend
from keyfence_server.composition.background import watch_clock
from keyfence_server.composition.membership import downstream_of
from keyfence_server.config import Settings
from keyfence_server.telemetry.metrics import BackendStats
from keyfence_server.telemetry.upstream import UpstreamOutages, UpstreamStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar(Backend):
    """A backend over the servers upstream. Made by `open_sidecar`.

    It serves checks and replication alone: it mutates nothing and knows no accounts.
    """

    _upstream: Upstream
    _clock_watch: ClockWatch

    def problems(self) -> list[str]:
        """See `Backend`. A sidecar has no database. It judges expiries by its own clock."""
        problem = self._clock_watch.problem()
        return [] if problem is None else [problem]

    def lease_problems(self) -> list[str]:
        """See `Backend`. The same advice is in the log's event `upstream_out_of_step`."""
        if self.membership.is_live():
            return []
        advice = self._upstream.advice or "the server upstream has granted no lease"
        return [f"{self._upstream.target}: {advice}"]

    async def uses_within_reach(
        self, uses: Sequence[UseToAdd], caller: Caller
    ) -> Sequence[UseToAdd]:
        """See `Backend`. The server upstream decides, by the sidecar's own credential."""
        return uses

    async def finish(self) -> None:
        """See `Backend`. A sidecar does not mutate."""


async def open_sidecar(settings: Settings, clock: Clock, resources: AsyncExitStack) -> Sidecar:
    """Gets ready to follow the servers upstream."""
    stats = UpstreamStats()
    upstream = Upstream(
        settings.upstream_targets(),
        token=settings.upstream_credential(),
        tls=settings.upstream_tls(),
        insecure_plaintext=settings.upstream_insecure_plaintext,
        on_call=stats.add,
    )
    resources.push_async_callback(upstream.close)

    outages = UpstreamOutages()
    membership = downstream_of(
        settings,
        upstream,
        on_broken=lambda why: outages.broken(upstream.target, why, upstream.advice),
    )
    clock_watch = await watch_clock(settings, resources, upstream.server_time, wording=SIDECAR)
    return Sidecar(
        membership=membership,
        digests=PresentedDigests(),
        # It cannot read sessions' tokens, since it has none of the keys that sign them.
        sessions=PresentedSessions(membership.source, None),
        counting=CountedUpstream(upstream),
        notes=WriteBehind(UpstreamNotes(upstream), clock),
        stats=BackendStats(upstream=stats, clock_skew_seconds=lambda: clock_watch.skew_seconds),
        _upstream=upstream,
        _clock_watch=clock_watch,
    )
