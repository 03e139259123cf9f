"""Connections between processes: messages keep their order on one, and each can be slow,
break, or fall silent without saying so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

from keyfence.holder.session import StreamBroken
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.ports import StoreUnavailable
from simulation.loop import Process, SimulatedLoop

T = TypeVar("T")

_TIMEOUT: Final = 1.0
_BROKEN: Final = object()


class Network:
    """All connections there are."""

    def __init__(self, loop: SimulatedLoop, source: random.Random) -> None:
        self.loop = loop
        self.random = source
        self.slowest = 0.02
        self.often_slow = 0.1
        self.slow: dict[Process, float] = {}
        self.breaks = 0.0
        self.falls_silent = 0.0
        self.severed: set[tuple[Process, Process]] = set()
        self.connections: list[Connection] = []
        # Called for the scenario.
        self.on_connection: Callable[[Process], None] = lambda _: None

    def delay(self, one: Process, other: Process) -> float:
        """How long a message between two processes is on its way."""
        seconds = self.random.expovariate(1) * 0.001
        if self.random.random() < self.often_slow:
            seconds += self.random.random() * self.slowest
        for end in (one, other):
            if end in self.slow:
                seconds += self.random.random() * self.slow[end]
        return seconds

    def reaches(self, one: Process, other: Process) -> bool:
        return not other.dead and not {(one, other), (other, one)} & self.severed

    async def ask(self, client: Process, server: Process, handle: Callable[[], Awaitable[T]]) -> T:
        """A question and its answer. Raises `StoreUnavailable` if either is lost."""
        loop = self.loop
        answer: asyncio.Future[T] = loop.create_future()

        async def serve() -> None:
            try:
                found = await handle()
            except Exception as error:  # noqa: BLE001 - the other side learns that it failed
                back = StoreUnavailable(type(error).__name__)
                self._later(client, lambda: _end(answer, error=back), server)
            else:
                self._later(client, lambda: _end(answer, found), server)

        self._later(server, lambda: server.start(serve()), client)
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("no answer") from None

    def _later(self, to: Process, work: Callable[[], object], sender: Process) -> None:
        if self.reaches(sender, to):
            self.loop.call_later(self.delay(sender, to), work, context=to.context)


def _end(future: asyncio.Future[T], result: Any = None, *, error: Exception | None = None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class Connection:
    """One `Sync` call: the holder's end is this object, the grantor's is a task."""

    def __init__(self, network: Network, client: Process, server: Process) -> None:
        self._network = network
        self.client = client
        self.server = server
        self._up: asyncio.Queue[Any] = asyncio.Queue()
        self._down: asyncio.Queue[Any] = asyncio.Queue()
        self._arrives: dict[Process, float] = {}
        self._handler: asyncio.Task[None] | None = None
        self.silent = False
        self.broken = False
        network.connections.append(self)

    def accept(self, serve: Callable[[Connection], Awaitable[None]]) -> None:
        """The grantor's side begins."""

        async def handle() -> None:
            try:
                await serve(self)
            finally:
                self._carry(self.client, self._down, _BROKEN)

        self._handler = self.server.start(handle())
        self._network.on_connection(self.client)

    async def read(self) -> messages.SyncRequest | None:
        """What the holder says next; None: no more."""
        request = await self._up.get()
        return None if request is _BROKEN else request

    async def write(self, response: messages.SyncResponse) -> None:
        """Says something to the holder."""
        self._carry(self.client, self._down, response)

    async def send(self, request: messages.SyncRequest) -> None:
        """See `Stream`."""
        if self.broken:
            raise StreamBroken("broken")
        self._carry(self.server, self._up, request)

    async def messages(self) -> AsyncIterator[messages.SyncResponse]:
        """See `Stream`."""
        while (response := await self._down.get()) is not _BROKEN:
            yield response
        raise StreamBroken("broken")

    def close(self) -> None:
        """See `Stream`: the grantor's side is told, and ends."""
        self.broken = True
        network = self._network
        if not self.silent and network.reaches(self.client, self.server):
            seconds = network.delay(self.client, self.server)
            network.loop.call_later(seconds, self._end, context=self.server.context)
        if self in network.connections:
            network.connections.remove(self)

    def _end(self) -> None:
        if self._handler is not None:
            self._handler.cancel()

    def reset(self) -> None:
        """Breaks, and both sides are told."""
        for end in (self.client, self.server):
            self._carry(end, self._down if end is self.client else self._up, _BROKEN)

    def reset_client(self, seconds: float) -> None:
        """The grantor is gone, and the holder is told."""
        self._tell_broken(seconds, self.client, self._down)

    def reset_server(self, seconds: float) -> None:
        """The holder is gone, and the grantor is told."""
        self._tell_broken(seconds, self.server, self._up)

    def _tell_broken(self, seconds: float, end: Process, queue: asyncio.Queue[Any]) -> None:
        self._network.loop.call_later(seconds, queue.put_nowait, _BROKEN, context=end.context)

    def _carry(self, to: Process, queue: asyncio.Queue[Any], message: Any) -> None:
        network = self._network
        sender = self.server if to is self.client else self.client
        if network.random.random() < network.falls_silent:
            self.silent = True
        if self.silent or not network.reaches(sender, to):
            # What is lost on the way loses all that comes after it, too.
            self.silent = True
            return
        takes = network.delay(sender, to)
        when = max(self._arrives.get(to, 0.0), network.loop.time() + takes)
        self._arrives[to] = when
        network.loop.call_at(when, queue.put_nowait, message, context=to.context)
        if message is not _BROKEN and network.random.random() < network.breaks:
            self.reset()
