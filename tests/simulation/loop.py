"""An event loop whose time is made up, and on which several processes run.

A process is a queue of its own, so it can stand still while the others go on, or end
without a word. Inside a process things happen in the order in which asyncio would do
them; which process goes next is drawn from the seed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, cast

T = TypeVar("T")

_here: ContextVar[Process] = ContextVar("process")


def here() -> Process:
    """The process that is running."""
    return _here.get()


class Process:
    """What can stop, and end, by itself.

    Attributes:
        paused: whether it stands still, as after SIGSTOP.
        dead: whether it has ended. Nothing of it ever runs again.
        stood_still: for how long it did in all, up to the last time that it went on.
        ready: what it has to do.
        is_busy: whether the loop has it among those that have something to do.
    """

    def __init__(self, name: str, loop: SimulatedLoop) -> None:
        self.name = name
        self.loop = loop
        self.paused = False
        self.dead = False
        self.stood_still = 0.0
        self.clock: DriftingClock
        self.ready: deque[Call] = deque()
        self.is_busy = False
        self._stopped_at = 0.0
        self.context = copy_context()
        self.context.run(_here.set, self)

    def pause(self) -> None:
        """Stops it, until `resume`."""
        if not self.paused:
            self.paused = True
            self._stopped_at = self.loop.time()

    def resume(self) -> None:
        """Has it go on."""
        if self.paused:
            self.paused = False
            self.stood_still += self.loop.time() - self._stopped_at

    def kill(self) -> None:
        """Ends it, without a word."""
        self.dead = True
        self.ready.clear()

    def call(self, work: Callable[[], object]) -> None:
        """Has it do something, when its turn comes."""
        self.loop.call_soon(work, context=self.context)

    def start(self, work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Starts a task in it."""
        return self.loop.create_task(work, name=name, context=self.context)


class Call:
    """Something to be done, in a process. It can be cancelled until then.

    It stands in the place of asyncio's own handles, of which every scenario makes thousands.
    """

    __slots__ = ("args", "callback", "context", "is_cancelled", "process")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        process: Process,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = process
        self.is_cancelled = False

    def cancel(self) -> None:
        """Whatever it was, it will not be done."""
        self.is_cancelled = True


# To a type checker, a loop that lacks what is never asked of it here would be none.
_Base: Any = asyncio.AbstractEventLoop


class SimulatedLoop(_Base):  # type: ignore[misc]
    """Runs until there is nothing left to do, in no real time."""

    def __init__(self, seed_source: random.Random) -> None:
        self._random = seed_source
        self._now = 1000.0
        self._timers: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self._closed = False
        self._tasks: list[asyncio.Task[Any]] = []
        # Those that have something to do, in the order in which they came to have it.
        self._busy: list[Process] = []
        self.faults: list[dict[str, Any]] = []
        self.processes: list[Process] = []
        self.world = self.process("world")

    def process(self, name: str) -> Process:
        """A new process."""
        process = Process(name, self)
        self.processes.append(process)
        return process

    # --- what asyncio asks of a loop ------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        if self._closed:
            coro.close()
            raise RuntimeError("the simulation is over")
        task = asyncio.Task(coro, loop=self, name=name or "", context=context)
        self._tasks.append(task)
        return task

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Call:
        if context is None:
            context = copy_context()
        call = Call(callback, args, context, context.get(_here, self.world))
        self._enqueue(call)
        return call

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Call:
        if context is None:
            context = copy_context()
        call = Call(callback, args, context, context.get(_here, self.world))
        if not self._closed:
            heappush(self._timers, (when, next(self._numbers), call))
        return call

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Call:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.faults.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        """None outlives its process."""

    # --- running --------------------------------------------------------------------------

    def _enqueue(self, call: Call) -> None:
        process = call.process
        if self._closed or process.dead:
            return
        if not process.is_busy:
            process.is_busy = True
            self._busy.append(process)
        process.ready.append(call)

    def run(self, work: Awaitable[T], *, most_steps: int = 2_000_000) -> T:
        """Runs until the work is done, in the world's own process."""

        async def whole() -> T:
            return await work

        task = self.world.start(whole())
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for _ in range(most_steps):
                if task.done():
                    return task.result()
                self._step()
            raise AssertionError("the simulation does not come to an end")
        finally:
            events._set_running_loop(before)

    def _step(self) -> None:
        able = self._busy
        if not able:
            self._advance()
            return
        if len(able) > 1 or able[0].paused:
            able = [one for one in able if not one.paused]
            if not able:
                self._advance()
                return
        process = able[0] if len(able) == 1 else self._random.choice(able)
        ready = process.ready
        # A process that has its turn does what was ready; what follows from that is next.
        for _ in range(len(ready)):
            if process.paused or not ready:
                break
            call = ready.popleft()
            if call.is_cancelled:
                continue
            try:
                call.context.run(call.callback, *call.args)
            except Exception as error:  # noqa: BLE001 - the scenario says what it was
                self.call_exception_handler({"message": str(call.callback), "exception": error})
        if not ready:
            process.is_busy = False
            self._busy.remove(process)

    def _advance(self) -> None:
        timers = self._timers
        while timers:
            when, _, call = heappop(timers)
            if call.is_cancelled:
                continue
            self._now = max(self._now, when)
            self._enqueue(call)
            while timers and timers[0][0] <= self._now:
                following = heappop(timers)[2]
                if not following.is_cancelled:
                    self._enqueue(following)
            return
        raise AssertionError("every task waits, and nothing is scheduled")

    def end(self) -> None:
        """Lets go of everything, wherever it stands."""
        self._closed = True
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    # It is over, whatever it still wanted.
                    with suppress(Exception):
                        _coroutine_of(task).close()
        finally:
            events._set_running_loop(before)
        self._tasks.clear()
        self._timers.clear()
        self._busy.clear()
        for process in self.processes:
            process.ready.clear()
        self.processes.clear()


def _coroutine_of(task: asyncio.Task[Any]) -> Coroutine[Any, Any, Any]:
    return cast("Coroutine[Any, Any, Any]", task.get_coro())


class DriftingClock:
    """A process's `CLOCK_BOOTTIME`: it goes on while the process stands still, and is now
    faster and now slower than time, within the bounds of the drift."""

    def __init__(
        self, loop: SimulatedLoop, drift: float, source: random.Random, *, is_steady: bool
    ) -> None:
        self._loop = loop
        self._drift = drift
        self._random = source
        self._is_steady = is_steady
        self._base = source.uniform(0, 1e6)
        self._since = loop.time()
        self._turn()

    def _turn(self) -> None:
        if self._is_steady:
            self._rate = 1 + self._drift * self._random.choice((-1, 1))
            self._turns_at = float("inf")
        else:
            self._rate = 1 + self._drift * self._random.choice((-1, -1, 0, 1, 1))
            self._turns_at = self._since + self._random.uniform(0.2, 2)

    def now(self) -> float:
        """See `BootClock`."""
        now = self._loop.time()
        while now >= self._turns_at:
            self._base += (self._turns_at - self._since) * self._rate
            self._since = self._turns_at
            self._turn()
        return self._base + (now - self._since) * self._rate

    async def sleep_until(self, when: float) -> None:
        """See `BootClock`."""
        while (left := when - self.now()) > 0:
            await asyncio.sleep(max(left / self._rate, 1e-6))
