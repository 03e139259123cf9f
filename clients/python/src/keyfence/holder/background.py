"""The cache inside a client: answers checks on known keys without a call.

A thread of its own keeps the lease, so that a busy event loop of the application cannot delay
renewals. `LocalChecks` reads the memory that this thread updates.

Before a fork every cache is stopped and gives up its lease, and the thread ends. Afterwards parent
and child each start again, with a lease of their own, at the first check that finds no lease.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc

from keyfence import rpcs
from keyfence.connection import Connection
from keyfence.holder.clock import SystemBootClock
from keyfence.holder.dial import Dialer
from keyfence.holder.lease import HolderLease
from keyfence.holder.local_checks import LocalChecks
from keyfence.holder.memory import Memory
from keyfence.holder.reporting import keep_reporting, report
from keyfence.holder.session import HolderSession, display_name_of_process
from keyfence.holder.thread import LoopThread, Work
from keyfence.v1 import replication_service_pb2 as messages

_KEYSPACES_SECONDS: Final = 5.0
_REPORT_SECONDS: Final = 5.0
_LAST_REPORT_SECONDS: Final = 1.0
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
        hits: how many checks were answered from memory.
        discarded_fills: how often what the server has told of a key was not remembered,
            because something had changed meanwhile.
        resets: how often everything had to be forgotten, because the connection was lost or
            the process has forked.
    """

    is_live: bool
    lease_seconds_left: float
    applied_revision: int
    keys: int
    hits: int
    discarded_fills: int
    resets: int


