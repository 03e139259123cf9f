"""The guard of a FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from keyfence import asgi
from keyfence.asgi import Denied, GuardMiddleware
from keyfence.errors import ConfigurationError, NotFound
from keyfence.fastapi._dependencies import Acts, Requires, nothing, says_something
from keyfence.fastapi._keys import TYPES, KeyOwner, Shown, model_of, value_of
from keyfence.results import Key, KeyState

_MAX_BODY_BYTES: Final = 64 * 1024
_NO_STORE: Final = {"Cache-Control": "no-store"}


class Guard(asgi.Guard):
    """The guard of a FastAPI application. Arguments are those of `keyfence.asgi.Guard`."""

    _app: FastAPI | None = None

    def install(self, app: FastAPI) -> None:
        """Puts the guard in front of the application, before its first request.

        Errors of the framework, such as 404 and 422, get the shape of the keyspace's answers.
        """
        self._app = app
        app.add_middleware(GuardMiddleware, guard=self, scopes=None)
        app.add_exception_handler(HTTPException, self._answer_http_exception)
        app.add_exception_handler(RequestValidationError, self._answer_invalid_request)

    async def start(self) -> None:
        """As `keyfence.asgi.Guard.start`; verifies the application's routes, too. Routes that are
        added later are not verified.

        Raises:
            ConfigurationError: a route says nothing of what it needs, or a scope is not registered.
        """
        if self._app is None:
            raise ConfigurationError("the guard is not installed: call `guard.install(app)`")
        self._verify_routes(self._app)
        await super().start()

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """The application's lifespan: starts the guard, and closes the client at the end."""
        async with self.client:
            await self.start()
            yield

    def requires(self, *scopes: str) -> Any:
        """A dependency: the key holds all of the scopes. Without scopes: the key is good.
        Gives the `Principal`."""
        self.note_scopes(scopes)
        return Depends(Requires(self, scopes))

    def account(self, names: Mapping[str, str] | None = None) -> Any:
        """A dependency: the caller manages its account with a session or a key. Gives an
        `AsyncClient` that presents the caller's credential, so that Keyfence decides.

        Errors of calls end the request with the product's answer.

        Args:
            names: what the product calls the fields of Keyfence's requests.
        """
        return Depends(Acts(self, self.acting_as_caller, names or {}))

    def public(self, names: Mapping[str, str] | None = None) -> Any:
        """A dependency: no credential is needed. Gives an `AsyncClient` that presents none, for
        registering and logging in. See `account`."""
        return Depends(Acts(self, self.acting_without_credential, names or {}))

    def key_routes(
        self,
        path: str,
        *,
        takes: Mapping[str, str],
        shows: Shown,
        plaintext: str,
        lists: Shown | None = None,
        required: Iterable[str] = (),
        envelope: str | None = None,
        timespec: str = "seconds",
        owner: Any = None,
    ) -> APIRouter:
        """Routes that make, list and revoke keys, in the product's own words: POST and GET at
        the path, DELETE at the path and the key's id.

        Args:
            takes: fields of the product's request, and the arguments of `create_key` for which
                they stand.
            shows: fields of the product's answer, and the fields of `Key` that they show, or
                functions of it. Times are RFC 3339, and null if there is none.
            plaintext: the field that shows the new key, once.
            lists: as `shows`, for lists. None: the same.
            required: fields of `takes` that a request must have.
            envelope: a field that the answers are wrapped in.
            timespec: how exactly times are shown: "seconds" or "milliseconds".
            owner: a dependency of the product that finds out who the caller is, and gives the
                `KeyOwner`. None: the caller's own credential.
        """
        unknown = sorted(set(takes.values()) - TYPES.keys())
        if unknown:
            raise ConfigurationError(f"a key has no field {unknown[0]!r} that callers can choose")
        wanted: Any = model_of(takes, frozenset(required))
        names = {argument: field for field, argument in takes.items()}
        if owner is None:
            owner = Depends(Acts(self, self._caller_as_owner, names))
        router = APIRouter(dependencies=[Depends(Acts(self, nothing, names))])

        def wrapped(content: object) -> object:
            return content if envelope is None else {envelope: content}

        def shown(key: Key, fields: Shown) -> dict[str, object]:
            return {name: value_of(key, what, timespec) for name, what in fields.items()}

        async def create(body: BaseModel, owner: KeyOwner = owner) -> Response:
            chosen = body.model_dump(by_alias=False, exclude_none=True)
            made = await owner.client.create_key(
                keyspace=self.keyspace, account_id=owner.account_id, **chosen
            )
            content = {**shown(made.key, shows), plaintext: made.api_key}
            return JSONResponse(wrapped(content), HTTPStatus.CREATED, _NO_STORE)

        async def list_all(owner: KeyOwner = owner) -> Response:
            keys = owner.client.list_keys(
                keyspace=self.keyspace, account_id=owner.account_id, state=KeyState.ACTIVE
            )
            return JSONResponse(wrapped([shown(key, lists or shows) async for key in keys]))

        async def revoke(key_id: str, owner: KeyOwner = owner) -> Response:
            if owner.account_id is not None:
                # An operator's credential reaches every account's keys.
                key = await owner.client.get_key(key_id)
                if (key.keyspace, key.account_id) != (self.keyspace, owner.account_id):
                    raise NotFound("there is no such key")
            await owner.client.revoke_key(key_id)
            return Response(status_code=HTTPStatus.NO_CONTENT)

        create.__annotations__["body"] = wanted
        router.post(path, max_body_size=_MAX_BODY_BYTES)(create)
        router.get(path)(list_all)
        router.delete(f"{path}/{{key_id}}")(revoke)
        return router

    async def _answer_http_exception(self, request: HTTPConnection, error: Exception) -> Response:
        """Answers such as 404, raised by the framework or by a handler."""
        assert isinstance(error, HTTPException)  # noqa: S101 -- the handler is for no other
        denied = self.error(request.scope, error.status_code, str(error.detail))
        return _response(denied, error.headers or {})

    async def _answer_invalid_request(self, request: HTTPConnection, error: Exception) -> Response:
        """A 400 that says what is wrong with the request."""
        problems = error.errors() if isinstance(error, RequestValidationError) else ()
        # The places and what is wrong there; never the values, which may be secret.
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in problems
        )
        return _response(self.error(request.scope, 400, told), {})

    async def _caller_as_owner(self, scope: Any) -> KeyOwner:
        return KeyOwner(await self.acting_as_caller(scope))

    def _verify_routes(self, app: FastAPI) -> None:
        silent = []
        for route in iter_route_contexts(app.routes):
            path = route.path or "/"
            dependant = getattr(route, "dependant", None)
            if not self.leaves_alone(path) and not says_something(dependant):
                silent.append(path)
        if silent:
            raise ConfigurationError(
                f"these routes do not say what they need: {', '.join(sorted(set(silent)))}. Give "
                "each of them a dependency of the guard, or name its path in `unguarded`"
            )


def _response(denied: Denied, headers: Mapping[str, str]) -> Response:
    answer = denied.answer
    return Response(answer.body, answer.status, {**headers, **dict(answer.headers)})
