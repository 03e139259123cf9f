"""Metrics for Prometheus, worked out when they are asked for.

The hot path counts in plain numbers and knows nothing of this. Labels take their
values from what exists: RPCs, reasons, keyspaces that are declared. What a caller
says never becomes a label, so that no caller can create new time series.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from keyfence.v1 import reason_pb2
from keyfence_server.application.latencies import LATENCY_BOUNDS, Latencies
from keyfence_server.application.ports import StoreProblem
from keyfence_server.application.rate_limits import RateLimitStats
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.rpc.stats import RpcStats
from keyfence_server.telemetry.measured_fence import FenceStats, LeaseFigures
from keyfence_server.telemetry.measured_store import StoreStats
from keyfence_server.telemetry.upstream import UpstreamStats


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStats:
    """What a backend has counted. What a backend does not do stays at zero."""

    rate_limits: RateLimitStats = field(default_factory=RateLimitStats)
    store: StoreStats = field(default_factory=StoreStats)
    fence: FenceStats = field(default_factory=FenceStats)
    upstream: UpstreamStats = field(default_factory=UpstreamStats)
    clock_skew_seconds: Callable[[], float] = lambda: 0.0
    mutations_under_way: Callable[[], int] = lambda: 0
    mutations_waiting: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers are."""

    rpc: RpcStats
    backend: BackendStats
    cache: FactCache
    write_behind: WriteBehind
    calls_under_way: Callable[[], int]
    is_serving: Callable[[], bool]
    holders: Callable[[], int]
    lease: Callable[[], LeaseFigures]
    lease_losses: Callable[[], int]
    seconds_without_lease: Callable[[], float]
    stale_answers: Callable[[], int]
    certificate_expire_time: Callable[[], datetime | None]


_CACHE_COUNTERS: Final = (
    ("hits", "Checks and calls whose key was in memory."),
    ("misses", "Keys that were not in memory."),
    ("unknown_hits", "Made-up keys that were known not to exist."),
    ("joined_loads", "Look-ups that waited for another one of the same key."),
    ("discarded_fills", "Loads thrown away because something changed meanwhile."),
    ("store_loads", "Loads from the store, each for all keys that waited."),
)


