"""A SQLite connection for SQLAlchemy's asynchronous engine that rarely changes threads.

SQLite answers a look-up by an index in microseconds, and to hand it to a thread and back costs a
hundred times that in processor time. So short statements run on the event loop. What can take
long runs on a thread of the connection's own, one after the other:

- everything that can wait for the disk: COMMIT, pragmas;
- statements that write many rows, or large values;
- a reading of which a few rows take more than a budget of SQLite's steps, about a millisecond.
  SQLite ends it, which undoes nothing, and the thread repeats it in the same transaction.

On the event loop the rows of a reading come a few at a time, since a row may have many kilobytes,
and other calls have their turn in between. There no statement waits for a lock, nor does BEGIN
IMMEDIATE: SQLite refuses at once, and the thread repeats it and waits. What is not bounded is one
reading of a page from a slow disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final, NamedTuple, Self, TypeVar

T = TypeVar("T")

_STEPS: Final = 2_000
_BUDGET: Final = 10
"""So many times `_STEPS` instructions of SQLite's virtual machine are the budget of a slice: about
a millisecond."""
_STATEMENTS_A_TURN: Final = 4
"""How many statements follow each other on the event loop before others have their turn."""
_MOST_ROWS: Final = 64
_MOST_VALUES: Final = 256
_CHARACTERS_A_VALUE: Final = 512
_ROWS_AT_ONCE: Final = 32
_READS: Final = ("SELECT", "WITH")
READ_ON_THREAD: Final = "/* long */"
"""A prefix for a `SELECT` that runs on the thread at once. SQLite's steps are no measure of those
that sort or compare texts of many kilobytes."""
_BEGIN_WRITING: Final = "BEGIN IMMEDIATE"
_BRIEF: Final = ("INSERT", "UPDATE", "SAVEPOINT", "RELEASE", "BEGIN")
_TO_BE_REPEATED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_INTERRUPT})


class Executed(NamedTuple):
    """What became of a statement, without its cursor.

    A cursor that is forgotten resets its statement. If the thread executes the same statement
    again at that moment, SQLite calls that a misuse. So cursors are closed where they were used.
    """

    description: Any
    rowcount: int
    lastrowid: int | None
    rows: list[Any]

    @classmethod
    def of(cls, cursor: sqlite3.Cursor, rows: list[Any]) -> Executed:
        """What a cursor says of the statement."""
        return cls(cursor.description, cursor.rowcount, cursor.lastrowid, rows)


class SqliteConnection:
    """What SQLAlchemy expects of a connection of `aiosqlite`.

    Args:
        timeout: seconds for which a statement on the thread waits for a lock.
    """

    def __init__(self, path: str, *, timeout: float) -> None:
        self._path = path
        self._wait_for_locks = f"PRAGMA busy_timeout = {int(timeout * 1000)}"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keyfence-sqlite")
        self._last_on_thread: Future[Any] | None = None
        self._may_be_ended = False
        self._budget = 0
        self._is_writing = False
        self._statements = 0
        # SQLAlchemy looks whether this is open.
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> Self:
        """Opens the file. Raises `sqlite3.Error`."""
        try:
            self._connection = await self._submit(self._connect)
        except BaseException:
            self.stop()
            raise
        return self

    async def fetch(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        """Executes a statement, and returns its rows."""
        return (await self.execute(statement, values)).rows

    async def write(self, statement: str, values: Sequence[Any]) -> int:
        """Executes a statement, and returns how many rows it has touched."""
        return (await self.execute(statement, values)).rowcount

    async def write_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Executes a statement with each of the rows."""
        await self.execute_with_each(statement, rows)

    async def insert_rows(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Adds many rows to a table."""
        # One by one: before a statement that adds several rows, SQLite copies each page that it
        # changes, to undo a part of it.
        places = ", ".join("?" * len(columns))
        into = f"{table} ({', '.join(columns)})"
        statement = f"INSERT INTO {into} VALUES ({places})"  # noqa: S608 - names of the schema
        await self.write_each(statement, rows)

    async def begin_with_head(self, _is_urgent: Callable[[], bool]) -> None:
        """The same: it has the lock on everything."""
        await self.begin()

    async def begin(self) -> None:
        """Begins a transaction that may write."""
        await self.execute(_BEGIN_WRITING, ())

    def cursor(self) -> SqliteCursor:
        """A cursor. Nothing is asked yet."""
        return SqliteCursor(self)

    async def commit(self) -> None:
        """Commits, on the thread."""
        self._is_writing = False
        await self.on_thread(lambda connection: connection.commit())

    async def rollback(self) -> None:
        """Rolls back. A reading has nothing to undo, so its end is brief."""
        is_brief, self._is_writing = not self._is_writing, False
        await self.run(lambda connection: connection.rollback(), is_brief=is_brief)

    async def create_function(self, *arguments: Any, **options: Any) -> None:
        """Adds a function to SQL."""
        await self.on_thread(lambda one: one.create_function(*arguments, **options))

    async def close(self) -> None:
        """Closes the file, after what is under way."""
        if self._connection is not None:
            closing = self._submit(self._connection.close)
            self._connection = None
            self._thread.shutdown(wait=False)
            await closing

    def stop(self) -> None:
        """Closes the file without waiting for it."""
        if self._connection is not None:
            self._thread.submit(self._connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)

    async def run(self, work: Callable[[sqlite3.Connection], T], *, is_brief: bool) -> T:
        """Runs it here if it is brief, else on the thread."""
        if is_brief and self._is_free():
            await self._give_turns()
            try:
                return work(self._opened())
            except sqlite3.OperationalError as error:
                _require_to_be_repeated(error)
        return await self.on_thread(work)

    async def execute(self, statement: str, values: Sequence[Any]) -> Executed:
        """Executes a statement where it belongs."""
        if statement.startswith(_READS):
            return await self.read(statement, values)
        return await self._change(
            lambda connection: _executed(connection.execute(statement, values)),
            statement,
            is_small=_values_of(values) <= _MOST_VALUES,
        )

    async def execute_with_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> Executed:
        """Executes a statement with each of the rows where it belongs."""
        return await self._change(
            lambda connection: _executed(connection.executemany(statement, rows)),
            statement,
            is_small=len(rows) <= _MOST_ROWS and sum(map(_values_of, rows)) <= _MOST_VALUES,
        )

    async def _change(
        self, work: Callable[[sqlite3.Connection], Executed], statement: str, *, is_small: bool
    ) -> Executed:
        """Runs a statement where it belongs, by what it is and how much it is given."""
        if statement == _BEGIN_WRITING:
            self._is_writing = True
        return await self.run(work, is_brief=is_small and statement.startswith(_BRIEF))

    async def read(self, statement: str, parameters: Sequence[Any]) -> Executed:
        """Executes a reading, and takes all its rows."""
        is_brief = not statement.startswith(f"SELECT {READ_ON_THREAD}")
        if is_brief and _values_of(parameters) <= _MOST_VALUES and self._is_free():
            await self._give_turns()
            try:
                return await self._read_in_slices(statement, parameters)
            except sqlite3.OperationalError as error:
                _require_to_be_repeated(error)
        return await self.on_thread(lambda one: _executed(one.execute(statement, parameters)))

    async def _read_in_slices(self, statement: str, parameters: Sequence[Any]) -> Executed:
        with self._ended_when_long():
            cursor = self._opened().execute(statement, parameters)
        rows: list[Any] = []
        try:
            while True:
                with self._ended_when_long():
                    some = cursor.fetchmany(_ROWS_AT_ONCE)
                rows += some
                if len(some) < _ROWS_AT_ONCE:
                    return Executed.of(cursor, rows)
                await asyncio.sleep(0)
        finally:
            # The connection's next statement must find no reading under way.
            cursor.close()

    def _is_free(self) -> bool:
        return self._last_on_thread is None or self._last_on_thread.done()

    async def _give_turns(self) -> None:
        self._statements += 1
        if self._statements % _STATEMENTS_A_TURN == 0:
            await asyncio.sleep(0)

    @contextmanager
    def _ended_when_long(self) -> Iterator[None]:
        self._budget = _BUDGET
        self._may_be_ended = True
        try:
            yield
        finally:
            self._may_be_ended = False

    async def on_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs it on the thread, where it may wait for locks."""
        return await self._submit(partial(self._patiently, work, self._opened()))

    def _patiently(
        self, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection
    ) -> T:
        connection.execute(self._wait_for_locks)
        try:
            return work(connection)
        finally:
            connection.execute("PRAGMA busy_timeout = 0")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=0,
            # The driver's own idea of when to begin a transaction is switched off:
            # it begins none for a SELECT, and a snapshot is nothing but SELECTs.
            isolation_level=None,
            check_same_thread=False,
        )
        connection.set_progress_handler(self._is_to_be_ended, _STEPS)
        return connection

    def _is_to_be_ended(self) -> bool:
        """Whether SQLite is to end its statement. It asks each time that it has taken `_STEPS`, and
        goes on counting where the same statement has ended before."""
        if not self._may_be_ended:
            return False
        self._budget -= 1
        return self._budget < 0

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("Connection closed")
        return self._connection

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        self._last_on_thread = self._thread.submit(work)
        return asyncio.wrap_future(self._last_on_thread)


class SqliteCursor:
    """What SQLAlchemy expects of a cursor of `aiosqlite`. All rows come with the statement."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._on = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        """Executes a statement, and takes all its rows."""
        self._take(await self._on.execute(statement, parameters))
        return self

    async def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> Self:
        """Executes a statement for each of the rows."""
        self._take(await self._on.execute_with_each(statement, list(rows)))
        return self

    async def fetchall(self) -> list[Any]:
        """The rows."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Forgets the rows."""
        self._rows = []

    def _take(self, executed: Executed) -> None:
        self.description, self.rowcount, self.lastrowid, self._rows = executed


def _executed(cursor: sqlite3.Cursor) -> Executed:
    with closing(cursor):
        return Executed.of(cursor, cursor.fetchall() if cursor.description else [])


def _values_of(parameters: Sequence[Any]) -> int:
    """How many values these are. A large one counts as several."""
    characters = sum(len(one) for one in parameters if isinstance(one, str | bytes))
    return len(parameters) + characters // _CHARACTERS_A_VALUE


def _require_to_be_repeated(error: sqlite3.OperationalError) -> None:
    """Raises the error, unless the statement is to be repeated on the thread."""
    if error.sqlite_errorcode & 0xFF not in _TO_BE_REPEATED:
        raise error
