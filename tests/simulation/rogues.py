"""Holders that keep to the wire and to nothing else: rule I8 bounds what each can do.

They are asked nothing and remember nothing. The promise is kept to everyone else, and
mutations stay within their bound.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from keyfence.holder.session import StreamBroken
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.callers import Caller
from simulation.network import Connection
from simulation.topology import Grants, Holder, World

_THE_FUTURE: Final = 2**60
_MANY: Final = 20


class Rogue:
    """A process that opens one stream after another and misbehaves on it."""

    def __init__(
        self,
        world: World,
        name: str,
        behaviour: str,
        grantors: Callable[[], Sequence[Grants]],
        caller: Caller,
    ) -> None:
        self.process = world.loop.process(name)
        self.process.clock = world.clock(name)
        self._world = world
        self._behaviour = behaviour
        self._grantors = grantors
        self._caller = caller
        self._length = world.terms.length
        self._random = random.Random(name)
        self._revision = 0

    def start(self) -> None:
        """Begins."""
        streams = _MANY if self._behaviour == "many_streams" else 1
        for number in range(streams):
            self.process.start(self._keep_calling(number))

    async def _keep_calling(self, number: int) -> None:
        holder = Holder(self._world, self.process, self._grantors, self._caller)
        while True:
            try:
                connection = await holder.open_stream()
                await self._misbehave(connection, number)
            except StreamBroken:
                pass
            await asyncio.sleep(self._random.uniform(0.05, 0.2) * self._length)

    async def _misbehave(self, connection: Connection, number: int) -> None:
        holder_id = f"rogue_{self.process.name}_{number:08d}"
        await connection.send(messages.SyncRequest(hello=messages.Hello(holder_id=holder_id)))
        work = [asyncio.ensure_future(BEHAVIOURS[self._behaviour](self, connection))]
        if self._behaviour != "reads_nothing":
            work.append(asyncio.ensure_future(self._read(connection)))
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                if task.done():
                    task.result()
        finally:
            for task in work:
                task.cancel()
            connection.close()

    async def _read(self, connection: Connection) -> None:
        async for message in connection.messages():
            self._revision = max(
                self._revision, message.lease.head_revision, message.changes.revision
            )
            if self._behaviour == "acknowledges_late" and message.HasField("changes"):
                self._world.loop.call_later(
                    self._length * 0.9,
                    partial(self._acknowledge, connection, message.changes.revision),
                    context=self.process.context,
                )

    def _acknowledge(self, connection: Connection, revision: int) -> None:
        if not connection.broken:
            self.process.start(connection.send(_renewal(0, revision)))

    async def renew(
        self, connection: Connection, pause: float, acknowledged: Callable[[int], int]
    ) -> None:
        """Renews for ever, and says each time that so much is applied."""
        nonce = 0
        while True:
            nonce += 1
            await connection.send(_renewal(nonce, acknowledged(nonce)))
            await asyncio.sleep(pause)

    async def never_acknowledge(self, connection: Connection) -> None:
        """Renews as it should, and acknowledges nothing."""
        await self.renew(connection, self._length / 3, lambda _: 0)

    async def acknowledge_the_future(self, connection: Connection) -> None:
        """Says that it has applied what there is not yet."""
        await self.renew(connection, self._length / 3, lambda _: _THE_FUTURE)

    async def acknowledge_backwards(self, connection: Connection) -> None:
        """Says every other time that it has applied less than before."""
        await self.renew(connection, self._length / 3, lambda n: self._revision * (n % 2))

    async def renew_without_pause(self, connection: Connection) -> None:
        """Renews far more often than it should."""
        await self.renew(connection, 0.001, lambda _: 0)

    async def say_hello_only(self, _: Connection) -> None:
        """Takes a place, and says no more."""
        await asyncio.Event().wait()


def _renewal(nonce: int, applied: int) -> messages.SyncRequest:
    return messages.SyncRequest(renew=messages.Renew(nonce=nonce, applied_revision=applied))


BEHAVIOURS: Final[dict[str, Callable[[Rogue, Connection], Awaitable[None]]]] = {
    "never_acknowledges": Rogue.never_acknowledge,
    "acknowledges_late": Rogue.never_acknowledge,
    "acknowledges_the_future": Rogue.acknowledge_the_future,
    "acknowledges_backwards": Rogue.acknowledge_backwards,
    "renews_without_pause": Rogue.renew_without_pause,
    "says_hello_only": Rogue.say_hello_only,
    "reads_nothing": Rogue.never_acknowledge,
    "many_streams": Rogue.never_acknowledge,
}
"""What a rogue may do."""


def drawn_rogues(seed: int) -> list[str]:
    """The behaviours of the rogues of a scenario; for most scenarios none. From a source of its
    own, so that the scenarios without a rogue stay what they are."""
    source = random.Random(f"rogues of {seed}")
    if source.random() >= 0.25:
        return []
    return source.choices(sorted(BEHAVIOURS), k=source.choice((1, 1, 2)))
