"""The one place where everything is put together.

Every other module is given what it needs. What holds something of the world, such as a
lock, a socket or a connection, is taken here in order, and let go in the opposite order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.files.unix_socket import SocketTaken, claim_unix_socket
from keyfence_server.adapters.passwords import Argon2Passwords
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.rate_limits.redis import InvalidCounterUrl, RedisCounter
from keyfence_server.adapters.session_tokens import JwtSessionTokens
from keyfence_server.adapters.sql import (
    InvalidDatabaseUrl,
    SchemaMismatch,
    StoreOptions,
    open_store,
)
from keyfence_server.adapters.sql.sole_process import AnotherProcess, SoleProcess
from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.callers import Callers
from keyfence_server.application.checks import Checks
from keyfence_server.application.create_key import CreateKey
from keyfence_server.application.disable_account import DisableAccount
from keyfence_server.application.first_start import FirstStart
from keyfence_server.application.log_in import LogIn
from keyfence_server.application.log_in_attempts import LogInAttempts
from keyfence_server.application.log_out import LogOut
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import Clock, Store, StoreUnavailable
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.rate_limits import OnFailure, RateCounter, RateLimits
from keyfence_server.application.read_accounts import ReadAccounts
from keyfence_server.application.read_audit import ReadAudit
from keyfence_server.application.read_keys import ReadKeys
from keyfence_server.application.read_keyspaces import ReadKeyspaces
from keyfence_server.application.register_account import RegisterAccount
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.rotate_key import RotateKey
from keyfence_server.application.update_account import UpdateAccount
from keyfence_server.application.update_key import UpdateKey
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.sole_holder import SoleHolder
from keyfence_server.config import Settings
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Peppers, Plaintext
from keyfence_server.provisioning import (
    ROOT_KEY_FILE,
    CannotStart,
    embedded_database,
    first_keyspaces,
    given_root_credential,
    lock_database,
    make_root_credential,
    provide_peppers,
    provide_session_keys,
)
from keyfence_server.rpc.accounts import AccountService
from keyfence_server.rpc.addresses import ListenAddress, UnixAddress
from keyfence_server.rpc.audit import AuditService
from keyfence_server.rpc.authorization import AuthorizationService
from keyfence_server.rpc.certificates import ServerCertificate, UnusableCertificate
from keyfence_server.rpc.envoy.service import EnvoyAuthorization
from keyfence_server.rpc.gate import Gate
from keyfence_server.rpc.keys import KeyService
from keyfence_server.rpc.keyspaces import KeyspaceService
from keyfence_server.rpc.open_services import HEALTH, Health, Reflection
from keyfence_server.rpc.pipeline import Pipeline, Service
from keyfence_server.rpc.server import CannotListen, RpcServer
from keyfence_server.rpc.stats import RpcStats
from keyfence_server.rpc.status import SHUTTING_DOWN, STORE_UNAVAILABLE
from keyfence_server.rpc.tracing import Tracing
from keyfence_server.telemetry.measured_store import MeasuredStore, StoreStats
from keyfence_server.telemetry.metrics import MetricsServer, Sources

_REASONS_NOT_TO_START = (
    AnotherProcess,
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


@dataclass(frozen=True, slots=True)
class Authority:
    """The use cases' common ground."""

    settings: Settings
    clock: Clock
    peppers: Peppers
    store: Store
    cache: FactCache
    mutations: Mutations
    rate_limits: RateLimits
    attempt_limits: RateLimits
    rpc_stats: RpcStats
    store_stats: StoreStats
    write_behind: WriteBehind
    passwords: Argon2Passwords
    tokens: JwtSessionTokens | None

    def presented_keys(self) -> PresentedKeys:
        """Looks up keys by their plaintext."""
        return PresentedKeys(self.cache, self.peppers)

    def presented_sessions(self) -> PresentedSessions | None:
        """Looks up sessions by their tokens, where there can be any."""
        return PresentedSessions(self.cache, self.tokens) if self.tokens is not None else None

    async def follow_from_now(self) -> None:
        """Forgets what is in memory, and goes on from the store's revision."""
        async with self.store.snapshot() as snapshot:
            self.cache.start_at(snapshot.revision)


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
    _reflection: Reflection | None
    _mutations: Mutations
    _resources: AsyncExitStack

    def say_not_serving(self) -> None:
        """Has health say that the server does not serve, though it goes on doing so."""
        self._health.set_serving(False)

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Takes no more calls, lets those under way end, and lets everything go.

        May be called again with less grace, while the first call still waits.

        Args:
            grace_seconds: how long the calls have; None for not at all.
        """
        self._gate.shut(SHUTTING_DOWN)
        self._health.close()
        if self._reflection is not None:
            self._reflection.close()
        await self._server.stop(grace_seconds)
        # A mutation whose caller is gone is finished all the same.
        await self._mutations.finish()
        await self._resources.aclose()

    async def wait(self) -> None:
        """Returns when no more calls are taken. Raises what ended it, if that was a fault."""
        await self._server.wait()


async def start(
    settings: Settings, *, clock: Clock | None = None, tracing: Tracing | None = None
) -> RunningServer:
    """Starts a server.

    Raises:
        CannotStart: with the reason and what to do. Nothing is held any more.
    """
    async with AsyncExitStack() as resources:
        try:
            return await _start(settings, clock or SystemClock(), tracing, resources)
        except _REASONS_NOT_TO_START as reason:
            raise CannotStart(str(reason)) from None


async def _start(
    settings: Settings, clock: Clock, tracing: Tracing | None, resources: AsyncExitStack
) -> RunningServer:
    given_root = given_root_credential(settings)
    authority = await _open_authority(settings, clock, resources)
    services = _services(authority)
    names = [service.descriptor.full_name for service in services]
    gate = Gate(settings.max_concurrent_calls)
    health = Health(names)
    reflection = Reflection([*names, HEALTH]) if settings.serves_reflection() else None
    if embedded_database(settings) is None:
        await _become_sole_process(authority, gate, health, resources)
    await authority.follow_from_now()
    _write_behind(authority, resources)
    callers = Callers(
        authority.presented_keys(),
        clock,
        authority.presented_sessions(),
        notes=authority.write_behind,
    )
    pipeline = Pipeline(callers, gate, authority.rpc_stats, tracing, settings.origins())
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
    metrics_port = _serve_metrics(authority, gate, health, resources)
    # A start that is refused for its sockets or its certificate is not the first one yet:
    # the one that succeeds says what to do with the credential.
    first_start = await _start_first(authority, given_root)
    await server.start()
    health.set_serving(True)
    return RunningServer(
        addresses=addresses,
        metrics_port=metrics_port,
        first_start=first_start,
        certificate=certificate,
        _server=server,
        _gate=gate,
        _health=health,
        _reflection=reflection,
        _mutations=authority.mutations,
        _resources=resources.pop_all(),
    )


async def _open_authority(settings: Settings, clock: Clock, resources: AsyncExitStack) -> Authority:
    database = embedded_database(settings)
    if database is not None:
        resources.callback(lock_database(settings, database).release)
    peppers = provide_peppers(settings, database)
    session_keys = provide_session_keys(settings, database)
    passwords = Argon2Passwords(
        peppers,
        memory_mib=settings.password_memory_mib,
        passes=settings.password_passes,
        workers=settings.password_workers,
    )
    resources.callback(passwords.close)
    store_stats = StoreStats()
    options = StoreOptions(pool_size=settings.database_connections)
    opened = await open_store(settings.store_url(), options=options)
    resources.push_async_callback(opened.close)
    store = MeasuredStore(opened, store_stats)
    cache = FactCache(
        store, capacity=settings.cache_keys, unknown_capacity=settings.cache_unknown_keys
    )
    counter = _open_shared_counter(settings, resources)
    return Authority(
        settings=settings,
        clock=clock,
        peppers=peppers,
        store=store,
        cache=cache,
        mutations=Mutations(store, SoleHolder(cache), clock),
        rate_limits=RateLimits(
            clock, MemoryCounter(clock), counter, settings.rate_limit_on_failure
        ),
        # Passwords are never tried unthrottled, whatever the setting says of keys.
        attempt_limits=RateLimits(clock, MemoryCounter(clock), counter, OnFailure.LOCAL),
        rpc_stats=RpcStats(),
        store_stats=store_stats,
        write_behind=WriteBehind(store, clock, days_kept=settings.usage_days),
        passwords=passwords,
        tokens=JwtSessionTokens(session_keys) if session_keys is not None else None,
    )


def _open_shared_counter(settings: Settings, resources: AsyncExitStack) -> RateCounter | None:
    if settings.rate_limit_url is None:
        return None
    url = settings.rate_limit_url.get_secret_value()
    try:
        shared = RedisCounter(url, settings.rate_limit_timeout_seconds)
    except InvalidCounterUrl as error:
        raise CannotStart(f"KEYFENCE_RATE_LIMIT_URL: {error}") from None
    resources.push_async_callback(shared.close)
    return shared


def _services(authority: Authority) -> list[Service]:
    store, cache, clock = authority.store, authority.cache, authority.clock
    mutations, peppers = authority.mutations, authority.peppers
    checks = Checks(
        cache,
        authority.presented_keys(),
        clock,
        authority.rate_limits,
        authority.write_behind,
    )
    return [
        AuthorizationService(checks, cache, authority.rpc_stats.verdicts).service(),
        EnvoyAuthorization(checks, cache, authority.rpc_stats.verdicts, clock).service(),
        KeyService(
            CreateKey(mutations, peppers, clock),
            ReadKeys(store, clock),
            UpdateKey(mutations, clock),
            RotateKey(mutations, peppers, clock),
            RevokeKey(mutations, clock),
        ).service(),
        KeyspaceService(
            ApplyKeyspace(store, mutations, clock), ReadKeyspaces(store, clock)
        ).service(),
        AuditService(ReadAudit(store)).service(),
        _account_service(authority).service(),
    ]


def _account_service(authority: Authority) -> AccountService:
    store, cache, clock = authority.store, authority.cache, authority.clock
    mutations, passwords = authority.mutations, authority.passwords
    attempts = LogInAttempts(authority.attempt_limits, clock)
    return AccountService(
        RegisterAccount(cache, mutations, passwords, attempts, clock),
        LogIn(
            store,
            cache,
            mutations,
            passwords,
            attempts,
            authority.tokens,
            clock,
            authority.write_behind,
        ),
        LogOut(mutations, clock),
        ReadAccounts(store),
        UpdateAccount(store, mutations, passwords, attempts, clock),
        DisableAccount(mutations, clock),
    )


async def _become_sole_process(
    authority: Authority, gate: Gate, health: Health, resources: AsyncExitStack
) -> None:
    def lost() -> None:
        _log.error("the database is lost: nothing is answered until it is back")
        gate.shut(STORE_UNAVAILABLE)
        health.set_serving(False)
        authority.cache.clear()

    async def regained() -> None:
        await authority.follow_from_now()
        gate.open(after=STORE_UNAVAILABLE)
        health.set_serving(True)
        _log.info("the database is back")

    alone = SoleProcess(authority.settings.store_url(), on_lost=lost, on_regained=regained)
    await alone.acquire()
    resources.push_async_callback(alone.release)
    _run_in_background(alone.keep(), resources)


async def _start_first(
    authority: Authority, given_root: Plaintext | None
) -> FirstStartReport | None:
    """Makes the first credential and applies the first keyspaces, if nothing is there yet."""
    # Revision 1 is the first credential. A first start that was cut off behind it is
    # taken up again.
    if authority.cache.revision > 1:
        return None
    settings, mutations = authority.settings, authority.mutations
    declarations = first_keyspaces(settings)
    if authority.cache.revision == 0:
        first_start = FirstStart(mutations, authority.peppers, authority.clock)
        await first_start.make_root(given_root or make_root_credential(settings))
    apply_keyspace = ApplyKeyspace(authority.store, mutations, authority.clock)
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
    authority: Authority, gate: Gate, health: Health, resources: AsyncExitStack
) -> int | None:
    text = authority.settings.metrics_listen
    if text is None:
        return None
    sources = Sources(
        rpc=authority.rpc_stats,
        store=authority.store_stats,
        cache=authority.cache,
        rate_limits=authority.rate_limits.stats,
        write_behind=authority.write_behind,
        calls_under_way=lambda: gate.under_way,
        is_serving=lambda: health.is_serving,
    )
    host, _, port = text.rpartition(":")
    try:
        server = MetricsServer(host.strip("[]"), int(port), sources)
    except OSError as error:
        raise CannotStart(f"KEYFENCE_METRICS_LISTEN: {text}: {error.strerror}") from None
    resources.callback(server.close)
    return server.port


def _write_behind(authority: Authority, resources: AsyncExitStack) -> None:
    write_behind = authority.write_behind
    # What is noted until the last call has ended is written down before the store is let go.
    resources.push_async_callback(write_behind.flush, finally_=True)
    _run_in_background(write_behind.keep(authority.settings.usage_flush_seconds), resources)


def _run_in_background(work: Coroutine[Any, Any, None], resources: AsyncExitStack) -> None:
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    resources.push_async_callback(end)
