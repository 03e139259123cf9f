"""`Authenticate` and `CheckScope`: the two questions that everything else is there for.

Both run on the hot path, so they ask memory first, copy nothing and compute no
explanation that nobody asked for. Both are decided anew at every call, from facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import Clock, FactSource
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.rate_limits import RateLimits, read_cost
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.domain.addresses import Address, parse_address
from keyfence_server.domain.errors import DomainError, InvalidInput, NotFound, UnknownScope
from keyfence_server.domain.explanations import ScopeExplanation, explain
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.limits import DEFAULT_COST, RateLimitStatus
from keyfence_server.domain.scopes import is_wildcard
from keyfence_server.domain.verdicts import Reason

MAX_REQUIRED_SCOPES: Final = 64

_OF_UNKNOWN_KEYS: Final = (Reason.KEY_UNKNOWN, Reason.CREDENTIAL_MALFORMED)


class RevisionNotReached(DomainError):
    """The asked-for revision is not known here yet."""

    reason = "REVISION_NOT_REACHED"


@dataclass(frozen=True, slots=True)
class Question:
    """Which key, from where, and what must be known to answer.

    Attributes:
        api_key: the plaintext that was presented; empty for none.
        keyspace: which keyspace it must belong to; empty for any that the caller reaches.
        client_address: where it was presented from; empty for unknown.
        at_least_revision: the revision that the answer must reflect; 0 for any.
        cost: what the check counts for against the key's rate limits.
        request_id: of the request that the key came with; None for that of the call.
    """

    api_key: str
    keyspace: str = ""
    client_address: str = ""
    at_least_revision: int = 0
    cost: int = DEFAULT_COST
    request_id: str | None = None

    def __repr__(self) -> str:
        return f"Question(api_key redacted, keyspace={self.keyspace!r})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    Attributes:
        reason: the one reason; `Reason.OK` for a yes.
        revision: the answer reflects at least this one.
        facts: the key's, if the asking service may know of it.
        missing_scopes: those asked for that the key lacks, in the order asked.
        explanation: if it was asked for and the key is known.
        rate_limit: where the key's limit stands, if it has one.
    """

    reason: Reason
    revision: int
    facts: KeyFacts | None = None
    missing_scopes: tuple[str, ...] = ()
    explanation: ScopeExplanation | None = None
    rate_limit: RateLimitStatus | None = None


class Counting(Protocol):
    """Counts the checks of keys that have a rate limit, in one place for all of them."""

    @property
    def notes_uses(self) -> bool:
        """Whether counting a check also notes that the key was used, or used too often."""
        ...

    async def counted(self, verdict: Verdict, facts: KeyFacts, question: Question) -> Verdict:
        """The verdict of a limited key, with its limit: only what would pass counts.

        Raises:
            RateLimitsUnavailable, StoreUnavailable: it cannot be counted now.
        """
        ...


class CountedHere:
    """Counts by this server's own limits."""

    notes_uses = False

    def __init__(self, rate_limits: RateLimits) -> None:
        self._rate_limits = rate_limits

    async def counted(self, verdict: Verdict, facts: KeyFacts, question: Question) -> Verdict:
        """See `Counting`."""
        if verdict.reason is Reason.OK:
            passes, status = await self._rate_limits.take(facts.limits, question.cost)
            reason = Reason.OK if passes else Reason.RATE_LIMITED
            return replace(verdict, reason=reason, rate_limit=status)
        if verdict.reason is Reason.SCOPE_MISSING:
            return replace(verdict, rate_limit=await self._rate_limits.look(facts.limits))
        return verdict


