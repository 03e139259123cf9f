"""The keyspaces in memory, and the recogniser that is made of them.

After a change of keyspaces only those are loaded again. Meanwhile, what does not concern them is
answered as before, so that no keyspace delays the checks of another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from keyfence.holder.fills import Fill
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    FactSnapshot,
    FactStore,
    StoreUnavailable,
)
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.system import SYSTEM_KEYSPACE

_KEYSPACE_PAGE: Final = 200
_MOST_LOADED_BY_NAME: Final = 20
"""Where more keyspaces have changed, all are loaded, in pages."""
_FEW_FORMS: Final = 500
MAX_ATTEMPTS: Final = 16


@dataclass(slots=True)
class CacheCounts:
    """What the cache has done since it was made. Read by the metrics."""

    hits: int = 0
    misses: int = 0
    unknown_hits: int = 0
    joined_loads: int = 0
    discarded_fills: int = 0
    store_loads: int = 0


class KnownKeyspaces:
    """Remembers keyspaces, and loads those that have changed.

    Args:
        store: where the truth is.
        begin_fill: notes the changes that come while something is loaded.
        counts: where discarded loads are counted.
    """

    def __init__(
        self,
        store: FactStore,
        begin_fill: Callable[[], AbstractContextManager[Fill[Change]]],
        counts: CacheCounts,
    ) -> None:
        self._store = store
        self._begin_fill = begin_fill
        self._counts = counts
        self._by_name: dict[str, Keyspace] = {SYSTEM: SYSTEM_KEYSPACE}
        self.revision = 0
        """The revision that the last reading of all keyspaces has shown."""
        # Those that have changed since they were loaded. None: all are to be loaded.
        self._changed: set[str] | None = None
        self._recogniser: Recogniser | None = None
        # Those that have changed since the recogniser was made.
        self._outdated: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def recall(self, name: str) -> Keyspace | None:
        """What memory holds of the keyspace of this name. No I/O."""
        return self._by_name.get(name)

    def recall_recogniser(self) -> Recogniser | None:
        """The recogniser, if memory has every keyspace. No I/O."""
        return self._recogniser if not self._outdated else None

    async def find(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too."""
        while self._must_load(name):
            # Again, if the keyspace changes between the end of the load and our turn.
            await self._load_changed()
        return self._by_name.get(name)

    async def list_all(self) -> Sequence[Keyspace]:
        """Every keyspace, the built-in one too."""
        await self.recogniser()
        return tuple(self._by_name.values())

    async def recogniser(self, concerns: Callable[[str], bool] = lambda _: True) -> Recogniser:
        """Tells which keyspaces' keys a text could be. See `FactSource`."""
        while self._recogniser is None or any(map(concerns, self._outdated)):
            await self._load_changed()
        return self._recogniser

    def _must_load(self, name: str) -> bool:
        """Whether memory may not have the keyspace of this name as it is."""
        return name != SYSTEM and (self._changed is None or name in self._changed)

    async def _load_changed(self) -> None:
        """Loads the keyspaces that have changed. More of them may have changed by then."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._load())
            self._task.add_done_callback(self._end_load)
        await asyncio.shield(self._task)

    def forget(self, name: str) -> None:
        """A keyspace has changed."""
        self._by_name.pop(name, None)
        self._outdated.add(name)
        if self._changed is not None:
            self._changed.add(name)

    def clear(self) -> None:
        """Forgets everything."""
        self._by_name = {SYSTEM: SYSTEM_KEYSPACE}
        self._recogniser = None
        self.revision = 0
        self._changed = None
        self._outdated.clear()

    async def _load(self) -> None:
        for _ in range(MAX_ATTEMPTS):
            names = self._changed
            wanted = None if names is None or len(names) > _MOST_LOADED_BY_NAME else tuple(names)
            with self._begin_fill() as fill:
                async with self._store.snapshot() as snapshot:
                    found = await _read_keyspaces(snapshot, wanted)
                    revision = snapshot.revision
            if fill.is_overtaken(revision, lambda _: False):
                self._counts.discarded_fills += 1
                continue
            self._remember(found, wanted, fill, revision)
            await self._make_recogniser()
            if self._changed is not None and not self._changed:
                return
        raise StoreUnavailable("keyspaces change faster than they can be read")

    def _remember(
        self,
        found: dict[str, Keyspace],
        wanted: Collection[str] | None,
        fill: Fill[Change],
        revision: int,
    ) -> None:
        """Remembers the keyspaces that were read and have not changed since.

        Args:
            wanted: the names of those that were to be read; None for all.
            revision: the revision that the reading shows.
        """
        overtaken = {
            change.subject
            for at, change in fill.changes
            if at > revision and change.kind is ChangeKind.KEYSPACE
        }
        self._counts.discarded_fills += len(overtaken.intersection(found))
        known = self._by_name
        if wanted is None or self._changed is None:
            self._changed = overtaken
            self.revision = revision
            self._by_name = {SYSTEM: SYSTEM_KEYSPACE}
        else:
            self._changed = self._changed.difference(wanted) | overtaken
        for name, keyspace in found.items():
            before = known.get(name)
            if before is not None and before.revision == keyspace.revision:
                # A keyspace that has not changed keeps its object, and so its entries.
                self._by_name[name] = before
            elif name not in overtaken:
                self._by_name[name] = keyspace

    async def _make_recogniser(self) -> None:
        forms = {name: one.recognised_forms for name, one in self._by_name.items()}
        if sum(map(len, forms.values())) <= _FEW_FORMS:
            recogniser = Recogniser(forms)
        else:
            recogniser = await asyncio.to_thread(Recogniser, forms)
        if self._changed is not None:
            self._recogniser = recogniser
            self._outdated = set(self._changed)

    def _end_load(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        retrieve(task)


async def _read_keyspaces(
    snapshot: FactSnapshot, names: Collection[str] | None
) -> dict[str, Keyspace]:
    """The keyspaces of these names, as far as there are any, or all of them."""
    if names is not None:
        read = [await snapshot.find_keyspace(name) for name in names]
        return {one.name: one for one in read if one is not None}
    found: dict[str, Keyspace] = {}
    after: str | None = None
    while page := await snapshot.list_keyspaces(after=after, limit=_KEYSPACE_PAGE):
        found |= {keyspace.name: keyspace for keyspace in page}
        after = page[-1].name
    return found


def retrieve(task: asyncio.Future[Any]) -> None:
    """Marks a failure as seen, so that asyncio does not log it. Waiting callers have it."""
    if not task.cancelled():
        task.exception()
