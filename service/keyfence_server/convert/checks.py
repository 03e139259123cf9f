"""Questions, verdicts and principals: the messages of the hot path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from keyfence.v1 import authorization_service_pb2, principal_pb2, reason_pb2
from keyfence_server.application.callers import AccountKey, AccountSession, Caller, Operator
from keyfence_server.convert.fields import fill
from keyfence_server.convert.limits import status_of
from keyfence_server.convert.times import timestamp_of
from keyfence_server.domain.decisions import Question, Verdict
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.limits import DEFAULT_COST
from keyfence_server.domain.reasons import Reason

M = TypeVar("M", bound=Message)

REASON_NUMBERS: Final[Mapping[Reason, reason_pb2.Reason.ValueType]] = {
    reason: reason_pb2.Reason.Value(f"REASON_{reason.name}") for reason in Reason
}
REASONS: Final[Mapping[int, Reason]] = {n: reason for reason, n in REASON_NUMBERS.items()}

OK: Final = reason_pb2.REASON_OK
_MOST_REMEMBERED: Final = 10_000


def reason_of(reason: Reason) -> reason_pb2.Reason.ValueType:
    """The number of a reason. The most frequent one is not looked up: enums hash slowly."""
    return OK if reason is Reason.OK else REASON_NUMBERS[reason]


def question_from(
    request: authorization_service_pb2.AuthenticateRequest
    | authorization_service_pb2.CheckScopeRequest,
    required_scopes: Sequence[str] | None = None,
    explain: bool = False,
) -> Question:
    """What is asked about which key: whose it is, or whether it has all of the scopes."""
    return Question(
        request.api_key,
        request.keyspace,
        required_scopes,
        request.client_address,
        request.at_least_revision,
        request.cost if request.HasField("cost") else DEFAULT_COST,
        None,
        explain,
    )


class MessagePerFacts(Generic[M]):
    """Messages made from facts. A small one is made once for each facts object and not for each
    check; a large one is made for each check, so that the memory is bounded in bytes.

    A facts object never changes; it is replaced by another one. So a message made from it stays
    right, and is dropped together with it.

    Args:
        most_bytes: of a message that is remembered.
    """

    __slots__ = ("_make", "_messages", "_most_bytes")

    def __init__(self, make: Callable[[KeyFacts], M], most_bytes: int = 1024) -> None:
        self._make = make
        self._most_bytes = most_bytes
        self._messages: dict[KeyFacts, M] = {}

    def of(self, facts: KeyFacts) -> M:
        """The message. It is shared, and not to be changed."""
        message = self._messages.get(facts)
        if message is None:
            message = self._make(facts)
            # Stale facts were made for one answer.
            if facts.is_stale or message.ByteSize() > self._most_bytes:
                return message
            if len(self._messages) >= _MOST_REMEMBERED:
                self._messages.clear()
            self._messages[facts] = message
        return message


Principals: TypeAlias = MessagePerFacts[principal_pb2.Principal]


def principal_of_facts(facts: KeyFacts) -> principal_pb2.Principal:
    """Whose key it is."""
    key = facts.key
    scopes, is_cut = facts.listed_scopes()
    return principal_pb2.Principal(
        key_id=key.key_id,
        account_id=key.account_id,
        keyspace=key.keyspace,
        key_type=key.key_type,
        environment=key.environment,
        display_name=key.display_name,
        granted_scopes=key.granted_scopes,
        effective_scopes=scopes,
        effective_scopes_truncated=is_cut,
        # The first end in the line of delegation is the end of this key, too.
        expire_time=timestamp_of(facts.expire_time),
        display_prefix=key.display_prefix,
        parent_key_id=key.parent_key_id or "",
        labels=key.labels,
        bound_keyspaces=key.bound_keyspaces,
    )


def principal_of(caller: Caller, principals: Principals) -> principal_pb2.Principal | None:
    """Who a caller is; None for a caller without a credential."""
    if isinstance(caller, AccountSession):
        session = caller.facts.session
        return principal_pb2.Principal(
            session_id=session.session_id,
            account_id=session.account_id,
            keyspace=session.keyspace,
            expire_time=timestamp_of(session.expire_time),
        )
    if isinstance(caller, Operator | AccountKey):
        return principals.of(caller.facts)
    return None


def check_response(
    verdict: Verdict, principals: Principals
) -> authorization_service_pb2.CheckScopeResponse:
    """The answer to a check."""
    response = authorization_service_pb2.CheckScopeResponse()
    fill_check_response(response, verdict, principals)
    return response


def fill_check_response(
    response: authorization_service_pb2.CheckScopeResponse,
    verdict: Verdict,
    principals: Principals,
) -> None:
    """Writes the answer to a check into an empty message, in its place in a larger one."""
    response.allowed = verdict.reason is Reason.OK
    response.reason = reason_of(verdict.reason)
    response.revision = verdict.revision
    if verdict.facts is not None:
        response.principal.CopyFrom(principals.of(verdict.facts))
    # Each named field has its cost, also an empty one, and most answers have none of these.
    if verdict.missing_scopes:
        response.missing_scopes.extend(verdict.missing_scopes)
    if verdict.explanation is not None:
        fill(response.explanation, verdict.explanation)
    if verdict.rate_limit is not None:
        response.rate_limit.CopyFrom(status_of(verdict.rate_limit))
    if verdict.is_stale:
        response.stale = True


def authenticate_response(
    verdict: Verdict, principals: Principals
) -> authorization_service_pb2.AuthenticateResponse:
    """The answer to the question whose key it is."""
    facts = verdict.facts
    response = authorization_service_pb2.AuthenticateResponse(
        authenticated=verdict.reason is Reason.OK,
        reason=reason_of(verdict.reason),
        principal=principals.of(facts) if facts is not None else None,
        revision=verdict.revision,
    )
    if verdict.rate_limit is not None:
        response.rate_limit.CopyFrom(status_of(verdict.rate_limit))
    if verdict.is_stale:
        response.stale = True
    return response
