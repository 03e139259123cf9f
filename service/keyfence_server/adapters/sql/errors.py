"""The one place that knows what the databases' errors mean.

Three kinds are told apart:

    StoreUnavailable    the database is away, full, locked or read-only; asking again
                        later can help
    StoreFault          the program or the schema is wrong; asking again cannot help
    └── ConstraintViolated
    ValueError          a value that no database of ours could keep

A driver's error can quote the row that it refused, and a row holds digests. So no
driver's error leaves this package, not even as the cause of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from keyfence_server.application.ports import StoreUnavailable

# Classes of https://www.postgresql.org/docs/current/errcodes-appendix.html: connection,
# authorization, no such database, rollback, resources, operator, system.
_UNAVAILABLE_CLASSES: Final = frozenset({"08", "28", "3D", "40", "53", "57", "58"})
_UNAVAILABLE_STATES: Final = frozenset(
    {
        "25006",  # read-only: this server is no longer the primary
        "25P03",  # idle in a transaction for too long
        "25P04",  # in a transaction for too long
        "55P03",  # a lock was not to be had in time
        "XX001",  # corrupted data
        "XX002",  # corrupted index
    }
)
_DAMAGED_STATES: Final = frozenset({"XX001", "XX002"})
_LOST_STATES: Final = frozenset({"25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P05"})

# Primary result codes of https://www.sqlite.org/rescode.html: BUSY, LOCKED, NOMEM,
# READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
_UNAVAILABLE_CODES: Final = frozenset({5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 26})

_DAMAGED_CODES: Final = frozenset({11, 26})  # CORRUPT, NOTADB

_OUTSIDE_SQLALCHEMY: Final = (OSError, TimeoutError, EOFError, asyncpg.InterfaceError)


class StoreFault(RuntimeError):
    """What the store was asked to do cannot be right."""


class ConstraintViolated(StoreFault):
    """The database refused what breaks one of its rules. Names the rule, not the row."""


@contextmanager
def translated() -> Iterator[None]:
    """Runs one conversation with the database, and says what went wrong in our words."""
    try:
        yield
    except (SQLAlchemyError, asyncpg.PostgresError, *_OUTSIDE_SQLALCHEMY) as error:
        raise _translate(error) from None


def means_lost_connection(error: BaseException | None) -> bool:
    """Whether no more can be hoped for from the connection, whatever the driver thinks.

    A connection to a server that has become a standby still answers; one whose answer
    did not come in time may answer the wrong question next.
    """
    return _sqlstate(error) in _LOST_STATES or isinstance(error, OSError | TimeoutError | EOFError)


def _translate(error: Exception) -> Exception:
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        # A column type refused the value, in words of ours that do not quote it.
        return (
            error.orig if isinstance(error.orig, ValueError) else StoreFault(type(error).__name__)
        )
    if _is_unavailable(error):
        if _is_damaged(error):
            return StoreUnavailable(f"the store is damaged: {_summary(error)}")
        return StoreUnavailable(f"the store does not answer: {_summary(error)}")
    if isinstance(error, IntegrityError):
        return ConstraintViolated(f"the store refused a row: {_constraint(error)}")
    return StoreFault(f"the store refused a statement: {_summary(error)}")


def _is_unavailable(error: Exception) -> bool:
    if isinstance(error, (PoolTimeout, *_OUTSIDE_SQLALCHEMY)):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = _sqlstate(error)
    if state is not None:
        return state in _UNAVAILABLE_STATES or state[:2] in _UNAVAILABLE_CLASSES
    return _sqlite_code(error) in _UNAVAILABLE_CODES


def _is_damaged(error: Exception) -> bool:
    return _sqlstate(error) in _DAMAGED_STATES or _sqlite_code(error) in _DAMAGED_CODES


def _driver_error(error: BaseException | None) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


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
    if isinstance(error, DataError) or isinstance(_cause(driver_error), ValueError):
        return name
    first_line = str(driver_error).partition("\n")[0]
    return f"{name}: {first_line}" if first_line else name


def _cause(error: BaseException | None) -> BaseException | None:
    return error.__cause__ if error is not None else None


def _constraint(error: IntegrityError) -> str:
    cause = _cause(error.orig)
    named = getattr(cause, "constraint_name", None) or getattr(cause, "column_name", None)
    # SQLite's message names the constraint or its columns, and quotes nothing.
    return str(named or error.orig).partition("\n")[0]
