"""A sidecar: another Keyfence in the place of the store."""

from __future__ import annotations

from contextlib import AsyncExitStack

import structlog

from keyfence.v1.replication_service_pb2 import HOLDER_KIND_SIDECAR
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.adapters.upstream.counting import CountedUpstream
from keyfence_server.adapters.upstream.notes import UpstreamNotes
from keyfence_server.adapters.upstream.store import PresentedDigests
from keyfence_server.application.ports import Clock
from keyfence_server.application.rate_limits import RateLimitStats
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.backs import Back
from keyfence_server.config import Settings
from keyfence_server.membership import Conversions, downstream_of
from keyfence_server.rpc.convert.replication import (
    attempts_of,
    changes_from,
    counted_from,
    keyspaces_from,
    lineage_from,
    uses_of,
)
from keyfence_server.telemetry.measured_fence import FenceStats
from keyfence_server.telemetry.measured_store import StoreStats
from keyfence_server.telemetry.upstream_stats import UpstreamStats

_log = structlog.get_logger("keyfence")


async def open_sidecar(settings: Settings, clock: Clock, resources: AsyncExitStack) -> Back:
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

    def broken(why: str) -> None:
        _log.warning("not in step with the server upstream", target=upstream.target, why=why)

    return Back(
        membership=downstream_of(
            settings,
            upstream,
            settings.lease_terms(),
            Conversions(lineage_from, keyspaces_from, changes_from),
            kind=HOLDER_KIND_SIDECAR,
            on_broken=broken,
        ),
        digests=PresentedDigests(),
        counting=CountedUpstream(upstream, counted_from),
        rate_limit_stats=RateLimitStats(),
        notes=WriteBehind(
            UpstreamNotes(upstream, uses_of, attempts_of), clock, days_kept=settings.usage_days
        ),
        store_stats=StoreStats(),
        fence_stats=FenceStats(),
        upstream_stats=stats,
    )
