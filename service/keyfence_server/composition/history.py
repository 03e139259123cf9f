"""Follows the position of the store, and keeps it in the data directory.

At the start, a store that is older than the position is refused. While the server runs, such a
store makes it unready: a backup was restored under running servers.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.files.high_water import HighWaterFile
from keyfence_server.application.high_water import (
    Position,
    StoreWentBack,
    read_position,
    require_not_older,
)
from keyfence_server.application.ports import Store, StoreUnavailable
from keyfence_server.composition.background import repeat, run_in_background
from keyfence_server.config import Settings
from keyfence_server.provisioning import CannotStart, describe_store, high_water_file

_PAUSE_SECONDS: Final = 2.0

_log = structlog.get_logger("keyfence")


@dataclass(eq=False)
class History:
    """The position of the store: compared at the start, kept while the server runs. Made by
    `open_history`.

    Attributes:
        last: the newest position that was seen.
        last_used: when a server last used the data directory before this one; None if that
            is not known.
    """

    _store: Store
    _file: HighWaterFile | None
    last: Position
    last_used: datetime | None
    _problem: str | None = None
    _has_warned: bool = False

    def problem(self) -> str | None:
        """What is wrong with the store's history, for an operator; None if nothing."""
        return self._problem

    async def keep(self) -> None:
        """Writes the position to the file, if there is one."""
        if self._file is None or self._problem is not None:
            return
        try:
            # It waits for the disk.
            await asyncio.to_thread(self._file.write, self.last)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "high_water_not_kept",
                    file=str(self._file.path),
                    error=error.strerror,
                    consequence="a restored backup is not noticed at the next start",
                )

    async def follow(self) -> None:
        """Looks at the store once. A store that does not answer changes nothing."""
        try:
            now = await require_not_older(self._store, self.last, SystemClock().now())
        except StoreUnavailable:
            return
        except StoreWentBack as error:
            if self._problem is None:
                self._problem = str(error)
                _log.error(
                    "database_restored",
                    problem=self._problem,
                    advice="stop every server on this database, and restore the backup with "
                    "`keyfence restore`, which makes the lost changes again",
                )
            return
        if self._problem is not None:
            self._problem = None
            _log.warning("database_current", revision=now.revision)
        has_moved = (now.revision, now.events) != (self.last.revision, self.last.events)
        self.last = now
        if has_moved:
            await self.keep()

    async def finish(self) -> None:
        """Keeps the last position, when the server stops."""
        try:
            await self.follow()
        finally:
            await self.keep()


async def open_history(settings: Settings, store: Store, resources: AsyncExitStack) -> History:
    """Compares the store with the position in the data directory, and begins to follow it.

    Raises:
        CannotStart: the store is older, or the file cannot be read.
        StoreUnavailable: the store does not answer.
    """
    now = SystemClock().now()
    file = high_water_file(settings)
    try:
        mark = file.read() if file is not None else None
    except (OSError, ValueError) as error:
        raise CannotStart(
            f"{settings.data_dir}: the file high-water cannot be read: {error}. It shows whether "
            "the database is a restored backup; if it is not, delete the file"
        ) from None
    if file is None or mark is None:
        last = await read_position(store, now)
    else:
        try:
            last = await require_not_older(store, mark, now)
        except StoreWentBack as error:
            raise CannotStart(
                f"{describe_store(settings)}: {error}. Restore it with `keyfence restore`, which "
                f"makes these changes again. To accept the database as it is, delete {file.path}"
            ) from None
    history = History(store, file, last, mark.time if mark is not None else None)
    resources.push_async_callback(history.finish)
    run_in_background(repeat(history.follow, _PAUSE_SECONDS), resources)
    return history
