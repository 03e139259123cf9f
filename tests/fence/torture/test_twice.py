"""What is said twice is said twice: else the torture would not have tried it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from fence.torture import twice
from keyfence.v1 import replication_service_pb2 as messages

RENEWAL = messages.SyncRequest(renew=messages.Renew(nonce=1))
GREETING = messages.SyncRequest(hello=messages.Hello(holder_id="one"))


@pytest.fixture(autouse=True)
def always_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twice, "_SHARE", 1.0)
    monkeypatch.setattr(twice, "_MOST_SECONDS", 0.0)


async def test_renewals_are_sent_twice_and_greetings_once() -> None:
    sent: list[messages.SyncRequest] = []
    done = asyncio.Event()

    async def send(_stream: Any, message: messages.SyncRequest) -> None:
        sent.append(message)
        if len(sent) == 3:
            done.set()

    sending = twice.sent_twice(send)
    await sending(None, GREETING)
    await sending(None, RENEWAL)
    await done.wait()
    assert sent == [GREETING, RENEWAL, RENEWAL]


async def test_what_is_received_again_comes_behind_what_is_new() -> None:
    async def receive(_source: Any) -> AsyncGenerator[int, None]:
        for number in range(3):
            yield number

    received = [one async for one in twice.received_twice(receive)(None)]
    assert received == [0, 1, 0, 2, 1]
