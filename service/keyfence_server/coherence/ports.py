"""What the fence needs from the world, and what each of it promises."""

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
        ...

    async def sleep_until(self, when: float) -> None:
        """Returns when the clock shows `when`, or a little later."""
        ...


class StruckOff(Exception):
    """The register has no row for this process in its epoch: it did not renew for a whole
    W, or the store has failed over. It must forget everything and register anew."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the store says when a process registers or renews.

    Attributes:
        head: the newest revision, as of the registration or renewal.
        epoch: revisions of different epochs cannot be compared: the timeline of a
            PostgreSQL cluster.
        is_settled: whether every lease from before this epoch is known to have run out.
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
            that its lease has run out. It starts at random, so that nobody takes a new
            registration for one that was seen before.
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
    """Others are registered under other terms. What is waited for in one process bounds the
    leases of another, so all who are registered have the same L and ρ.

    Attributes:
        others: they.
    """

    def __init__(self, own: LeaseTerms, others: Sequence[RegisteredProcess]) -> None:
        one = others[0]
        super().__init__(
            "every server on a database needs the same length of leases and the same bound on "
            f"the drift of clocks: here {own.length:g} s and {own.drift:g}, but "
            f'"{one.display_name}" is running with {one.terms.length:g} s and '
            f"{one.terms.drift:g}. To change them, stop every server first"
        )
        self.others = tuple(others)


@dataclass(frozen=True, slots=True)
class Roll:
    """The register as of one moment."""

    standing: Standing
    processes: tuple[RegisteredProcess, ...]


class Register(Protocol):
    """The server processes on the store that may answer from memory."""

    async def join(self, process_id: str, display_name: str, terms: LeaseTerms) -> Standing:
        """Registers a process that remembers nothing.

        It takes the lock on the head, so that a mutation in flight either finds
        the newcomer in the register, or is in the head that the newcomer is given. An
        earlier registration of the process is replaced.

        Raises:
            TermsDiffer, StoreUnavailable
        """
        ...

    async def renew(self, process_id: str, acknowledged: int, epoch: str) -> Standing:
        """Moves the process's counter on, and keeps its acknowledgement.

        Args:
            epoch: that in which the process registered. In another one neither its
                registration nor its acknowledgement means anything: it is refused, and
                nothing is written.

        Raises:
            StruckOff, StoreUnavailable
        """
        ...

    async def leave(self, process_id: str) -> None:
        """Takes the process off the register. Neither it nor anyone downstream of it may
        answer from memory any more."""
        ...

    async def list_processes(self) -> list[RegisteredProcess]:
        """Everyone on the register, as of now. Raises `StoreUnavailable`."""
        ...

    async def read_roll(self) -> Roll:
        """Everyone on the register, and where the store is, both as of one moment after the
        call. Raises `StoreUnavailable`."""
        ...

    async def confirm(self) -> None:
        """Returns when everything that could be read before the call is as durable as a commit
        makes it: also what was committed by somebody who did not wait for that. Raises
        `StoreUnavailable`."""
        ...

    async def settle(self, epoch: str) -> None:
        """Notes for good that every lease from before the epoch has run out. Raises
        `StoreUnavailable`."""
        ...

    async def strike_off(self, process_id: str, renewals: int) -> bool:
        """Takes a process off the register if its counter still stands where it was seen."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """News that a revision of an epoch is committed. `changes` may be None: then the change
    log has them."""

    revision: int
    changes: tuple[Change, ...] | None
    epoch: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """News that a process has acknowledged everything up to a revision of an epoch."""

    process_id: str
    revision: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """News may have been missed: the change log must be read."""


News = Committed | Acknowledged | Interrupted


class Feed(Protocol):
    """Quick news between the processes on a store. It only makes things fast: safety never
    rests on it, so news may be lost, repeated or late."""

    def listen(self) -> AsyncGenerator[News, None]:
        """News from now on, for as long as it is iterated. It starts with `Interrupted`, and
        says so again whenever it was cut off."""
        ...

    async def acknowledge(self, process_id: str, revision: int, epoch: str) -> None:
        """Tells the other processes, without waiting for any of them."""
        ...
