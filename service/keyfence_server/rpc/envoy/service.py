"""`envoy.service.auth.v3.Authorization/Check`: may this HTTP request go on?

Envoy is a caller like any other: it needs an operator credential with `keys:check`, bound to the
keyspace that its route names. It gets one of three answers: let the request through, deny it
with this response, or nothing could be decided.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import structlog
from envoy.service.auth.v3 import external_auth_pb2
from google.rpc import code_pb2

from keyfence_server.application.callers import Caller
from keyfence_server.application.checks import Checks
from keyfence_server.application.ports import Clock, FactSource, StoreUnavailable
from keyfence_server.convert.checks import MessagePerFacts
from keyfence_server.domain.decisions import Question, Verdict
from keyfence_server.domain.errors import DomainError, NotFound
from keyfence_server.domain.http_answers import Denial, HttpRules
from keyfence_server.domain.reasons import Reason
from keyfence_server.rpc.envoy.answers import adapted, admission_of, broken, denial
from keyfence_server.rpc.envoy.requests import (
    Headers,
    claimed_identity,
    client_address_of,
    headers_of,
    is_grpc,
    presented_in,
)
from keyfence_server.rpc.envoy.routes import Route, UnusableRoute, read_route
from keyfence_server.rpc.metadata import Metadata, find_request_id
from keyfence_server.rpc.pipeline import Service
from keyfence_server.rpc.requirements import Requirement
from keyfence_server.rpc.stats import VerdictStats
from keyfence_server.rpc.status import failure_of

# Envoy's descriptor cannot say what our RPCs say of themselves.
_REQUIREMENT: Final = Requirement(scope="keys:check", has_side_effects=False)
_UNAVAILABLE: Final = 503
_MISCONFIGURED: Final = 500

_log = structlog.get_logger("keyfence.edge")


class EnvoyAuthorization:
    """Answers Envoy."""

    def __init__(
        self, checks: Checks, source: FactSource, verdicts: VerdictStats, clock: Clock
    ) -> None:
        self._checks = checks
        self._source = source
        self._verdicts = verdicts
        self._clock = clock
        self._admissions = MessagePerFacts[Any](admission_of, most_bytes=2048)

    def service(self) -> Service:
        """The service, answered here."""
        return Service(
            external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"],
            self,
            requirements={"Check": _REQUIREMENT},
            checks=frozenset({"Check"}),
            given_metadata=frozenset({"Check"}),
        )

    async def check(self, request: Any, caller: Caller, metadata: Metadata) -> Any:
        """Answers Envoy's question about one request."""
        attributes = request.attributes
        extensions = attributes.context_extensions
        try:
            route = read_route(extensions)
            address = client_address_of(attributes, metadata)
            return await self._decide(caller, route, attributes.request.http, address)
        except UnusableRoute as error:
            _alert("ROUTE_UNUSABLE", str(error), extensions)
            return broken(code_pb2.FAILED_PRECONDITION, _MISCONFIGURED, "ROUTE_UNUSABLE")
        except (DomainError, StoreUnavailable) as error:
            failure = failure_of(error)
            code = failure.code.value[0]
            status = _UNAVAILABLE if code == code_pb2.UNAVAILABLE else _MISCONFIGURED
            _alert(failure.reason, "", extensions)
            return broken(code, status, failure.reason)

    async def _decide(self, caller: Caller, route: Route, http: Any, address: str) -> Any:
        caller.require_reach(route.keyspace)
        keyspace = await self._source.find_keyspace(route.keyspace)
        if keyspace is None:
            raise NotFound.keyspace(route.keyspace)
        headers = headers_of(http)
        presented = presented_in(headers, keyspace.http)
        question = Question(
            presented.credential,
            route.keyspace,
            route.required_scopes or None,
            address,
            cost=route.cost,
            request_id=find_request_id(headers),
        )
        if presented.is_ambiguous:
            verdict = await self._checks.refuse_unread(caller, question)
        else:
            recalled = self._checks.answer_from_memory(caller, question)
            verdict = recalled or await self._checks.answer(caller, question)
        self._verdicts.count(verdict)
        if verdict.reason is not Reason.OK or verdict.facts is None:
            return self._deny(verdict, route, keyspace.http, headers)
        claimed = claimed_identity(headers)
        limits = keyspace.http.limit_headers(verdict.rate_limit)
        stale = verdict.is_stale
        admission = self._admissions.of(verdict.facts)
        if not claimed and presented.cookies_left is None and not limits and not stale:
            return admission
        return adapted(
            admission,
            claimed=claimed,
            cookies_left=presented.cookies_left,
            response_headers=limits,
            stale=stale,
        )

    def _deny(self, verdict: Verdict, route: Route, rules: HttpRules, headers: Headers) -> Any:
        now = datetime.fromtimestamp(int(self._clock.timestamp()), UTC)
        answer = rules.answer(
            Denial(
                reason=verdict.reason,
                required_scopes=route.required_scopes,
                missing_scopes=verdict.missing_scopes,
                request_id=find_request_id(headers) or "",
                time=now.isoformat().replace("+00:00", "Z"),
                rate_limit=verdict.rate_limit,
            )
        )
        return denial(
            answer,
            verdict.reason,
            verdict.facts,
            is_grpc=is_grpc(headers),
            stale=verdict.is_stale,
        )


def _alert(reason: str, message: str, extensions: Any) -> None:
    # The operator wrote the route, and has to correct it.
    route = {name[:64]: value[:200] for name, value in list(extensions.items())[:8]}
    _log.warning("route_unusable", reason=reason, message=message, route=route)
