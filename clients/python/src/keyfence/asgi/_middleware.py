"""The ASGI middleware: what stands in front of an application.

It decides nothing; the guard does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from keyfence.asgi._answers import Answer, Denied
from keyfence.asgi._credentials import Headers
from keyfence.asgi._guard import Guard
from keyfence.asgi._requests import STATE, GuardedRequest, Scope

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

_POLICY_VIOLATION: Final = 1008


class GuardMiddleware:
    """The guard in front of an ASGI application.

    It takes the credential off each request, so that neither the application nor what logs its
    requests sees it, sends the answers of denied requests, and adds the headers of rate
    limits.

    Args:
        app: the application.
        guard: decides.
        scopes: what every request needs; empty: any good key. None: handlers ask
            themselves, by `Guard.admit`.
    """

    def __init__(self, app: App, guard: Guard, scopes: Sequence[str] | None = ()) -> None:
        if isinstance(scopes, str):
            raise TypeError("scopes takes a list of names, not a string")
        self._app = app
        self._guard = guard
        self._scopes = scopes
        guard.note_scopes(scopes or ())

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] not in {"http", "websocket"} or self._guard.leaves_alone(_path_of(scope)):
            await self._app(scope, receive, send)
            return
        request: GuardedRequest | None = None
        sender = _Sender(send)
        try:
            request = await self._guard.prepare(scope)
            inner = {**scope, "headers": request.presented.headers_left, STATE: request}
            if self._scopes is not None:
                await self._guard.admit(inner, *self._scopes)
            await self._app(inner, receive, sender.adding(partial(self._headers_for, request)))
        except Denied as denied:
            if sender.has_begun:
                raise
            await _send_answer(scope, denied.answer, request, send)

    def _headers_for(self, request: GuardedRequest) -> Headers:
        return _encoded([*request.id_header(), *self._guard.limit_headers(request)])


class _Sender:
    """Sends an application's messages on, and notes whether there was one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    def adding(self, headers: Callable[[], Headers]) -> Send:
        """What the application sends by. Its answer gets the headers of the moment."""

        async def send_on(message: Any) -> None:
            self.has_begun = True
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *headers()]}
            await self._send(message)

        return send_on


async def _send_answer(
    scope: Scope, answer: Answer, request: GuardedRequest | None, send: Send
) -> None:
    if scope["type"] == "websocket":
        # Before the handshake is accepted, servers make 403 of it.
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    length = ("content-length", str(len(answer.body)))
    ids = request.id_header() if request else ()
    headers = _encoded([*answer.headers, *ids, length])
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Sequence[tuple[str, str]]) -> Headers:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]


def _path_of(scope: Scope) -> str:
    """The path without the prefix that a proxy has put before the application."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    is_beneath = bool(root) and (path == root or path.startswith(f"{root}/"))
    return path[len(root) :] if is_beneath else path