class KeyfenceCollector(Collector):
    """Makes metrics of the numbers, whenever Prometheus asks."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield self._build()
        yield from self._of_calls()
        yield from self._of_cache()
        yield from self._of_store()
        yield from self._of_upstream()
        yield from self._of_rate_limits()
        yield from self._of_write_behind()
        yield from self._of_lease()
        yield from self._of_fence()

    @staticmethod
    def _build() -> Metric:
        build = GaugeMetricFamily(
            "keyfence_build_info",
            "The version of the server and of its Python; always 1.",
            labels=["version", "python"],
        )
        build.add_metric([version("keyfence-server"), platform.python_version()], 1)
        return build

    def _of_calls(self) -> Iterator[Metric]:
        sources = self._sources
        seconds = HistogramMetricFamily(
            "keyfence_rpc_seconds",
            "How long calls took, from their message to their answer.",
            labels=["method", "code"],
        )
        for method, stats in sources.rpc.methods.items():
            _add(seconds, [method, "OK"], stats.succeeded)
            for code, latencies in list(stats.failed.items()):
                _add(seconds, [method, code.name], latencies)
        yield seconds
        verdicts = CounterMetricFamily(
            "keyfence_verdicts", "What checks answered.", labels=["keyspace", "reason"]
        )
        for (keyspace, reason), count in list(sources.rpc.verdicts.counts.items()):
            verdicts.add_metric([keyspace, _reason_name(reason)], count)
        yield verdicts
        yield GaugeMetricFamily(
            "keyfence_calls_under_way",
            "Calls that are being answered now.",
            value=sources.calls_under_way(),
        )
        yield GaugeMetricFamily(
            "keyfence_serving",
            "Whether the server says that it serves: 1 or 0.",
            value=int(sources.is_serving()),
        )
        expire_time = sources.certificate_expire_time()
        yield GaugeMetricFamily(
            "keyfence_certificate_expire_timestamp_seconds",
            "When the server's certificate expires, in seconds since the epoch; infinite without.",
            value=expire_time.timestamp() if expire_time is not None else float("inf"),
        )

        yield GaugeMetricFamily(
            "keyfence_clock_skew_seconds",
            "How far the wall clock is ahead of the database's; negative if it is behind.",
            value=sources.backend.clock_skew_seconds(),
        )
        yield GaugeMetricFamily(
            "keyfence_mutations_under_way",
            "Mutations that wait for their turn, have the store, or wait for their fence now.",
            value=sources.backend.mutations_under_way(),
        )
        yield GaugeMetricFamily(
            "keyfence_mutations_waiting",
            "Those of them that wait for their turn.",
            value=sources.backend.mutations_waiting(),
        )

    def _of_cache(self) -> Iterator[Metric]:
        cache = self._sources.cache
        yield GaugeMetricFamily("keyfence_cache_keys", "Keys in memory.", value=len(cache))
        yield GaugeMetricFamily(
            "keyfence_cache_unknown_keys",
            "Made-up keys that are remembered not to exist.",
            value=cache.unknown_count,
        )
        for name, documentation in _CACHE_COUNTERS:
            yield CounterMetricFamily(
                f"keyfence_cache_{name}", documentation, value=getattr(cache.counts, name)
            )
        yield GaugeMetricFamily(
            "keyfence_revision",
            "The revision that every answer reflects at least.",
            value=cache.revision,
        )

    def _of_store(self) -> Iterator[Metric]:
        stats = self._sources.backend.store
        seconds = HistogramMetricFamily(
            "keyfence_store_seconds",
            "How long snapshots and transactions of the store were held.",
            labels=["operation"],
        )
        _add(seconds, ["snapshot"], stats.snapshots)
        _add(seconds, ["transaction"], stats.transactions)
        _add(seconds, ["bookkeeping"], stats.bookkeeping)
        yield seconds
        yield CounterMetricFamily(
            "keyfence_store_unavailable",
            "How often the store could not be reached, or did not answer in time.",
            value=stats.outages.failures,
        )
        problems = GaugeMetricFamily(
            "keyfence_store_problem",
            "Why the store is not available now: 1 for the problem, 0 for the others.",
            labels=["problem"],
        )
        for problem in StoreProblem:
            problems.add_metric([problem.value], int(stats.outages.problem is problem))
        yield problems
        yield GaugeMetricFamily(
            "keyfence_store_in_use",
            "Snapshots and transactions that are open now.",
            value=stats.in_use,
        )

    def _of_upstream(self) -> Iterator[Metric]:
        stats = self._sources.backend.upstream
        seconds = HistogramMetricFamily(
            "keyfence_upstream_seconds",
            "How long a sidecar's calls to its servers took, unanswered ones included.",
            labels=["method"],
        )
        unanswered = CounterMetricFamily(
            "keyfence_upstream_unanswered",
            "Those of them that were refused or not answered.",
            labels=["method"],
        )
        for method, latencies in list(stats.calls.items()):
            _add(seconds, [method], latencies)
            unanswered.add_metric([method], stats.unanswered[method])
        yield seconds
        yield unanswered

    def _of_rate_limits(self) -> Iterator[Metric]:
        stats = self._sources.backend.rate_limits
        yield GaugeMetricFamily(
            "keyfence_rate_limit_counter_away",
            "Whether the counter that servers share cannot be reached: 1 or 0.",
            value=int(stats.is_away),
        )
        yield CounterMetricFamily(
            "keyfence_rate_limit_counter_failures",
            "How often the counter that servers share failed when it was asked.",
            value=stats.failures,
        )
        yield CounterMetricFamily(
            "keyfence_rate_limit_checks_without_counter",
            "Checks of limited keys that were decided without the counter that servers share.",
            value=stats.without_counter,
        )

    def _of_write_behind(self) -> Iterator[Metric]:
        notes = self._sources.write_behind
        yield CounterMetricFamily(
            "keyfence_failed_attempts",
            "Denied checks and rejected credentials, each counted, although the audit log "
            "combines similar ones.",
            value=notes.attempts.noted,
        )
        yield GaugeMetricFamily(
            "keyfence_write_behind_notes",
            "Uses of keys and kinds of failed attempts that are not yet written to the store.",
            value=len(notes),
        )
        yield CounterMetricFamily(
            "keyfence_write_behind_failures",
            "How often uses and attempts could not be written to the store, and were kept.",
            value=notes.failures,
        )
        yield CounterMetricFamily(
            "keyfence_write_behind_left_out",
            "Uses and events that were dropped, since the store was unavailable for too long.",
            value=notes.uses.left_out + notes.events_left_out,
        )

    def _of_lease(self) -> Iterator[Metric]:
        sources = self._sources
        lease = sources.lease()
        yield GaugeMetricFamily(
            "keyfence_lease_live",
            "Whether this process may answer from memory: 1 or 0.",
            value=int(lease.left > 0),
        )
        yield GaugeMetricFamily(
            "keyfence_lease_left_seconds",
            "How long this process may still answer from memory if its lease is not "
            "renewed; infinite if it needs no lease.",
            value=lease.left,
        )
        yield GaugeMetricFamily(
            "keyfence_lease_age_seconds",
            "How long ago the last granted renewal was sent; infinite if none was granted.",
            value=lease.age,
        )
        yield CounterMetricFamily(
            "keyfence_lease_losses", "How often the lease ran out.", value=sources.lease_losses()
        )
        yield CounterMetricFamily(
            "keyfence_lease_lost_seconds",
            "How long this process had no lease, counted when it has one again.",
            value=sources.seconds_without_lease(),
        )
        yield CounterMetricFamily(
            "keyfence_stale_answers",
            "Questions that were answered without a lease, as KEYFENCE_STALE_IF_ERROR allows.",
            value=sources.stale_answers(),
        )
        yield CounterMetricFamily(
            "keyfence_lease_renewals",
            "Renewals of the lease that were granted: by the store, to a sidecar by its server.",
            value=lease.renewals,
        )
        yield CounterMetricFamily(
            "keyfence_lease_failed_renewals",
            "Renewals that were refused or not answered.",
            value=lease.failed_renewals,
        )

    def _of_fence(self) -> Iterator[Metric]:
        stats = self._sources.backend.fence
        seconds = HistogramMetricFamily(
            "keyfence_fence_seconds",
            "How long mutations waited after their commit, and calls that found nothing to do, "
            "until no process answered from before it; by what ended the wait: the "
            "acknowledgements of all holders, or the end of a lease.",
            labels=["of", "by"],
        )
        for of, waited in (("mutation", stats.mutations), ("repetition", stats.repetitions)):
            for end, latencies in waited.items():
                _add(seconds, [of, end.value], latencies)
        yield seconds
        yield GaugeMetricFamily(
            "keyfence_holders",
            "Sidecars and caches in clients that hold a lease from this process.",
            value=self._sources.holders(),
        )
        yield CounterMetricFamily(
            "keyfence_processes_struck_off",
            "Processes that this one removed from the register because they did not renew.",
            value=stats.struck_off,
        )


def _reason_name(reason: int) -> str:
    return reason_pb2.Reason.Name(reason_pb2.Reason.ValueType(reason)).removeprefix("REASON_")


def _add(family: HistogramMetricFamily, labels: list[str], latencies: Latencies) -> None:
    buckets = []
    so_far = 0
    for bound, count in zip([*map(str, LATENCY_BOUNDS), "+Inf"], latencies.buckets, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    family.add_metric(labels, buckets, latencies.total_seconds)
