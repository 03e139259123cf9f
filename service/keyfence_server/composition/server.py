"""Starts a process: the RPCs on a backend, its sockets, its metrics, its background work.

Locks, sockets and connections are acquired here in order, and released in the opposite
order.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Final

import structlog

from keyfence.holder.clock import SystemBootClock
from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.files.unix_socket import SocketTaken, claim_unix_socket
from keyfence_server.application.checks import Checks
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.ports import Clock, StoreProblem, StoreUnavailable
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.coherence.ports import TermsDiffer
from keyfence_server.composition.authority import open_authority
from keyfence_server.composition.backend import Backend, FirstStartReport
from keyfence_server.composition.background import run_in_background
from keyfence_server.composition.sidecar import open_sidecar
from keyfence_server.config import Settings
from keyfence_server.domain.errors import DomainError
from keyfence_server.lease_watch import LeaseWatch
from keyfence_server.provisioning import CannotStart, cannot_start, warn_of_separate_counts
from keyfence_server.rpc.authorization import AuthorizationService
from keyfence_server.rpc.certificates import ServerCertificate, UnusableCertificate
from keyfence_server.rpc.envoy.service import EnvoyAuthorization
from keyfence_server.rpc.gate import Gate
from keyfence_server.rpc.holders import Holders
from keyfence_server.rpc.listen_addresses import ListenAddress, UnixAddress
from keyfence_server.rpc.misplaced_keys import MisplacedKeys
from keyfence_server.rpc.open_services import HEALTH, Health, Reflection
from keyfence_server.rpc.pipeline import Pipeline, Service
from keyfence_server.rpc.replication import ReplicationService
from keyfence_server.rpc.server import CannotListen, RpcServer
from keyfence_server.rpc.stats import RpcStats
from keyfence_server.rpc.status import SHUTTING_DOWN
from keyfence_server.rpc.tracing import SpanPerCall
from keyfence_server.telemetry.metrics import KeyfenceCollector, Sources
from keyfence_server.telemetry.operations_http import OperationsServer, Probes

_LAST_CALLS_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 1.0
_PASSING_PROBLEMS: Final = frozenset(
    {StoreProblem.UNREACHABLE, StoreProblem.BUSY, StoreProblem.READ_ONLY}
)
"""Those that end without an operator: a database that starts, or fails over."""

_log = structlog.get_logger("keyfence")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that serves. Made by `start`.

    Attributes:
        addresses: where it listens, ports that the kernel chose included.
        metrics_port: where it serves metrics; None for nowhere.
        first_start: what was done at the first start; None at any other.
        certificate: follows its files by itself; None for plaintext.
    """

    addresses: tuple[ListenAddress, ...]
    metrics_port: int | None
    first_start: FirstStartReport | None
    certificate: ServerCertificate | None
    _server: RpcServer
    _gate: Gate
    _health: Health
    _watch: LeaseWatch
    _reflection: Reflection | None
    _backend: Backend
    _resources: AsyncExitStack

    @property
    def is_serving(self) -> bool:
        """Whether health says so: a sidecar serves when it has a lease."""
        return self._health.is_serving

    def say_not_serving(self) -> None:
        """Sets health to not serving. The server goes on answering calls."""
        self._watch.end()
        self._health.set_serving(False)

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Takes no more calls, lets those under way end, and lets everything go.

        May be called again with less grace, while the first call still waits.

        Args:
            grace_seconds: how long the calls have; None for not at all.
        """
        self._gate.shut(SHUTTING_DOWN)
        self._watch.end()
        self._health.close()
        if self._reflection is not None:
            self._reflection.close()
        # Holders reconnect to another server at once, instead of delaying this one.
        self._backend.membership.hub.shut()
        if grace_seconds:
            # When it stops, gRPC's core cancels calls that it has received and not yet handed
            # over. This pause lets it hand them over, so they are refused with a reason.
            await asyncio.sleep(min(grace_seconds, _LAST_CALLS_SECONDS))
        await self._server.stop(grace_seconds)
        await self._backend.finish()
        await self._resources.aclose()

    async def wait(self) -> None:
        """Returns when no more calls are taken. Raises what ended it, if that was a fault."""
        await self._server.wait()


async def start(
    settings: Settings,
    *,
    clock: Clock | None = None,
    tracing: SpanPerCall | None = None,
    is_worker: bool = False,
) -> RunningServer:
    """Starts a server. `is_worker` says whether this is one of several processes, whose parent has
    the lock on the data directory.

    A PostgreSQL database that is away is waited for, as long as `database_wait_seconds`. Until then
    nothing listens. Raises `CannotStart` with the reason and what to do; nothing is held any more.
    """
    clock = clock or SystemClock()
    try:
        with cannot_start("KEYFENCE_LEASE_SECONDS, KEYFENCE_CLOCK_DRIFT", TermsDiffer):
            return await _start_with_store(settings, clock, tracing, is_worker)
    except (DomainError, StoreUnavailable) as reason:
        raise CannotStart(str(reason)) from None


async def _start_with_store(
    settings: Settings, clock: Clock, tracing: SpanPerCall | None, is_worker: bool
) -> RunningServer:
    """Starts when the store can be used, and waits for it as long as the settings say."""
    began = monotonic()
    last_error = ""
    while True:
        try:
            async with AsyncExitStack() as resources:
                return await _start(settings, clock, tracing, is_worker, resources)
        except StoreUnavailable as error:
            left = began + settings.database_wait_seconds - monotonic()
            if error.problem not in _PASSING_PROBLEMS or left <= 0 or settings.is_embedded():
                raise
            if str(error) != last_error:
                last_error = str(error)
                _log.warning("waiting_for_store", error=last_error, seconds_left=round(left, 1))
        await asyncio.sleep(min(left, _RETRY_SECONDS))


async def _start(
    settings: Settings,
    clock: Clock,
    tracing: SpanPerCall | None,
    is_worker: bool,
    resources: AsyncExitStack,
) -> RunningServer:
    backend: Backend
    if settings.upstream:
        backend = await open_sidecar(settings, clock, resources)
    else:
        backend = await open_authority(settings, clock, is_worker, resources)
    rpc_stats = RpcStats()
    presented = PresentedKeys(
        backend.membership.source_of_checks, backend.digests, backend.imported
    )
    identify_caller = IdentifyCaller(presented, clock, backend.notes, backend.sessions)
    services = _services(settings, backend, presented, identify_caller, clock, rpc_stats)
    names = [service.descriptor.full_name for service in services]
    gate = Gate(settings.max_concurrent_calls)
    health = Health(names)
    reflection = Reflection([*names, HEALTH]) if settings.serves_reflection() else None
    await backend.membership.start(resources)
    if not is_worker:
        warn_of_separate_counts(settings, processes=len(await backend.membership.list_processes()))
    # What is noted until the last call has ended is written down before the store is let go.
    resources.push_async_callback(backend.notes.flush, finally_=True)
    run_in_background(backend.notes.keep(settings.usage_flush_seconds), resources)
    misplaced_keys = MisplacedKeys(backend.membership.source.recogniser)
    pipeline = Pipeline(
        identify_caller, gate, rpc_stats, misplaced_keys, SystemClock(), tracing, settings.origins()
    )
    certificate = _follow_certificate(settings, clock, resources)
    handlers = pipeline.method_handlers(services) | health.method_handlers()
    if reflection is not None:
        handlers |= reflection.method_handlers()
    server = RpcServer(handlers, settings.limits())
    addresses = _listen(server, settings, certificate, resources)
    watch = LeaseWatch(
        is_live=backend.membership.is_live,
        may_be_stale=backend.membership.may_be_stale,
        stale_answers=backend.membership.stale_answers,
        is_fit=lambda: not backend.problems(),
        set_serving=health.set_serving,
        set_lease=health.set_lease,
        terms=settings.lease_terms(),
        clock=SystemBootClock(),
    )
    metrics_port = _serve_metrics(
        settings, backend, watch, rpc_stats, gate, health, certificate, resources
    )
    # A start that is refused for its sockets or its certificate is not the first one yet:
    # the one that succeeds says what to do with the credential.
    first_start = await backend.first_start()
    await server.start()
    watch.look()
    run_in_background(watch.run(), resources)
    return RunningServer(
        addresses=addresses,
        metrics_port=metrics_port,
        first_start=first_start,
        certificate=certificate,
        _server=server,
        _gate=gate,
        _health=health,
        _watch=watch,
        _reflection=reflection,
        _backend=backend,
        _resources=resources.pop_all(),
    )


def _services(
    settings: Settings,
    backend: Backend,
    presented: PresentedKeys,
    identify_caller: IdentifyCaller,
    clock: Clock,
    rpc_stats: RpcStats,
) -> list[Service]:
    source, verdicts = backend.membership.source_of_checks, rpc_stats.verdicts
    checks = Checks(source, presented, clock, backend.counting, backend.notes)
    boot_clock = SystemBootClock()
    return [
        AuthorizationService(checks, source, verdicts, identify_caller).service(),
        EnvoyAuthorization(checks, source, verdicts, clock).service(),
        ReplicationService(
            backend.membership.hub,
            backend.membership.source,
            PresentedKeys(backend.membership.source, backend.digests, backend.imported),
            backend.membership.list_processes,
            backend.uses_within_reach,
            boot_clock,
            backend.notes,
            backend.membership.process_id,
            Holders(
                backend.membership.hub,
                boot_clock,
                clock,
                settings.limits(),
                backend.membership.before_granting,
            ),
        ).service(),
        *backend.services,
    ]


def _follow_certificate(
    settings: Settings, clock: Clock, resources: AsyncExitStack
) -> ServerCertificate | None:
    files = settings.certificate_files()
    if files is None:
        return None
    with cannot_start(settings.variables_of_tls(), UnusableCertificate):
        certificate = ServerCertificate(files, clock)
    run_in_background(certificate.follow(settings.tls_reload_seconds), resources)
    return certificate


def _listen(
    server: RpcServer,
    settings: Settings,
    certificate: ServerCertificate | None,
    resources: AsyncExitStack,
) -> tuple[ListenAddress, ...]:
    for exposed in settings.exposed_in_plaintext():
        _log.warning(
            "insecure_plaintext",
            address=str(exposed),
            consequence="the network can read keys, as KEYFENCE_INSECURE_PLAINTEXT allows",
        )
    mode = int(settings.unix_socket_mode, 8)
    addresses = []
    for address in settings.addresses():
        with cannot_start("KEYFENCE_LISTEN", CannotListen, SocketTaken):
            if isinstance(address, UnixAddress):
                resources.callback(claim_unix_socket(address.path).release)
            addresses.append(server.listen(address, certificate, unix_mode=mode))
    return tuple(addresses)


def _serve_metrics(
    settings: Settings,
    backend: Backend,
    watch: LeaseWatch,
    rpc_stats: RpcStats,
    gate: Gate,
    health: Health,
    certificate: ServerCertificate | None,
    resources: AsyncExitStack,
) -> int | None:
    address = settings.metrics_address()
    if address is None:
        return None
    sources = Sources(
        rpc=rpc_stats,
        backend=backend.stats,
        cache=backend.membership.cache,
        write_behind=backend.notes,
        calls_under_way=lambda: gate.under_way,
        is_serving=lambda: health.is_serving,
        holders=lambda: len(backend.membership.hub.grantor.holders),
        lease=backend.membership.lease,
        lease_losses=lambda: watch.losses,
        seconds_without_lease=lambda: watch.seconds_without,
        stale_answers=backend.membership.stale_answers,
        certificate_expire_time=lambda: certificate.expire_time if certificate else None,
    )
    boot_clock = SystemBootClock()
    probes = Probes(
        stalled_seconds=lambda: boot_clock.now() - watch.looked_at,
        is_serving=lambda: health.is_serving,
        problems=lambda: [*backend.problems(), *backend.lease_problems()],
    )
    with cannot_start(f"KEYFENCE_METRICS_LISTEN: {address}", OSError):
        collector = KeyfenceCollector(sources)
        server = OperationsServer(str(address.host), address.port, collector, probes)
    resources.callback(server.close)
    return server.port
