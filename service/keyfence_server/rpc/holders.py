"""The `Sync` streams of the holders downstream of this process, and their limits.

One stream is one holder. Each is bounded in time and in number, whatever the other side
does: it must say hello and renew in time, it may not send more than a holder has reason
to, and it ends with the credential that it was opened with.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.callers import Caller, Operator
from keyfence_server.application.ports import Change, Clock
from keyfence_server.coherence.downstream import (
    Admission,
    ChangesToSend,
    DownstreamHub,
    EndReason,
    EndToSend,
    HolderStream,
    LeaseToSend,
    StreamEnded,
    ToSend,
)
from keyfence_server.coherence.ports import BootClock
from keyfence_server.convert.changes import subject_change_of
from keyfence_server.convert.times import duration_of_seconds
from keyfence_server.domain.errors import DomainError, InvalidInput, Overloaded
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.rpc.pipeline import StreamCall
from keyfence_server.rpc.server import Limits

PROTOCOL_VERSIONS: Final = (1,)
_HOLDER_ID_LENGTH: Final = range(16, 65)
_HELLO_SECONDS: Final = 5.0
# A holder renews several times in a lease. One that does not for so many leases is gone.
_SILENT_LEASES: Final = 5
# What a holder may send beyond one message for each that it was sent.
_MESSAGES_AT_ONCE: Final = 200.0
_MESSAGES_PER_SECOND: Final = 20.0
_MOST_GIVEN: Final = 10_000
_LONGEST_SLEEP_SECONDS: Final = 60.0

_log = structlog.get_logger("keyfence.replication")


@dataclass(eq=False, slots=True)
class ConnectedHolder:
    """A holder that is connected, and what is said on its stream, in both directions.

    Args:
        caller: as whom it was let in.
        given: the ids of the operator credentials that holders of this credential were told of,
            and of their accounts, since each of them was presented there.
    """

    stream: HolderStream
    hello: messages.Hello
    caller: Caller
    _given: Collection[str]
    _hub: DownstreamHub
    _call: StreamCall
    _clock: BootClock
    _may_send: float = field(init=False, default=_MESSAGES_AT_ONCE)
    _counted_at: float = field(init=False)
    _renewed_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._counted_at = self._renewed_at = self._clock.now()

    @property
    def account_id(self) -> str:
        """The account that its credential belongs to."""
        return self.caller.facts.key.account_id if isinstance(self.caller, Operator) else ""

    def is_known_to(self, other: Caller) -> bool:
        """Whether another caller may know of the holder: it reaches all that the holder reaches,
        or has the same credential."""
        if self.caller.credential_id == other.credential_id:
            return True
        return isinstance(self.caller, Operator) and all(
            other.reaches(name) for key in self.caller.facts.lineage for name in key.bound_keyspaces
        )

    async def take_renewals(self) -> None:
        """Returns when the holder says no more."""
        while (request := await self._call.read()) is not None:
            if request.WhichOneof("message") == "given_up":
                self.stream.give_up()
                return
            if request.WhichOneof("message") != "renew":
                raise InvalidInput.field("renew", "only the first message of a stream says hello")
            self._require_moderation()
            renew = request.renew
            self._require_possible(renew.applied_revision)
            if renew.nonce:
                # A holder whose credential passes no more gets no more leases.
                await self._call.reidentify()
                self._renewed_at = self._clock.now()
            self.stream.renew(renew.nonce, renew.applied_revision)

    async def send(self) -> None:
        """Raises `StreamEnded` when the stream is ended from this side."""
        while True:
            message = await self.stream.next_message()
            await self._call.write(self._response(message))
            if isinstance(message, EndToSend):
                # Its leases have expired by then, whether it gives them up or not.
                await self._clock.sleep_until(self._clock.now() + self._hub.grantor.terms.wait)
                raise StreamEnded(EndReason.START_ANEW)
            self._may_send += 1

    async def require_renewals(self) -> None:
        """Raises `StreamEnded` when the holder has not renewed for several leases."""
        patience = _SILENT_LEASES * self._hub.grantor.terms.length
        while (until := self._renewed_at + patience) > self._clock.now():
            await self._clock.sleep_until(until)
        raise StreamEnded(EndReason.TOO_SLOW)

    def _response(self, message: ToSend) -> messages.SyncResponse:
        match message:
            case LeaseToSend():
                return messages.SyncResponse(lease=_lease(message))
            case ChangesToSend():
                told = self._told_of(message.changes)
                return messages.SyncResponse(
                    changes=messages.RevisionChanges(
                        first_revision=message.first, revision=message.revision, changes=told
                    )
                )
            case EndToSend():
                return messages.SyncResponse(end=messages.End())

    def _told_of(self, changes: Sequence[Change]) -> list[messages.SubjectChange]:
        """Those of the changes that are the holder's business."""
        is_sidecar = self.hello.kind == messages.HOLDER_KIND_SIDECAR
        told = []
        for one in changes:
            is_known = one.keyspace == SYSTEM and one.subject in self._given
            if is_known or not one.keyspace or self.caller.reaches(one.keyspace):
                told.append(subject_change_of(one))
            elif one.keyspace == SYSTEM and one.created and is_sidecar:
                # What was no key before may be one now: a sidecar remembers which texts are none.
                # Which one, is not said.
                told.append(messages.SubjectChange(key_id="", created=True))
        return told

    def _require_possible(self, applied: int) -> None:
        head = self._hub.grantor.head
        if not self.stream.has_ended and not 0 <= applied <= head:
            raise InvalidInput.field(
                "renew.applied_revision", f"must be 0 to {head}, which is the head"
            )

    def _require_moderation(self) -> None:
        """A holder answers what it is sent, and renews a few times a second."""
        now = self._clock.now()
        earned = (now - self._counted_at) * _MESSAGES_PER_SECOND
        self._counted_at = now
        if self._may_send < _MESSAGES_AT_ONCE:
            self._may_send = min(_MESSAGES_AT_ONCE, self._may_send + earned)
        if self._may_send < 1:
            raise Overloaded(
                "the holder sends too many messages; renew as often as the lease says",
                limit="renewals",
            )
        self._may_send -= 1


