"""A holder's stream to its grantor: renewals up, leases and changes down.

It keeps the lease and tells a listener what to forget. It does not know what the listener
remembers. A function opens the stream, so that tests and simulations can pass their own.

When the stream breaks, the granted lease stays valid until it expires, or until another grantor is
reached. Before the other grantor hears from this holder, the lease is given up and memory is
emptied, so that the other grantor does not wait for the earlier lease.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from keyfence._convert import seconds_of
from keyfence.holder.lease import HolderLease
from keyfence.v1 import replication_service_pb2 as messages

PROTOCOL_VERSION: Final = 1
_MOST_NAME_CHARACTERS: Final = 63
FIRST_BACKOFF_SECONDS: Final = 0.1
LAST_BACKOFF_SECONDS: Final = 1.0
_BACKOFF_AFTER_REFUSAL_SECONDS: Final = 5.0
_RENEWALS_PER_LEASE: Final = 3
"""Unless the grantor says when to renew."""
_FIRST_INTERVAL_SECONDS: Final = 0.5
# What is left of a lease can be very little, and asking without a pause brings no more.
_SHORTEST_INTERVAL_SECONDS: Final = 0.1
# Without an answer to any renewal for as long as a lease lasts, the stream is given up.
_LEAST_PATIENCE_SECONDS: Final = 1.0


class Clock(Protocol):
    """A clock that goes on while the machine sleeps."""

    def now(self) -> float:
        """Seconds since some moment in the past."""

    async def sleep_until(self, when: float) -> None:
        """Returns when the clock shows `when`, or a little later."""


class Listener(Protocol):
    """The part of a holder that remembers facts under the lease."""

    def forget_everything(self, head: int, epoch: str) -> None:
        """Empties memory and voids the loads that are under way. Changes follow from `head` on,
        without a gap."""

    def apply(self, changes: messages.RevisionChanges) -> None:
        """Applies the next revisions: what they changed must be forgotten before this returns."""

    def allow_for(self, drift: float) -> None:
        """Tells how far clocks may drift. A holder that grants leases itself allows for it."""

    def acknowledged(self) -> int:
        """The revision that this holder and all holders downstream of it have applied."""

    async def lost(self) -> None:
        """Returns when every lease that was granted downstream has expired. Called after
        `forget_everything`."""

    def moved(self) -> asyncio.Future[None]:
        """Done when `acknowledged` may have increased. Call this before reading it."""


class Stream(Protocol):
    """The two directions of a `Sync` call. The grantor has accepted it, and nothing was sent
    yet."""

    async def send(self, request: messages.SyncRequest) -> None:
        """Sends a message. Raises `StreamBroken`."""

    def messages(self) -> AsyncIterator[messages.SyncResponse]:
        """The grantor's messages, until the stream ends. Raises `StreamBroken`."""

    def close(self) -> None:
        """Ends the stream."""


