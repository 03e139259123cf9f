"""A request of many tiny parts is refused before it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from keyfence.v1 import authorization_service_pb2, keyspace_pb2, replication_service_pb2
from keyfence.v1 import keyspace_service_pb2 as keyspaces
from keyfence_server.rpc.failures import Failed
from keyfence_server.rpc.request_sizes import MOST_FIELDS, require_few_fields
from support.serving import Served


def empty_scopes(count: int) -> Message:
    keyspace = keyspace_pb2.Keyspace(name="large")
    for _ in range(count):
        keyspace.scopes.add()
    return keyspaces.ApplyKeyspaceRequest(keyspace=keyspace)


def names_in_a_preset(count: int) -> Message:
    keyspace = keyspace_pb2.Keyspace(name="large")
    keyspace.presets.add(name="p", scopes=["a"] * count)
    return keyspaces.ApplyKeyspaceRequest(keyspace=keyspace)


def empty_uses(count: int) -> Message:
    request = replication_service_pb2.ReportUsesRequest()
    for _ in range(count):
        request.uses.add()
    return request


def empty_checks(count: int) -> Message:
    request = authorization_service_pb2.BatchCheckScopeRequest()
    for _ in range(count):
        request.checks.add()
    return request


MAKERS = [empty_scopes, names_in_a_preset, empty_uses, empty_checks]


@pytest.mark.parametrize("make", MAKERS)
async def test_fields_are_counted_at_every_depth(make: Callable[[int], Message]) -> None:
    few: Any = make(MOST_FIELDS - 10)
    await require_few_fields(few.SerializeToString(), few.DESCRIPTOR)
    many: Any = make(MOST_FIELDS + 1)
    with pytest.raises(Failed) as refused:
        await require_few_fields(many.SerializeToString(), many.DESCRIPTOR)
    assert refused.value.failure.metadata["limit"] == "request_fields"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x0a",
        b"\x0a\xff",
        b"\xff" * 20,
        b"\x0a\x05\x0a\xff\xff\xff\xff",
        b"\x09\x00",
    ],
)
async def test_what_is_no_message_is_left_to_the_decoder(raw: bytes) -> None:
    await require_few_fields(raw, keyspaces.ApplyKeyspaceRequest.DESCRIPTOR)


class CountedBytes(bytes):
    """Bytes that count how many of them were read."""

    read = 0

    def __getitem__(self, index: Any) -> Any:
        self.read += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("start", [b"\x08", b"\x0a", b""], ids=["value", "length", "tag"])
async def test_a_number_without_end_is_not_read_on(start: bytes) -> None:
    """To put together a number of 128 KiB takes more than a second."""
    raw = CountedBytes(start + b"\xff" * (128 * 1024) + b"\x01")
    await require_few_fields(raw, keyspaces.ApplyKeyspaceRequest.DESCRIPTOR)
    assert raw.read <= 11


async def test_a_group_does_not_hide_what_comes_after_it() -> None:
    """A decoder skips a group that it does not know, and goes on."""
    many: Any = empty_uses(MOST_FIELDS + 1)
    raw = b"\x0b\x0a\x01\xff\x0c" + many.SerializeToString()
    assert type(many).FromString(raw).uses
    with pytest.raises(Failed) as refused:
        await require_few_fields(raw, many.DESCRIPTOR)
    assert "group" in refused.value.failure.message


@pytest.mark.parametrize(
    ("rpc", "make"), [("ApplyKeyspace", empty_scopes), ("ReportUses", empty_uses)]
)
async def test_such_a_request_is_refused(
    served: Served, rpc: str, make: Callable[[int], Message]
) -> None:
    refused = await served.client.refusal(rpc, make(MOST_FIELDS + 1))
    assert (refused.reason, refused.metadata["limit"]) == ("LIMIT_REACHED", "request_fields")


@pytest.mark.parametrize(("count", "make"), [(10_001, empty_scopes), (200_001, names_in_a_preset)])
async def test_a_declaration_of_too_many_parts_is_refused_before_it_is_read(
    served: Served, count: int, make: Callable[[int], Message]
) -> None:
    refused = await served.client.refusal("ApplyKeyspace", make(count))
    assert refused.reason == "INVALID_KEYSPACE"
    assert str(count) in refused.message
