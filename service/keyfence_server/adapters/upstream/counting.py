"""Rate limits of a sidecar: every check of a limited key is counted upstream, once."""

from __future__ import annotations

from keyfence import rpcs
from keyfence.v1 import authorization_service_pb2 as messages
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.convert.checks import REASONS
from keyfence_server.convert.limits import status_from
from keyfence_server.domain.decisions import Question, Verdict
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.reasons import Reason


class CountedUpstream:
    """Implements the `Counting` port by asking upstream whose key it is, which counts."""

    notes_uses = True

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def counted(self, verdict: Verdict, facts: KeyFacts, question: Question) -> Verdict:
        """See `Counting`."""
        if verdict.reason not in (Reason.OK, Reason.SCOPE_MISSING):
            return verdict
        if verdict.is_stale:
            # No server upstream answers, and the operator allows stale answers.
            return verdict
        response = await self._upstream.ask(
            rpcs.AUTHENTICATE,
            messages.AuthenticateRequest(
                api_key=question.api_key,
                keyspace=facts.key.keyspace,
                client_address=question.client_address,
                # A check that lacks a scope is not counted; it only learns where the limit is.
                cost=question.cost if verdict.reason is Reason.OK else 0,
                at_least_revision=verdict.revision,
            ),
        )
        reason = REASONS[response.reason]
        status = status_from(response.rate_limit) if response.HasField("rate_limit") else None
        if verdict.reason is Reason.SCOPE_MISSING and reason is Reason.OK:
            reason = Reason.SCOPE_MISSING
        missing = verdict.missing_scopes if reason is Reason.SCOPE_MISSING else ()
        return verdict._replace(reason=reason, missing_scopes=missing, rate_limit=status)
