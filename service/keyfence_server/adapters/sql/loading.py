"""Loads the keys that are presented in checks, which is what the store is asked most often.

One statement answers many questions, and reads the store's revision with them, so it needs no
transaction of its own. Its text is made once for each number of digests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Dialect

from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.adapters.sql.queries import DIGESTS_A_STATEMENT, lineages_of_digests
from keyfence_server.adapters.sql.reading import read_slowly, whole_lineage
from keyfence_server.application.ports import FoundKey, LoadedKeys
from keyfence_server.domain.accounts import AccountState
from keyfence_server.domain.keys import Key
from keyfence_server.domain.secrets import Digest

Rows = Sequence[Sequence[Any]]
Fetch = Callable[[str, tuple[bytes, ...]], Awaitable[Rows]]
"""Runs a statement with its values, and returns its rows as the driver has them."""
_BESIDES: Final = 5
"""How many columns the statement has before those of the key."""


async def load_keys(
    questions: Sequence[Sequence[Digest]], dialect: Dialect, fetch: Fetch
) -> LoadedKeys:
    """See the port `FactStore`."""
    digests = list({digest.value: None for question in questions for digest in question})
    revisions: list[int] = []
    has_slow_hashes = False
    found: dict[bytes, FoundKey | Exception] = {}
    for start in range(0, max(1, len(digests)), DIGESTS_A_STATEMENT):
        some = digests[start : start + DIGESTS_A_STATEMENT]
        rows = await fetch(*_statement(some, dialect))
        if not rows:
            raise StoreFault("the table head has no row")
        revisions.append(rows[0][0])
        has_slow_hashes = has_slow_hashes or bool(rows[0][1])
        of_keys = [row for row in rows if row[2] is not None]
        found |= _by_digest(of_keys, await read_slowly([row[_BESIDES:] for row in of_keys]))
    # Of several statements the first is the oldest.
    answers = [_answer(question, found) for question in questions]
    return LoadedKeys(revisions[0], answers, has_slow_hashes=has_slow_hashes)


def _statement(digests: Sequence[bytes], dialect: Dialect) -> tuple[str, tuple[bytes, ...]]:
    """The statement for so many digests, rounded up so that there are few statements."""
    size = 1 << max(0, len(digests) - 1).bit_length()
    padding = digests[-1] if digests else b""
    return _text(size, dialect), (*digests, *[padding] * (size - len(digests)))


@cache
def _text(digests: int, dialect: Dialect) -> str:
    return str(lineages_of_digests(digests).compile(dialect=dialect))


def _by_digest(rows: Rows, keys: Sequence[Key]) -> dict[bytes, FoundKey | Exception]:
    """The lineages, each by the digest of its first key."""
    lines: dict[str, list[tuple[int, str | None, Key]]] = {}
    for row, key in zip(rows, keys, strict=True):
        _, _, first, depth, owner_state = row[:_BESIDES]
        lines.setdefault(first, []).append((depth, owner_state, key))
    found: dict[bytes, FoundKey | Exception] = {}
    for line in lines.values():
        line.sort(key=lambda one: one[0])
        _, owner_state, key = line[0]
        try:
            lineage = whole_lineage([one[2] for one in line])
        except StoreFault as fault:
            found[key.digest.value] = fault
        else:
            state = None if owner_state is None else AccountState(owner_state)
            found[key.digest.value] = FoundKey(lineage, state)
    return found


def _answer(
    question: Collection[Digest], found: dict[bytes, FoundKey | Exception]
) -> FoundKey | Exception | None:
    """What is kept under any of the digests, by the newest pepper if there is more than one."""
    newest: FoundKey | None = None
    for digest in question:
        one = found.get(digest.value)
        if isinstance(one, Exception):
            return one
        if one is None or one.lineage[0].digest != digest:
            continue
        if newest is None or _version(one) > _version(newest):
            newest = one
    return newest


def _version(found: FoundKey) -> int:
    return found.lineage[0].digest.pepper_version
