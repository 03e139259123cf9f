"""A holder's stream: what two of its tasks say at once arrives, all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from keyfence._holder.session import GrpcStream
from keyfence.v1 import replication_service_pb2 as messages


async def test_a_renewal_and_an_acknowledgement_may_be_sent_at_once(tmp_path: Path) -> None:
    """gRPC ends a call on which two messages are being sent: the lease would go with it."""
    heard: list[int] = []

    async def sync(
        requests: AsyncIterator[messages.SyncRequest], _context: Any
    ) -> AsyncIterator[messages.SyncResponse]:
        async for request in requests:
            heard.append(request.renew.nonce)
            yield messages.SyncResponse()

    class Everything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(
                sync,
                request_deserializer=messages.SyncRequest.FromString,
                response_serializer=messages.SyncResponse.SerializeToString,
            )

    server = grpc.aio.server(handlers=[Everything()])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        call: Any = channel.stream_stream(
            "/any/Sync",
            request_serializer=messages.SyncRequest.SerializeToString,
            response_deserializer=messages.SyncResponse.FromString,
        )()
        stream = GrpcStream(call, (grpc.aio.AioRpcError,))

        async def say(first: int) -> None:
            for nonce in range(first, first + 100):
                await stream.send(messages.SyncRequest(renew=messages.Renew(nonce=nonce)))

        answers = stream.messages()
        speaking = asyncio.gather(*(say(100 * number) for number in range(4)))
        async with asyncio.timeout(20):
            for _ in range(400):
                await anext(answers)
            await speaking
        stream.close()
    await server.stop(None)
    assert sorted(heard) == list(range(400))
