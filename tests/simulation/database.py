"""A database in memory that keeps what SQL promises, and that can be away, lag and fail over.

One transaction at a time holds the head; a commit is whole and gets the next revision;
a snapshot shows one moment; a registration waits for the head. Whatever is asked of it
crosses a network: the question or the answer can be lost, and then the outcome is unknown.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar, cast

from keyfence_server.application.ports import (
    AuditEvent,
    Change,
    FoundKey,
    LoadedKeys,
    StoreUnavailable,
    Wanted,
    not_urgent,
)
from keyfence_server.coherence.ports import (
    Acknowledged,
    Committed,
    Interrupted,
    Notification,
    RegisteredProcess,
    RegisterState,
    StorePosition,
    StruckOff,
)
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.accounts import Account, AccountId
from keyfence_server.domain.keys import Key, KeyId, Lineage
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session, SessionId
from simulation.loop import Process, SimulatedLoop
from support.clock import START

T = TypeVar("T")

_TIMEOUT: Final = 1.0
_LOCK_TIMEOUT: Final = 2.0
_IDLE_TIMEOUT: Final = 1.5
_SIGN_OF_LIFE: Final = 1.0


@dataclass(frozen=True)
class Contents:
    """All that is durable, as of one moment. Never changed, only replaced."""

    revision: int
    keys: dict[KeyId, Key]
    keyspaces: dict[str, Keyspace]
    changes: tuple[tuple[int, Change], ...]
    processes: dict[str, RegisteredProcess]
    settled: frozenset[str]


@dataclass(eq=False)
class Record:
    """A commit: what the judge holds answers against.

    Attributes:
        number: its place among all commits there ever were, those included that are lost.
    """

    number: int
    revision: int
    timeline: int
    contents: Contents
    time: float
    lost: bool = False


class Database:
    """The server."""

    def __init__(self, loop: SimulatedLoop, source: random.Random, contents: Contents) -> None:
        self._loop = loop
        self._random = source
        self._lock_holder: SimulatedTransaction | None = None
        self._lock_queue: deque[asyncio.Future[None]] = deque()
        self.contents = contents
        self.timeline = 1
        self.available = True
        self.unreachable: set[Process] = set()
        self.deaf: set[Process] = set()
        self.slow: dict[Process, float] = {}
        self.listeners: dict[SimulatedFeed, None] = {}
        # The register as the last commit of each process has found it.
        self.committed: dict[Process, tuple[str, Contents]] = {}
        self.written: list[tuple[Contents, tuple[Record, ...]]] = []
        self.records = [Record(0, contents.revision, 1, contents, loop.time())]
        # Faults, in the likelihood of each question meeting one.
        self.loses_questions = 0.0
        self.loses_answers = 0.0
        self.loses_notifications = 0.0
        self.slowest = 0.02
        self.often_slow = 0.1
        self.lag = 0.0
        # Called for the scenario.
        self.on_mutation: Callable[[Record], None] = _ignore
        self.on_commit: Callable[[Record], None] = _ignore
        self.on_registration: Callable[[Process], None] = _ignore

    @property
    def epoch(self) -> str:
        return str(self.timeline)

    def write(self, contents: Contents) -> None:
        """Makes a change durable."""
        self.contents = contents
        self.written.append((contents, ()))

    def commit(self, *group: Contents) -> None:
        """Makes mutations durable, all of them at once: each as of its own revision."""
        first, now = len(self.records), self._loop.time()
        records = tuple(
            Record(first + place, contents.revision, self.timeline, contents, now)
            for place, contents in enumerate(group)
        )
        self.contents = group[-1]
        self.written.append((self.contents, records))
        self.records.extend(records)
        for record in records:
            self.on_commit(record)

    def delay(self, process: Process) -> float:
        """How long a message to or from a process is on its way."""
        random = self._random
        seconds = random.expovariate(1) * 0.002
        if random.random() < self.often_slow:
            seconds += random.random() * self.slowest
        if process in self.slow:
            seconds += random.random() * self.slow[process]
        return seconds

    def reaches(self, process: Process) -> bool:
        return self.available and process not in self.unreachable

    async def ask(self, process: Process, act: Callable[[], T]) -> T:
        """Does something here, at one moment, for a remote process. What was sent is done, even if
        the process does not wait for the answer any more."""
        loop, timeline, lost = self._loop, self.timeline, self._random.random()
        answer: asyncio.Future[T] = loop.create_future()

        def arrive() -> None:
            if lost < self.loses_questions or is_away():
                fail("the question was lost")
                return
            try:
                found = act()
            except (StruckOff, StoreUnavailable) as refusal:
                send_back(_fail, answer, refusal)
            else:
                send_back(receive, found)

        def receive(found: T) -> None:
            if lost < self.loses_questions + self.loses_answers or is_away():
                fail("the answer was lost")
            else:
                _succeed(answer, found)

        def is_away() -> bool:
            return not self.reaches(process) or timeline != self.timeline

        def send_back(receive: Callable[..., None], *found: object) -> None:
            loop.call_later(self.delay(process), receive, *found, context=process.context)

        def fail(why: str) -> None:
            # Refused at once, or not answered at all.
            seconds = max(0.01, self._random.random() ** 3 * _TIMEOUT)
            error = StoreUnavailable(why)
            loop.call_later(seconds, _fail, answer, error, context=process.context)

        loop.call_later(self.delay(process), arrive, context=loop.world.context)
        return await answer

    # --- the head's lock ------------------------------------------------------------------

    async def lock(self, transaction: SimulatedTransaction) -> None:
        try:
            async with asyncio.timeout(_LOCK_TIMEOUT):
                while self._lock_holder is not None:
                    turn: asyncio.Future[None] = self._loop.create_future()
                    self._lock_queue.append(turn)
                    await turn
        except TimeoutError:
            raise StoreUnavailable("the head is locked") from None
        self._lock_holder = transaction
        # The database ends a transaction that is idle for too long.
        self._loop.call_later(
            _IDLE_TIMEOUT, self.unlock, transaction, context=self._loop.world.context
        )

    def is_locked_by(self, transaction: SimulatedTransaction) -> bool:
        return self._lock_holder is transaction

    def unlock(self, transaction: SimulatedTransaction) -> None:
        if self._lock_holder is transaction:
            self._lock_holder = None
            while self._lock_queue:
                turn = self._lock_queue.popleft()
                if not turn.done():
                    turn.set_result(None)

    # --- failing over ---------------------------------------------------------------------

    def fail_over(self, lost_writes: int) -> None:
        """Goes on as another server, which may lack the last writes."""
        self.timeline += 1
        if self._lock_holder is not None:
            self.unlock(self._lock_holder)
        for _ in range(min(lost_writes, len(self.written) - 1)):
            for record in self.written.pop()[1]:
                record.lost = True
        if self.written:
            self.contents = self.written[-1][0]
        for feed in tuple(self.listeners):
            feed.cut_off()
        self.listeners.clear()

    def publish(self, notification: Committed | Acknowledged) -> None:
        """Notifies everyone who listens, of each in its own time and in order."""
        for feed in tuple(self.listeners):
            feed.hear(notification)


class SimulatedStore:
    """The port `Store`, as one process sees it."""

    def __init__(self, database: Database, process: Process, *, may_lag: bool = False) -> None:
        self._database = database
        self._process = process
        self._may_lag = may_lag

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SimulatedSnapshot]:
        """See the port."""
        database = self._database

        def read() -> Contents:
            if self._may_lag and database.written and database._random.random() < database.lag:
                return database._random.choice(database.written[-8:])[0]
            return database.contents

        contents = await database.ask(self._process, read)
        yield SimulatedSnapshot(database, self._process, contents)

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        """See the port."""
        async with self.snapshot() as snapshot:
            answers = [await snapshot.find_presented(question) for question in questions]
            return LoadedKeys(snapshot.revision, answers)

    @asynccontextmanager
    async def transaction(
        self,
        wanted: Callable[[], Wanted] = Wanted,
        is_urgent: Callable[[], bool] = not_urgent,
    ) -> AsyncIterator[SimulatedTransaction]:
        """See the port."""
        database = self._database
        transaction = SimulatedTransaction(database, self._process, database.contents)
        await database.ask(self._process, lambda: None)
        await database.lock(transaction)
        try:
            transaction.contents = await database.ask(self._process, lambda: database.contents)
            if not database.is_locked_by(transaction):
                raise StoreUnavailable("the lock was taken away")
            transaction.found = transaction.contents
            yield transaction
            # Giving the connection back takes its time, too.
            await asyncio.sleep(database.delay(self._process))
        finally:
            database.unlock(transaction)

    async def ping(self) -> None:
        """See the port."""

    async def close(self) -> None:
        """See the port."""


class SimulatedSnapshot:
    """The part of the port `Snapshot` that is asked here."""

    def __init__(self, database: Database, process: Process, contents: Contents) -> None:
        self._database = database
        self._process = process
        self.contents = contents

    @property
    def revision(self) -> int:
        return self.contents.revision

    async def find_key(self, key_id: KeyId) -> Key | None:
        return await self._read(lambda: self.contents.keys.get(key_id))

    async def find_lineage(self, key_id: KeyId) -> Lineage | None:
        return await self._read(lambda: self._line(self.contents.keys.get(key_id)))

    async def find_presented(self, candidates: Sequence[Digest]) -> FoundKey | None:
        def find() -> FoundKey | None:
            values = {one.value for one in candidates}
            found = (key for key in self.contents.keys.values() if key.digest.value in values)
            line = self._line(next(found, None))
            # No account is registered here.
            return FoundKey(line, None) if line is not None else None

        return await self._read(find)

    async def find_session(self, session_id: SessionId) -> Session | None:
        """No session is stored here."""
        return None

    async def find_account(self, account_id: AccountId) -> Account | None:
        """No account is registered here."""
        return None

    async def find_keyspace(self, name: str) -> Keyspace | None:
        return await self._read(lambda: self.contents.keyspaces.get(name))

    async def list_keyspaces(self, *, after: str | None, limit: int) -> list[Keyspace]:
        if after is not None:
            return []
        return await self._read(lambda: list(self.contents.keyspaces.values()))

    async def list_changes(self, *, after: int, limit: int) -> list[tuple[int, Change]]:
        found = [one for one in self.contents.changes if one[0] > after]
        if len(found) > limit:
            cut = found[limit][0]
            found = [one for one in found[:limit] if one[0] < cut] or found[:limit]
        return await self._read(lambda: found)

    async def _read(self, look: Callable[[], T]) -> T:
        return await self._database.ask(self._process, look)

    def _line(self, key: Key | None) -> Lineage | None:
        if key is None:
            return None
        line = [key]
        while (parent := line[-1].parent_key_id) is not None:
            line.append(self.contents.keys[parent])
        return line


class SimulatedTransaction(SimulatedSnapshot):
    """The part of the port `Transaction` that is asked here."""

    def __init__(self, database: Database, process: Process, contents: Contents) -> None:
        super().__init__(database, process, contents)
        self.found = contents
        self.kept: list[tuple[Contents, tuple[Change, ...]]] = []

    @property
    def revision(self) -> int:
        return self.found.revision + 1 + len(self.kept)

    @asynccontextmanager
    async def mutation(self) -> AsyncIterator[None]:
        """See the port."""
        before, kept = self.contents, len(self.kept)
        database = self._database
        database.on_mutation(next(one for one in reversed(database.records) if not one.lost))
        try:
            yield
        finally:
            if len(self.kept) == kept:
                self.contents = before

    def keep(self, changes: Sequence[Change], event: AuditEvent) -> int:
        """See the port."""
        revision = self.revision
        self.kept.append((self.contents, tuple(changes)))
        return revision

    async def insert_key(self, key: Key) -> None:
        await self.update_key(key)

    async def update_key(self, key: Key) -> None:
        stamped = replace(key, revision=self.revision)
        self.contents = replace(self.contents, keys={**self.contents.keys, key.key_id: stamped})

    async def put_keyspace(self, keyspace: Keyspace) -> None:
        stamped = replace(keyspace, revision=self.revision)
        self.contents = replace(
            self.contents, keyspaces={**self.contents.keyspaces, keyspace.name: stamped}
        )

    async def commit(self) -> int:
        """See the port."""
        return await self._database.ask(self._process, self._commit)

    def _commit(self) -> int:
        database = self._database
        if not database.is_locked_by(self):
            raise StoreUnavailable("the lock was taken away")
        group, notifications, contents = [], [], database.contents
        for revision, (kept, changes) in enumerate(self.kept, contents.revision + 1):
            contents = replace(
                contents,
                revision=revision,
                keys=kept.keys,
                keyspaces=kept.keyspaces,
                changes=(*contents.changes, *((revision, one) for one in changes)),
            )
            group.append(contents)
            notifications.append(Committed(revision, changes, database.epoch))
        database.commit(*group)
        database.committed[self._process] = database.epoch, contents
        database.unlock(self)
        for one in notifications:
            database.publish(one)
        return contents.revision


class SimulatedRegister:
    """The port `Register`, as one process sees it."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process

    async def join(self, process_id: str, display_name: str, terms: LeaseTerms) -> StorePosition:
        """See the port."""
        database = self._database
        lock = cast("SimulatedTransaction", object())
        await database.ask(self._process, lambda: None)
        await database.lock(lock)
        try:
            return await database.ask(self._process, lambda: self._join(process_id, terms, lock))
        finally:
            database.unlock(lock)

    def _join(
        self, process_id: str, terms: LeaseTerms, lock: SimulatedTransaction
    ) -> StorePosition:
        if not self._database.is_locked_by(lock):
            raise StoreUnavailable("the lock was taken away")
        return self.insert(process_id, terms)

    def insert(self, process_id: str, terms: LeaseTerms) -> StorePosition:
        renewals = self._database._random.randrange(1 << 40)
        self._put(RegisteredProcess(process_id, "", renewals, 0, START, terms))
        self._database.on_registration(self._process)
        return self.position()

    async def renew(self, process_id: str, acknowledged: int, epoch: str) -> StorePosition:
        """See the port."""
        return await self._database.ask(
            self._process, lambda: self._renew(process_id, acknowledged, epoch)
        )

    def _renew(self, process_id: str, acknowledged: int, epoch: str) -> StorePosition:
        row = self._database.contents.processes.get(process_id)
        if row is None or epoch != self._database.epoch:
            raise StruckOff(process_id)
        self._put(
            replace(
                row,
                renewals=row.renewals + 1,
                acknowledged=max(row.acknowledged, acknowledged),
            )
        )
        return self.position()

    async def leave(self, process_id: str) -> None:
        """See the port."""
        await self._database.ask(self._process, lambda: self.remove(process_id))

    async def list_processes(self) -> list[RegisteredProcess]:
        """See the port."""
        return list((await self.read_state()).processes)

    async def read_state(self, committed: int | None = None) -> RegisterState:
        """See the port."""
        epoch, contents = self._database.committed.pop(self._process, ("", None))
        if contents is not None and contents.revision == committed:
            return self._state(epoch, contents)
        database = self._database
        return await database.ask(
            self._process, lambda: self._state(database.epoch, database.contents)
        )

    async def confirm(self) -> None:
        """See the port: a commit here is always whole."""
        await self._database.ask(self._process, lambda: None)

    async def settle(self, epoch: str) -> None:
        """See the port."""

        def write() -> None:
            contents = self._database.contents
            self._database.write(replace(contents, settled=contents.settled | {epoch}))

        await self._database.ask(self._process, write)

    async def strike_off(self, process_id: str, renewals: int) -> bool:
        """See the port."""

        def strike() -> bool:
            row = self._database.contents.processes.get(process_id)
            if row is None or row.renewals != renewals:
                return False
            return self.remove(process_id)

        return await self._database.ask(self._process, strike)

    def position(self) -> StorePosition:
        return self.position_of(self._database.epoch, self._database.contents)

    def position_of(self, epoch: str, contents: Contents) -> StorePosition:
        return StorePosition(contents.revision, epoch, epoch in contents.settled)

    def _state(self, epoch: str, contents: Contents) -> RegisterState:
        return RegisterState(self.position_of(epoch, contents), tuple(contents.processes.values()))

    def _put(self, row: RegisteredProcess) -> None:
        contents = self._database.contents
        self._database.write(
            replace(contents, processes={**contents.processes, row.process_id: row})
        )

    def remove(self, process_id: str) -> bool:
        """Takes a process off. Says whether it was there."""
        contents = self._database.contents
        left = {name: row for name, row in contents.processes.items() if name != process_id}
        self._database.write(replace(contents, processes=left))
        return process_id in contents.processes


