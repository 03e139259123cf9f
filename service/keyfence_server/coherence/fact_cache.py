"""Facts about keys, in memory: bounded, never stale, and loaded once for concurrent questions.

The cache holds facts and never decisions, so one entry serves every scope, time and
address. What makes it safe:

- An entry counts only with the keyspace that it was compiled with: when a keyspace
  changes, all its entries are void at once.
- A change drops every entry whose lineage it touches; a change of an account drops every entry of
  a key or session of that account. The loads that are under way note the change: facts that were
  read from before it are discarded and loaded again (`keyfence.holder.fills`).
- After a change of keyspaces only those are loaded again. Meanwhile, what does not concern them is
  answered as before, so that no keyspace delays the checks of another one.
- A load that fails or is cancelled leaves nothing in memory.
- Digests that belong to no key are remembered too, in a map of their own, so that a flood of
  made-up keys neither reaches the store again nor displaces good entries. The creation of any key
  empties that map.

It must not know where changes come from, nor for how long it may answer: the caller of `apply`
decides that.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from keyfence.holder.fills import Fill, Fills
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    FactSnapshot,
    FactStore,
    FoundKey,
    LoadedKeys,
    StoreUnavailable,
)
from keyfence_server.coherence.session_room import SessionRoom, concerns_session
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keys import KeyId, Lineage
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import SessionFacts, SessionId
from keyfence_server.domain.system import SYSTEM_KEYSPACE

T = TypeVar("T")

_KEYSPACE_PAGE: Final = 200
_MOST_LOADED_BY_NAME: Final = 20
"""Where more keyspaces have changed, all are loaded, in pages."""
_MAX_ATTEMPTS: Final = 16
_FEW_FORMS: Final = 500
_KEYS_A_LOAD: Final = 256
LOADS_AT_ONCE: Final = 4
_KEYS_A_TURN: Final = 16
"""How many loaded keys are compiled before others have their turn on the event loop."""


@dataclass(slots=True)
class CacheCounts:
    """What the cache has done since it was made. Read by the metrics."""

    hits: int = 0
    misses: int = 0
    unknown_hits: int = 0
    joined_loads: int = 0
    discarded_fills: int = 0
    store_loads: int = 0


class FactCache:
    """Answers from memory, and loads from the store what memory lacks.

    Args:
        store: where the truth is.
        capacity: the most keys to remember, and the most sessions.
        unknown_capacity: the most digests of no key to remember.
    """

    def __init__(
        self, store: FactStore, *, capacity: int = 100_000, unknown_capacity: int = 10_000
    ) -> None:
        self._store = store
        self._capacity = capacity
        self._unknown_capacity = unknown_capacity
        self._entries: OrderedDict[bytes, KeyFacts] = OrderedDict()
        self._digests_by_key: dict[KeyId, set[bytes]] = {}
        # Of registered and other accounts: a holder that loads from another holder is not told
        # which accounts are registered.
        self._digests_by_account: dict[str, set[bytes]] = {}
        self._sessions = SessionRoom(capacity)
        self._unknown: OrderedDict[bytes, None] = OrderedDict()
        self._keyspaces: dict[str, Keyspace] = {SYSTEM: SYSTEM_KEYSPACE}
        # The revision that the last reading of all keyspaces has shown.
        self._keyspaces_revision = 0
        # The keyspaces that have changed since they were loaded. None: all are to be loaded.
        self._changed: set[str] | None = None
        self._recogniser: Recogniser | None = None
        # The keyspaces that have changed since the recogniser was made.
        self._outdated: set[str] = set()
        self._fills: Fills[Change] = Fills()
        # What each key that is asked for will be answered with, and those not asked for yet.
        self._awaited: dict[bytes, asyncio.Future[KeyFacts | None]] = {}
        self._to_load: dict[bytes, Sequence[Digest]] = {}
        self._loads: set[asyncio.Task[None]] = set()
        self._is_load_due = False
        self._session_tasks: dict[SessionId, asyncio.Task[SessionFacts | None]] = {}
        self._keyspaces_task: asyncio.Task[None] | None = None
        self._revision = 0
        self._ahead: set[int] = set()
        self.counts = CacheCounts()
        self.has_slow_hashes = True
        """Of the store, as true as what is remembered of unknown keys."""
        self.creations = 0
        """Counts what may have made an unknown key known."""

    @property
    def revision(self) -> int:
        """The revision up to which every change has been applied."""
        return self._revision

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unknown_count(self) -> int:
        """How many digests of no key are remembered."""
        return len(self._unknown)

    def recall(self, digest: bytes) -> KeyFacts | None:
        """What memory holds of the key with this digest. No I/O."""
        facts = self._entries.get(digest)
        if facts is None:
            return None
        keyspace = facts.keyspace
        if self._keyspaces.get(keyspace.name) is not keyspace:
            self._drop(digest)
            return None
        self._entries.move_to_end(digest)
        self.counts.hits += 1
        return facts

    def recall_keyspace(self, name: str) -> Keyspace | None:
        """What memory holds of the keyspace of this name. No I/O."""
        return self._keyspaces.get(name)

    def recall_recogniser(self) -> Recogniser | None:
        """The recogniser, if memory has every keyspace. No I/O."""
        return self._recogniser if not self._outdated else None

    async def find_facts(self, candidates: Sequence[Digest]) -> KeyFacts | None:
        """The key kept under any of these digests, loaded if need be.

        The first candidate names the entry: it is the digest that `recall` is asked for.
        """
        name = candidates[0].value
        facts = self.recall(name)
        if facts is not None:
            return facts
        if name in self._unknown:
            self._unknown.move_to_end(name)
            self.counts.unknown_hits += 1
            return None
        self.counts.misses += 1
        # A finished load is not joined: its result is in memory already, or a change dropped it.
        answer = self._awaited.get(name)
        if answer is None:
            answer = self._awaited[name] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_retrieve)
            self._to_load[name] = candidates
            self._start_load()
        else:
            self.counts.joined_loads += 1
        # A caller that gives up must not end the load for the other callers.
        return await asyncio.shield(answer)

    async def find_session(self, session_id: SessionId) -> SessionFacts | None:
        """The session with this id, loaded if need be."""
        facts = self._sessions.recall(session_id)
        if facts is not None and self._keyspaces.get(facts.keyspace.name) is facts.keyspace:
            return facts
        task = self._session_tasks.get(session_id)
        if task is None or task.done():
            task = asyncio.create_task(self._load_session(session_id))
            self._session_tasks[session_id] = task
            task.add_done_callback(functools.partial(self._end_of_session_task, session_id))
        return await asyncio.shield(task)

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too."""
        while self._must_load(name):
            # Again, if the keyspace changes between the end of the load and our turn.
            await self._load_changed_keyspaces()
        return self._keyspaces.get(name)

    async def list_keyspaces(self) -> Sequence[Keyspace]:
        """Every keyspace, the built-in one too."""
        await self.recogniser()
        return tuple(self._keyspaces.values())

    async def recogniser(self, concerns: Callable[[str], bool] = lambda _: True) -> Recogniser:
        """Tells which keyspaces' keys a text could be. See `FactSource`."""
        while self._recogniser is None or any(map(concerns, self._outdated)):
            await self._load_changed_keyspaces()
        return self._recogniser

    def _must_load(self, name: str) -> bool:
        """Whether memory may not have the keyspace of this name as it is."""
        return name != SYSTEM and (self._changed is None or name in self._changed)

    async def _load_changed_keyspaces(self) -> None:
        """Loads the keyspaces that have changed. More of them may have changed by then."""
        if self._keyspaces_task is None or self._keyspaces_task.done():
            self._keyspaces_task = asyncio.create_task(self._load_keyspaces())
            self._keyspaces_task.add_done_callback(self._end_of_keyspaces_task)
        await asyncio.shield(self._keyspaces_task)

    def start_at(self, revision: int) -> None:
        """Forgets everything, and goes on from this revision of the store: what is
        loaded from now on is at least as new."""
        self.clear()
        self._revision = revision
        self._ahead.clear()

    def apply(self, revision: int, changes: Sequence[Change], *, first: int | None = None) -> None:
        """Forgets what the changes of a revision make stale.

        Revisions may come in any order: `revision` moves on when there is no gap.

        Args:
            first: the first of several revisions, whose changes these are.
        """
        for change in changes:
            self._forget(change)
            self._fills.note(revision, change)
        self._ahead.update(range(max(first or revision, self._revision + 1), revision + 1))
        while self._revision + 1 in self._ahead:
            self._revision += 1
            self._ahead.discard(self._revision)

    def _forget(self, change: Change) -> None:
        self._sessions.forget(change)
        if change.kind is ChangeKind.KEYSPACE:
            self._keyspaces.pop(change.subject, None)
            self._outdated.add(change.subject)
            if self._changed is not None:
                self._changed.add(change.subject)
        elif change.kind is ChangeKind.KEY:
            for digest in tuple(self._digests_by_key.get(KeyId(change.subject), ())):
                self._drop(digest)
        elif change.kind is ChangeKind.ACCOUNT:
            for digest in tuple(self._digests_by_account.get(change.subject, ())):
                self._drop(digest)
        if change.created and change.kind in (ChangeKind.KEY, ChangeKind.KEYSPACE):
            self.creations += 1
            self._unknown.clear()
            self.has_slow_hashes = True

    def clear(self) -> None:
        """Forgets everything, the loads that are under way included."""
        self.creations += 1
        self._entries.clear()
        self._digests_by_key.clear()
        self._digests_by_account.clear()
        self._sessions.clear()
        self._unknown.clear()
        self.has_slow_hashes = True
        self._keyspaces = {SYSTEM: SYSTEM_KEYSPACE}
        self._recogniser = None
        self._keyspaces_revision = 0
        self._changed = None
        self._outdated.clear()
        self._fills.void()

    async def _load_keyspaces(self) -> None:
        for _ in range(_MAX_ATTEMPTS):
            names = self._changed
            wanted = None if names is None or len(names) > _MOST_LOADED_BY_NAME else tuple(names)
            with self._fill() as fill:
                async with self._store.snapshot() as snapshot:
                    found = await _read_keyspaces(snapshot, wanted)
                    revision = snapshot.revision
            if fill.is_overtaken(revision, lambda _: False):
                self.counts.discarded_fills += 1
                continue
            self._take_keyspaces(found, wanted, fill, revision)
            await self._make_recogniser()
            if self._changed is not None and not self._changed:
                return
        raise StoreUnavailable("keyspaces change faster than they can be read")

    def _take_keyspaces(
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
        self.counts.discarded_fills += len(overtaken.intersection(found))
        known = self._keyspaces
        if wanted is None or self._changed is None:
            self._changed = overtaken
            self._keyspaces_revision = revision
            self._keyspaces = {SYSTEM: SYSTEM_KEYSPACE}
        else:
            self._changed = self._changed.difference(wanted) | overtaken
        for name, keyspace in found.items():
            before = known.get(name)
            if before is not None and before.revision == keyspace.revision:
                # A keyspace that has not changed keeps its object, and so its entries.
                self._keyspaces[name] = before
            elif name not in overtaken:
                self._keyspaces[name] = keyspace

    async def _make_recogniser(self) -> None:
        forms = {name: one.recognised_forms for name, one in self._keyspaces.items()}
        if sum(map(len, forms.values())) <= _FEW_FORMS:
            recogniser = Recogniser(forms)
        else:
            recogniser = await asyncio.to_thread(Recogniser, forms)
        if self._changed is not None:
            self._recogniser = recogniser
            self._outdated = set(self._changed)

    def _end_of_keyspaces_task(self, task: asyncio.Task[None]) -> None:
        if self._keyspaces_task is task:
            self._keyspaces_task = None
        _retrieve(task)

    def _start_load(self) -> None:
        """Begins a load if keys wait for one.

        It takes its keys when its turn comes on the event loop, so that one load is for all that
        is asked for until then. The same goes for keys that wait while as many loads are under way
        as there may be.
        """
        if self._to_load and not self._is_load_due and len(self._loads) < LOADS_AT_ONCE:
            self._is_load_due = True
            task = asyncio.create_task(self._load_waiting())
            self._loads.add(task)
            task.add_done_callback(self._end_of_load)

    def _end_of_load(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        _retrieve(task)
        self._start_load()

    async def _load_waiting(self) -> None:
        """Loads keys that wait, and answers the questions for them."""
        self._is_load_due = False
        names = list(itertools.islice(self._to_load, _KEYS_A_LOAD))
        waiting = {name: self._to_load.pop(name) for name in names}
        self._start_load()
        within: set[str] = set()
        try:
            for _ in range(_MAX_ATTEMPTS):
                await self._load_keys(waiting, within)
                if not waiting:
                    return
            raise StoreUnavailable("the key changes faster than it can be read")
        except asyncio.CancelledError:
            for name in waiting:
                self._awaited.pop(name).cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the callers have it
            for name in waiting:
                self._awaited.pop(name).set_exception(error)

    async def _load_keys(self, waiting: dict[bytes, Sequence[Digest]], within: set[str]) -> None:
        """Loads keys, and takes out those that could be answered.

        Args:
            within: the keyspaces that memory lacked for some of them in the attempt before.
        """
        await self.find_keyspace("")
        for keyspace in within:
            await self.find_keyspace(keyspace)
        within.clear()
        with self._fill() as fill:
            loaded = await self._store.load_keys(tuple(waiting.values()))
            answers = zip(tuple(waiting), loaded.answers, strict=True)
            for number, (name, found) in enumerate(answers, 1):
                if self._settle_question(name, found, fill, loaded):
                    del waiting[name]
                elif isinstance(found, FoundKey):
                    within.add(found.lineage[0].keyspace)
                if number % _KEYS_A_TURN == 0:
                    # The fill goes on, so changes until the next turn are noted.
                    await asyncio.sleep(0)

    def _settle_question(
        self,
        name: bytes,
        found: FoundKey | Exception | None,
        fill: Fill[Change],
        loaded: LoadedKeys,
    ) -> bool:
        """Remembers a loaded key, and answers the questions for it. False if it must be loaded
        again."""
        if isinstance(found, Exception):
            self._awaited.pop(name).set_exception(found)
            return True
        lineage = found.lineage if found is not None else None
        revision = loaded.revision
        if fill.is_overtaken(revision, functools.partial(_concerns, lineage)):
            self.counts.discarded_fills += 1
            return False
        facts: KeyFacts | None = None
        if found is None:
            self._remember_unknown(name)
            self.has_slow_hashes = loaded.has_slow_hashes
        else:
            keyspace = self._keyspaces.get(found.lineage[0].keyspace)
            if keyspace is None:
                return False
            if keyspace.recognises(found.lineage[0].display_prefix):
                reflects = min(revision, max(self._revision, self._keyspaces_revision))
                facts = compile_facts(found.lineage, keyspace, found.owner_state, reflects=reflects)
                self._remember(name, facts)
        self._awaited.pop(name).set_result(facts)
        return True

    async def _load_session(self, session_id: SessionId) -> SessionFacts | None:
        within = ""
        for _ in range(_MAX_ATTEMPTS):
            await self.find_keyspace(within)
            with self._fill() as fill:
                async with self._store.snapshot() as snapshot:
                    revision = snapshot.revision
                    session = await snapshot.find_session(session_id)
                    account = await snapshot.find_account(session.account_id) if session else None
            if fill.is_overtaken(revision, functools.partial(concerns_session, session)):
                self.counts.discarded_fills += 1
                continue
            if session is None or account is None:
                # Not remembered: only what was signed here is asked for, so this is rare.
                return None
            within = session.keyspace
            keyspace = self._keyspaces.get(within)
            if keyspace is not None:
                facts = SessionFacts(session, account.state, keyspace)
                self._sessions.remember(facts)
                return facts
        raise StoreUnavailable("the session changes faster than it can be read")

    def _end_of_session_task(
        self, session_id: SessionId, task: asyncio.Task[SessionFacts | None]
    ) -> None:
        if self._session_tasks.get(session_id) is task:
            del self._session_tasks[session_id]
        _retrieve(task)

    @contextmanager
    def _fill(self) -> Iterator[Fill[Change]]:
        fill = self._fills.begin(max(self._ahead, default=self._revision))
        self.counts.store_loads += 1
        try:
            yield fill
        finally:
            self._fills.end(fill)

    def _remember(self, digest: bytes, facts: KeyFacts) -> None:
        self._entries[digest] = facts
        for key in facts.lineage:
            self._digests_by_key.setdefault(key.key_id, set()).add(digest)
        self._digests_by_account.setdefault(facts.key.account_id, set()).add(digest)
        while len(self._entries) > self._capacity:
            self._drop(next(iter(self._entries)))

    def _remember_unknown(self, digest: bytes) -> None:
        self._unknown[digest] = None
        while len(self._unknown) > self._unknown_capacity:
            self._unknown.popitem(last=False)

    def _drop(self, digest: bytes) -> None:
        facts = self._entries.pop(digest)
        for key in facts.lineage:
            _take_out(self._digests_by_key, key.key_id, digest)
        _take_out(self._digests_by_account, facts.key.account_id, digest)


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


def _concerns(lineage: Lineage | None, change: Change) -> bool:
    """Whether a change touches what was found; of nothing found, whether it may have made it."""
    if lineage is None:
        return change.created and change.kind is ChangeKind.KEY
    if change.kind is ChangeKind.ACCOUNT:
        return lineage[0].account_id == change.subject
    return any(key.key_id == change.subject for key in lineage)


def _take_out(index: dict[T, set[bytes]], subject: T, digest: bytes) -> None:
    digests = index[subject]
    digests.discard(digest)
    if not digests:
        del index[subject]


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Marks a failure as seen, so that asyncio does not log it. Waiting callers have it."""
    if not task.cancelled():
        task.exception()
