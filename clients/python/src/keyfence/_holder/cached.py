"""The cache inside a client: checks on known keys, answered without leaving the process.

A thread of its own keeps the lease, so that it goes on whatever the application's own
event loop is busy with. Checks read what that thread has learnt, and take no lock.

A check is answered here only if the lease is live at a moment that is read after the
check came in. Everything else is left to the server, whose answer is always right.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import grpc

from keyfence import _rpcs, results
from keyfence._connection import Connection
from keyfence._holder.dial import Dialer
from keyfence._holder.lease import HolderLease
from keyfence._holder.memory import Entry, Fill, Memory, reason_of
from keyfence._holder.session import HolderSession
from keyfence.v1 import replication_service_pb2 as messages

# macOS has no clock of that name; its monotonic one goes on while the machine sleeps.
_BOOT_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_KEYSPACES_SECONDS: Final = 5.0
_KEYSPACES_PAUSE_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 5.0

_log = logging.getLogger("keyfence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Asks for checks to be answered from memory.

    The client's token needs the scope "replication:sync".

    Attributes:
        max_keys: how many keys to remember, those that were asked for last.
    """

    max_keys: int = 10_000

    def __post_init__(self) -> None:
        if self.max_keys < 1:
            raise ValueError("max_keys must be at least 1")


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """How a client's cache is doing.

    Attributes:
        is_live: whether checks may be answered from memory now.
        lease_seconds_left: until that ends, if nothing more is heard. 0 if it has ended.
        applied_revision: every change up to this one is applied.
        keys: how many are remembered.
    """

    is_live: bool
    lease_seconds_left: float
    applied_revision: int
    keys: int


class _SystemClock:
    def now(self) -> float:
        return time.clock_gettime(_BOOT_CLOCK)

    async def sleep_until(self, when: float) -> None:
        while (left := when - self.now()) > 0:  # noqa: ASYNC110 - nothing to be told by
            await asyncio.sleep(left)


