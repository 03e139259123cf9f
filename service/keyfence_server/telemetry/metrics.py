"""Metrics for Prometheus, worked out when they are asked for.

The hot path counts in plain numbers and knows nothing of this. Labels take their
values from what exists: RPCs, reasons, keyspaces that are declared. What a caller
says never becomes a label, so that no caller can create new time series.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from itertools import accumulate
from math import inf
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


_GAUGES: Final = {
    "build_info": "The version of the server and of its Python; always 1.",
    "calls_under_way": "Calls that are being answered now.",
    "serving": "Whether the server says that it serves: 1 or 0.",
    "certificate_expire_timestamp_seconds": "When the server's certificate expires, in seconds "
    "since the epoch; infinite without.",
    "clock_skew_seconds": "How far the wall clock is ahead of the database's; negative if it is "
    "behind.",
    "mutations_under_way": "Mutations that wait for their turn, have the store, or wait for their "
    "fence now.",
    "mutations_waiting": "Those of them that wait for their turn.",
    "cache_keys": "Keys in memory.",
    "cache_unknown_keys": "Made-up keys that are remembered not to exist.",
    "revision": "The revision that every answer reflects at least.",
    "store_problem": "Why the store is not available now: 1 for the problem, 0 for the others.",
    "store_in_use": "Snapshots and transactions that are open now.",
    "rate_limit_counter_away": "Whether the counter that servers share cannot be reached: 1 or 0.",
    "write_behind_notes": "Uses of keys and kinds of failed attempts that are not yet written to "
    "the store.",
    "lease_live": "Whether this process may answer from memory: 1 or 0.",
    "lease_left_seconds": "How long this process may still answer from memory if its lease is not "
    "renewed; infinite if it needs no lease.",
    "lease_age_seconds": "How long ago the last granted renewal was sent; infinite if none was "
    "granted.",
    "holders": "Sidecars and caches in clients that hold a lease from this process.",
}
_COUNTERS: Final = {
    "verdicts": "What checks answered.",
    "cache_hits": "Checks and calls whose key was in memory.",
    "cache_misses": "Keys that were not in memory.",
    "cache_unknown_hits": "Made-up keys that were known not to exist.",
    "cache_joined_loads": "Look-ups that waited for another one of the same key.",
    "cache_discarded_fills": "Loads thrown away because something changed meanwhile.",
    "cache_store_loads": "Loads from the store, each for all keys that waited.",
    "store_unavailable": "How often the store could not be reached, or did not answer in time.",
    "upstream_unanswered": "A sidecar's calls that were refused or not answered.",
    "rate_limit_counter_failures": "How often the counter that servers share failed when it was "
    "asked.",
    "rate_limit_checks_without_counter": "Checks of limited keys that were decided without the "
    "counter that servers share.",
    "failed_attempts": "Denied checks and rejected credentials, each counted, although the audit "
    "log combines similar ones.",
    "write_behind_failures": "How often uses and attempts could not be written to the store, and "
    "were kept.",
    "write_behind_left_out": "Uses and events that were dropped, since the store was unavailable "
    "for too long.",
    "lease_losses": "How often the lease ran out.",
    "lease_lost_seconds": "How long this process had no lease, counted when it has one again.",
    "stale_answers": "Questions that were answered without a lease, as KEYFENCE_STALE_IF_ERROR "
    "allows.",
    "lease_renewals": "Renewals of the lease that were granted: by the store, to a sidecar by its "
    "server.",
    "lease_failed_renewals": "Renewals that were refused or not answered.",
    "processes_struck_off": "Processes that this one removed from the register because they did "
    "not renew.",
}
_HISTOGRAMS: Final = {
    "rpc_seconds": "How long calls took, from their message to their answer.",
    "store_seconds": "How long snapshots and transactions of the store were held.",
    "upstream_seconds": "How long a sidecar's calls to its servers took, unanswered ones included.",
    "fence_seconds": "How long mutations waited after their commit, and calls that found nothing "
    "to do, until no process answered from before it; by what ended the wait: the "
    "acknowledgements of all holders, or the end of a lease.",
}


class KeyfenceCollector(Collector):
    """Makes metrics of the numbers, whenever Prometheus asks."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from self._of_process()
        yield from self._of_calls()
        yield from self._of_memory()
        yield from self._of_store()
        yield from self._of_upstream()
        yield from self._of_fence()

    def _of_process(self) -> Iterator[Metric]:
        sources, backend = self._sources, self._sources.backend
        versions = (version("keyfence-server"), platform.python_version())
        yield _labelled("build_info", ("version", "python"), [(versions, 1)])
        expire_time = sources.certificate_expire_time()
        yield from _plain(
            calls_under_way=sources.calls_under_way(),
            serving=sources.is_serving(),
            certificate_expire_timestamp_seconds=expire_time.timestamp() if expire_time else inf,
            clock_skew_seconds=backend.clock_skew_seconds(),
            mutations_under_way=backend.mutations_under_way(),
            mutations_waiting=backend.mutations_waiting(),
            rate_limit_counter_away=backend.rate_limits.is_away,
            rate_limit_counter_failures=backend.rate_limits.failures,
            rate_limit_checks_without_counter=backend.rate_limits.without_counter,
        )

    def _of_calls(self) -> Iterator[Metric]:
        calls = []
        for method, stats in self._sources.rpc.methods.items():
            calls.append(((method, "OK"), stats.succeeded))
            calls += [((method, code.name), failed) for code, failed in list(stats.failed.items())]
        yield _histogram("rpc_seconds", ("method", "code"), calls)
        counts = list(self._sources.rpc.verdicts.counts.items())
        verdicts = [
            ((keyspace, _reason_name(reason)), count) for (keyspace, reason), count in counts
        ]
        yield _labelled("verdicts", ("keyspace", "reason"), verdicts)

    def _of_memory(self) -> Iterator[Metric]:
        cache, notes = self._sources.cache, self._sources.write_behind
        yield from _plain(
            cache_keys=len(cache),
            cache_unknown_keys=cache.unknown_count,
            cache_hits=cache.counts.hits,
            cache_misses=cache.counts.misses,
            cache_unknown_hits=cache.counts.unknown_hits,
            cache_joined_loads=cache.counts.joined_loads,
            cache_discarded_fills=cache.counts.discarded_fills,
            cache_store_loads=cache.counts.store_loads,
            revision=cache.revision,
            failed_attempts=notes.attempts.noted,
            write_behind_notes=len(notes),
            write_behind_failures=notes.failures,
            write_behind_left_out=notes.uses.left_out + notes.events_left_out,
        )

    def _of_store(self) -> Iterator[Metric]:
        stats = self._sources.backend.store
        operations = [
            (("snapshot",), stats.snapshots),
            (("transaction",), stats.transactions),
            (("bookkeeping",), stats.bookkeeping),
        ]
        yield _histogram("store_seconds", ("operation",), operations)
        problems = [((one.value,), one is stats.outages.problem) for one in StoreProblem]
        yield _labelled("store_problem", ("problem",), problems)
        yield from _plain(store_unavailable=stats.outages.failures, store_in_use=stats.in_use)

    def _of_upstream(self) -> Iterator[Metric]:
        stats = self._sources.backend.upstream
        calls = [((method,), latencies) for method, latencies in list(stats.calls.items())]
        unanswered = [(method, stats.unanswered[method[0]]) for method, _ in calls]
        yield _histogram("upstream_seconds", ("method",), calls)
        yield _labelled("upstream_unanswered", ("method",), unanswered)

    def _of_fence(self) -> Iterator[Metric]:
        sources, stats, lease = self._sources, self._sources.backend.fence, self._sources.lease()
        waits = [
            ((of, end.value), latencies)
            for of, waited in (("mutation", stats.mutations), ("repetition", stats.repetitions))
            for end, latencies in waited.items()
        ]
        yield _histogram("fence_seconds", ("of", "by"), waits)
        yield from _plain(
            lease_live=lease.left > 0,
            lease_left_seconds=lease.left,
            lease_age_seconds=lease.age,
            lease_losses=sources.lease_losses(),
            lease_lost_seconds=sources.seconds_without_lease(),
            stale_answers=sources.stale_answers(),
            lease_renewals=lease.renewals,
            lease_failed_renewals=lease.failed_renewals,
            holders=sources.holders(),
            processes_struck_off=lease.struck_off,
        )


def _reason_name(reason: int) -> str:
    return reason_pb2.Reason.Name(reason_pb2.Reason.ValueType(reason)).removeprefix("REASON_")


def _plain(**values: float) -> Iterator[Metric]:
    """Metrics without labels."""
    for name, value in values.items():
        yield _labelled(name, (), [((), value)])


def _labelled(
    name: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> CounterMetricFamily | GaugeMetricFamily:
    """A gauge or a counter, with a value for each combination of its labels."""
    is_gauge = name in _GAUGES
    kind, documentation = (
        (GaugeMetricFamily, _GAUGES[name]) if is_gauge else (CounterMetricFamily, _COUNTERS[name])
    )
    family = kind(f"keyfence_{name}", documentation, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _histogram(
    name: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], Latencies]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"keyfence_{name}", _HISTOGRAMS[name], labels=labels)
    bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
    for of, latencies in values:
        so_far = accumulate(latencies.buckets)
        family.add_metric(of, list(zip(bounds, so_far, strict=True)), latencies.total_seconds)
    return family