class SimulatedFeed:
    """The port `Feed`: notifications in order, some of them lost, late or twice."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self.process = process
        self._queue: asyncio.Queue[Notification | None] = asyncio.Queue()
        self._arrives_at = 0.0

    def hear(self, notification: Notification | None) -> None:
        database = self._database
        if notification is not None and (
            database._random.random() < database.loses_notifications
            or self.process in database.deaf
            or not database.reaches(self.process)
        ):
            return
        loop = database._loop
        self._arrives_at = max(self._arrives_at, loop.time() + database.delay(self.process))
        queue = self._queue
        for _ in range(2 if database._random.random() < database.loses_notifications else 1):
            loop.call_at(
                self._arrives_at, queue.put_nowait, notification, context=self.process.context
            )

    def cut_off(self) -> None:
        self.hear(None)

    async def listen(self) -> AsyncGenerator[Notification, None]:
        """See the port."""
        database = self._database
        self._queue = asyncio.Queue()

        def begin() -> None:
            database.listeners[self] = None

        await database.ask(self.process, begin)
        try:
            yield Interrupted()
            while True:
                try:
                    async with asyncio.timeout(_SIGN_OF_LIFE):
                        notification = await self._queue.get()
                except TimeoutError:
                    await database.ask(self.process, lambda: None)
                    if self not in database.listeners:
                        raise StoreUnavailable("cut off") from None
                    continue
                if notification is None:
                    raise StoreUnavailable("cut off")
                yield notification
        finally:
            database.listeners.pop(self, None)

    async def acknowledge(self, process_id: str, revision: int, epoch: str) -> None:
        """See the port."""
        database = self._database
        if self in database.listeners:
            await database.ask(
                self.process, lambda: database.publish(Acknowledged(process_id, revision, epoch))
            )


def _ignore(_what: object) -> None:
    """Ignores what happened: no scenario listens."""


def _succeed(answer: asyncio.Future[T], found: T) -> None:
    if not answer.done():
        answer.set_result(found)


def _fail(answer: asyncio.Future[T], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