@dataclass(eq=False, slots=True)
class Holders:
    """Serves the streams.

    Args:
        before_granting: what is to be done before a lease is granted to any holder.
        wall_clock: by which credentials expire.
    """

    _hub: DownstreamHub
    _clock: BootClock
    _wall_clock: Clock
    _limits: Limits
    _before_granting: Callable[[], Awaitable[None]]
    _streams_of: Counter[str] = field(init=False, default_factory=Counter)
    _connected: dict[HolderStream, ConnectedHolder] = field(init=False, default_factory=dict)
    given: defaultdict[str, set[str]] = field(init=False, default_factory=lambda: defaultdict(set))

    def give(self, caller: Caller, facts: KeyFacts) -> bool:
        """Notes that the caller is told of an operator credential that it does not reach, since it
        was presented there: it is told of changes of it from now on. Says whether that is new, so
        that a change may just have been kept from the caller."""
        given = self.given[str(caller.credential_id)]
        subjects = {*(str(one.key_id) for one in facts.lineage), facts.key.account_id}
        if subjects <= given:
            return False
        if len(given) >= _MOST_GIVEN:
            raise Overloaded(
                f"holders of this credential know {_MOST_GIVEN} operator credentials already",
                limit="operator_credentials",
            )
        given |= subjects
        return True

    def knows(self, caller: Caller, subjects: Collection[str]) -> bool:
        """Whether the caller may know of all these operators' credentials and accounts."""
        given = self.given.get(str(caller.credential_id), set())
        return caller.reaches(SYSTEM) or given.issuperset(subjects)

    def connected(self) -> list[ConnectedHolder]:
        """The holders that have said hello."""
        return list(self._connected.values())

    async def serve(self, call: StreamCall, caller: Caller) -> None:
        """Keeps one holder in step until it goes, or until its credential does."""
        credential = str(caller.credential_id)
        self._require_room(credential)
        self._streams_of[credential] += 1
        try:
            await self._before_granting()
            await call.let_in()
            async with asyncio.timeout(_HELLO_SECONDS):
                hello = await _hello(call)
            await self._keep_in_step(call, caller, hello)
        except TimeoutError:
            raise InvalidInput.field(
                "hello", f"the stream must say hello within {_HELLO_SECONDS:g} s"
            ) from None
        finally:
            self._streams_of[credential] -= 1
            self._streams_of += Counter()
            if not self._streams_of[credential]:
                # Whatever stream is opened next begins with nothing.
                self.given.pop(credential, None)

    def _require_room(self, credential: str) -> None:
        if self._streams_of.total() >= self._limits.holders:
            raise Overloaded(
                f"{self._limits.holders} holders are connected already; connect to another server",
                limit="holders",
            )
        if self._streams_of[credential] >= self._limits.holders_per_credential:
            raise Overloaded(
                f"{self._limits.holders_per_credential} holders are connected with this credential "
                "already; give others a credential of their own",
                limit="holders_per_credential",
            )
        if seconds := self._hub.grantor.seconds_until_allowed(credential, self._clock.now()):
            raise _is_behind(seconds)

    async def _keep_in_step(self, call: StreamCall, caller: Caller, hello: messages.Hello) -> None:
        # A holder's id counts together with its credential, so that no holder can speak for
        # the holder of another credential.
        stream = self._hub.open(
            f"{caller.credential_id}/{hello.holder_id}",
            Admission(
                credential=str(caller.credential_id),
                is_concerned_by=caller.is_concerned_by,
                credential_lasts=lambda: caller.expires_at - self._wall_clock.timestamp(),
            ),
        )
        given = self.given[str(caller.credential_id)]
        holder = ConnectedHolder(stream, hello, caller, given, self._hub, call, self._clock)
        self._connected[stream] = holder
        tasks = [
            asyncio.create_task(work)
            for work in (
                holder.take_renewals(),
                holder.send(),
                holder.require_renewals(),
                self._end_with_credential(call, caller),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except StreamEnded as ended:
            if ended.reason is EndReason.BEHIND:
                granted, now = stream.holder, self._clock.now()
                _log.warning(
                    "holder_cut_off",
                    credential_id=granted.credential,
                    display_name=hello.display_name[:63],
                    acknowledged=granted.acknowledged,
                )
                seconds = self._hub.grantor.seconds_until_allowed(granted.credential, now)
                raise _is_behind(seconds) from None
        finally:
            stream.close()
            del self._connected[stream]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end_with_credential(self, call: StreamCall, caller: Caller) -> None:
        """Ends the stream when its credential expires, whatever the holder says or does not
        say. Of a credential that is changed the hub learns by itself."""
        while True:
            left = caller.expires_at - self._wall_clock.timestamp()
            await asyncio.sleep(min(max(0.0, left), _LONGEST_SLEEP_SECONDS))
            await call.reidentify()


def _is_behind(seconds: float) -> DomainError:
    return DomainError(
        "the holders of this credential leave changes unacknowledged, which delays every change; "
        "no lease is granted to them for now, so send checks to the server",
        reason="LIMIT_REACHED",
        limit="unacknowledged",
        retry_after_seconds=str(max(1, round(seconds))),
    )


async def _hello(call: StreamCall) -> messages.Hello:
    request = await call.read()
    if request is None or request.WhichOneof("message") != "hello":
        raise InvalidInput.field("hello", "the first message of the stream must say hello")
    hello: messages.Hello = request.hello
    if hello.protocol_version not in (0, *PROTOCOL_VERSIONS):
        supported = ", ".join(map(str, PROTOCOL_VERSIONS))
        raise DomainError(
            f"this server speaks version {supported} of the replication protocol, and not "
            f"{hello.protocol_version}: upgrade the older of the two",
            reason="PROTOCOL_VERSION_UNSUPPORTED",
            supported=supported,
        )
    if len(hello.holder_id) not in _HOLDER_ID_LENGTH or not hello.holder_id.isprintable():
        raise InvalidInput.field("hello.holder_id", "16 to 64 printable characters")
    return hello


def _lease(message: LeaseToSend) -> messages.Lease:
    return messages.Lease(
        nonce=message.nonce,
        ttl=duration_of_seconds(message.granted.ttl),
        head_revision=message.granted.head,
        epoch=message.epoch,
        renew_after=duration_of_seconds(message.granted.renew_after),
        clock_drift=message.granted.drift,
    )
