"""The decision: from what is known of a key and what is asked, to the verdict.

`decide` is the only place where a check of a known key is decided, its rate limit aside. The RPC,
Envoy, the batch, and the ways with and without a look-up all call it. It needs no I/O: what it
depends on is loaded before. `application.checks` answers for keys that are not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from keyfence_server.domain.addresses import Address, parse_address
from keyfence_server.domain.errors import InvalidInput, UnknownScope
from keyfence_server.domain.explanations import ScopeExplanation, explain
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.limits import DEFAULT_COST, MAX_COST, RateLimitStatus
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.scopes import is_wildcard

MAX_REQUIRED_SCOPES: Final = 64


class Question(NamedTuple):
    """What a service asks about a key that it was presented with.

    Attributes:
        api_key: the plaintext that was presented; empty for none.
        keyspace: which keyspace the key must belong to; empty for any that the caller reaches.
        required_scopes: what the key must hold, all of it; None to ask only whose key it is.
        client_address: where the key was presented from; empty for unknown.
        at_least_revision: the revision that the answer must reflect; 0 for any.
        cost: what the check counts for against the key's rate limits.
        request_id: of the request that the key came with; None for that of the call.
        explain: whether the verdict is to say why the key holds or lacks the scopes.
    """

    api_key: str
    keyspace: str = ""
    required_scopes: Sequence[str] | None = None
    client_address: str = ""
    at_least_revision: int = 0
    cost: int = DEFAULT_COST
    request_id: str | None = None
    explain: bool = False

    def __repr__(self) -> str:
        return f"Question(api_key redacted, keyspace={self.keyspace!r})"


class Verdict(NamedTuple):
    """The answer.

    Attributes:
        reason: the one reason; `Reason.OK` for a yes.
        revision: the answer reflects at least this one.
        facts: the key's, if the asking service may know of it.
        missing_scopes: those asked for that the key lacks, in the order asked.
        explanation: if it was asked for and the key is known.
        rate_limit: where the key's limit stands, if it has one.
        is_stale: whether the answer may be out of date, which happens only where an operator
            has asked for stale answers.
    """

    reason: Reason
    revision: int
    facts: KeyFacts | None = None
    missing_scopes: tuple[str, ...] = ()
    explanation: ScopeExplanation | None = None
    rate_limit: RateLimitStatus | None = None
    is_stale: bool = False


def read_question(question: Question) -> Address | None:
    """Checks what can be checked before the key is known, and reads the address.

    Raises:
        InvalidInput: no scopes or too many, a cost out of range, or no address.
    """
    scopes = question.required_scopes
    if scopes is not None and not 1 <= len(scopes) <= MAX_REQUIRED_SCOPES:
        raise InvalidInput.field(
            "required_scopes",
            f"at most {MAX_REQUIRED_SCOPES} scopes a check"
            if scopes
            else "name at least one scope; to learn only whose key it is, call Authenticate",
        )
    if not 0 <= question.cost <= MAX_COST:
        raise InvalidInput.field("cost", f"0 to {MAX_COST}")
    text = question.client_address
    if not text:
        return None
    try:
        return parse_address(text)
    except ValueError:
        raise InvalidInput.field(
            "client_address",
            f"{text[:64]!r} is not an address; give IPv4 or IPv6 without a port or zone",
        ) from None


def decide(
    facts: KeyFacts, question: Question, address: Address | None, *, now: float, revision: int
) -> Verdict:
    """Decides a question about a key that the asking service may know of.

    Args:
        address: what `read_question` found.
        now: seconds since the epoch.
        revision: what the facts reflect at least.

    Raises:
        UnknownScope, InvalidInput: a required scope is not registered, or is a wildcard.
    """
    if question.keyspace and question.keyspace != facts.key.keyspace:
        return Verdict(Reason.KEYSPACE_MISMATCH, revision, is_stale=facts.is_stale)
    reason = facts.reason_at(now, address)
    scopes = question.required_scopes
    if scopes is None:
        return Verdict(reason, revision, facts, is_stale=facts.is_stale)
    missing = required_mask(facts.keyspace, scopes) & ~facts.effective
    explanation = explain(facts, scopes) if question.explain else None
    names: tuple[str, ...] = ()
    if missing and reason is Reason.OK:
        reason = Reason.SCOPE_MISSING
        lacking = set(facts.keyspace.catalog.names_in(missing))
        names = tuple(scope for scope in dict.fromkeys(scopes) if scope in lacking)
    return Verdict(reason, revision, facts, names, explanation, None, facts.is_stale)


def required_mask(keyspace: Keyspace, scopes: Sequence[str]) -> int:
    """The required scopes as a mask.

    Raises:
        UnknownScope, InvalidInput: one of them is not registered, or is a wildcard.
    """
    try:
        return keyspace.catalog.required_mask(scopes)
    except KeyError as error:
        scope = str(error.args[0])
    path = f"required_scopes[{list(scopes).index(scope)}]"
    if is_wildcard(scope):
        raise InvalidInput.field(
            path, "a check names the scopes it needs; wildcards are for grants"
        )
    raise UnknownScope(path, scope, keyspace.name, None)
