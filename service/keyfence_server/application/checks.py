"""`Authenticate` and `CheckScope`: the two questions that everything else is there for.

A check has two parts. Loading finds the key's facts: from memory, without waiting, or from
the store. Deciding is `domain.decisions.decide`, for both. Nothing is copied on the way, and
every check is decided anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from keyfence_server.application.callers import Caller
from keyfence_server.application.failed_attempts import Attempt
from keyfence_server.application.ports import Clock, FactSource
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.domain.addresses import Address
from keyfence_server.domain.decisions import Question, Verdict, decide, read_question, required_mask
from keyfence_server.domain.errors import DomainError, NotFound, UnknownScope
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.rates import PerSecond
from keyfence_server.domain.reasons import Reason

# A suggestion compares the name with hundreds of others, which costs more than many checks.
_SUGGESTIONS_PER_SECOND: Final = 10


class RevisionNotReached(DomainError):
    """The asked-for revision is not known here yet."""

    reason = "REVISION_NOT_REACHED"

    @classmethod
    def of(cls, wanted: int, known: int) -> RevisionNotReached:
        """The error for a revision that is later than the one known here."""
        return cls(
            f"this server has not seen revision {wanted} yet, only {known}; try again",
            revision=str(known),
        )


class Counting(Protocol):
    """Counts the checks of keys that have a rate limit, in one place for all of them."""

    @property
    def notes_uses(self) -> bool:
        """Whether counting a check also notes that the key was used, or used too often."""

    async def counted(self, verdict: Verdict, facts: KeyFacts, question: Question) -> Verdict:
        """The verdict of a limited key, with its limit: only what would pass counts.

        Raises:
            RateLimitsUnavailable, StoreUnavailable: it cannot be counted now.
        """


@dataclass(frozen=True, slots=True)
class FoundTogether:
    """What was found of the keys of several questions.

    Attributes:
        revision: the revision that every key shows at least.
        keys: for each plaintext what `PresentedKeys.find` returned or raised.
    """

    revision: int
    keys: Mapping[str, KeyFacts | Reason | BaseException]


@dataclass(frozen=True, slots=True)
class CountedHere:
    """Counts by this server's own limits."""

    _rate_limits: RateLimits
    notes_uses = False

    async def counted(self, verdict: Verdict, facts: KeyFacts, question: Question) -> Verdict:
        """See `Counting`."""
        if verdict.reason not in (Reason.OK, Reason.SCOPE_MISSING):
            return verdict
        # Without the scopes it only learns where the limit is.
        cost = question.cost if verdict.reason is Reason.OK else 0
        passes, status = await self._rate_limits.take(facts.limits, cost)
        reason = verdict.reason if passes else Reason.RATE_LIMITED
        return verdict._replace(reason=reason, rate_limit=status)


