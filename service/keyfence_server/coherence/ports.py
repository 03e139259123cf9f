"""What the fence needs from the world, and what each of it promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyfence_server.application.ports import Change


class BootClock(Protocol):
    """A clock that never goes back, and that goes on while the machine sleeps
    (`CLOCK_BOOTTIME`). Leases are measured by it, and by nothing else."""

    def now(self) -> float:
        """Seconds since some moment in the past."""
        ...

    async def sleep_until(self, when: float) -> None:
        """Returns when the clock shows `when`, or a little later."""
        ...


class StruckOff(Exception):
    """The register has no row for this process: it did not renew for a whole W. It must
    forget everything and register anew."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the store says when a process registers or renews.

    Attributes:
        head: the newest revision, as of the registration or renewal.
        epoch: revisions of different epochs cannot be compared: the timeline of a
            PostgreSQL cluster.
    """

    head: int
    epoch: str


@dataclass(frozen=True, slots=True)
class RegisteredProcess:
    """A server process that may answer from memory, as the register has it.

    Attributes:
        renewals: how often it has renewed. Standing still for a whole W means that its
            lease has run out.
        acknowledged: the revision that it had acknowledged when it last renewed.
    """

    process_id: str
    display_name: str
    renewals: int
    acknowledged: int
    join_time: datetime


class Register(Protocol):
    """The server processes on the store that may answer from memory."""

    async def join(self, process_id: str, display_name: str) -> Standing:
        """Registers a process that remembers nothing.

        It takes a shared lock on the head, so that a mutation in flight either finds
        the newcomer in the register, or is in the head that the newcomer is given.
        """
        ...

    async def renew(self, process_id: str, acknowledged: int) -> Standing:
        """Moves the process's counter on. Raises `StruckOff`, `StoreUnavailable`."""
        ...

    async def leave(self, process_id: str) -> None:
        """Takes the process off the register. It must not answer from memory any more."""
        ...

    async def list_processes(self) -> list[RegisteredProcess]:
        """Everyone on the register, as of now. Raises `StoreUnavailable`."""
        ...

    async def strike_off(self, process_id: str, renewals: int) -> bool:
        """Takes a process off the register if its counter still stands where it was seen."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """News that a revision is committed. `changes` may be None: then the change log has them."""

    revision: int
    changes: tuple[Change, ...] | None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """News that a process has acknowledged everything up to a revision."""

    process_id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """News may have been missed: the change log must be read."""


News = Committed | Acknowledged | Interrupted


class Feed(Protocol):
    """Quick news between the processes on a store. It only makes things fast: safety never
    rests on it, so news may be lost, repeated or late."""

    def listen(self) -> AsyncIterator[News]:
        """News from now on, for as long as it is iterated. It starts with `Interrupted`, and
        says so again whenever it was cut off."""
        ...

    async def acknowledge(self, process_id: str, revision: int) -> None:
        """Tells the other processes, without waiting for any of them."""
        ...


class ChangeLog(Protocol):
    """The part of a store's snapshot that catching up needs."""

    async def list_changes(self, *, after: int, limit: int) -> Sequence[tuple[int, Change]]:
        """As in `application.ports.Snapshot`."""
        ...
