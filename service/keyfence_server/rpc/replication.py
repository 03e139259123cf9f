"""`keyfence.v1.ReplicationService`: leases, changes and facts for the holders downstream."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeVar

from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.callers import Caller
from keyfence_server.application.checks import RevisionNotReached
from keyfence_server.application.failed_attempts import ReportedAttempts
from keyfence_server.application.pages import Page
from keyfence_server.application.pauses import pause
from keyfence_server.application.ports import FactSource, StoreUnavailable, UseToAdd
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.ports import BootClock
from keyfence_server.coherence.replica import ListProcesses
from keyfence_server.convert.keys import key_of
from keyfence_server.convert.times import duration_of_seconds, timestamp_of
from keyfence_server.domain.accounts import AccountState
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.reasons import Reason
from keyfence_server.rpc.answer_sizes import add_fitting_keyspaces
from keyfence_server.rpc.holder_messages import attempts_from, facts_of, uses_from
from keyfence_server.rpc.holders import Holders
from keyfence_server.rpc.pipeline import Service, StreamCall

MAX_REPORTED: Final = 10_000
_REPORTED_A_SLICE: Final = 100
_LOOKED_UP_AT_ONCE: Final = 500
_NAME: Final = attrgetter("name")

T = TypeVar("T")

UsesWithinReach = Callable[[Sequence[UseToAdd], Caller], Awaitable[Sequence[UseToAdd]]]


def require_counts(request: messages.ReportUsesRequest) -> None:
    """Refuses a report of more than it may hold. Raises `InvalidInput`."""
    for name, count in (("uses", len(request.uses)), ("attempts", len(request.attempts))):
        if count > MAX_REPORTED:
            raise InvalidInput.field(name, f"at most {MAX_REPORTED} in a report")


async def _slices(
    items: Sequence[T], size: int = _REPORTED_A_SLICE
) -> AsyncIterator[tuple[int, Sequence[T]]]:
    """The items in parts, each with its place. Between two of them other calls have their
    turn."""
    for start in range(0, len(items), size):
        if start:
            await pause()
        yield start, items[start : start + size]


@dataclass(frozen=True, slots=True)
class ReplicationService:
    """Serves the holders downstream of this process.

    Args:
        grantor_id: this process, as it is called in the list of replicas.
        uses_within_reach: those of the reported uses that the caller may report.
        holders: serves the streams.
    """

    _hub: DownstreamHub
    _source: FactSource
    _presented: PresentedKeys
    _list_processes: ListProcesses
    _uses_within_reach: UsesWithinReach
    _clock: BootClock
    _notes: WriteBehind
    _grantor_id: str
    _holders: Holders

    def service(self) -> Service:
        return Service(
            messages.DESCRIPTOR.services_by_name["ReplicationService"],
            self,
            one_at_a_time=frozenset({"ReportUses"}),
            counted={"ReportUses": require_counts},
        )

    async def sync(self, call: StreamCall, caller: Caller) -> None:
        await self._holders.serve(call, caller)

    async def fetch_facts(
        self, request: messages.FetchFactsRequest, caller: Caller
    ) -> messages.FetchFactsResponse:
        revision, epoch = self._require_revision(request.at_least_revision), self._hub.epoch
        found = await self._presented.find(request.api_key, caller)
        while (
            isinstance(found, KeyFacts)
            and found.key.keyspace == SYSTEM
            and not caller.reaches(SYSTEM)
            and self._holders.give(caller, found)
        ):
            # Changes of it are told from here on, so what was found before may be too old.
            found = await self._presented.find(request.api_key, caller)
        self._require_epoch(epoch)
        answer = messages.FetchFactsResponse(revision=revision, epoch=epoch)
        if isinstance(found, Reason):
            answer.well_formed = found is not Reason.CREDENTIAL_MALFORMED
            return answer
        # A holder checks its own callers too, so it may know of an operator credential
        # that was presented to it. Other keys it may know as any caller may.
        if found.key.keyspace != SYSTEM and not caller.reaches(found.key.keyspace):
            looks_like = await self._presented.keyspaces_of(request.api_key, caller.reaches)
            answer.well_formed = any(map(caller.reaches, looks_like))
            return answer
        answer.well_formed = True
        answer.lineage.extend(key_of(facts) for facts in _each_with_its_ancestors(found))
        answer.account_disabled = found.account_state is AccountState.DISABLED
        answer.is_counted = bool(found.limits)
        if found.key.keyspace != SYSTEM:
            answer.facts.CopyFrom(facts_of(found))
        return answer

    async def fetch_keyspaces(
        self, request: messages.FetchKeyspacesRequest, caller: Caller
    ) -> messages.FetchKeyspacesResponse:
        revision, epoch = self._require_revision(request.at_least_revision), self._hub.epoch
        keyspaces = [
            keyspace
            for keyspace in await self._keyspaces_named(request.keyspace)
            if keyspace.name != SYSTEM
            and keyspace.name > request.page_token
            and caller.reaches(keyspace.name)
        ]
        keyspaces.sort(key=_NAME)
        answer = messages.FetchKeyspacesResponse(revision=revision, epoch=epoch)
        answer.next_page_token = await add_fitting_keyspaces(
            Page(tuple(keyspaces), "", token_after=_NAME), answer.keyspaces
        )
        self._require_epoch(epoch)
        return answer

    async def _keyspaces_named(self, name: str) -> Sequence[Keyspace]:
        if not name:
            return await self._source.list_keyspaces()
        found = await self._source.find_keyspace(name)
        return [found] if found is not None else []

    async def report_uses(
        self, request: messages.ReportUsesRequest, caller: Caller
    ) -> messages.ReportUsesResponse:
        # Refused as a whole, or noted as a whole.
        uses = [
            use
            async for index, part in _slices(request.uses)
            for use in uses_from(part, first=index)
        ]
        within_reach: list[UseToAdd] = []
        async for _, some in _slices(uses, _LOOKED_UP_AT_ONCE):
            within_reach += await self._uses_within_reach(some, caller)
        async for _, some in _slices(within_reach):
            self._notes.uses.note_reported(some)
        refused = 0
        async for _, reported in _slices(request.attempts):
            attempts = await self._attempts_from(reported, caller)
            unbelieved = self._notes.attempts.note_reported(attempts)
            refused += len(reported) - len(attempts) + unbelieved
        return messages.ReportUsesResponse(refused_attempts=refused)

    async def _attempts_from(
        self, reported: Sequence[messages.ReportedAttempt], caller: Caller
    ) -> list[ReportedAttempts]:
        """The reported attempts that are well formed and in keyspaces that the caller may know. No
        text of them may be a key, which the reporting holder may have put in the wrong field."""
        named = {one.keyspace for one in reported} - {"", SYSTEM}
        # A credential for every keyspace reaches names, too, that are no keyspace's.
        known = {"", SYSTEM} | {
            name
            for name in named
            if caller.reaches(name) and await self._source.find_keyspace(name) is not None
        }
        recogniser = await self._source.recogniser()
        told = (
            attempts_from(self._as_far_as_known(one, caller), str(caller.credential_id))
            for one in reported
            if one.keyspace in known and not recogniser.keyspaces_of(one.subject)
        )
        return [one for one in told if one is not None]

    def _as_far_as_known(
        self, told: messages.ReportedAttempt, caller: Caller
    ) -> messages.ReportedAttempt:
        """What is reported, without the names of operators that the caller cannot know of: they
        were not presented to its holders. It could put words into their mouths."""
        named = {told.subject, told.account_id} - {""}
        if told.keyspace != SYSTEM or self._holders.knows(caller, named):
            return told
        anonymous = messages.ReportedAttempt()
        anonymous.CopyFrom(told)
        anonymous.subject = anonymous.account_id = ""
        return anonymous

    async def list_replicas(
        self, _request: messages.ListReplicasRequest, caller: Caller
    ) -> messages.ListReplicasResponse:
        """Who answers from memory: the processes on the store, and this one's holders."""
        replicas = [
            messages.Replica(
                holder_id=one.process.process_id,
                kind=messages.HOLDER_KIND_SERVER,
                display_name=one.process.display_name,
                applied_revision=one.process.acknowledged,
                join_time=timestamp_of(one.process.join_time),
                lease_age=duration_of_seconds(one.silent_for),
            )
            for one in await self._list_processes()
        ]
        now = self._clock.now()
        replicas += [
            messages.Replica(
                holder_id=hashlib.sha256(one.hello.holder_id.encode()).hexdigest()[:16],
                kind=one.hello.kind,
                display_name=one.hello.display_name[:63],
                grantor_id=self._grantor_id,
                applied_revision=one.stream.holder.acknowledged,
                credential_id=one.stream.holder.credential,
                account_id=one.account_id,
                lease_age=duration_of_seconds(max(0.0, now - one.stream.holder.renewed_at)),
            )
            for one in self._holders.connected()
            if one.is_known_to(caller)
        ]
        return messages.ListReplicasResponse(replicas=replicas, head_revision=self._source.revision)

    def _require_revision(self, at_least: int) -> int:
        # Read before anything is looked up: what is found is at least as new.
        revision = self._source.revision
        if at_least > revision:
            raise RevisionNotReached.of(at_least, revision)
        return revision

    def _require_epoch(self, epoch: str) -> None:
        # What was found may be of the one or of the other.
        if epoch != self._hub.epoch:
            raise StoreUnavailable("the store has failed over while it was read; try again")


def _each_with_its_ancestors(facts: KeyFacts) -> list[KeyFacts]:
    """The facts of a key and of each that it was delegated from."""
    lineage = facts.lineage
    return [
        facts,
        *(compile_facts(lineage[start:], facts.keyspace) for start in range(1, len(lineage))),
    ]