class LocalChecks:
    """Answers checks from memory, or not at all. Safe under threads.

    After a fork the child never answers from memory: the thread that keeps the lease is
    the parent's.
    """

    def __init__(self, connection: Connection, options: Cache) -> None:
        self._connection = connection
        self._memory = Memory(options.max_keys)
        self._lease = HolderLease()
        self._clock = _SystemClock()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False
        self._dialer: Dialer | None = None
        self._moved: asyncio.Future[None] | None = None
        self._keyspaces_wanted: asyncio.Event | None = None
        _caches.add(self)

    def status(self) -> CacheStatus:
        """How it is doing now."""
        left = max(0.0, self._lease.until - self._clock.now())
        return CacheStatus(
            is_live=left > 0,
            lease_seconds_left=left,
            applied_revision=self._memory.applied,
            keys=len(self._memory),
        )

    # --- answering -------------------------------------------------------------------

    def authenticate(
        self, api_key: str, keyspace: str | None, client_address: str | None, at_least: int
    ) -> results.Authentication | None:
        """Whose key it is; None if the server must be asked."""
        entry = self._find(api_key, keyspace, at_least)
        if entry is None:
            return None
        try:
            reason = reason_of(entry, client_address)
        except ValueError:
            return None
        revision = self._memory.applied
        if reason is None:
            if entry.authenticated.revision != revision:
                entry.authenticated = replace(entry.authenticated, revision=revision)
            return entry.authenticated
        return results.Authentication(
            authenticated=False, reason=reason, principal=entry.principal, revision=revision
        )

    def check_scope(
        self,
        api_key: str,
        required: Sequence[str],
        keyspace: str | None,
        client_address: str | None,
        at_least: int,
    ) -> results.CheckResult | None:
        """Whether the key may do it; None if the server must be asked."""
        entry = self._find(api_key, keyspace, at_least)
        if entry is None or not required:
            return None
        scopes = entry.scopes
        missing = [scope for scope in required if scope not in scopes]
        if missing and not self._memory.registers(entry.keyspace, missing):
            # Whether these scopes exist at all, the server knows.
            return None
        try:
            reason = reason_of(entry, client_address)
        except ValueError:
            return None
        revision = self._memory.applied
        if reason is None and not missing:
            if entry.yes.revision != revision:
                entry.yes = replace(entry.yes, revision=revision)
            return entry.yes
        return results.CheckResult(
            allowed=False,
            reason=reason or results.Reason.SCOPE_MISSING,
            missing_scopes=() if reason else tuple(dict.fromkeys(missing)),
            principal=entry.principal,
            revision=revision,
            explanation=None,
        )

    def _find(self, api_key: str, keyspace: str | None, at_least: int) -> Entry | None:
        if time.clock_gettime(_BOOT_CLOCK) >= self._lease.until:
            self._start()
            return None
        entry = self._memory.find(self._memory.digest(api_key))
        if entry is None or (keyspace and keyspace != entry.keyspace):
            return None
        return entry if at_least <= self._memory.applied else None

    # --- filling ---------------------------------------------------------------------

    def begin_fill(self, api_key: str) -> Fill | None:
        """Called when a check could not be answered; None if asking for facts would not help."""
        if time.clock_gettime(_BOOT_CLOCK) >= self._lease.until:
            return None
        if self._memory.find(self._memory.digest(api_key)) is not None:
            return None
        return self._memory.begin_fill()

    def fill_request(self, fill: Fill, api_key: str) -> messages.FetchFactsRequest:
        """What to ask the server."""
        return messages.FetchFactsRequest(api_key=api_key, at_least_revision=fill.started_at)

    def end_fill(self, fill: Fill, api_key: str, response: messages.FetchFactsResponse) -> None:
        """The server has answered."""
        self._memory.end_fill(fill, self._memory.digest(api_key), response)

    def drop_fill(self, fill: Fill) -> None:
        """The server has not answered."""
        self._memory.drop_fill(fill)

    # --- the session's listener ------------------------------------------------------

    def forget_everything(self, head: int, epoch: str) -> None:
        """See `Listener`."""
        self._memory.forget_everything(head, epoch)
        if self._keyspaces_wanted is not None and self._lease.has_started:
            self._keyspaces_wanted.set()
        self._announce()

    def apply(self, revision: int, changes: messages.RevisionChanges) -> None:
        """See `Listener`."""
        if self._memory.apply(revision, changes) and self._keyspaces_wanted is not None:
            self._keyspaces_wanted.set()
        self._announce()

    def acknowledged(self) -> int:
        """See `Listener`."""
        return self._memory.applied

    def moved(self) -> asyncio.Future[None]:
        """See `Listener`."""
        if self._moved is None:
            self._moved = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._moved)

    def _announce(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None and not moved.done():
            moved.set_result(None)

    # --- the thread ------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is not None or self._is_closed:
            return
        with self._start_lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(
                    target=self._run_thread, name="keyfence-cache", daemon=True
                )
                self._thread.start()

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            pass
        except Exception:  # noqa: BLE001 - whatever it is, checks go on at the server
            # Without its lease the cache answers nothing, so the server is asked instead.
            _log.exception("keyfence: the cache has stopped; checks go to the server")
        finally:
            self._lease.abandon()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running = asyncio.current_task()
        if self._is_closed:
            return
        self._keyspaces_wanted = asyncio.Event()
        dialer = self._dialer = Dialer([self._connection])
        session = HolderSession(
            dialer.open_stream,
            messages.Hello(
                holder_id=f"sdk_{secrets.token_hex(16)}",
                kind=messages.HOLDER_KIND_SDK,
                display_name=f"{os.getpid()} on {socket.gethostname()}"[:63],
            ),
            self._lease,
            self,
            self._clock,
            on_broken=lambda why: _log.info("keyfence: the cache is out of step: %s", why),
        )
        try:
            await asyncio.gather(session.run(), self._keep_keyspaces(dialer))
        finally:
            await dialer.close()

    async def _keep_keyspaces(self, dialer: Dialer) -> None:
        """Learns which scopes are registered, again whenever a keyspace has changed."""
        wanted = self._keyspaces_wanted
        while wanted is not None:
            await wanted.wait()
            wanted.clear()
            if not self._lease.has_started:
                # It is wanted again when there is a lease.
                continue
            fill = self._memory.begin_fill()
            request = messages.FetchKeyspacesRequest(at_least_revision=fill.started_at)
            try:
                response = await dialer.ask(_rpcs.FETCH_KEYSPACES, request, _KEYSPACES_SECONDS)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError):
                # Until it is known, denials for missing scopes come from the server.
                self._memory.drop_fill(fill)
                await asyncio.sleep(1)
                wanted.set()
                continue
            if not self._memory.end_keyspaces_fill(fill, response):
                await asyncio.sleep(_KEYSPACES_PAUSE_SECONDS)
                wanted.set()

    def close(self) -> None:
        """Stops the thread and gives up the lease. Closing twice is fine."""
        self._is_closed = True
        self._lease.abandon()
        loop, running, thread = self._loop, self._running, self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return
        if loop is not None and running is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(running.cancel)
            except RuntimeError:
                # It has ended by itself in the meantime.
                return
        thread.join(_STOP_SECONDS)

    def abandon_after_fork(self) -> None:
        """Called in the child: nothing here is kept in step any more."""
        self._is_closed = True
        self._thread = None
        self._start_lock = threading.Lock()
        self._lease = HolderLease()


_caches: Final[weakref.WeakSet[LocalChecks]] = weakref.WeakSet()


def _abandon_all() -> None:
    for cache in tuple(_caches):
        cache.abandon_after_fork()


def _close_all() -> None:
    for cache in tuple(_caches):
        cache.close()


# gRPC's own threads must have nobody to call any more when the interpreter goes.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
