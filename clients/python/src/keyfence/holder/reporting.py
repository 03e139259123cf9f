"""Reports uses of keys in checks that were answered from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from keyfence.holder.memory import Memory
from keyfence.holder.uses import Use
from keyfence.v1 import replication_service_pb2 as messages

REPORT_SECONDS: Final = 5.0
_IN_A_REPORT: Final = 5_000
"""Half of what a server takes, which is well within the largest message that it takes."""

Tell = Callable[[messages.ReportUsesRequest], Awaitable[bool]]


async def keep_reporting(memory: Memory, tell: Tell) -> None:
    """Reports at every interval, until it is cancelled."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        await report(memory, tell)


async def report(memory: Memory, tell: Tell) -> None:
    """Reports what is noted, if there is any.

    Args:
        tell: sends a report. Returns whether the report is finished; otherwise it is sent again.
            A report that had arrived counts twice then. A count that is slightly too high does no
            harm; a missing use could make a key look unused.
    """
    left = memory.take_uses()
    try:
        while left and await tell(
            messages.ReportUsesRequest(uses=map(_reported, left[:_IN_A_REPORT]))
        ):
            left = left[_IN_A_REPORT:]
    finally:
        memory.put_back_uses(left)


def _reported(use: Use) -> messages.ReportedUse:
    when = datetime.fromtimestamp(use.last_used, UTC)
    reported = messages.ReportedUse(
        key_id=use.key_id,
        day=when.date().isoformat(),
        last_used_address=use.address,
        count=use.count,
    )
    reported.last_used_time.FromDatetime(when)
    return reported
