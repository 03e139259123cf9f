"""A proxy that is at fault: sockets whose two ends it keeps apart as it is told to.

    python -m testkit.proxy LINKS.json

The file says where each link listens and connects to. Orders come on the standard input,
a line each: `link mode seconds`, or `link to elsewhere` for the connections from then on.
What a mode holds back is kept in order and sent when the link is whole again, as a network
does that was only slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

_CHUNK: Final = 65_536
_MAX_ON_THE_WAY: Final = 1_000


class Mode(StrEnum):
    """How a link is at fault."""

    WHOLE = "whole"
    BLACKHOLE = "blackhole"
    """Nothing gets through in either direction, without an error."""
    DEAF = "deaf"
    """What the server says does not reach the client."""
    MUTE = "mute"
    """What the client says does not reach the server."""
    SLOW = "slow"
    """Everything is late by the given time."""
    LATE = "late"
    """What the server says is late by the given time; what the client says is not."""
    JITTER = "jitter"
    """Everything is late, each piece by another time up to the given one."""
    CUT = "cut"
    """Connections are reset, and new ones too."""
    HALF_CLOSED = "half-closed"
    """One end has said that it says no more; the other goes on."""


@dataclass
class Link:
    """Where one side connects to, and what becomes of what is said."""

    listen: str
    connect: str
    mode: Mode = Mode.WHOLE
    seconds: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def set(self, mode: Mode, seconds: float) -> None:
        """Breaks the link, or heals it."""
        self.mode, self.seconds = mode, seconds
        self.changed.set()
        self.changed = asyncio.Event()
        if mode is Mode.CUT:
            for writer in self.writers:
                writer.transport.abort()
        elif mode is Mode.HALF_CLOSED:
            for writer in self.writers:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()

    async def open(self) -> asyncio.Server:
        """Listens."""
        return await asyncio.start_unix_server(self._connected, self.listen)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.mode is Mode.CUT:
            raise ConnectionRefusedError
        if self.connect.startswith("/"):
            return await asyncio.open_unix_connection(self.connect)
        host, _, port = self.connect.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await self._connect()
        except OSError:
            # The client must get an error, also if there is no server behind the proxy.
            writer.transport.abort()
            return
        self.writers |= {writer, back}
        # Cancelled is only who is still there when the proxy ends.
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await _first_of(
                    self._carry(reader, back, Mode.MUTE), self._carry(there, writer, Mode.DEAF)
                )
        finally:
            self.writers -= {writer, back}
            writer.close()
            back.close()

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, stopped_by: Mode
    ) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MAX_ON_THE_WAY)
        await _first_of(
            self._take(source, on_the_way, stopped_by), self._deliver(on_the_way, sink, stopped_by)
        )

    async def _take(
        self,
        source: asyncio.StreamReader,
        on_the_way: asyncio.Queue[tuple[float, bytes]],
        stopped_by: Mode,
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK):
                await on_the_way.put((loop.time() + self._latency(stopped_by), chunk))
        await on_the_way.join()

    def _latency(self, stopped_by: Mode) -> float:
        match self.mode:
            case Mode.LATE if stopped_by is Mode.DEAF:
                return self.seconds
            case Mode.SLOW:
                return self.seconds
            case Mode.JITTER:
                return random.uniform(0, self.seconds)
            case _:
                return 0.0

    async def _deliver(
        self,
        on_the_way: asyncio.Queue[tuple[float, bytes]],
        sink: asyncio.StreamWriter,
        stopped_by: Mode,
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                due, chunk = await on_the_way.get()
                # In order, so what is behind a late piece is late, too.
                await asyncio.sleep(max(0.0, due - loop.time()))
                while self.mode in (Mode.BLACKHOLE, stopped_by):
                    await self.changed.wait()
                sink.write(chunk)
                await sink.drain()
                on_the_way.task_done()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _serve(links: dict[str, Link]) -> None:
    servers = [await link.open() for link in links.values()]
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await orders.readline():
        match line.decode().split():
            case [name, "to", connect]:
                links[name].connect = connect
            case [name, mode, seconds]:
                links[name].set(Mode(mode), float(seconds))
    for server in servers:
        server.close()


def main() -> None:
    """Serves until the standard input ends."""
    asked: dict[str, list[str]] = json.loads(Path(sys.argv[1]).read_text())
    links = {name: Link(listen, connect) for name, (listen, connect) in asked.items()}
    # PostgreSQL's standby may be another user's.
    os.umask(0)
    asyncio.run(_serve(links))


if __name__ == "__main__":
    main()
