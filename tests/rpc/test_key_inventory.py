"""`ListKeys` by its filters, over the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from support.serving import Served


def at(days: float) -> Timestamp:
    """The time so many days from now."""
    time = Timestamp()
    time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    return time


async def test_each_filter_reaches_the_store(served: Served) -> None:
    writer = await served.client.make_key(scopes=["vps:write"], labels={"team": "a"})
    reader = await served.client.make_key(scopes=["vps:read"], expire_time=at(10))

    async def listed(**fields: Any) -> set[str]:
        answer = await served.client.call("ListKeys", keyspace="demo", **fields)
        assert not answer.next_page_token
        return {key.key_id for key in answer.keys}

    both = {writer.key.key_id, reader.key.key_id}
    assert await listed(key_type=writer.key.key_type) == both
    assert await listed(key_type="none") == set()
    assert await listed(environment=writer.key.environment) == both
    assert await listed(environment="none") == set()
    assert await listed(display_prefix=writer.key.display_prefix) == {writer.key.key_id}
    assert await listed(labels=["team=a"]) == {writer.key.key_id}
    assert await listed(scope="vps:write") == {writer.key.key_id}
    assert await listed(scope="vps:read") == both
    assert await listed(never_used=True) == both
    assert await listed(unused_since_time=at(-1)) == set()
    assert await listed(expiring_before_time=at(30)) == {reader.key.key_id}
    assert await listed(expiring_before_time=at(5)) == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scope", "vps:wrote"),
        ("labels", ["team"]),
        ("unused_since_time", at(1)),
        ("expiring_before_time", at(-1)),
        ("expiring_before_time", Timestamp(seconds=10**15)),
    ],
)
async def test_a_filter_that_is_wrong_is_named(served: Served, field: str, value: object) -> None:
    refusal = await served.client.refusal("ListKeys", keyspace="demo", **{field: value})
    assert refusal.reason == ("UNKNOWN_SCOPE" if field == "scope" else "INVALID_FIELD")
    assert field in refusal.message
