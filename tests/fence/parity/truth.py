"""The answer that everyone must give: worked out in process, from the store, and forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TypeVar

from fence.parity.questions import Answer, Question, of_authentication, of_check, of_error
from keyfence import _convert
from keyfence.v1 import authorization_service_pb2 as messages
from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.sql import SqlStore
from keyfence_server.application.callers import Caller
from keyfence_server.application.checks import Checks
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.domain.decisions import Question as Asked
from keyfence_server.domain.decisions import Verdict
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.limits import RateLimitStatus
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Peppers
from keyfence_server.rpc.authorization import AuthorizationService
from keyfence_server.rpc.stats import VerdictStats
from keyfence_server.rpc.status import failure_of

T = TypeVar("T")


class Plenty:
    """Limits that no test reaches. Counts are not compared."""

    notes_uses = False

    async def counted(self, verdict: Verdict, facts: KeyFacts, question: Asked) -> Verdict:
        """See `Counting`."""
        if verdict.reason not in (Reason.OK, Reason.SCOPE_MISSING):
            return verdict
        return verdict._replace(
            rate_limit=RateLimitStatus(facts.limits[0], remaining=1, reset_at=0)
        )


class Truth:
    """The use cases on the store, which have nothing in memory when they are asked.

    Args:
        token: the credential that asks.
    """

    def __init__(self, store: SqlStore, peppers: Peppers, token: str) -> None:
        self._store = store
        self._peppers = peppers
        self._token = token
        self._clock = SystemClock()
        self._notes = WriteBehind(store, self._clock)

    async def ask(
        self, api_key: str, questions: Mapping[str, Question], head: int
    ) -> dict[str, Answer]:
        """What is to be answered, while nothing changes."""
        cache = FactCache(self._store, capacity=100, unknown_capacity=100)
        async with self._store.snapshot() as snapshot:
            cache.start_at(snapshot.revision)
        presented = PresentedKeys(cache, self._peppers)
        callers = IdentifyCaller(presented, self._clock, self._notes)
        caller = await callers.identify(self._token)
        checks = Checks(cache, presented, self._clock, Plenty(), self._notes)
        service = AuthorizationService(checks, cache, VerdictStats(), callers)
        return {
            name: await _answer(service, caller, api_key, question, head)
            for name, question in questions.items()
        }


async def _answer(
    service: AuthorizationService, caller: Caller, api_key: str, question: Question, head: int
) -> Answer:
    fields = {"api_key": api_key, **question.fields(head)}
    try:
        if question.scopes is None:
            whose = await at_once(
                service.authenticate(messages.AuthenticateRequest(**fields), caller)
            )
            return of_authentication(_convert.authentication(whose))
        may = messages.CheckScopeRequest(required_scopes=question.scopes, **fields)
        return of_check(_convert.check_result(await at_once(service.check_scope(may, caller))))
    except DomainError as error:
        return of_error(failure_of(error).reason)


async def at_once(answer: T | Awaitable[T]) -> T:
    """The answer of a handler, which may have to be waited for."""
    return await answer if isinstance(answer, Awaitable) else answer
