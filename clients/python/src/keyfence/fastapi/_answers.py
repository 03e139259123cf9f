"""Errors of the framework, in the shape of the keyspace's answers."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from starlette.exceptions import HTTPException

from keyfence.asgi import Denied, Guard


class Answers:
    """Answers errors that the framework finds, such as 404 and 422."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def answer_http_exception(self, request: HTTPConnection, error: Exception) -> Response:
        """Answers such as 404, raised by the framework or by a handler."""
        assert isinstance(error, HTTPException)  # noqa: S101 -- the handler is for no other
        denied = self._guard.error(request.scope, error.status_code, str(error.detail))
        return _response(denied, error.headers or {})

    async def answer_invalid_request(self, request: HTTPConnection, error: Exception) -> Response:
        """A 400 that says what is wrong with the request."""
        problems = error.errors() if isinstance(error, RequestValidationError) else ()
        # The places and what is wrong there; never the values, which may be secret.
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in problems
        )
        return _response(self._guard.error(request.scope, 400, told), {})


def _response(denied: Denied, headers: Mapping[str, str]) -> Response:
    answer = denied.answer
    return Response(answer.body, answer.status, {**headers, **dict(answer.headers)})
