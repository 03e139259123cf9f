"""What a server reads in the reports of the holders downstream."""

from __future__ import annotations

from typing import Any

import pytest

from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.rpc.holder_messages import uses_from

KEY_ID = "key_01jd2k7v9x4m8r5t6w3y1z0abc"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key_id": "nobody"}, "uses[0].key_id: must be the id of a key"),
        ({"count": 0}, "uses[0].count: must be 1 to 9007199254740991"),
        ({"count": 2**53}, "uses[0].count: must be 1 to 9007199254740991"),
        (
            {"last_used_address": "localhost"},
            "uses[0].last_used_address: must be an IPv4 or IPv6 address",
        ),
    ],
)
def test_a_wrong_report_of_uses_is_told_what_is_right(fields: Any, message: str) -> None:
    use = messages.ReportedUse(**{"key_id": KEY_ID, "day": "2026-01-31", "count": 1, **fields})
    with pytest.raises(InvalidInput) as refused:
        uses_from([use])
    assert message in str(refused.value)


def test_the_largest_count_is_taken() -> None:
    use = messages.ReportedUse(key_id=KEY_ID, day="2026-01-31", count=2**53 - 1)
    assert [one.use.count for one in uses_from([use])] == [2**53 - 1]
