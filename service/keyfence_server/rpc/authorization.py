"""`keyfence.v1.AuthorizationService`: the checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import grpc

from keyfence.v1 import authorization_service_pb2 as messages
from keyfence_server.application.callers import Caller
from keyfence_server.application.checks import Checks, FoundTogether
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.pauses import pause
from keyfence_server.application.ports import FactSource, StoreUnavailable
from keyfence_server.convert.checks import (
    MessagePerFacts,
    Principals,
    authenticate_response,
    check_response,
    fill_check_response,
    principal_of,
    principal_of_facts,
    question_from,
)
from keyfence_server.domain.decisions import Question, Verdict
from keyfence_server.domain.errors import DomainError, InvalidInput
from keyfence_server.rpc.answer_sizes import AnswerBudget
from keyfence_server.rpc.pipeline import Service
from keyfence_server.rpc.stats import VerdictStats
from keyfence_server.rpc.status import Failure, failure_of, limit_reached

R = TypeVar("R")

MAX_BATCH: Final = 256


def _error_result(failure: Failure) -> messages.BatchCheckScopeResult:
    return messages.BatchCheckScopeResult(
        error=messages.CheckError(
            code=failure.code.value[0],
            reason=failure.reason,
            message=failure.message,
            metadata=failure.metadata,
        )
    )


_NO_ROOM: Final = _error_result(
    limit_reached(
        "answer_bytes", "the answers to the checks before are too large; send fewer checks a batch"
    )
)


class AuthorizationService:
    """Asks the use cases of checks, and counts their verdicts."""

    def __init__(
        self,
        checks: Checks,
        source: FactSource,
        verdicts: VerdictStats,
        identify_caller: IdentifyCaller,
    ) -> None:
        self._checks = checks
        self._identify_caller = identify_caller
        self._source = source
        self._count = verdicts.count
        self._principals: Principals = MessagePerFacts(principal_of_facts)

    def service(self) -> Service:
        return Service(
            messages.DESCRIPTOR.services_by_name["AuthorizationService"],
            self,
            checks=frozenset({"Authenticate", "CheckScope", "BatchCheckScope"}),
        )

    def authenticate(
        self, request: messages.AuthenticateRequest, caller: Caller
    ) -> messages.AuthenticateResponse | Awaitable[messages.AuthenticateResponse]:
        question = question_from(request)
        verdict = self._checks.answer_from_memory(caller, question)
        if verdict is None:
            return self._answer_slowly(caller, question, authenticate_response)
        self._count(verdict)
        return authenticate_response(verdict, self._principals)

    def check_scope(
        self, request: messages.CheckScopeRequest, caller: Caller
    ) -> messages.CheckScopeResponse | Awaitable[messages.CheckScopeResponse]:
        question = question_from(request, request.required_scopes, request.explain)
        verdict = self._checks.answer_from_memory(caller, question)
        if verdict is None:
            return self._answer_slowly(caller, question, check_response)
        self._count(verdict)
        return check_response(verdict, self._principals)

    async def _answer_slowly(
        self, caller: Caller, question: Question, respond: Callable[[Verdict, Principals], R]
    ) -> R:
        verdict = await self._checks.answer(caller, question)
        self._count(verdict)
        return respond(verdict, self._principals)

    async def batch_check_scope(
        self, request: messages.BatchCheckScopeRequest, caller: Caller
    ) -> messages.BatchCheckScopeResponse:
        """Each check by itself, in order. Keys that memory lacks are loaded together."""
        if not 1 <= len(request.checks) <= MAX_BATCH:
            raise InvalidInput.field("checks", f"1 to {MAX_BATCH} checks a batch")
        answer = messages.BatchCheckScopeResponse()
        budget = AnswerBudget()
        together: FoundTogether | None = None
        for number, check in enumerate(request.checks):
            # Each result is written in its place in the answer, so that none is copied there.
            result = answer.results.add()
            if budget.is_full:
                # What is not answered is not checked either: it counts against no limit.
                result.CopyFrom(_NO_ROOM)
                continue
            try:
                question = question_from(check, check.required_scopes, check.explain)
                verdict = self._checks.answer_from_memory(caller, question)
                if verdict is None:
                    together = together or await self._checks.find_together(
                        caller, (later.api_key for later in request.checks[number:])
                    )
                    verdict = await self._checks.answer(caller, question, together)
                self._count(verdict)
                fill_check_response(result.response, verdict, self._principals)
            except (DomainError, StoreUnavailable) as error:
                result.CopyFrom(self._failed(error, caller))
            # The last one may be larger than what is left: it has been counted.
            if not await budget.fits(result):
                budget.fill()
            if check.explain:
                # To explain walks the graph of scopes.
                await pause()
        return answer

    async def who_am_i(
        self, _request: messages.WhoAmIRequest, caller: Caller
    ) -> messages.WhoAmIResponse:
        return messages.WhoAmIResponse(
            principal=principal_of(caller, self._principals), revision=self._source.revision
        )

    def _failed(
        self, error: DomainError | StoreUnavailable, caller: Caller
    ) -> messages.BatchCheckScopeResult:
        failure = failure_of(error)
        if failure.code is grpc.StatusCode.PERMISSION_DENIED:
            # A lone CheckScope that is forbidden fails as a call, and the pipeline notes it. In a
            # batch it is noted here.
            self._identify_caller.note_forbidden(caller, failure.reason, caller.call)
        return _error_result(failure)
