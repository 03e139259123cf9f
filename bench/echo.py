"""An empty `grpc.aio` server: the least that a unary call can cost in this language.

    python -m bench.echo TARGET ANSWER_BYTES

It runs on the same event loop as Keyfence and answers any method.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import grpc
import uvloop


async def serve(target: str, answer_bytes: int) -> None:
    """Answers until it is told to stop."""
    answer = bytes(answer_bytes)

    async def handle(_request: bytes, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return answer

    class Everything(grpc.GenericRpcHandler):
        def service(
            self, handler_call_details: grpc.HandlerCallDetails
        ) -> grpc.RpcMethodHandler[Any, Any]:
            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server(handlers=[Everything()])
    server.add_insecure_port(target)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
