"""No request within its limits holds the event loop for long.

`make bench ARGS="--only worst"` measures the time. Here the calls of functions between two turns
of the loop are counted, since a count does not depend on the machine.
"""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
from google.protobuf.message import Message

from rpc.conftest import Serve
from support.event_loops import MOST_CALLS, Counted
from support.serving import Client
from testkit.worst_requests import prepare

SCOPES: Final = 3_000
KEYS: Final = 60


async def test_the_worst_request_of_each_rpc_lets_other_calls_have_their_turn(
    serve: Serve,
) -> None:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    served = await serve(channel_options=unlimited)
    client = served.client

    async def call(rpc: str, request: Message, credential: str | None) -> bytes:
        path = f"/keyfence.v1.{rpc}"
        return await client.call_raw(path, request.SerializeToString(), credential=credential)

    most: dict[str, int] = {}
    for worst in await prepare(call, client.root, key_count=KEYS, scopes=SCOPES):
        raw = worst.make().SerializeToString()
        counted = Counted()
        with counted.counting():
            outcome = await _outcome(
                client, f"/keyfence.v1.{worst.rpc}", raw, is_anonymous=worst.is_anonymous
            )
        assert outcome not in {"INTERNAL", "UNKNOWN"}, worst.name
        most[worst.name] = counted.most
    assert {name: calls for name, calls in most.items() if calls > MOST_CALLS} == {}


async def _outcome(client: Client, path: str, raw: bytes, *, is_anonymous: bool) -> str:
    try:
        await client.call_raw(path, raw, credential=None if is_anonymous else client.root)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_a_loop_that_is_held_is_noticed() -> None:
    counted = Counted()
    with counted.counting():
        for _ in range(MOST_CALLS):
            len("")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert counted.most >= MOST_CALLS
