"""Limits through a sidecar: one count, upstream."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from keyfence.v1 import rate_limit_pb2
from support.serving import server_and_sidecar

THREE = rate_limit_pb2.RateLimit(requests=3, window=Duration(seconds=86_400))


async def test_a_keys_own_limit_is_one_for_both_and_stays_one_when_it_is_rotated() -> None:
    async with server_and_sidecar() as doors:
        server, sidecar = (one.client for one in doors)
        made = await server.make_key(rate_limit=THREE)
        answers: list[Any] = []
        for _ in range(3):
            answers += [
                await door.call("Authenticate", api_key=made.api_key) for door in (sidecar, server)
            ]
            made = await server.call("RotateKey", key_id=made.key.key_id)
    assert [one.authenticated for one in answers] == [True] * 3 + [False] * 3
    assert [one.rate_limit.remaining for one in answers] == [2, 1, 0, 0, 0, 0]
    assert {one.rate_limit.count for one in answers} == {rate_limit_pb2.RATE_LIMIT_COUNT_WHOLE}
