"""The cache inside a client: checks on known keys, answered without leaving the process.

A thread of its own keeps the lease, so that it goes on whatever the application's own
event loop is busy with. `LocalChecks` reads what that thread has learnt.
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
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc

from keyfence import _rpcs
from keyfence._connection import Connection
from keyfence._holder.dial import Dialer
from keyfence._holder.lease import HolderLease
from keyfence._holder.local_checks import LocalChecks
from keyfence._holder.memory import Memory
from keyfence._holder.session import HolderSession
from keyfence.v1 import replication_service_pb2 as messages

# macOS has no clock of that name; its monotonic one goes on while the machine sleeps.
_BOOT_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_KEYSPACES_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 5.0

_log = logging.getLogger("keyfence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Asks for checks to be answered from memory.

    The client's token needs the scope "replication:sync".

    Attributes:
        max_keys: how many keys to remember, those that were asked for lately.
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
    def __init__(self) -> None:
        # Read at every check, so no call of Python's own stands in between.
        self.now = partial(time.clock_gettime, _BOOT_CLOCK)

    async def sleep_until(self, when: float) -> None:
        while (left := when - self.now()) > 0:  # noqa: ASYNC110 - nothing to be told by
            await asyncio.sleep(left)


class BackgroundCache:
    """Keeps `checks` in step with the server, from the first check on that finds no lease.

    After a fork the child never answers from memory: the thread that keeps the lease is
    the parent's.
    """

    def __init__(self, connection: Connection, options: Cache) -> None:
        self._connection = connection
        self._clock = _SystemClock()
        self.checks: Final = LocalChecks(
            Memory(options.max_keys), HolderLease(), self._clock.now, self._start
        )
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False
        _caches.add(self)

    def status(self) -> CacheStatus:
        """How it is doing now."""
        checks = self.checks
        left = max(0.0, checks.lease.until - self._clock.now())
        return CacheStatus(
            is_live=left > 0,
            lease_seconds_left=left,
            applied_revision=checks.memory.applied,
            keys=len(checks.memory),
        )

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
            self.checks.lease.abandon()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running = asyncio.current_task()
        if self._is_closed:
            return
        dialer = Dialer([self._connection])
        session = HolderSession(
            dialer.open_stream,
            messages.Hello(
                holder_id=f"sdk_{secrets.token_hex(16)}",
                kind=messages.HOLDER_KIND_SDK,
                display_name=f"{os.getpid()} on {socket.gethostname()}"[:63],
            ),
            self.checks.lease,
            self.checks,
            self._clock,
            on_broken=lambda why: _log.info("keyfence: the cache is out of step: %s", why),
        )

        async def ask(
            request: messages.FetchKeyspacesRequest,
        ) -> messages.FetchKeyspacesResponse | None:
            try:
                return await dialer.ask(_rpcs.FETCH_KEYSPACES, request, _KEYSPACES_SECONDS)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError):
                return None

        try:
            await asyncio.gather(session.run(), self.checks.keep_keyspaces(ask))
        finally:
            await dialer.close()

    def close(self) -> None:
        """Stops the thread and gives up the lease. Closing twice is fine."""
        self._is_closed = True
        self.checks.lease.abandon()
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
        self.checks.lose_lease()


_caches: Final[weakref.WeakSet[BackgroundCache]] = weakref.WeakSet()


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
