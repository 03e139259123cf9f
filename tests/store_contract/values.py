"""What the topics of the contract have in common: values, and small questions to a store."""

from __future__ import annotations

import asyncio
import time
import traceback
import unicodedata
from collections.abc import Callable, Coroutine
from datetime import date, timedelta
from typing import Any

from keyfence_server.application.ports import (
    KeyFilter,
    KeyUse,
    Store,
    StoreUnavailable,
    UseToAdd,
)
from keyfence_server.domain.keys import Key, KeyId
from support.builders import (
    KEYSPACE,
    make_key,
)
from support.clock import START

ANY_KEY = KeyFilter(keyspace=KEYSPACE)
# Alike to a reader, to a folding collation or to a trimming one; not alike byte by byte.
LOOKALIKES = (
    "Key",
    "key",
    "KEY",
    "key ",
    " key",
    "key\t",
    "kéy",
    unicodedata.normalize("NFD", "kéy"),
    "ｋｅｙ",  # noqa: RUF001
    "straße",
    "strasse",
    "key\u200b",
)
HOSTILE = (
    "'; DROP TABLE keys; --",
    '" OR ""="',
    "%' OR '1'='1",
    "a\\'b",
    "{0} %s :name $1 ?",
    "😀\U0010ffff",
    "line\nbreak\r\n",
)
CANARY = "canary-that-must-not-be-seen"


TODAY = START.date()


def a_use(
    key_id: str, *, count: int = 1, day: date = TODAY, minute: int = 0, address: str = ""
) -> UseToAdd:
    """That a key was used on a day, last at some minute behind `START`."""
    return UseToAdd(KeyId(key_id), day, KeyUse(START + timedelta(minutes=minute), address, count))


async def add_uses(store: Store, *uses: UseToAdd) -> None:
    """Writes uses down and forgets none."""
    await store.add_uses(uses)


async def until_available(store: Store) -> None:
    """Returns when the store takes writes again."""
    async with asyncio.timeout(30):
        while True:
            try:
                await add_uses(store, a_use("other"))
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


def make_line(depth: int) -> list[Key]:
    """Keys of which each is delegated from the one before it."""
    line: list[Key] = []
    for _ in range(depth):
        line.append(make_key(parent_key_id=line[-1].key_id if line else None))
    return line


async def revision_of(store: Store) -> int:
    """The store's revision."""
    async with store.snapshot() as snapshot:
        return snapshot.revision


async def seconds_of(work: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> float:
    """How long it takes."""
    start = time.perf_counter()
    await work(*arguments)
    return time.perf_counter() - start


def everything_about(error: BaseException) -> str:
    """All that a log could show of an error, as a log would."""
    return "".join(traceback.format_exception(error)) + repr(error)
