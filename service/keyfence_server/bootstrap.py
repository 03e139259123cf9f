"""The one place where everything is put together.

Every other module is given what it needs. What holds something of the world, such as a
lock, a socket or a connection, is taken here in order, and let go in the opposite order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from keyfence.v1.replication_service_pb2 import HOLDER_KIND_SIDECAR
from keyfence_server.adapters.clock import SystemBootClock, SystemClock
from keyfence_server.adapters.files.unix_socket import SocketTaken, claim_unix_socket
from keyfence_server.adapters.sql import (
    InvalidDatabaseUrl,
    SchemaMismatch,
    StoreOptions,
    open_store,
)
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.adapters.upstream.store import PresentedDigests
from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.callers import Callers
from keyfence_server.application.checks import Checks
from keyfence_server.application.create_key import CreateKey
from keyfence_server.application.first_start import FirstStart
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import Clock, StoreUnavailable
from keyfence_server.application.presented_keys import Digests, PresentedKeys
from keyfence_server.application.read_keys import ReadKeys
from keyfence_server.application.read_keyspaces import ReadKeyspaces
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.rotate_key import RotateKey
from keyfence_server.application.update_key import UpdateKey
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.ports import Register
from keyfence_server.config import Settings
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Plaintext
from keyfence_server.lease_watch import LeaseWatch
from keyfence_server.membership import (
    Conversions,
    Membership,
    alone,
    among_others,
    downstream_of,
)
from keyfence_server.provisioning import (
    ROOT_KEY_FILE,
    CannotStart,
    embedded_database,
    first_keyspaces,
    given_root_credential,
    lock_database,
    make_root_credential,
    provide_peppers,
)
from keyfence_server.rpc.addresses import ListenAddress, UnixAddress
from keyfence_server.rpc.authorization import AuthorizationService
from keyfence_server.rpc.certificates import ServerCertificate, UnusableCertificate
from keyfence_server.rpc.convert.replication import (
    changes_from,
    keyspaces_from,
    lineage_from,
)
from keyfence_server.rpc.gate import Gate
from keyfence_server.rpc.keys import KeyService
from keyfence_server.rpc.keyspaces import KeyspaceService
from keyfence_server.rpc.open_services import HEALTH, Health, Reflection
from keyfence_server.rpc.pipeline import Pipeline, Service
from keyfence_server.rpc.replication import ReplicationService
from keyfence_server.rpc.server import CannotListen, RpcServer
from keyfence_server.rpc.stats import RpcStats
from keyfence_server.rpc.status import SHUTTING_DOWN
from keyfence_server.rpc.tracing import Tracing
from keyfence_server.telemetry.measured_fence import FenceStats, MeasuredFence
from keyfence_server.telemetry.measured_store import MeasuredStore, StoreStats
from keyfence_server.telemetry.metrics import MetricsServer, Sources

_REASONS_NOT_TO_START = (
    CannotListen,
    DomainError,
    InvalidDatabaseUrl,
    SchemaMismatch,
    SocketTaken,
    StoreUnavailable,
    UnusableCertificate,
)

_log = structlog.get_logger("keyfence")


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
    """What stands behind the RPCs: an authority with its store, or another Keyfence.

    Attributes:
        membership: what this process may do from memory.
        digests: by what keys are looked up.
        own_services: what it serves besides checks and replication.
        register: of the processes on the store, if there is one.
        mutations: those under way, where there can be any.
        first_start: what to do when the process may answer, before it does.
    """

    membership: Membership
    digests: Digests
    store_stats: StoreStats
    fence_stats: FenceStats
    own_services: list[Service] = field(default_factory=list)
    register: Register | None = None
    mutations: Mutations | None = None
    first_start: Callable[[], Awaitable[FirstStartReport | None]] | None = None


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
    _mutations: Mutations | None
    _hub: DownstreamHub
    _resources: AsyncExitStack

    def say_not_serving(self) -> None:
        """Has health say that the server does not serve, though it goes on doing so."""
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
        # Holders go elsewhere at once, instead of holding this process up.
        self._hub.close_all()
        await self._server.stop(grace_seconds)
        if self._mutations is not None:
            # A mutation whose caller is gone is finished all the same.
            await self._mutations.finish()
        await self._resources.aclose()

    async def wait(self) -> None:
        """Returns when no more calls are taken. Raises what ended it, if that was a fault."""
        await self._server.wait()


async def start(
    settings: Settings,
    *,
    clock: Clock | None = None,
    tracing: Tracing | None = None,
    is_worker: bool = False,
) -> RunningServer:
    """Starts a server.

    Args:
        is_worker: whether this is one of several processes, whose parent holds the lock
            on the data directory.

    Raises:
        CannotStart: with the reason and what to do. Nothing is held any more.
    """
    async with AsyncExitStack() as resources:
        try:
            return await _start(settings, clock or SystemClock(), tracing, is_worker, resources)
        except _REASONS_NOT_TO_START as reason:
            raise CannotStart(str(reason)) from None


async def _start(
    settings: Settings,
    clock: Clock,
    tracing: Tracing | None,
    is_worker: bool,
    resources: AsyncExitStack,
) -> RunningServer:
    if settings.upstream:
        back = await _open_sidecar(settings, resources)
    else:
        back = await _open_authority(settings, clock, is_worker, resources)
    rpc_stats = RpcStats()
    presented = PresentedKeys(back.membership.source, back.digests)
    services = _services(back, presented, clock, rpc_stats)
    names = [service.descriptor.full_name for service in services]
    gate = Gate(settings.max_concurrent_calls)
    health = Health(names)
    reflection = Reflection([*names, HEALTH]) if settings.serves_reflection() else None
    await back.membership.start(resources)
    pipeline = Pipeline(Callers(presented, clock), gate, rpc_stats, tracing)
    certificate = _follow_certificate(settings, resources)
    server = RpcServer(
        {
            **pipeline.method_handlers(services),
            **health.method_handlers(),
            **(reflection.method_handlers() if reflection else {}),
        },
        settings.limits(),
    )
    addresses = _listen(server, settings, certificate, resources)
    watch = LeaseWatch(
        back.membership.is_live, health.set_serving, settings.lease_terms(), SystemBootClock()
    )
    metrics_port = _serve_metrics(settings, back, watch, rpc_stats, gate, health, resources)
    # A start that is refused for its sockets or its certificate is not the first one yet:
    # the one that succeeds says what to do with the credential.
    first_start = await back.first_start() if back.first_start is not None else None
    await server.start()
    watch.look()
    _run_in_background(watch.run(), resources)
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
        _mutations=back.mutations,
        _hub=back.membership.hub,
        _resources=resources.pop_all(),
    )


async def _open_authority(
    settings: Settings, clock: Clock, is_worker: bool, resources: AsyncExitStack
) -> Back:
    given_root = given_root_credential(settings)
    database = embedded_database(settings)
    is_alone = database is not None and not is_worker
    if database is not None and is_alone:
        resources.callback(lock_database(settings, database).release)
    peppers = provide_peppers(settings, database)
    store_stats = StoreStats()
    fence_stats = FenceStats()
    options = StoreOptions(pool_size=settings.database_connections)
    opened = await open_store(settings.store_url(), options=options)
    resources.push_async_callback(opened.close)
    store = MeasuredStore(opened, store_stats)
    cache = FactCache(
        store, capacity=settings.cache_keys, unknown_capacity=settings.cache_unknown_keys
    )
    membership = (
        alone(cache, store, settings.lease_terms())
        if is_alone
        else among_others(settings, cache, store, opened, settings.lease_terms(), fence_stats)
    )
    fence = MeasuredFence(membership.fence, fence_stats, settings.lease_terms())
    mutations = Mutations(store, fence, clock)
    apply_keyspace = ApplyKeyspace(store, mutations, clock)
    first_start = FirstStart(mutations, peppers, clock)

    async def start_first() -> FirstStartReport | None:
        return await _start_first(settings, cache, first_start, apply_keyspace, given_root)

    return Back(
        membership=membership,
        digests=peppers,
        store_stats=store_stats,
        fence_stats=fence_stats,
        own_services=[
            KeyService(
                CreateKey(mutations, peppers, clock),
                ReadKeys(store),
                UpdateKey(mutations, clock),
                RotateKey(mutations, peppers, clock),
                RevokeKey(mutations, clock),
            ).service(),
            KeyspaceService(apply_keyspace, ReadKeyspaces(store, clock)).service(),
        ],
        register=membership.register,
        mutations=mutations,
        first_start=start_first,
    )


async def _open_sidecar(settings: Settings, resources: AsyncExitStack) -> Back:
    upstream = Upstream(
        settings.upstream_targets(),
        token=settings.upstream_credential(),
        tls=settings.upstream_tls(),
        insecure_plaintext=settings.upstream_insecure_plaintext,
    )
    resources.push_async_callback(upstream.close)

    def broken(why: str) -> None:
        _log.warning("not in step with the server upstream", target=upstream.target, why=why)

    return Back(
        membership=downstream_of(
            upstream,
            (settings.cache_keys, settings.cache_unknown_keys),
            settings.lease_terms(),
            Conversions(lineage_from, keyspaces_from, changes_from),
            kind=HOLDER_KIND_SIDECAR,
            on_broken=broken,
        ),
        digests=PresentedDigests(),
        store_stats=StoreStats(),
        fence_stats=FenceStats(),
    )


def _services(
    back: Back, presented: PresentedKeys, clock: Clock, rpc_stats: RpcStats
) -> list[Service]:
    source = back.membership.source
    checks = Checks(source, presented, clock)
    return [
        AuthorizationService(checks, source, rpc_stats.verdicts).service(),
        *back.own_services,
        ReplicationService(
            back.membership.hub,
            source,
            presented,
            back.register,
            SystemBootClock(),
            grantor_id=back.membership.process_id,
        ).service(),
    ]


async def _start_first(
    settings: Settings,
    cache: FactCache,
    first_start: FirstStart,
    apply_keyspace: ApplyKeyspace,
    given_root: Plaintext | None,
) -> FirstStartReport | None:
    """Makes the first credential and applies the first keyspaces, if nothing is there yet."""
    # Revision 1 is the first credential. A first start that was cut off behind it is
    # taken up again.
    if cache.revision > 1:
        return None
    declarations = first_keyspaces(settings)
    if cache.revision == 0:
        await first_start.make_root(given_root or make_root_credential(settings))
    applied = [await apply_keyspace.apply_unasked(declaration) for declaration in declarations]
    return FirstStartReport(
        root_key_file=None if given_root else settings.data_dir / ROOT_KEY_FILE,
        keyspaces=tuple(done.value.keyspace for done in applied),
    )


def _follow_certificate(settings: Settings, resources: AsyncExitStack) -> ServerCertificate | None:
    files = settings.certificate_files()
    if files is None:
        return None
    certificate = ServerCertificate(files)
    _run_in_background(certificate.follow(settings.tls_reload_seconds), resources)
    return certificate


def _listen(
    server: RpcServer,
    settings: Settings,
    certificate: ServerCertificate | None,
    resources: AsyncExitStack,
) -> tuple[ListenAddress, ...]:
    for exposed in settings.exposed_in_plaintext():
        _log.warning(
            "KEYFENCE_INSECURE_PLAINTEXT: keys cross the network in the clear",
            address=str(exposed),
        )
    mode = int(settings.unix_socket_mode, 8)
    addresses = []
    for address in settings.addresses():
        if isinstance(address, UnixAddress):
            resources.callback(claim_unix_socket(address.path).release)
        addresses.append(server.listen(address, certificate, unix_mode=mode))
    return tuple(addresses)


def _serve_metrics(
    settings: Settings,
    back: Back,
    watch: LeaseWatch,
    rpc_stats: RpcStats,
    gate: Gate,
    health: Health,
    resources: AsyncExitStack,
) -> int | None:
    text = settings.metrics_listen
    if text is None:
        return None
    sources = Sources(
        rpc=rpc_stats,
        store=back.store_stats,
        cache=back.membership.cache,
        calls_under_way=lambda: gate.under_way,
        is_serving=lambda: health.is_serving,
        fence=back.fence_stats,
        holders=lambda: len(back.membership.hub.grantor.holders),
        lease_left=back.membership.lease_left,
        lease_losses=lambda: watch.losses,
        seconds_without_lease=lambda: watch.seconds_without,
    )
    host, _, port = text.rpartition(":")
    try:
        server = MetricsServer(host.strip("[]"), int(port), sources)
    except OSError as error:
        raise CannotStart(f"KEYFENCE_METRICS_LISTEN: {text}: {error.strerror}") from None
    resources.callback(server.close)
    return server.port


def _run_in_background(work: Coroutine[Any, Any, None], resources: AsyncExitStack) -> None:
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    resources.push_async_callback(end)
