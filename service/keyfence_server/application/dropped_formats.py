"""Which keys stop working when a keyspace no longer recognises an earlier format."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from keyfence_server.application.ports import Snapshot
from keyfence_server.domain.formats import KeyForm
from keyfence_server.domain.keys import Key

MAX_CUT_OFF_KEYS: Final = 1000


async def find_keys_cut_off(
    snapshot: Snapshot, keyspace: str, dropped: Collection[KeyForm], now: datetime
) -> tuple[int, tuple[Key, ...]]:
    """The keys that would no longer be recognised: how many, and the first of them.

    A key's record has its display prefix, not its form. Where that fits a dropped form and
    one that stays, the key is counted: it may stop working. Revoked and expired keys do not
    count.
    """
    count = 0
    first: list[Key] = []
    if dropped:
        async for key in snapshot.iterate_keys(keyspace):
            if key.is_expired(now) or not any(form.shows(key.display_prefix) for form in dropped):
                continue
            count += 1
            if len(first) < MAX_CUT_OFF_KEYS:
                first.append(key)
    return count, tuple(first)
