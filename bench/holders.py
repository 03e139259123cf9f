"""Holders that remember nothing: `Sync` streams that renew, and acknowledge at once.

    python -m bench.holders TARGET COUNT LEASE_SECONDS [--empty]

The standard input has the token. When all have a lease, and at each line from then on, the
process writes how many leases they have had.

As little as a client can do, so that what is measured is the server. With `--empty` it is
`bench.fan_out`, which answers messages of the same size with themselves.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import uvloop

from bench.fan_out import ECHO, REPLY
from bench.fan_out import SYNC as EMPTY_SYNC
from keyfence.v1 import replication_service_pb2 as messages

SYNC: Final = "/keyfence.v1.ReplicationService/Sync"
_STREAMS_PER_CHANNEL: Final = 100


class Holder:
    """One stream to a server."""

    def __init__(self, call: Any, lease_seconds: float) -> None:
        self._call = call
        self._interval = lease_seconds / 3
        self._applied = 0
        self.has_lease = asyncio.Event()
        self.leases = 0
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Renews and acknowledges until it is cancelled, or the stream ends."""
        hello = messages.Hello(
            holder_id=secrets.token_hex(16), kind=messages.HOLDER_KIND_SDK, display_name="bench"
        )
        await self._call.write(messages.SyncRequest(hello=hello))
        renewing = asyncio.create_task(self._renew())
        try:
            async for message in self._call:
                if message.HasField("lease"):
                    self._applied = max(self._applied, message.lease.head_revision)
                    self.has_lease.set()
                    self.leases += 1
                else:
                    self._applied = message.changes.revision
                    await self._say(0)
        finally:
            renewing.cancel()

    async def _renew(self) -> None:
        # Not all at the same moment, as holders that start by themselves do not.
        await asyncio.sleep(secrets.randbelow(1000) / 1000 * self._interval)
        nonce = 0
        while True:
            nonce += 1
            await self._say(nonce)
            await asyncio.sleep(self._interval)

    async def _say(self, nonce: int) -> None:
        renew = messages.Renew(nonce=nonce, applied_revision=self._applied)
        # gRPC ends a call on which two messages are being sent at once.
        async with self._sending:
            await self._call.write(messages.SyncRequest(renew=renew))


class Echoed(Holder):
    """One stream to an empty server."""

    async def run(self) -> None:
        """Sends, and takes note of what comes back."""
        renewing = asyncio.create_task(self._renew())
        try:
            async for _ in self._call:
                self.has_lease.set()
                self.leases += 1
        finally:
            renewing.cancel()

    async def _say(self, nonce: int) -> None:
        renew = messages.Renew(nonce=nonce, applied_revision=1)
        await self._call.write(messages.SyncRequest(renew=renew).SerializeToString())


@asynccontextmanager
async def holding(
    target: str, token: str, count: int, lease_seconds: float, *, is_empty: bool = False
) -> AsyncIterator[list[Holder]]:
    """So many holders of a server, from when the last of them has a lease."""
    channels = [
        grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(0, count, _STREAMS_PER_CHANNEL)
    ]
    metadata = (("authorization", f"Bearer {token}"),)

    def hold(channel: grpc.aio.Channel) -> Holder:
        if is_empty:
            open_echo: Any = channel.stream_stream(ECHO)
            return Echoed(open_echo(), lease_seconds)
        open_stream: Any = channel.stream_stream(
            SYNC,
            request_serializer=messages.SyncRequest.SerializeToString,
            response_deserializer=messages.SyncResponse.FromString,
        )
        return Holder(open_stream(metadata=metadata), lease_seconds)

    holders = [hold(channels[number // _STREAMS_PER_CHANNEL]) for number in range(count)]
    tasks = [asyncio.create_task(holder.run()) for holder in holders]
    try:
        async with asyncio.timeout(60):
            for holder in holders:
                await holder.has_lease.wait()
        yield holders
    finally:
        await _end(tasks, channels)


@asynccontextmanager
async def replying(target: str, count: int) -> AsyncIterator[None]:
    """So many streams to an empty server, which reply to each message."""
    channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
    open_stream: Any = channel.stream_stream(EMPTY_SYNC)

    async def reply(call: Any) -> None:
        async for _ in call:
            await call.write(REPLY)

    calls = [open_stream() for _ in range(count)]
    tasks = [asyncio.create_task(reply(call)) for call in calls]
    try:
        for call in calls:
            await call.wait_for_connection()
        yield
    finally:
        await _end(tasks, [channel])


async def _end(tasks: list[asyncio.Task[None]], channels: list[grpc.aio.Channel]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close()


async def _main() -> None:
    target, count, lease_seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    token = sys.stdin.readline().strip()
    is_empty = sys.argv[4:] == ["--empty"]
    async with holding(target, token, count, lease_seconds, is_empty=is_empty) as holders:
        while True:
            sys.stdout.write(f"{sum(one.leases for one in holders)}\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    uvloop.run(_main())