class StreamBroken(Exception):
    """The stream has ended: it, or another, may be opened again.

    Attributes:
        retry_after_seconds: how long the grantor asks to wait before; 0 for no time.
    """

    def __init__(self, why: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_seconds = retry_after_seconds


class Unreachable(StreamBroken):
    """No connection could be made."""


class Refused(StreamBroken):
    """The grantor does not accept this holder's credential.

    Attributes:
        is_known: whether the credential is valid, and lacks the scope or the place to be used at.
    """

    def __init__(self, why: str, *, retry_after_seconds: float = 0.0, is_known: bool) -> None:
        super().__init__(why, retry_after_seconds=retry_after_seconds)
        self.is_known = is_known


def display_name_of_process() -> str:
    """How a holder names this process to its grantor: its id and its machine, 63 characters at
    most."""
    return f"{os.getpid()} on {socket.gethostname()}"[:_MOST_NAME_CHARACTERS]


class HolderSession:
    """Keeps a holder in step with its grantor, over one stream after another.

    Args:
        hello: says who the holder is. The session adds the version of the protocol.
    """

    def __init__(
        self,
        open_stream: Callable[[], Awaitable[Stream]],
        hello: messages.Hello,
        lease: HolderLease,
        listener: Listener,
        clock: Clock,
        *,
        random_source: random.Random | None = None,
        on_broken: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._open_stream = open_stream
        self._hello = messages.Hello()
        self._hello.CopyFrom(hello)
        self._hello.protocol_version = PROTOCOL_VERSION
        self._lease = lease
        self._listener = listener
        self._clock = clock
        self._random = random_source or random.SystemRandom()
        self._on_broken = on_broken
        self._interval = _FIRST_INTERVAL_SECONDS
        self._patience = _LEAST_PATIENCE_SECONDS
        self._heard_at = float("-inf")
        self._backoff = FIRST_BACKOFF_SECONDS

    async def run(self) -> None:
        """Runs until it is cancelled, and gives up the lease then."""
        try:
            while True:
                retry_after = 0.0
                try:
                    await self._follow_one()
                except StreamBroken as broken:
                    self._on_broken(str(broken))
                    retry_after = broken.retry_after_seconds
                    if isinstance(broken, Refused):
                        # It stays refused until an operator changes the credential.
                        self._backoff = _BACKOFF_AFTER_REFUSAL_SECONDS
                except Exception as error:  # noqa: BLE001 - else the lease would be lost for good
                    self._on_broken(type(error).__name__)
                await self._pause(retry_after)
        finally:
            self._forget()

    async def _follow_one(self) -> None:
        # While no grantor can be reached, the present lease stays valid.
        stream = await self._open_stream()
        try:
            # Given up before this grantor hears from the holder, so that it need not wait for it.
            self._forget()
            await self._follow(stream)
        finally:
            stream.close()
        raise StreamBroken("the grantor has ended the stream")

    async def _follow(self, stream: Stream) -> None:
        self._heard_at = self._clock.now()
        tasks = [
            asyncio.ensure_future(work)
            for work in (
                self._renew(stream),
                self._acknowledge(stream),
                self._receive(stream),
                self._require_answers(),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.cancelled():
                    raise StreamBroken("the stream was closed")
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _require_answers(self) -> None:
        """Ends a stream without answers: a connection can be dead for minutes without an error."""
        while True:
            if (until := self._heard_at + self._patience) <= self._clock.now():
                break
            await self._clock.sleep_until(until)
        raise StreamBroken("the grantor does not answer")

    async def _renew(self, stream: Stream) -> None:
        # Nothing goes before this: there is nothing to acknowledge until a lease is granted.
        await stream.send(messages.SyncRequest(hello=self._hello))
        while True:
            sent_at = self._clock.now()
            nonce = self._lease.request(sent_at)
            await stream.send(self._renewal(nonce))
            await self._clock.sleep_until(sent_at + self._interval)

    async def _acknowledge(self, stream: Stream) -> None:
        told = 0
        while True:
            moved = self._listener.moved()
            acknowledged = self._listener.acknowledged()
            if acknowledged > told:
                moved.cancel()
                told = acknowledged
                await stream.send(self._renewal(0))
            else:
                await moved

    def _renewal(self, nonce: int) -> messages.SyncRequest:
        return messages.SyncRequest(
            renew=messages.Renew(
                nonce=nonce,
                applied_revision=self._listener.acknowledged() if self._lease.has_started else 0,
            )
        )

    async def _receive(self, stream: Stream) -> None:
        async for message in stream.messages():
            if message.HasField("lease"):
                self._take_lease(message.lease)
            elif message.HasField("changes"):
                self._take_changes(message.changes)
            elif message.HasField("end"):
                await self._give_up(stream)

    async def _give_up(self, stream: Stream) -> None:
        """Gives up all leases. The grantor then ends the stream."""
        self._forget()
        await self._listener.lost()
        await stream.send(messages.SyncRequest(given_up=messages.GivenUp()))

    def _take_lease(self, lease: messages.Lease) -> None:
        self._heard_at = self._clock.now()
        ttl = seconds_of(lease.ttl)
        if ttl <= 0:
            return
        self._listener.allow_for(lease.clock_drift)
        self._lease.grant(
            lease.nonce,
            ttl,
            lease.head_revision,
            lease.epoch,
            lambda: self._listener.forget_everything(lease.head_revision, lease.epoch),
        )
        interval = seconds_of(lease.renew_after) or ttl / _RENEWALS_PER_LEASE
        self._interval = max(_SHORTEST_INTERVAL_SECONDS, interval)
        self._patience = max(_LEAST_PATIENCE_SECONDS, ttl)
        self._backoff = FIRST_BACKOFF_SECONDS

    def _take_changes(self, changes: messages.RevisionChanges) -> None:
        if not self._lease.has_started or changes.revision <= self._lease.applied:
            # Before the first lease there is nothing to forget, and its head has them all.
            return
        first = changes.first_revision or changes.revision
        if first > self._lease.applied + 1:
            raise StreamBroken(
                f"revision {first} came after {self._lease.applied}: some are missing"
            )
        self._listener.apply(changes)
        self._lease.advance_to(changes.revision)

    def _forget(self) -> None:
        self._lease.abandon()
        self._listener.forget_everything(0, "")

    async def _pause(self, least: float) -> None:
        """Waits longer after each failure, for a random time, so that holders do not come
        together.

        Args:
            least: how many seconds the grantor has asked to wait.
        """
        part = self._random.uniform(0.5, 1.0)
        seconds = max(self._backoff * part, least * (0.5 + part))
        self._backoff = min(LAST_BACKOFF_SECONDS, self._backoff * 2)
        await self._clock.sleep_until(self._clock.now() + seconds)
