"""The floor of a fence: one message to every open stream and one reply from each. And that of
a renewal: one message, and one in answer.

    python -m bench.fan_out TARGET

A `grpc.aio` server whose handlers do nothing else, on the same event loop as Keyfence.
`Go` does it once, and answers with the seconds that it took here.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import Any, Final

import grpc
import uvloop

SYNC: Final = "/bench.FanOut/Sync"
GO: Final = "/bench.FanOut/Go"
ECHO: Final = "/bench.FanOut/Echo"
MESSAGE: Final = bytes(40)
"""As long as the notification of one revocation."""
REPLY: Final = bytes(8)
"""As long as an acknowledgement."""

Context = grpc.aio.ServicerContext[Any, Any]


class FanOut:
    """The open streams, and how many have replied."""

    def __init__(self) -> None:
        self._streams: set[Context] = set()
        self._missing = 0
        self._done: asyncio.Future[None] | None = None

    async def sync(self, _requests: Any, context: Context) -> None:
        """Holds a stream open."""
        self._streams.add(context)
        try:
            while await context.read() is not grpc.aio.EOF:
                self._missing -= 1
                if not self._missing and self._done is not None:
                    self._done.set_result(None)
        finally:
            self._streams.discard(context)

    async def echo(self, _requests: Any, context: Context) -> None:
        """Answers each message with itself."""
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)

    async def go(self, _request: bytes, _context: Context) -> bytes:
        """Sends a message to each stream and waits for all the replies."""
        began = time.perf_counter()
        self._missing = len(self._streams)
        self._done = asyncio.get_running_loop().create_future()
        await asyncio.gather(*(stream.write(MESSAGE) for stream in self._streams))
        await self._done
        return f"{time.perf_counter() - began:.9f}".encode()


async def serve(target: str) -> None:
    """Answers until it is told to stop."""
    fan_out = FanOut()

    class Both(grpc.GenericRpcHandler):
        def service(
            self, handler_call_details: grpc.HandlerCallDetails
        ) -> grpc.RpcMethodHandler[Any, Any] | None:
            if handler_call_details.method == GO:
                return grpc.unary_unary_rpc_method_handler(fan_out.go)
            echoes = handler_call_details.method == ECHO
            return grpc.stream_stream_rpc_method_handler(fan_out.echo if echoes else fan_out.sync)

    server = grpc.aio.server(handlers=[Both()])
    server.add_insecure_port(target)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
