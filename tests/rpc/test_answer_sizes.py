"""Answers end by bytes: clients of gRPC refuse what is larger than four megabytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from keyfence.v1 import key_service_pb2 as messages
from keyfence_server.application.pages import Page
from keyfence_server.rpc.answer_sizes import ANSWER_BYTES, fitting
from support.serving import Served

SCOPES = [f"resource-{number:04d}-{'x' * 80}:read" for number in range(2_000)]
"""What a key with "*" lists comes to 200 KB."""

KEYS = 30


async def pages_of(sizes: list[int]) -> AsyncIterator[list[int]]:
    """The pages of items with messages of these sizes, as a client reads them."""
    start = 0
    while start < len(sizes):
        page = Page.of(list(enumerate(sizes))[start:], 10, lambda one: str(one[0]))
        found, token = await fitting(page, lambda one: messages.GetKeyRequest(key_id="x" * one[1]))
        assert sum(one.ByteSize() for one in found[:-1]) <= ANSWER_BYTES
        yield [len(one.key_id) for one in found]
        start = int(token) + 1 if token else len(sizes)


async def test_pages_together_are_every_item_once() -> None:
    third = ANSWER_BYTES // 3
    sizes = [1, third, third, third, 2, ANSWER_BYTES + 1, 3, *[1] * 12]
    pages = [page async for page in pages_of(sizes)]
    assert [size for page in pages for size in page] == sizes
    # The item that is larger than an answer has one for itself.
    assert [ANSWER_BYTES + 1] in pages


async def test_large_keys_are_listed_and_checked_in_answers_that_clients_take(
    served: Served,
) -> None:
    client = served.client
    scopes = [{"name": name} for name in SCOPES]
    await client.call("ApplyKeyspace", keyspace={"name": "large", "scopes": scopes})
    made = [
        await client.call("CreateKey", keyspace="large", account_id="a", scopes=["*"])
        for _ in range(KEYS)
    ]
    listed, token = [], ""
    while True:
        page = await client.call("ListKeys", keyspace="large", page_size=1000, page_token=token)
        listed += [key.key_id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert listed == sorted(one.key.key_id for one in made)
    check = {"api_key": made[0].api_key, "required_scopes": [SCOPES[0]]}
    results = (await client.call("BatchCheckScope", checks=[check] * KEYS)).results
    assert len(results) == KEYS
    assert results[0].response.allowed
    assert results[-1].error.metadata["limit"] == "answer_bytes"
    assert not results[-1].response.allowed
