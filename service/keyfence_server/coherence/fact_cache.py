"""Facts about keys, in memory: bounded, never stale, and loaded once for concurrent questions.

The cache holds facts and never decisions, so one entry serves every scope, time and
address. What makes it safe:

- An entry counts only with the keyspace that it was compiled with: when a keyspace
  changes, all its entries are void at once.
- A change drops every entry whose lineage it touches; a change of an account drops every entry of
  a key or session of that account. The loads that are under way note the change: facts that were
  read from before it are discarded and loaded again (`keyfence.holder.fills`).
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from keyfence.holder.fills import Fill, Fills
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    FactStore,
    FoundKey,
    LoadedKeys,
    StoreUnavailable,
)
from keyfence_server.coherence.bounded_facts import BoundedFacts, Subject
from keyfence_server.coherence.known_keyspaces import (
    MAX_ATTEMPTS,
    CacheCounts,
    KnownKeyspaces,
    retrieve,
)
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keys import Lineage
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session, SessionFacts, SessionId

_KEYS_A_LOAD: Final = 256
LOADS_AT_ONCE: Final = 4
_KEYS_A_TURN: Final = 16
"""How many loaded keys are compiled before others have their turn on the event loop."""


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
        self._entries = BoundedFacts[bytes, KeyFacts](
            capacity, lambda facts: _subjects_of(facts.lineage)
        )
        self._sessions = BoundedFacts[SessionId, SessionFacts](
            capacity, lambda facts: _subjects_of_session(facts.session)
        )
        self._unknown = BoundedFacts[bytes, None](unknown_capacity)
        self._fills: Fills[Change] = Fills()
        # What each key that is asked for will be answered with, and those not asked for yet.
        self._awaited: dict[bytes, asyncio.Future[KeyFacts | None]] = {}
        self._to_load: dict[bytes, Sequence[Digest]] = {}
        self._loads: set[asyncio.Task[None]] = set()
        self._is_load_due = False
        self._session_tasks: dict[SessionId, asyncio.Task[SessionFacts | None]] = {}
        self._revision = 0
        self._ahead: set[int] = set()
        self.counts = CacheCounts()
        self.keyspaces: Final = KnownKeyspaces(store, self._fill, self.counts)
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
        if self.keyspaces.recall(keyspace.name) is not keyspace:
            self._entries.drop(digest)
            return None
        self._entries.move_to_end(digest)
        self.counts.hits += 1
        return facts

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
            answer.add_done_callback(retrieve)
            self._to_load[name] = candidates
            self._start_load()
        else:
            self.counts.joined_loads += 1
        # A caller that gives up must not end the load for the other callers.
        return await asyncio.shield(answer)

    async def find_session(self, session_id: SessionId) -> SessionFacts | None:
        """The session with this id, loaded if need be."""
        facts = self._sessions.get(session_id)
        if facts is not None and self.keyspaces.recall(facts.keyspace.name) is facts.keyspace:
            self._sessions.move_to_end(session_id)
            return facts
        task = self._session_tasks.get(session_id)
        if task is None or task.done():
            task = asyncio.create_task(self._load_session(session_id))
            self._session_tasks[session_id] = task
            task.add_done_callback(functools.partial(self._end_of_session_task, session_id))
        return await asyncio.shield(task)

    async def find_keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of this name, the built-in one too."""
        return await self.keyspaces.find(name)

    async def list_keyspaces(self) -> Sequence[Keyspace]:
        """Every keyspace, the built-in one too."""
        return await self.keyspaces.list_all()

    async def recogniser(self, concerns: Callable[[str], bool] = lambda _: True) -> Recogniser:
        """Tells which keyspaces' keys a text could be. See `FactSource`."""
        return await self.keyspaces.recogniser(concerns)

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
        self._entries.forget(change)
        if change.kind is ChangeKind.KEYSPACE:
            self.keyspaces.forget(change.subject)
        if change.created and change.kind in (ChangeKind.KEY, ChangeKind.KEYSPACE):
            self.creations += 1
            self._unknown.clear()
            self.has_slow_hashes = True

    def clear(self) -> None:
        """Forgets everything, the loads that are under way included."""
        self.creations += 1
        self._entries.clear()
        self._sessions.clear()
        self._unknown.clear()
        self.has_slow_hashes = True
        self.keyspaces.clear()
        self._fills.void()

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
        retrieve(task)
        self._start_load()

    async def _load_waiting(self) -> None:
        """Loads keys that wait, and answers the questions for them."""
        self._is_load_due = False
        names = list(itertools.islice(self._to_load, _KEYS_A_LOAD))
        waiting = {name: self._to_load.pop(name) for name in names}
        self._start_load()
        within: set[str] = set()
        try:
            for _ in range(MAX_ATTEMPTS):
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
        await self.keyspaces.find("")
        for keyspace in within:
            await self.keyspaces.find(keyspace)
        within.clear()
        with self._fill() as fill:
            loaded = await self._store.load_keys(tuple(waiting.values()))
            answers = zip(tuple(waiting), loaded.answers, strict=True)
            for number, (name, found) in enumerate(answers, 1):
                if self._answer_question(name, found, fill, loaded):
                    del waiting[name]
                elif isinstance(found, FoundKey):
                    within.add(found.lineage[0].keyspace)
                if number % _KEYS_A_TURN == 0:
                    # The fill goes on, so changes until the next turn are noted.
                    await asyncio.sleep(0)

    def _answer_question(
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
            self._unknown.remember(name, None)
            self.has_slow_hashes = loaded.has_slow_hashes
        else:
            keyspace = self.keyspaces.recall(found.lineage[0].keyspace)
            if keyspace is None:
                return False
            if keyspace.recognises(found.lineage[0].display_prefix):
                reflects = min(revision, max(self._revision, self.keyspaces.revision))
                facts = compile_facts(found.lineage, keyspace, found.owner_state, reflects=reflects)
                self._entries.remember(name, facts)
        self._awaited.pop(name).set_result(facts)
        return True

    async def _load_session(self, session_id: SessionId) -> SessionFacts | None:
        within = ""
        for _ in range(MAX_ATTEMPTS):
            await self.keyspaces.find(within)
            with self._fill() as fill:
                async with self._store.snapshot() as snapshot:
                    revision = snapshot.revision
                    session = await snapshot.find_session(session_id)
                    account = await snapshot.find_account(session.account_id) if session else None
            if fill.is_overtaken(revision, functools.partial(_concerns_session, session)):
                self.counts.discarded_fills += 1
                continue
            if session is None or account is None:
                # Not remembered: only what was signed here is asked for, so this is rare.
                return None
            within = session.keyspace
            keyspace = self.keyspaces.recall(within)
            if keyspace is not None:
                facts = SessionFacts(session, account.state, keyspace)
                self._sessions.remember(session_id, facts)
                return facts
        raise StoreUnavailable("the session changes faster than it can be read")

    def _end_of_session_task(
        self, session_id: SessionId, task: asyncio.Task[SessionFacts | None]
    ) -> None:
        if self._session_tasks.get(session_id) is task:
            del self._session_tasks[session_id]
        retrieve(task)

    @contextmanager
    def _fill(self) -> Iterator[Fill[Change]]:
        fill = self._fills.begin(max(self._ahead, default=self._revision))
        self.counts.store_loads += 1
        try:
            yield fill
        finally:
            self._fills.end(fill)


def _subjects_of(lineage: Lineage) -> set[Subject]:
    """What the facts of a key depend on. The account may be registered or not: a holder that loads
    from another holder is not told which accounts are registered."""
    keys = ((ChangeKind.KEY, key.key_id) for key in lineage)
    return {(ChangeKind.ACCOUNT, lineage[0].account_id), *keys}


def _subjects_of_session(session: Session) -> tuple[Subject, ...]:
    return (ChangeKind.SESSION, session.session_id), (ChangeKind.ACCOUNT, session.account_id)


def _concerns(lineage: Lineage | None, change: Change) -> bool:
    """Whether a change touches what was found; of nothing found, whether it may have made it."""
    if lineage is None:
        return change.created and change.kind is ChangeKind.KEY
    return (change.kind, change.subject) in _subjects_of(lineage)


def _concerns_session(session: Session | None, change: Change) -> bool:
    """The same of a session."""
    if session is None:
        return change.created and change.kind is ChangeKind.SESSION
    return (change.kind, change.subject) in _subjects_of_session(session)