@dataclass(slots=True, eq=False)
class Checks:
    """Answers whose key it is, and whether it may do a thing."""

    _source: FactSource
    _presented: PresentedKeys
    _clock: Clock
    _counting: Counting
    _notes: WriteBehind
    _suggestions: PerSecond = field(
        init=False, default_factory=lambda: PerSecond(_SUGGESTIONS_PER_SECOND)
    )

    def answer_from_memory(self, caller: Caller, question: Question) -> Verdict | None:
        """The verdict, if nothing has to be waited for; None: `answer` finds it.

        That is so for nearly every check: memory has the key, the key has no rate limit, and
        the caller may know of it. A coroutine for each step would cost more than the check.

        Raises:
            InvalidInput, UnknownScope, RevisionNotReached: as `answer`.
        """
        # Read first: what is found afterwards is at least as new.
        revision = self._source.revision
        facts = self._presented.recall(question.api_key)
        if facts is None or facts.limits:
            return None
        keyspace = facts.key.keyspace
        if (question.keyspace and question.keyspace != keyspace) or not caller.reaches(keyspace):
            return None
        address = self._read(question, revision)
        verdict = self._decide(caller, facts, question, address, revision)
        self._note_known(caller, facts, question, verdict)
        return verdict

    async def find_together(self, caller: Caller, api_keys: Iterable[str]) -> FoundTogether:
        """Finds the keys that memory lacks, all at once, for the `answer` to several questions."""
        # Read first: what is found afterwards is at least as new.
        revision = self._source.revision
        missing = [text for text in dict.fromkeys(api_keys) if self._presented.recall(text) is None]
        found = await asyncio.gather(
            *(self._presented.find(text, caller) for text in missing), return_exceptions=True
        )
        return FoundTogether(revision, dict(zip(missing, found, strict=True)))

    async def answer(
        self, caller: Caller, question: Question, together: FoundTogether | None = None
    ) -> Verdict:
        """The verdict on a question.

        Args:
            together: what was found of the keys of several questions. A key that is not among them
                is looked up.

        Raises:
            InvalidInput: the question is wrong in itself.
            UnknownScope: a required scope is not registered: a fault of the asking service,
                and never a yes.
            Forbidden, NotFound: the keyspace is not for this caller, or there is none.
            RevisionNotReached, StoreUnavailable, RateLimitsUnavailable: this server cannot
                answer now.
        """
        revision, found = self._source.revision, None
        if together is not None and question.api_key in together.keys:
            revision, found = together.revision, together.keys[question.api_key]
        address = self._read(question, revision)
        keyspace = await self._require_keyspace(caller, question)
        if keyspace is not None and question.required_scopes is not None:
            # Before the key is looked at: a service that asks for an unregistered scope
            # learns of it at its first call, not at the first good key.
            try:
                required_mask(keyspace, question.required_scopes)
            except UnknownScope as error:
                raise self._with_suggestion(error, keyspace) from None
        if isinstance(found, BaseException):
            raise found
        if found is None:
            found = await self._presented.find(question.api_key, caller)
        if isinstance(found, KeyFacts) and caller.reaches(found.key.keyspace):
            # Without a lease, facts come from the store or from the server upstream, and may be
            # newer than the last revision applied here.
            reflected = max(revision, found.reflects)
            verdict = self._decide(caller, found, question, address, reflected)
            # None only for KEYSPACE_MISMATCH, which is noted as a denial of an unknown key is.
            if verdict.facts is not None:
                if found.limits:
                    verdict = await self._counting.counted(verdict, found, question)
                self._note_known(caller, found, question, verdict)
                return verdict
        else:
            # The same answer whether there is no such key, or one that the caller may not
            # know of: a credential never learns of keys outside its keyspaces.
            reason = found if isinstance(found, Reason) else Reason.KEY_UNKNOWN
            if reason is Reason.KEY_UNKNOWN:
                alike = await self._presented.keyspaces_of(question.api_key, caller.reaches)
                if not any(map(caller.reaches, alike)):
                    reason = Reason.CREDENTIAL_MALFORMED
            verdict = Verdict(reason, revision, is_stale=caller.is_stale)
        await self._note_unknown(caller, question, verdict)
        return verdict

    async def refuse_unread(self, caller: Caller, question: Question) -> Verdict:
        """The verdict on a credential that could not be made out, as when there were two.

        Args:
            question: with an empty `api_key`.

        Raises:
            Forbidden, NotFound: as for `answer`.
        """
        await self._require_keyspace(caller, question)
        verdict = Verdict(
            Reason.CREDENTIAL_MALFORMED, self._source.revision, is_stale=caller.is_stale
        )
        await self._note_unknown(caller, question, verdict)
        return verdict

    def _read(self, question: Question, revision: int) -> Address | None:
        address = read_question(question)
        if question.at_least_revision > revision:
            raise RevisionNotReached.of(question.at_least_revision, revision)
        return address

    def _decide(
        self,
        caller: Caller,
        facts: KeyFacts,
        question: Question,
        address: Address | None,
        revision: int,
    ) -> Verdict:
        try:
            verdict = decide(
                facts, question, address, now=self._clock.timestamp(), revision=revision
            )
        except UnknownScope as error:
            raise self._with_suggestion(error, facts.keyspace) from None
        return verdict._replace(is_stale=True) if caller.is_stale else verdict

    def _with_suggestion(self, error: UnknownScope, keyspace: Keyspace) -> UnknownScope:
        if not self._suggestions.admits():
            return error
        return keyspace.unknown_scope(error.problems[0].where, error.scope)

    async def _require_keyspace(self, caller: Caller, question: Question) -> Keyspace | None:
        if not question.keyspace:
            return None
        caller.require_reach(question.keyspace)
        keyspace = await self._source.find_keyspace(question.keyspace)
        if keyspace is None:
            raise NotFound.keyspace(question.keyspace)
        return keyspace

    def _note_known(
        self, caller: Caller, facts: KeyFacts, question: Question, verdict: Verdict
    ) -> None:
        if verdict.reason is Reason.OK:
            if not (facts.limits and self._counting.notes_uses):
                self._notes.uses.note(facts.key_id, question.client_address)
        elif not (verdict.reason is Reason.RATE_LIMITED and self._counting.notes_uses):
            key, reason, address = facts.key, verdict.reason.name, question.client_address
            attempt = Attempt(key.keyspace, reason, key.account_id, key.key_id, address)
            self._note_denied(caller, question, attempt)

    async def _note_unknown(self, caller: Caller, question: Question, verdict: Verdict) -> None:
        keyspace, prefix = question.keyspace, ""
        if verdict.reason in (Reason.KEY_UNKNOWN, Reason.CREDENTIAL_MALFORMED):
            # The keyspace of an unknown key and what may be shown of it, as far as the
            # asking service may know.
            alike = await self._presented.keyspaces_of(question.api_key, caller.reaches)
            keyspace = keyspace or min(filter(caller.reaches, alike), default="")
            prefix = await self._presented.display_prefix_of(question.api_key, keyspace)
        attempt = Attempt(
            keyspace, verdict.reason.name, subject=prefix, address=question.client_address
        )
        self._note_denied(caller, question, attempt)

    def _note_denied(self, caller: Caller, question: Question, attempt: Attempt) -> None:
        self._notes.attempts.note(attempt, question.request_id or caller.call.request_id)