class BackgroundCache:
    """Keeps `checks` in step with the server, from the first check on that finds no lease.

    Args:
        may_start: whether the client can be used in this process.
    """

    def __init__(
        self, connection: Connection, options: Cache, may_start: Callable[[], bool]
    ) -> None:
        self._connection = connection
        self._options = options
        self._may_start = may_start
        self._clock = SystemBootClock()
        self.checks: Final = LocalChecks(
            Memory(options.max_keys), HolderLease(), self._clock.now, self._start
        )
        self._work: Work | None = None
        self._is_closed = False
        with _process.starting:
            _process.caches.add(self)

    def status(self) -> CacheStatus:
        """The state of the cache now."""
        checks = self.checks
        memory = checks.memory
        left = max(0.0, checks.lease.until - self._clock.now())
        return CacheStatus(
            is_live=left > 0,
            lease_seconds_left=left,
            applied_revision=memory.applied,
            keys=len(memory),
            hits=memory.uses + checks.denials,
            discarded_fills=memory.discarded_fills,
            resets=memory.resets,
        )

    def _start(self) -> None:
        if self._work is not None or self._is_closed or not self._may_start():
            return
        # While the process forks, nothing is started. The next check without a lease tries again.
        if _process.starting.acquire(blocking=False):
            try:
                if self._work is None and not self._is_closed:
                    self._work = _process.running_thread().start(self._run())
            finally:
                _process.starting.release()

    async def _run(self) -> None:
        try:
            await self._keep_in_step()
        except Exception:  # noqa: BLE001 - whatever it is, checks go on at the server
            # Without its lease the cache answers nothing, so the server is asked instead.
            _log.exception("keyfence: the cache has stopped; checks go to the server")
        finally:
            self.checks.lease.abandon()

    async def _keep_in_step(self) -> None:
        dialer = Dialer([self._connection])
        session = HolderSession(
            dialer.open_stream,
            messages.Hello(
                holder_id=f"sdk_{secrets.token_hex(16)}",
                kind=messages.HOLDER_KIND_SDK,
                display_name=display_name_of_process(),
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
                return await dialer.ask(rpcs.FETCH_KEYSPACES, request, _KEYSPACES_SECONDS)
            except Exception as error:  # noqa: BLE001 - it would end the lease's keeper too
                _log.info("keyfence: the keyspaces are not known: %s", type(error).__name__)
                return None

        async def tell(request: messages.ReportUsesRequest) -> bool:
            return await _tell(dialer, request)

        memory = self.checks.memory
        try:
            await asyncio.gather(
                session.run(), self.checks.keep_keyspaces(ask), keep_reporting(memory, tell)
            )
        finally:
            try:
                if self._is_closed:
                    async with asyncio.timeout(_LAST_REPORT_SECONDS):
                        await report(memory, tell)
            except TimeoutError:
                _log.info("keyfence: the last uses of keys could not be reported")
            finally:
                await dialer.close()

    def close(self) -> None:
        """Reports the last uses, gives up the lease and waits for that. Closing twice is fine."""
        if self.begin_closing() and self._work is not None:
            self._work.wait(_STOP_SECONDS)

    def begin_closing(self) -> bool:
        """Like `close`, without waiting. Returns whether there is work to wait for."""
        self._is_closed = True
        self.checks.lease.abandon()
        return self.cancel()

    def cancel(self) -> bool:
        """Stops the work, without waiting. Returns whether there is work to wait for."""
        if self._work is None or _process.is_own_thread():
            return False
        self._work.cancel()
        return True

    def wait_until_stopped(self, seconds: float) -> bool:
        """Waits until the cache can be started again. Returns whether it can."""
        if self._work is not None and self._work.wait(seconds):
            self._begin_anew(self.checks.memory)
        return self._work is None

    def begin_in_child(self) -> None:
        """Called in a forked child. It starts with an empty memory: a thread of the parent may have
        held the old memory's locks, and no thread updates that memory in the child."""
        self._begin_anew(Memory(self._options.max_keys))

    def _begin_anew(self, memory: Memory) -> None:
        self._work = None
        self.checks.begin(memory, HolderLease())


async def _tell(dialer: Dialer, request: messages.ReportUsesRequest) -> bool:
    try:
        await dialer.ask(rpcs.REPORT_USES, request, _REPORT_SECONDS)
    except Exception as error:  # noqa: BLE001 - it would end the lease's keeper too
        _log.info("keyfence: uses of keys could not be reported: %s", type(error).__name__)
        # A report that the server refuses once is refused again, so it is not repeated.
        return (
            isinstance(error, grpc.aio.AioRpcError)
            and error.code() is grpc.StatusCode.INVALID_ARGUMENT
        )
    return True


class _Process:
    """The caches of this process, the thread that they share, and what a fork does to them.

    Attributes:
        starting: held while something is started, and for as long as a fork takes.
    """

    def __init__(self) -> None:
        self.starting = threading.RLock()
        self.caches: Final[weakref.WeakSet[BackgroundCache]] = weakref.WeakSet()
        self._thread: LoopThread | None = None

    def running_thread(self) -> LoopThread:
        """The thread, which is started at the first call."""
        if self._thread is None:
            self._thread = LoopThread()
        return self._thread

    def is_own_thread(self) -> bool:
        """Whether the calling thread is the caches' own, which cannot wait for itself."""
        return self._thread is not None and self._thread.is_current

    def before_fork(self) -> None:
        self.starting.acquire()
        self._stop(BackgroundCache.cancel)

    def after_fork_in_parent(self) -> None:
        self.starting.release()

    def after_fork_in_child(self) -> None:
        self.starting = threading.RLock()
        self._thread = None
        for cache in tuple(self.caches):
            cache.begin_in_child()

    def at_exit(self) -> None:
        with self.starting:
            self._stop(BackgroundCache.begin_closing)

    def _stop(self, how: Callable[[BackgroundCache], bool]) -> None:
        if self._thread is None or self._thread.is_current:
            return
        deadline = time.monotonic() + _STOP_SECONDS
        stopping = [cache for cache in tuple(self.caches) if how(cache)]
        waits = [cache.wait_until_stopped(_left(deadline)) for cache in stopping]
        if all(waits) and self._thread.stop(_left(deadline)):
            self._thread = None


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


_process: Final = _Process()

# gRPC's own threads must have nothing to call when the interpreter ends.
atexit.register(_process.at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork,
        after_in_parent=_process.after_fork_in_parent,
        after_in_child=_process.after_fork_in_child,
    )
