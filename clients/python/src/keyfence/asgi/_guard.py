"""What requests to an HTTP service may go on: the decision.

The keyspace says where a credential may be and how denials look. Keyfence decides. This
module must not know of a framework.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from keyfence._async.client import AsyncClient
from keyfence.asgi._answers import Denied, HttpAnswers
from keyfence.asgi._credentials import take_credential
from keyfence.asgi._failed_calls import CODES, MESSAGES, message_of, status_of
from keyfence.asgi._requests import STATE, GuardedRequest, Scope, new_request_id, peer_address
from keyfence.errors import (
    CallFailed,
    ConfigurationError,
    DeadlineExceeded,
    KeyfenceError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    UnknownScope,
)
from keyfence.results import Authentication, CheckResult, Principal, RateLimitStatus, Reason

_log: Final = logging.getLogger("keyfence.asgi")


class Guard:
    """Lets requests through whose credential may make them.

    Args:
        client: asks Keyfence. Its token needs "keys:check", or "replication:sync" with a
            cache, and "keyspaces:read".
        keyspace: the keyspace whose keys are accepted, and no other's.
        unguarded: paths that the guard leaves alone, each with all beneath it, such as "/health".
        codes: how the product calls its errors, by HTTP status.
        codes_by_reason: the same, by the reason of an error of Keyfence's; these come first.
        client_address: has the address of a request's client.
        request_id: has the id of a request.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        keyspace: str,
        unguarded: Collection[str] = (),
        codes: Mapping[int, str] | None = None,
        codes_by_reason: Mapping[str, str] | None = None,
        client_address: Callable[[Scope], str | None] = peer_address,
        request_id: Callable[[Scope], str] = new_request_id,
    ) -> None:
        if not keyspace:
            raise ConfigurationError("a guard needs the keyspace whose keys it accepts")
        if isinstance(unguarded, str):
            raise TypeError("unguarded takes a list of paths, not a string")
        for path in unguarded:
            if not path.startswith("/") or not path.strip("/"):
                raise ConfigurationError(
                    f"unguarded: {path!r} is not the path of a part of the service, such as "
                    "'/health'"
                )
        self._client = client
        self._keyspace = keyspace
        self._unguarded = tuple(path.rstrip("/") for path in unguarded)
        self._codes = {**CODES, **(codes or {})}
        self._codes_by_reason = dict(codes_by_reason or {})
        self._client_address = client_address
        self._request_id = request_id
        self._scopes: set[str] = set()
        self._answers = HttpAnswers(None, keyspace)
        self._starting: asyncio.Task[None] | None = None
        self._is_started = False

    @property
    def client(self) -> AsyncClient:
        """The client that asks Keyfence, with the service's own credential."""
        return self._client

    @property
    def keyspace(self) -> str:
        """The keyspace whose keys are accepted."""
        return self._keyspace

    def note_scopes(self, scopes: Sequence[str]) -> None:
        """Records scopes that the service requires, for `start` to verify."""
        self._scopes.update(scopes)

    async def start(self) -> None:
        """Reads how the keyspace speaks HTTP, and verifies that every scope which the service
        requires is registered. The first request does it, if nothing else did. A change of
        the keyspace's section `http` counts from the next start on.

        Raises:
            ConfigurationError: the guard cannot work as it is set up.
            CallFailed: Keyfence gave no answer.
        """
        if self._is_started:
            return
        # Requests that come meanwhile wait for the same attempt. The next one makes another.
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        try:
            declared = (await self._client.get_keyspace(self._keyspace)).declaration
            for scope in sorted(self._scopes):
                await self._client.explain_scope(self._keyspace, scope)
        except UnknownScope as error:
            nearest = f"; did you mean {error.nearest!r}?" if error.nearest else ""
            raise ConfigurationError(
                f"the service requires the scope {error.scope!r}, which the keyspace "
                f"{self._keyspace!r} does not register{nearest}"
            ) from None
        except NotFound:
            raise ConfigurationError(
                f"there is no keyspace {self._keyspace!r}, or the token is not bound to it"
            ) from None
        except PermissionDenied as error:
            raise ConfigurationError(
                f"the guard's token needs the scope {error.required_scope!r}"
            ) from None
        http = declared.http if declared.HasField("http") else None
        self._answers = HttpAnswers(http, self._keyspace)
        self._is_started = True

    async def prepare(self, scope: Scope) -> GuardedRequest:
        """Reads a request, before anything else does.

        Raises:
            Denied: the guard could not be started.
        """
        request_id = self._request_id(scope)
        if not self._is_started:
            try:
                await self.start()
            except KeyfenceError as error:
                raise self._no_verdict(error, request_id) from None
        presented = take_credential(scope["headers"], self._answers.places)
        return GuardedRequest(presented, self._client_address(scope), request_id)

    async def admit(self, scope: Scope, *required_scopes: str) -> Principal:
        """Asks whether the request's key may do what needs all of the scopes; without
        scopes, whether it is good.

        Args:
            scope: ASGI's, of a request under the guard's middleware.

        Raises:
            Denied: it may not, or there was no verdict.
        """
        request = self.request_in(scope)
        credential, address = request.presented.credential, request.client_address
        if not credential:
            # Decided here, so that requests without a key cost the server nothing.
            raise self._denied(request, request.presented.problem, required_scopes)
        ask = self._client.check_scope if required_scopes else self._client.authenticate
        result: CheckResult | Authentication
        try:
            result = await ask(
                credential, *required_scopes, keyspace=self._keyspace, client_address=address
            )
        except KeyfenceError as error:
            raise self._no_verdict(error, request.request_id) from None
        if not result or result.principal is None:
            missing = result.missing_scopes if isinstance(result, CheckResult) else ()
            raise self._denied(request, result.reason, required_scopes, missing, result.rate_limit)
        request.principal, request.rate_limit = result.principal, result.rate_limit
        return result.principal

    async def acting_as_caller(self, scope: Scope) -> AsyncClient:
        """A client that presents the caller's own credential, a key or a session of the keyspace.

        A good credential of another keyspace, an operator's above all, is refused: the service
        must not carry it to Keyfence from wherever the caller is.

        Raises:
            Denied: the request has no such credential.
        """
        request = self.request_in(scope)
        if not request.presented.credential:
            raise self._denied(request, request.presented.problem)
        acting = self._client.acting_as(
            request.presented.credential, client_address=request.client_address
        )
        try:
            identity = await acting.who_am_i()
        except CallFailed as error:
            raise self.denied_by(error, scope) from None
        if identity.principal.keyspace != self._keyspace:
            raise self._denied(request, Reason.KEYSPACE_MISMATCH)
        return acting

    async def acting_without_credential(self, scope: Scope) -> AsyncClient:
        """A client without a credential, for registering and logging in."""
        return self._client.acting_as(None, client_address=self.request_in(scope).client_address)

    def denied_by(
        self, error: CallFailed, scope: Scope, names: Mapping[str, str] | None = None
    ) -> Denied:
        """What ends a request after a call in its caller's name has failed.

        Args:
            names: what the product calls the fields of Keyfence's requests.
        """
        request = self.request_in(scope)
        status = status_of(error)
        if status == 401 and error.reason != "LOG_IN_FAILED":
            return self._denied(request, Reason.KEY_UNKNOWN)
        if status >= 500:
            return self._no_verdict(error, request.request_id)
        retry_after = error.metadata.get("retry_after_seconds")
        return self.error(
            scope,
            status,
            message_of(error, status, names or {}),
            code=self._codes_by_reason.get(error.reason),
            retry_after=int(retry_after) if retry_after else None,
        )

    def error(
        self,
        scope: Scope,
        status: int,
        message: str | None = None,
        *,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> Denied:
        """An error of the product's own, in the shape of the keyspace's answers, to be raised.

        Args:
            message: None: a usual one.
            code: what the product calls it. None: what `codes` says of the status.
            retry_after: seconds until the same request can pass.
        """
        request: GuardedRequest | None = scope.get(STATE)
        return Denied(
            self._answers.error(
                status,
                code or self._codes.get(status, "error"),
                message or MESSAGES.get(status, "The request cannot be served"),
                request_id=request.request_id if request else self._request_id(scope),
                retry_after=retry_after,
            )
        )

    def leaves_alone(self, path: str) -> bool:
        """Whether a path is unguarded. One with ".." is not: the application may take it for
        another."""
        return ".." not in path.split("/") and any(
            path == one or path.startswith(f"{one}/") for one in self._unguarded
        )

    def request_in(self, scope: Scope) -> GuardedRequest:
        """The request that the guard's middleware has read.

        Raises:
            ConfigurationError: no middleware of the guard stands before the handler.
        """
        request = scope.get(STATE)
        if not isinstance(request, GuardedRequest):
            raise ConfigurationError(
                "the guard's middleware has not seen this request: add it to the application, "
                "and do not name the path in `unguarded`"
            )
        return request

    def limit_headers(self, request: GuardedRequest) -> list[tuple[str, str]]:
        """The headers that say where an admitted key's rate limit stands."""
        return self._answers.limit_headers(request.rate_limit)

    def _denied(
        self,
        request: GuardedRequest,
        reason: Reason,
        required: Sequence[str] = (),
        missing: Sequence[str] = (),
        rate_limit: RateLimitStatus | None = None,
    ) -> Denied:
        # An allow without a principal, or a reason of a later version: the key did not pass.
        if reason in {Reason.OK, Reason.UNRECOGNIZED}:
            reason = Reason.KEY_UNKNOWN
        return Denied(
            self._answers.denial(
                reason,
                required_scopes=required,
                missing_scopes=missing,
                request_id=request.request_id,
                limit=rate_limit,
            )
        )

    def _no_verdict(self, error: KeyfenceError, request_id: str) -> Denied:
        """Never in the words of a denial: nothing was decided."""
        _log.error("no verdict for request %s: %s", request_id, error)
        passing = isinstance(error, Unavailable | DeadlineExceeded | ResourceExhausted)
        status = 503 if passing else 500
        return Denied(
            self._answers.error(
                status, self._codes[status], MESSAGES[status], request_id=request_id
            )
        )
