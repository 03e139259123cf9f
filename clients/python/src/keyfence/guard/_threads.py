"""The interceptor for `grpc.server`, whose handlers run in threads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import grpc

from keyfence._sync.client import Client
from keyfence.guard import _current, _policy
from keyfence.guard._handlers import behaviour_of, replaced
from keyfence.results import Principal


class Guard(grpc.ServerInterceptor):
    """Lets a call through to its handler only if its key may make it.

    Args:
        client: asks Keyfence. It stays the caller's to close.
        keyspace: the keyspace whose keys are accepted, and no other's.
        unguarded: open to callers without a key, like health checks: methods
            ("/package.Service/Method") and whole services ("package.Service").
        names_missing_scopes: whether callers are told which scopes their key lacks.
        client_address: has the caller's address from the call's context.
    """

    def __init__(
        self,
        client: Client,
        *,
        keyspace: str,
        unguarded: Collection[str] = (),
        names_missing_scopes: bool = True,
        client_address: Callable[[Any], str | None] = _policy.peer_address,
    ) -> None:
        self._client = client
        self._policy = _policy.Policy(keyspace, unguarded, names_missing_scopes, client_address)

    def verify(self, *services: str) -> None:
        """Fails if a method of the services declares nothing, or a scope that the keyspace does not
        register. Call it at the start, so that a mistake is found before the first call.

        Args:
            services: full names, such as "package.Service", of every service that the server
                offers. The program has imported their generated code.

        Raises:
            ConfigurationError: the guard cannot work as it is set up.
            CallFailed: Keyfence gave no answer.
        """
        wrong, batches = self._policy.survey(services)
        for checks in batches:
            answers = self._client.batch_check_scope(checks)
            wrong += _policy.unregistered(checks, answers)
        _policy.require_none(wrong)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Puts the guard in front of the handler."""
        handler = continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or self._policy.is_unguarded(path):
            return handler
        behaviour = behaviour_of(handler)

        # Not a generator, also where answers are streamed: it must run before the first
        # of them is asked for.
        def guarded(request: Any, context: Any) -> Any:
            verdict = self._verdict(path, context)
            if isinstance(verdict, _policy.Refusal):
                context.abort(verdict.code, verdict.message)
                return None  # abort raises, but the guard does not hang on that
            _current.remember(verdict)
            return behaviour(request, context)

        return replaced(handler, guarded)

    def _verdict(self, path: str, context: Any) -> Principal | _policy.Refusal:
        try:
            asked = self._policy.question(path, context)
            if isinstance(asked, _policy.Refusal):
                return asked
            ask = self._client.check_scope if asked.required_scopes else self._client.authenticate
            answer = ask(
                asked.api_key,
                *asked.required_scopes,
                keyspace=asked.keyspace,
                client_address=asked.client_address,
            )
            return self._policy.judge(answer)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it must not reach callers
            return _policy.refusal_for(error, path)