class Checks:
    """Answers whose key it is, and whether it may do a thing."""

    def __init__(
        self,
        source: FactSource,
        presented: PresentedKeys,
        clock: Clock,
        counting: Counting,
        notes: WriteBehind,
    ) -> None:
        self._source = source
        self._presented = presented
        self._clock = clock
        self._counting = counting
        self._notes = notes

    def yes_from_memory(
        self, caller: Caller, api_key: str, keyspace: str, required_scopes: Sequence[str] = ()
    ) -> KeyFacts | None:
        """The key's facts, if memory alone can tell that the answer is yes.

        Nearly every answer is, and a coroutine for each step and an object for each
        question cost more than all that is compared here. None means nothing: the other
        methods find out, or find out what to say. They give the same answer, which
        `tests/rpc/test_answers_from_memory.py` holds both to.
        """
        facts = self._presented.recall(api_key)
        if facts is None or not facts.is_plain or self._clock.timestamp() >= facts.expires_at:
            return None
        own = facts.key.keyspace
        if (keyspace and keyspace != own) or not caller.reaches(own):
            return None
        # What is recalled has been compiled with the keyspace as it is now.
        if not facts.keyspace.catalog.holds_all(facts.effective, required_scopes):
            return None
        self._notes.used(facts.key_id, "")
        return facts

    async def authenticate(self, caller: Caller, question: Question) -> Verdict:
        """Whose key it is.

        Raises:
            InvalidInput: the address is none.
            Forbidden, NotFound: the keyspace is not for this caller, or there is none.
            RevisionNotReached, StoreUnavailable, RateLimitsUnavailable: this server cannot
                answer now.
        """
        await self._require_keyspace(caller, question)
        reason, facts, revision = await self._decide(caller, question)
        verdict = Verdict(reason, revision, facts)
        if facts is not None and facts.limits:
            verdict = await self._counting.counted(verdict, facts, question)
        await self._note(caller, question, verdict)
        return verdict

    async def check_scope(
        self,
        caller: Caller,
        question: Question,
        required_scopes: Sequence[str],
        *,
        with_explanation: bool = False,
    ) -> Verdict:
        """Whether the key may do what needs all of the scopes.

        Raises:
            UnknownScope: a scope is not registered: a fault of the asking service,
                and never a yes.
            InvalidInput, Forbidden, NotFound, RevisionNotReached, StoreUnavailable,
                RateLimitsUnavailable: as for `authenticate`.
        """
        verdict = await self._scope_verdict(
            caller, question, required_scopes, with_explanation=with_explanation
        )
        facts = verdict.facts
        if facts is not None and facts.limits:
            verdict = await self._counting.counted(verdict, facts, question)
        await self._note(caller, question, verdict)
        return verdict

    async def refuse_unread(self, caller: Caller, question: Question) -> Verdict:
        """The verdict on a credential that could not be made out, as when there were two.

        Args:
            question: with an empty `api_key`.

        Raises:
            Forbidden, NotFound: as for `authenticate`.
        """
        await self._require_keyspace(caller, question)
        verdict = Verdict(Reason.CREDENTIAL_MALFORMED, self._source.revision)
        await self._note(caller, question, verdict)
        return verdict

    async def _scope_verdict(
        self,
        caller: Caller,
        question: Question,
        required_scopes: Sequence[str],
        *,
        with_explanation: bool,
    ) -> Verdict:
        _require_scope_count(required_scopes)
        keyspace = await self._require_keyspace(caller, question)
        if keyspace is not None:
            # Before the key is looked at: a service that asks for an unregistered
            # scope learns of it at its first call, not at the first good key.
            _required_mask(keyspace, required_scopes)
        reason, facts, revision = await self._decide(caller, question)
        if facts is None:
            return Verdict(reason, revision)
        required = _required_mask(facts.keyspace, required_scopes)
        explanation = explain(facts, required_scopes) if with_explanation else None
        missing = required & ~facts.effective
        if reason is not Reason.OK or not missing:
            return Verdict(reason, revision, facts, (), explanation)
        lacking = set(facts.keyspace.catalog.names_in(missing))
        in_order = tuple(scope for scope in dict.fromkeys(required_scopes) if scope in lacking)
        return Verdict(Reason.SCOPE_MISSING, revision, facts, in_order, explanation)

    async def _note(self, caller: Caller, question: Question, verdict: Verdict) -> None:
        facts = verdict.facts
        if verdict.reason is Reason.OK and facts is not None:
            if facts.limits and self._counting.notes_uses:
                return
            self._notes.used(facts.key_id, question.client_address)
            return
        if verdict.reason is Reason.RATE_LIMITED and self._counting.notes_uses:
            return
        keyspace, account_id, subject = question.keyspace, "", ""
        if facts is not None:
            keyspace, account_id = facts.key.keyspace, facts.key.account_id
            subject = facts.key_id
        elif verdict.reason in _OF_UNKNOWN_KEYS:
            keyspace, subject = await self._looks(caller, question)
        self._notes.denied(
            verdict.reason,
            keyspace,
            account_id=account_id,
            subject=subject,
            address=question.client_address,
            request_id=question.request_id or caller.request_id,
        )

    async def _looks(self, caller: Caller, question: Question) -> tuple[str, str]:
        """The keyspace of an unknown key and what may be shown of it, as far as the asking
        service may know: empty for unknown."""
        alike = filter(caller.reaches, await self._presented.keyspaces_of(question.api_key))
        keyspace = question.keyspace or min(alike, default="")
        prefix = await self._presented.display_prefix_of(question.api_key, keyspace)
        return keyspace, prefix

    async def _require_keyspace(self, caller: Caller, question: Question) -> Keyspace | None:
        if not question.keyspace:
            return None
        caller.require_reach(question.keyspace)
        keyspace = await self._source.find_keyspace(question.keyspace)
        if keyspace is None:
            raise NotFound.keyspace(question.keyspace)
        return keyspace

    async def _decide(
        self, caller: Caller, question: Question
    ) -> tuple[Reason, KeyFacts | None, int]:
        address = _address(question.client_address)
        read_cost(question.cost)
        # Read first: what is found afterwards is at least as new.
        revision = self._source.revision
        if question.at_least_revision > revision:
            raise RevisionNotReached(
                f"this server has not seen revision {question.at_least_revision} yet, only "
                f"{revision}; try again",
                revision=str(revision),
            )
        found = await self._presented.find(question.api_key)
        if isinstance(found, Reason):
            if found is Reason.KEY_UNKNOWN:
                found = await self._unknown_or_malformed(caller, question.api_key)
            return found, None, revision
        keyspace = found.key.keyspace
        if not caller.reaches(keyspace):
            # The same answer as if there were no such key: a credential never learns
            # of keys outside the keyspaces that it is bound to.
            return await self._unknown_or_malformed(caller, question.api_key), None, revision
        if question.keyspace and keyspace != question.keyspace:
            return Reason.KEYSPACE_MISMATCH, None, revision
        return found.reason_at(self._clock.timestamp(), address), found, revision

    async def _unknown_or_malformed(self, caller: Caller, api_key: str) -> Reason:
        looks_like = await self._presented.keyspaces_of(api_key)
        if any(map(caller.reaches, looks_like)):
            return Reason.KEY_UNKNOWN
        return Reason.CREDENTIAL_MALFORMED


def _address(text: str) -> Address | None:
    if not text:
        return None
    try:
        return parse_address(text)
    except ValueError:
        raise InvalidInput.field(
            "client_address",
            f"{text[:64]!r} is no address; give IPv4 or IPv6 without a port or zone",
        ) from None


def _require_scope_count(required_scopes: Sequence[str]) -> None:
    if not required_scopes:
        raise InvalidInput.field(
            "required_scopes",
            "name at least one scope; to learn only whose key it is, call Authenticate",
        )
    if len(required_scopes) > MAX_REQUIRED_SCOPES:
        raise InvalidInput.field("required_scopes", f"at most {MAX_REQUIRED_SCOPES} scopes a check")


def _required_mask(keyspace: Keyspace, required_scopes: Sequence[str]) -> int:
    try:
        return keyspace.catalog.required_mask(required_scopes)
    except KeyError as error:
        scope = str(error.args[0])
    path = f"required_scopes[{list(required_scopes).index(scope)}]"
    if is_wildcard(scope):
        raise InvalidInput.field(
            path, "a check names the scopes it needs; wildcards are for grants"
        )
    raise UnknownScope(path, scope[:128], keyspace.name, keyspace.catalog.nearest(scope[:128]))
