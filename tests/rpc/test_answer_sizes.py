"""Answers end by bytes: clients of gRPC refuse what is larger than four megabytes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

from keyfence.v1 import key_service_pb2 as messages
from keyfence_server.application.pages import Page
from keyfence_server.domain.facts import MAX_LISTED_SCOPES_BYTES
from keyfence_server.domain.scopes import size_of_name
from keyfence_server.rpc.answer_sizes import ANSWER_BYTES, add_fitting
from support.serving import Served

SCOPES = [f"resource-{number:04d}-{'x' * 80}:read" for number in range(2_000)]
"""All of their names take 200 KB."""

GRANTED = SCOPES[:256]
KEYS = 90
"""So many keys take more than an answer."""


async def pages_of(sizes: list[int]) -> AsyncIterator[list[int]]:
    """The pages of items with messages of these sizes, as a client reads them."""
    start = 0
    while start < len(sizes):
        items = tuple(enumerate(sizes))[start : start + 10]
        is_last = start + 10 >= len(sizes)
        page = Page(items, "" if is_last else str(start + 9), lambda one: str(one[0]))
        found = messages.ListKeysResponse().keys
        token = await add_fitting(page, lambda one, make: make(key_id="x" * one[1]), found)
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
    scopes = [
        {"name": name, "implies": [further] if further else []}
        for name, further in itertools.zip_longest(SCOPES, SCOPES[1:])
    ]
    await client.call("ApplyKeyspace", keyspace={"name": "large", "scopes": scopes})
    made = [
        await client.call("CreateKey", keyspace="large", account_id="a", scopes=GRANTED)
        for _ in range(KEYS)
    ]
    listed, pages, token = [], 0, ""
    while True:
        pages += 1
        page = await client.call("ListKeys", keyspace="large", page_size=1000, page_token=token)
        listed += [key.key_id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert pages > 1
    assert listed == sorted(one.key.key_id for one in made)
    # Explanations of paths of 32 names each.
    check = {"api_key": made[0].api_key, "required_scopes": SCOPES[-40:], "explain": True}
    results = (await client.call("BatchCheckScope", checks=[check] * KEYS)).results
    assert len(results) == KEYS
    assert results[0].response.allowed
    assert results[-1].error.metadata["limit"] == "answer_bytes"
    assert not results[-1].response.allowed


async def test_effective_scopes_in_answers_are_bounded_and_say_so(served: Served) -> None:
    """A check goes by all of them, and so does a holder, which is told them all."""
    client = served.client
    await client.call(
        "ApplyKeyspace", keyspace={"name": "large", "scopes": [{"name": one} for one in SCOPES]}
    )
    made = await client.call("CreateKey", keyspace="large", account_id="a", scopes=["*"])
    check = await client.call(
        "CheckScope", api_key=made.api_key, required_scopes=[SCOPES[0], SCOPES[-1]]
    )
    assert check.allowed
    record = (await client.call("GetKey", key_id=made.key.key_id)).key
    for told in (check.principal, record, made.key):
        assert told.effective_scopes_truncated
        listed = list(told.effective_scopes)
        assert listed == SCOPES[: len(listed)]
        assert 0 < sum(map(size_of_name, listed)) <= MAX_LISTED_SCOPES_BYTES
    facts = (await client.call("FetchFacts", api_key=made.api_key)).facts
    assert list(facts.principal.effective_scopes) == SCOPES
    assert not facts.principal.effective_scopes_truncated
    few = await client.call("CreateKey", keyspace="large", account_id="a", scopes=[SCOPES[7]])
    assert list(few.key.effective_scopes) == [SCOPES[7]]
    assert not few.key.effective_scopes_truncated


async def test_large_keyspaces_are_fetched_in_pages(served: Served) -> None:
    client = served.client
    scopes = [{"name": one, "description": "d" * 400} for one in SCOPES]
    names = ["large-1", "large-2", "large-3", "large-4"]
    for name in names:
        await client.call("ApplyKeyspace", keyspace={"name": name, "scopes": scopes})
    found, sizes, token = [], [], ""
    while True:
        page = await client.call("FetchKeyspaces", page_token=token)
        found += [one.name for one in page.keyspaces]
        sizes.append(page.ByteSize())
        token = page.next_page_token
        if not token:
            break
    assert found == ["demo", *names]
    assert len(sizes) > 1
    assert max(sizes) < 4 * 2**20


async def test_one_keyspace_can_be_fetched_by_its_name(served: Served) -> None:
    """A holder that has been told of a change needs no other keyspace."""
    client = served.client
    await client.call("ApplyKeyspace", keyspace={"name": "other", "scopes": [{"name": "a"}]})
    made = await client.call(
        "CreateKey",
        keyspace="system",
        account_id="beside",
        preset="sidecar",
        bound_keyspaces=["demo"],
    )
    page = await client.call("FetchKeyspaces", keyspace="other")
    assert [one.name for one in page.keyspaces] == ["other"]
    assert page.revision
    assert not page.next_page_token
    root, bound = client.root, made.api_key
    for name, credential in (("nowhere", root), ("system", root), ("other", bound)):
        page = await client.call("FetchKeyspaces", keyspace=name, credential=credential)
        assert not page.keyspaces
