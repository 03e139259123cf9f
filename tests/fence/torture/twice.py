"""Messages that come twice, the second time late and behind others.

    python -m fence.torture.twice serve

A proxy of byte streams cannot do that, and TCP does not; but the protocol says that it
bears it, so it is done inside the processes, where messages begin and end: to renewals
and acknowledgements, leases and changes, and the notifications between servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final

from keyfence.holder.grpc_stream import GrpcStream
from keyfence.holder.session import StreamBroken
from keyfence_server.adapters.sql.postgresql_feed import PostgresqlFeed

_SHARE: Final = 0.3
_MOST_SECONDS: Final = 3.0


def repeat_messages() -> None:
    """Has this process send and receive some of its messages twice."""
    for owner, name, twice in (
        (GrpcStream, "send", sent_twice),
        (GrpcStream, "messages", received_twice),
        (PostgresqlFeed, "listen", received_twice),
    ):
        setattr(owner, name, twice(getattr(owner, name)))


def sent_twice(send: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any, Any], Any]:
    """What sends renewals and acknowledgements, some of them twice."""
    under_way: set[asyncio.Task[None]] = set()

    async def again(stream: Any, message: Any) -> None:
        await asyncio.sleep(random.uniform(0, _MOST_SECONDS))
        with contextlib.suppress(StreamBroken):
            await send(stream, message)

    async def twice(stream: Any, message: Any) -> None:
        await send(stream, message)
        # Who greets twice is sent away.
        if message.HasField("renew") and random.random() < _SHARE:
            task = asyncio.create_task(again(stream, message))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    return twice


def received_twice(
    receive: Callable[[Any], AsyncGenerator[Any, None]],
) -> Callable[[Any], AsyncIterator[Any]]:
    """What receives messages, some of them twice."""

    async def twice(source: Any) -> AsyncIterator[Any]:
        late: list[tuple[float, Any]] = []
        async with contextlib.aclosing(receive(source)) as messages:
            async for message in messages:
                yield message
                now = time.monotonic()
                for due in [one for one in late if one[0] <= now]:
                    late.remove(due)
                    yield due[1]
                if random.random() < _SHARE:
                    late.append((now + random.uniform(0, _MOST_SECONDS), message))

    return twice


def main() -> None:
    """Runs the command, with messages that come twice."""
    from keyfence_server.cli import main as command  # noqa: PLC0415

    repeat_messages()
    command()


if __name__ == "__main__":
    main()
