"""The backend of an authority: a server process on a store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from keyfence.holder.clock import SystemBootClock
from keyfence_server.adapters.passwords import Argon2Passwords
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.rate_limits.redis import InvalidCounterUrl, RedisCounter
from keyfence_server.adapters.session_tokens import JwtSessionTokens
from keyfence_server.adapters.slow_hashes import SlowHashesHere
from keyfence_server.adapters.sql import SchemaMismatch, SqlStore, StoreOptions, open_store
from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.callers import Caller
from keyfence_server.application.checks import CountedHere
from keyfence_server.application.create_key import CreateKey
from keyfence_server.application.disable_account import DisableAccount
from keyfence_server.application.export_audit import ExportAudit
from keyfence_server.application.first_start import FirstStart
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.import_keys import ImportKeys
from keyfence_server.application.imported_keys import ImportedKeys
from keyfence_server.application.known_peppers import WrongPeppers, require_known_peppers
from keyfence_server.application.log_in import LogIn
from keyfence_server.application.log_in_attempts import LogInAttempts
from keyfence_server.application.log_out import LogOut
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import (
    Clock,
    FactSource,
    RetentionStore,
    SetUp,
    Store,
    StoreUnavailable,
    UseToAdd,
)
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.quotas import ChangeQuotas
from keyfence_server.application.rate_limits import OnFailure, RateCounter, RateLimits
from keyfence_server.application.read_accounts import ReadAccounts
from keyfence_server.application.read_audit import ReadAudit
from keyfence_server.application.read_keys import ReadKeys
from keyfence_server.application.read_keyspaces import ReadKeyspaces
from keyfence_server.application.register_account import RegisterAccount
from keyfence_server.application.retention import Kept, Retention
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.rotate_key import RotateKey
from keyfence_server.application.update_account import UpdateAccount
from keyfence_server.application.update_key import UpdateKey
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.clock_watch import ClockWatch
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.composition.backend import Backend, FirstStartReport
from keyfence_server.composition.background import repeat, run_in_background, watch_clock
from keyfence_server.composition.first_start import FirstStartOfServer
from keyfence_server.composition.history import History, open_history
from keyfence_server.composition.membership import alone, among_others
from keyfence_server.config import Settings
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.secrets import Peppers
from keyfence_server.provisioning import (
    CannotStart,
    cannot_start,
    describe_store,
    embedded_database,
    given_root_credential,
    lock_database,
    provide_peppers,
    provide_session_keys,
    source_of_peppers,
)
from keyfence_server.rpc.accounts import AccountService
from keyfence_server.rpc.audit import AuditService
from keyfence_server.rpc.keys import KeyService
from keyfence_server.rpc.keyspaces import KeyspaceService
from keyfence_server.rpc.pipeline import Service
from keyfence_server.telemetry.measured_fence import FenceStats, MeasuredFence
from keyfence_server.telemetry.measured_store import MeasuredStore, StoreStats
from keyfence_server.telemetry.metrics import BackendStats

_SWEEP_SECONDS: Final = 300.0
_SLICE_PAUSE_SECONDS: Final = 0.05
_REHASH_SECONDS: Final = 1.0

_log = structlog.get_logger("keyfence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority(Backend):
    """A backend on a store. Made by `open_authority`."""

    _store: Store
    _mutations: Mutations
    _clock_watch: ClockWatch
    _history: History
    _first_start: FirstStartOfServer

    def problems(self) -> list[str]:
        """See `Backend`."""
        found = [self._clock_watch.problem(), self._history.problem()]
        if not self.stats.store.outages.is_fit:
            found.append(self._outage())
        return [problem for problem in found if problem is not None]

    def lease_problems(self) -> list[str]:
        """See `Backend`. The outages that are not among the other problems cost the lease."""
        outages = self.stats.store.outages
        return [] if outages.problem is None or not outages.is_fit else [self._outage()]

    def _outage(self) -> str:
        return f"the database is unavailable: {self.stats.store.outages.problem}"

    async def uses_within_reach(
        self, uses: Sequence[UseToAdd], caller: Caller
    ) -> Sequence[UseToAdd]:
        """See `Backend`. A holder may also report how operators called it."""
        if not uses:
            return ()
        async with self._store.snapshot() as snapshot:
            keyspaces = await snapshot.find_keyspaces_of({one.key_id for one in uses})
        within = {
            name for name in set(keyspaces.values()) if name == SYSTEM or caller.reaches(name)
        }
        return [one for one in uses if keyspaces.get(one.key_id) in within]

    async def first_start(self) -> FirstStartReport | None:
        """See `Backend`."""
        return await self._first_start.run()

    async def finish(self) -> None:
        """See `Backend`. A mutation is finished even if its caller is gone."""
        await self._mutations.finish()


async def open_authority(
    settings: Settings, clock: Clock, is_worker: bool, resources: AsyncExitStack
) -> Authority:
    """Opens the store and puts the use cases on it. `is_worker` says whether this is one of several
    workers, whose parent holds the lock."""
    given_root = given_root_credential(settings)
    database = embedded_database(settings)
    is_alone = database is not None and not is_worker
    if is_alone and settings.stale_if_error_seconds():
        raise CannotStart(
            "KEYFENCE_STALE_IF_ERROR: a server that has the database to itself needs no lease, so "
            "it has nothing to be stale without; unset it"
        )
    if database is not None and is_alone:
        resources.callback(lock_database(settings, database).release)
    peppers = provide_peppers(settings, database)
    session_keys = provide_session_keys(settings, database)
    tokens = JwtSessionTokens(session_keys) if session_keys is not None else None
    passwords = Argon2Passwords(
        peppers,
        memory_mib=settings.password_memory_mib,
        passes=settings.password_passes,
        workers=settings.password_workers,
    )
    resources.callback(passwords.close)
    store_stats = StoreStats()
    fence_stats = FenceStats()
    opened = await _open_store(settings, resources)
    set_up = opened.set_up()
    await _require_known_peppers(settings, set_up, peppers, clock)
    history = await open_history(settings, opened, resources)
    clock_watch = await watch_clock(settings, resources, opened.database_time, history.last_used)
    store = MeasuredStore(opened, store_stats)
    run_in_background(
        store_stats.outages.watch(opened.require_writable, SystemBootClock()), resources
    )
    cache = FactCache(
        store, capacity=settings.cache_keys, unknown_capacity=settings.cache_unknown_keys
    )
    membership = (
        alone(cache, store, opened.register(), settings.lease_terms())
        if is_alone
        else among_others(settings, cache, store, opened.register(), store_stats.outages)
    )
    fence = MeasuredFence(membership.fence, fence_stats)
    rate_limits, throttling = _open_limiters(settings, clock, resources, is_alone=is_alone)
    mutations = Mutations(store, fence, clock, ChangeQuotas(throttling), clock_watch.problem)

    slow_hashes = SlowHashesHere()
    imported = ImportedKeys(store, mutations, peppers, slow_hashes, clock, lambda: cache.creations)
    run_in_background(repeat(imported.flush, _REHASH_SECONDS), resources)
    heavy = HeavyWork()
    apply_keyspace = ApplyKeyspace(store, mutations, clock, heavy)
    notes = WriteBehind(store, clock)
    source = membership.source
    _keep_small(opened.retention(), settings, clock, resources, is_alone=is_alone)
    first_start = FirstStartOfServer(
        settings=settings,
        set_up=set_up,
        source=source,
        peppers=peppers,
        first_start=FirstStart(mutations, peppers, clock),
        apply_keyspace=apply_keyspace,
        given_root=given_root,
        clock=clock,
    )
    return Authority(
        membership=membership,
        digests=peppers,
        imported=imported,
        counting=CountedHere(rate_limits),
        notes=notes,
        stats=BackendStats(
            rate_limits=rate_limits.stats,
            store=store_stats,
            fence=fence_stats,
            clock_skew_seconds=lambda: clock_watch.skew_seconds,
            mutations_under_way=lambda: mutations.under_way,
            mutations_waiting=lambda: mutations.waiting,
        ),
        services=[
            _key_service(store, mutations, peppers, slow_hashes, clock),
            KeyspaceService(apply_keyspace, ReadKeyspaces(store, clock, heavy), heavy).service(),
            AuditService(ReadAudit(store), ExportAudit(store, opened.retention(), clock)).service(),
            _account_service(store, source, mutations, passwords, throttling, tokens, clock, notes),
        ],
        sessions=PresentedSessions(source, tokens),
        _store=store,
        _mutations=mutations,
        _clock_watch=clock_watch,
        _history=history,
        _first_start=first_start,
    )


async def _open_store(settings: Settings, resources: AsyncExitStack) -> SqlStore:
    options = StoreOptions(pool_size=settings.database_connections)
    place = describe_store(settings)
    try:
        with cannot_start(place, SchemaMismatch):
            opened = await open_store(settings.store_url(), options=options)
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{place}: {error}", problem=error.problem) from None
    resources.push_async_callback(opened.close)
    return opened


def _open_limiters(
    settings: Settings, clock: Clock, resources: AsyncExitStack, *, is_alone: bool
) -> tuple[RateLimits, RateLimits]:
    """The limits of keys, and the throttling of changes and log-ins. Throttling goes on without
    the shared counter, whatever the setting says of keys."""
    shared: RateCounter | None = None
    if settings.rate_limit_url is not None:
        url = settings.rate_limit_url.get_secret_value()
        with cannot_start("KEYFENCE_RATE_LIMIT_URL", InvalidCounterUrl):
            shared = RedisCounter(url, settings.rate_limit_timeout_seconds)
        resources.push_async_callback(shared.close)
    of_keys, throttling = (
        RateLimits(clock, MemoryCounter(clock), shared, on_failure, is_alone=is_alone)
        for on_failure in (settings.rate_limit_on_failure, OnFailure.LOCAL)
    )
    return of_keys, throttling


def _account_service(
    store: Store,
    source: FactSource,
    mutations: Mutations,
    passwords: Argon2Passwords,
    throttling: RateLimits,
    tokens: JwtSessionTokens | None,
    clock: Clock,
    notes: WriteBehind,
) -> Service:
    attempts = LogInAttempts(throttling, clock)
    return AccountService(
        RegisterAccount(source, mutations, passwords, attempts, clock),
        LogIn(store, source, mutations, passwords, attempts, tokens, clock, notes),
        LogOut(mutations, clock),
        ReadAccounts(store),
        UpdateAccount(store, mutations, passwords, attempts, clock),
        DisableAccount(mutations, clock),
    ).service()


def _key_service(
    store: Store, mutations: Mutations, peppers: Peppers, slow_hashes: SlowHashesHere, clock: Clock
) -> Service:
    return KeyService(
        CreateKey(mutations, peppers, clock),
        ImportKeys(store, mutations, peppers, slow_hashes, clock),
        ReadKeys(store, clock),
        UpdateKey(mutations, clock),
        RotateKey(mutations, peppers, clock),
        RevokeKey(mutations, clock),
    ).service()


def _keep_small(
    store: RetentionStore,
    settings: Settings,
    clock: Clock,
    resources: AsyncExitStack,
    *,
    is_alone: bool,
) -> None:
    kept = Kept(
        use_days=settings.usage_days,
        audit_days=settings.audit_days,
        unexported_events=settings.audit_remove_unexported,
        changes=settings.changes_kept,
        changes_need_acknowledgement=not is_alone,
    )
    retention = Retention(store, clock, kept, partial(asyncio.sleep, _SLICE_PAUSE_SECONDS))
    run_in_background(repeat(retention.sweep, _SWEEP_SECONDS), resources)


async def _require_known_peppers(
    settings: Settings, set_up: SetUp, peppers: Peppers, clock: Clock
) -> None:
    with cannot_start(source_of_peppers(settings), WrongPeppers):
        passwords = await require_known_peppers(set_up, peppers, clock)
    if passwords:
        _log.warning(
            "password_pepper_missing",
            accounts=passwords,
            consequence="these accounts cannot log in until their pepper is given",
        )
