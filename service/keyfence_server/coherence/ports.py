"""The ports of the fence, and what each of them promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyfence_server.application.ports import Change
from keyfence_server.coherence.terms import LeaseTerms


class BootClock(Protocol):
    """A clock that never goes back, and that goes on while the machine sleeps
    (`CLOCK_BOOTTIME`). Leases are measured by it, and by nothing else."""

    def now(self) -> float:
        """Seconds since some moment in the past."""

    async def sleep_until(self, when: float) -> None:
        """Returns when the clock shows `when`, or a little later."""


class StruckOff(Exception):
    """The register has no row for this process in its epoch: it did not renew for a whole
    W, or the store has failed over. It must forget everything and register anew."""


@dataclass(frozen=True, slots=True)
class StorePosition:
    """Where the store stands when a process registers or renews.

    Attributes:
        head: the newest revision, as of the registration or renewal.
        epoch: revisions of different epochs cannot be compared: the timeline of a
            PostgreSQL cluster.
        is_settled: whether every lease from before this epoch is known to have expired.
            Until then the register may lack a process that answers from memory, since a
            failover can lose the last registrations, so only time ends a fence.
    """

    head: int
    epoch: str
    is_settled: bool


@dataclass(frozen=True, slots=True)
class RegisteredProcess:
    """A server process that may answer from memory, as the register has it.

    Attributes:
        renewals: a counter that each renewal moves on. Standing still for a whole W means
            that its lease has expired. It starts at a random number, so that a new registration
            is not mistaken for an earlier one.
        acknowledged: the revision that it had acknowledged when it last renewed.
        terms: those of its leases.
    """

    process_id: str
    display_name: str
    renewals: int
    acknowledged: int
    join_time: datetime
    terms: LeaseTerms


class TermsDiffer(Exception):
    """Processes are registered with another L or ρ. Each process waits for the leases of all
    others by its own terms, so all registered processes must have the same L and ρ.

    Attributes:
        processes: the registered processes whose terms differ.
    """

    def __init__(self, own: LeaseTerms, processes: Sequence[RegisteredProcess]) -> None:
        one = processes[0]
        super().__init__(
            "every server on a database needs the same length of leases and the same bound on "
            f"the drift of clocks: here {own.length:g} s and {own.drift:g}, but "
            f'"{one.display_name}" is running with {one.terms.length:g} s and '
            f"{one.terms.drift:g}. To change them, stop every server first"
        )
        self.processes = tuple(processes)


@dataclass(frozen=True, slots=True)
class RegisterState:
    """The register and the store's position, both as of one moment."""

    position: StorePosition
    processes: tuple[RegisteredProcess, ...]


class Register(Protocol):
    """The server processes on the store that may answer from memory."""

    async def join(self, process_id: str, display_name: str, terms: LeaseTerms) -> StorePosition:
        """Registers a process that remembers nothing.

        It takes the lock on the head, so that a mutation in flight either finds
        the newcomer in the register, or is in the head that the newcomer is given. An
        earlier registration of the process is replaced.

        Raises:
            TermsDiffer, StoreUnavailable
        """

    async def renew(self, process_id: str, acknowledged: int, epoch: str) -> StorePosition:
        """Moves the process's counter on, and keeps its acknowledgement.

        Args:
            epoch: that in which the process registered. In another one neither its
                registration nor its acknowledgement means anything: it is refused, and
                nothing is written.

        Raises:
            StruckOff, StoreUnavailable
        """

    async def leave(self, process_id: str) -> None:
        """Removes the process from the register. Neither the process nor a holder downstream of it
        may answer from memory any more."""

    async def list_processes(self) -> list[RegisteredProcess]:
        """The registered processes. Raises `StoreUnavailable`."""

    async def read_state(self, committed: int | None = None) -> RegisterState:
        """The registered processes and the store's position, both as of one moment after the call.
        Raises `StoreUnavailable`.

        Args:
            committed: a revision that this process has just committed. The moment may be that of
                the transaction, when it had the head's lock.
        """

    async def confirm(self) -> None:
        """Returns when everything that could be read before the call is durable, also commits of
        processes that did not wait for the standby. Raises `StoreUnavailable`."""

    async def settle(self, epoch: str) -> None:
        """Records that every lease from before the epoch has expired. Raises `StoreUnavailable`."""

    async def strike_off(self, process_id: str, renewals: int) -> bool:
        """Removes a process from the register if its counter has not moved. Returns whether it was
        removed."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A revision of an epoch is committed. `changes` may be None: then the change log has
    them."""

    revision: int
    changes: tuple[Change, ...] | None
    epoch: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A process has acknowledged everything up to a revision of an epoch."""

    process_id: str
    revision: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Notifications may have been missed: the change log must be read."""


Notification = Committed | Acknowledged | Interrupted


class Feed(Protocol):
    """Notifications between the processes on a store. They make a fence fast. Safety never
    depends on them: a notification may be lost, repeated or late."""

    def listen(self) -> AsyncGenerator[Notification, None]:
        """The notifications from now on, for as long as it is iterated. The first one is
        `Interrupted`, and so is the one after each interruption."""

    async def acknowledge(self, process_id: str, revision: int, epoch: str) -> None:
        """Tells the other processes, without waiting for any of them."""
