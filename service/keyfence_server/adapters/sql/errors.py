"""The one place that knows what the databases' errors mean.

Three kinds are told apart:

    StoreUnavailable    the database is away, full, locked, read-only or being migrated;
                        asking again later can help
    StoreFault          the program or the schema is wrong; asking again cannot help
    └── ConstraintViolated
    ValueError          a value that no database of ours could keep

A driver's error can quote the row that it refused, and a row holds digests. So no
driver's error leaves this package, not even as the cause of another.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import asyncpg
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    ResourceClosedError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from keyfence_server.application.ports import StoreProblem, StoreUnavailable

# https://www.postgresql.org/docs/current/errcodes-appendix.html: single states first, then
# classes, which are their first two characters.
_PROBLEM_BY_STATE: Final = {
    "25006": StoreProblem.READ_ONLY,  # this server is no longer the primary
    "25P03": StoreProblem.BUSY,  # idle in a transaction for too long
    "25P04": StoreProblem.BUSY,  # in a transaction for too long
    "42501": StoreProblem.LOGIN_REFUSED,  # the user may not do this
    "53100": StoreProblem.DISK_FULL,
    "55P03": StoreProblem.BUSY,  # a lock was not to be had in time
    "57014": StoreProblem.BUSY,  # the statement took too long
    "XX001": StoreProblem.DAMAGED,  # corrupted data
    "XX002": StoreProblem.DAMAGED,  # corrupted index
}
_PROBLEM_BY_CLASS: Final = {
    "08": StoreProblem.UNREACHABLE,
    "28": StoreProblem.LOGIN_REFUSED,
    "3D": StoreProblem.LOGIN_REFUSED,  # no such database
    "40": StoreProblem.BUSY,  # rolled back in favour of another transaction
    "53": StoreProblem.BUSY,  # too few resources
    "57": StoreProblem.UNREACHABLE,  # shut down by its operator
    "58": StoreProblem.IO_ERROR,
}
_LOST_STATES: Final = frozenset({"25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P05"})

# Primary result codes of https://www.sqlite.org/rescode.html.
_PROBLEM_BY_CODE: Final = {
    5: StoreProblem.BUSY,  # BUSY
    6: StoreProblem.BUSY,  # LOCKED
    7: StoreProblem.BUSY,  # NOMEM
    8: StoreProblem.READ_ONLY,  # READONLY
    9: StoreProblem.BUSY,  # INTERRUPT
    10: StoreProblem.IO_ERROR,  # IOERR
    11: StoreProblem.DAMAGED,  # CORRUPT
    13: StoreProblem.DISK_FULL,  # FULL
    14: StoreProblem.IO_ERROR,  # CANTOPEN
    15: StoreProblem.BUSY,  # PROTOCOL
    26: StoreProblem.DAMAGED,  # NOTADB
}
_OVERTAKEN: Final = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
_OUTSIDE_SQLALCHEMY: Final = (OSError, TimeoutError, EOFError, asyncpg.InterfaceError)
_OF_CONVERSATIONS: Final = (
    SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InternalClientError,
    *_OUTSIDE_SQLALCHEMY,
)
_REFUSALS: Final = (
    IntegrityError,
    sqlite3.IntegrityError,
    asyncpg.IntegrityConstraintViolationError,
)
_ABOUT_DATA: Final = (DataError, sqlite3.DataError, asyncpg.DataError)


class StoreFault(RuntimeError):
    """What the store was asked to do cannot be right."""


class ConstraintViolated(StoreFault):
    """The database refused what breaks one of its rules. Names the rule, not the row."""


class OnError:
    """Around calls that can fail. It is a class because a mutation makes several, and a generator
    would take longer.

    Args:
        react: is given the error, which is raised again unless `react` raises another.
    """

    __slots__ = ("_react",)

    def __init__(self, react: Callable[[BaseException], None]) -> None:
        self._react = react

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._react(error)


def raise_translated(error: BaseException) -> None:
    """Says in our words what went wrong, if it did so in a conversation with the database."""
    if isinstance(error, _OF_CONVERSATIONS):
        raise _translate(error) from None


_TRANSLATED: Final = OnError(raise_translated)


def translated() -> AbstractContextManager[None]:
    """Around one conversation with the database, for `raise_translated`."""
    return _TRANSLATED


def means_lost_connection(error: BaseException | None) -> bool:
    """Whether no more can be hoped for from the connection, whatever the driver thinks.

    A connection to a server that has become a standby still answers; one whose answer
    did not come in time may answer the wrong question next.
    """
    state = _sqlstate(error) or ""
    was_closed = isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)
    is_lost = state in _LOST_STATES or state.startswith("08") or was_closed or _is_confused(error)
    return is_lost or isinstance(error, OSError | TimeoutError | EOFError)


def is_overtaken_by_migration(error: BaseException) -> bool:
    """Whether a table was altered behind a statement that was prepared before. The driver
    has forgotten that statement by now, so it works when it is asked again."""
    return any(isinstance(one, _OVERTAKEN) for one in _driver_errors(error))


def _is_confused(error: BaseException | None) -> bool:
    """Whether the driver has lost its own state, as when a connection ends while it is set up."""
    return any(isinstance(one, asyncpg.InternalClientError) for one in _driver_errors(error))


def _translate(error: Exception) -> Exception:
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        # A column type refused the value, in words of ours that do not quote it.
        return (
            error.orig if isinstance(error.orig, ValueError) else StoreFault(type(error).__name__)
        )
    problem = _problem(error)
    if problem is not None:
        return StoreUnavailable(f"{_words(problem)}: {_summary(error)}", problem=problem)
    if isinstance(error, _REFUSALS):
        return ConstraintViolated(f"the store refused a row: {_constraint(error)}")
    return StoreFault(f"the store refused a statement: {_summary(error)}")


def _problem(error: Exception) -> StoreProblem | None:
    """Why the store is unavailable; None if asking again cannot help."""
    if isinstance(error, PoolTimeout) or is_overtaken_by_migration(error):
        return StoreProblem.BUSY
    state, code = _sqlstate(error), _sqlite_code(error)
    if state in _PROBLEM_BY_STATE:
        return _PROBLEM_BY_STATE[state]
    if state is not None and state[:2] in _PROBLEM_BY_CLASS:
        return _PROBLEM_BY_CLASS[state[:2]]
    if code in _PROBLEM_BY_CODE:
        return _PROBLEM_BY_CODE[code]
    was_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    was_lost = was_lost or _is_confused(error)
    # asyncpg's own complaint about an argument is a ValueError.
    is_outside = isinstance(error, _OUTSIDE_SQLALCHEMY) and not isinstance(error, ValueError)
    if was_lost or is_outside or isinstance(error, ResourceClosedError):
        return StoreProblem.UNREACHABLE
    return None


def _words(problem: StoreProblem) -> str:
    match problem:
        case StoreProblem.DISK_FULL:
            return "the store's disk is full"
        case StoreProblem.READ_ONLY:
            return "the store is read-only"
        case StoreProblem.LOGIN_REFUSED:
            return "the store refuses the login"
        case StoreProblem.DAMAGED:
            return "the store is damaged"
        case _:
            return "the store does not answer"


def _driver_error(error: BaseException | None) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def _driver_errors(error: BaseException | None) -> tuple[BaseException | None, ...]:
    """The driver's error, and what that was made of."""
    driver_error = _driver_error(error)
    return driver_error, driver_error and driver_error.__cause__


def _sqlite_code(error: Exception) -> int | None:
    code: int | None = getattr(_driver_error(error), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _sqlstate(error: BaseException | None) -> str | None:
    return getattr(_driver_error(error), "sqlstate", None)


def _summary(error: Exception) -> str:
    """What happened, without the values that it happened to.

    Only errors about data quote data in their first line; details and hints, which can
    quote whole rows, are never part of it.
    """
    driver_error = _driver_error(error)
    name = type(driver_error).__name__
    # asyncpg's own complaint about an argument is a ValueError, and quotes it.
    is_complaint = any(isinstance(one, ValueError) for one in _driver_errors(error))
    if isinstance(error, _ABOUT_DATA) or is_complaint:
        return name
    first_line = str(driver_error).partition("\n")[0]
    return f"{name}: {first_line}" if first_line else name


def _constraint(error: Exception) -> str:
    for one in _driver_errors(error):
        named = getattr(one, "constraint_name", None) or getattr(one, "column_name", None)
        if named:
            return str(named)
    # SQLite's message names the constraint or its columns, and quotes nothing.
    return str(_driver_error(error)).partition("\n")[0]
