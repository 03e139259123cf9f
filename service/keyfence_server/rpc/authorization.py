"""`keyfence.v1.AuthorizationService`: the checks."""

from __future__ import annotations

from typing import Final

import grpc

from keyfence.v1 import authorization_service_pb2 as messages
from keyfence_server.application import staleness
from keyfence_server.application.callers import Caller, Callers
from keyfence_server.application.checks import MAX_REQUIRED_SCOPES, Checks, Verdict
from keyfence_server.application.ports import FactSource, StoreUnavailable
from keyfence_server.domain.errors import DomainError, InvalidInput
from keyfence_server.rpc.convert.checks import (
    OK,
    Principals,
    YesAnswers,
    authenticate_response,
    check_response,
    principal_of,
    question_from,
    reason_of,
)
from keyfence_server.rpc.pipeline import Service
from keyfence_server.rpc.stats import NO_KEYSPACE, VerdictStats
from keyfence_server.rpc.status import failure_of

MAX_BATCH: Final = 256

_BATCH_METHOD: Final = "/keyfence.v1.AuthorizationService/BatchCheckScope"


class AuthorizationService:
    """Asks the use cases of checks, and counts their verdicts."""

    def __init__(
        self, checks: Checks, source: FactSource, verdicts: VerdictStats, callers: Callers
    ) -> None:
        self._checks = checks
        self._callers = callers
        self._source = source
        self._verdicts = verdicts
        self._principals = Principals()
        self._authenticated = YesAnswers(
            messages.AuthenticateResponse(authenticated=True, reason=OK), self._principals
        )
        self._allowed = YesAnswers(
            messages.CheckScopeResponse(allowed=True, reason=OK), self._principals
        )

    def service(self) -> Service:
        """The service and its handlers."""
        return Service(
            messages.DESCRIPTOR.services_by_name["AuthorizationService"],
            {
                "Authenticate": self.authenticate,
                "CheckScope": self.check_scope,
                "BatchCheckScope": self.batch_check_scope,
                "WhoAmI": self.who_am_i,
            },
            checks=frozenset({"Authenticate", "CheckScope", "BatchCheckScope"}),
            from_memory={
                "Authenticate": self.authenticate_from_memory,
                "CheckScope": self.check_scope_from_memory,
            },
        )

    def authenticate_from_memory(
        self, request: messages.AuthenticateRequest, caller: Caller
    ) -> bytes | None:
        """The answer to `Authenticate` where memory alone can say yes, encoded."""
        revision = self._source.revision
        if (
            request.client_address
            or request.HasField("cost")
            or request.at_least_revision > revision
        ):
            return None
        facts = self._checks.yes_from_memory(caller, request.api_key, request.keyspace)
        if facts is None:
            return None
        self._verdicts.add(facts.key.keyspace, OK)
        return self._authenticated.encoded(facts, revision)

    def check_scope_from_memory(
        self, request: messages.CheckScopeRequest, caller: Caller
    ) -> bytes | None:
        """The answer to `CheckScope` where memory alone can say yes, encoded."""
        revision = self._source.revision
        scopes = request.required_scopes
        if (
            request.client_address
            or request.HasField("cost")
            or request.explain
            or request.at_least_revision > revision
            or not 1 <= len(scopes) <= MAX_REQUIRED_SCOPES
        ):
            return None
        facts = self._checks.yes_from_memory(caller, request.api_key, request.keyspace, scopes)
        if facts is None:
            return None
        self._verdicts.add(facts.key.keyspace, OK)
        return self._allowed.encoded(facts, revision)

    async def authenticate(
        self, request: messages.AuthenticateRequest, caller: Caller
    ) -> messages.AuthenticateResponse:
        """Whose key it is."""
        verdict = await self._checks.authenticate(caller, question_from(request))
        self._count(verdict)
        return authenticate_response(verdict, self._principals, stale=staleness.is_noted())

    async def check_scope(
        self, request: messages.CheckScopeRequest, caller: Caller
    ) -> messages.CheckScopeResponse:
        """Whether the key may do what needs the scopes."""
        verdict = await self._checks.check_scope(
            caller,
            question_from(request),
            request.required_scopes,
            with_explanation=request.explain,
        )
        self._count(verdict)
        return check_response(verdict, self._principals, stale=staleness.is_noted())

    async def batch_check_scope(
        self, request: messages.BatchCheckScopeRequest, caller: Caller
    ) -> messages.BatchCheckScopeResponse:
        """Each check by itself, in order."""
        if not 1 <= len(request.checks) <= MAX_BATCH:
            raise InvalidInput.field("checks", f"1 to {MAX_BATCH} checks a batch")
        return messages.BatchCheckScopeResponse(
            results=[await self._one_of_batch(check, caller) for check in request.checks]
        )

    async def who_am_i(
        self, _request: messages.WhoAmIRequest, caller: Caller
    ) -> messages.WhoAmIResponse:
        """Who the caller is."""
        return messages.WhoAmIResponse(
            principal=principal_of(caller, self._principals), revision=self._source.revision
        )

    async def _one_of_batch(
        self, check: messages.CheckScopeRequest, caller: Caller
    ) -> messages.BatchCheckScopeResult:
        try:
            return messages.BatchCheckScopeResult(response=await self.check_scope(check, caller))
        except (DomainError, StoreUnavailable) as error:
            failure = failure_of(error)
            if failure.code is grpc.StatusCode.PERMISSION_DENIED:
                # Alone it would have been the call's own, which is noted for every RPC.
                self._callers.note_forbidden(
                    caller, failure.reason, _BATCH_METHOD, caller.request_id
                )
            return messages.BatchCheckScopeResult(
                error=messages.CheckError(
                    code=failure.code.value[0],
                    reason=failure.reason,
                    message=failure.message,
                    metadata=failure.metadata,
                )
            )

    def _count(self, verdict: Verdict) -> None:
        facts = verdict.facts
        keyspace = facts.key.keyspace if facts is not None else NO_KEYSPACE
        self._verdicts.add(keyspace, reason_of(verdict.reason))
