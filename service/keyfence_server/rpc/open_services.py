"""The two services that need no credential: health, and reflection where it is wanted.

They tell nothing that is not public: whether the server serves, and what its API is.
Both can hold streams open for as long as a client likes, so their streams are few,
and end when the server drains instead of holding it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from keyfence_server.rpc.failures import Context
from keyfence_server.rpc.request_sizes import WITHOUT_CREDENTIAL_BYTES
from keyfence_server.rpc.status import UNDECODABLE, Failure, limit_reached

HEALTH: Final = "grpc.health.v1.Health"
LEASE: Final = "keyfence.lease"
"""What health is asked for to learn whether the process may answer from memory."""
# Two names for the same messages: clients of today ask for v1 first.
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)

_UNKNOWN: Final[Any] = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_SERVING: Final[Any] = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final[Any] = health_pb2.HealthCheckResponse.NOT_SERVING
_MAX_STREAMS: Final = 256
_REFLECTION_IDLE_SECONDS: Final = 30.0
_TOO_LARGE: Final = limit_reached(
    "request_bytes", f"at most {WITHOUT_CREDENTIAL_BYTES} bytes are allowed here; send less"
)
_TOO_MANY_STREAMS: Final = limit_reached(
    "open_streams", f"{_MAX_STREAMS} such streams are open already; try again later"
)


class Health:
    """`grpc.health.v1.Health`: the server as a whole, each service by its name, and the
    lease."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services: Final = frozenset({"", HEALTH, *services})
        self._serving = False
        self._has_lease = False
        self._closed = False
        self._changed = asyncio.Event()
        self._streams = 0

    @property
    def is_serving(self) -> bool:
        """Whether the server says that it serves."""
        return self._serving

    def set_serving(self, serving: bool) -> None:
        """Says from now on that the server serves, or that it does not."""
        self._serving = serving and not self._closed
        self._wake()

    def set_lease(self, live: bool) -> None:
        """Says from now on that there is a lease, or that there is none."""
        self._has_lease = live and not self._closed
        self._wake()

    def close(self) -> None:
        """Says for good that the server does not serve, and ends every watch."""
        self._closed = True
        self._has_lease = False
        self.set_serving(False)

    def method_handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers, by the RPCs' full names."""
        encode = health_pb2.HealthCheckResponse.SerializeToString
        return {
            f"/{HEALTH}/Check": grpc.unary_unary_rpc_method_handler(
                self._check, response_serializer=encode
            ),
            f"/{HEALTH}/Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, response_serializer=encode
            ),
        }

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, service: str) -> Any:
        if service == LEASE:
            return _SERVING if self._has_lease else _NOT_SERVING
        if service not in self._services:
            return _UNKNOWN
        return _SERVING if self._serving else _NOT_SERVING

    async def _check(self, raw: bytes, context: Context) -> health_pb2.HealthCheckResponse:
        status = self._status(await _service_asked_for(raw, context))
        if status == _UNKNOWN:
            # As the health protocol has it.
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def _watch(self, raw: bytes, context: Context) -> None:
        service = await _service_asked_for(raw, context)
        if self._streams >= _MAX_STREAMS:
            await _abort(context, _TOO_MANY_STREAMS)
        self._streams += 1
        last = None
        try:
            while True:
                changed = self._changed
                status = self._status(service)
                if status != last:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    last = status
                if self._closed:
                    return
                if self._changed is changed:
                    await changed.wait()
        finally:
            self._streams -= 1


class Reflection:
    """`grpc.reflection`, with which a client can learn the API from the server."""

    def __init__(self, services: Iterable[str]) -> None:
        self._servicer = reflection.aio.ReflectionServicer([*services, reflection.SERVICE_NAME])
        self._closing = asyncio.Event()
        self._streams = 0

    def close(self) -> None:
        """Ends every stream."""
        self._closing.set()

    def method_handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers, by the RPCs' full names."""
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._answer,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return {f"/{service}/ServerReflectionInfo": handler for service in REFLECTION}

    async def _answer(self, _requests: object, context: Context) -> None:
        if self._streams >= _MAX_STREAMS:
            await _abort(context, _TOO_MANY_STREAMS)
        self._streams += 1
        try:
            # The types of the library say coroutine, and it is a generator.
            responses: Any = self._servicer.ServerReflectionInfo(self._requests(context), context)
            async for response in responses:
                await context.write(response)
        except DecodeError:
            await _abort(context, UNDECODABLE)
        finally:
            self._streams -= 1

    async def _requests(
        self, context: Context
    ) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while True:
                reading = asyncio.ensure_future(context.read())
                done, _ = await asyncio.wait(
                    {reading, closing},
                    timeout=_REFLECTION_IDLE_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if reading not in done:
                    reading.cancel()
                    return
                raw: Any = reading.result()
                if raw is grpc.aio.EOF:
                    return
                if len(raw) > WITHOUT_CREDENTIAL_BYTES:
                    await _abort(context, _TOO_LARGE)
                yield _asking_for_service(reflection_pb2.ServerReflectionRequest.FromString(raw))
        finally:
            closing.cancel()


def _asking_for_service(
    request: reflection_pb2.ServerReflectionRequest,
) -> reflection_pb2.ServerReflectionRequest:
    """The request, with the service's name in the place of a method's: the library does not
    find the file of a method, and some clients ask for it."""
    service, _, method = request.file_containing_symbol.rpartition(".")
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return request
    if method in descriptor.methods_by_name:
        request.file_containing_symbol = service
    return request


async def _service_asked_for(raw: bytes, context: Context) -> str:
    if len(raw) > WITHOUT_CREDENTIAL_BYTES:
        await _abort(context, _TOO_LARGE)
    try:
        return health_pb2.HealthCheckRequest.FromString(raw).service
    except DecodeError:
        await _abort(context, UNDECODABLE)


async def _abort(context: Context, failure: Failure) -> NoReturn:
    status = failure.to_status()
    await context.abort(status.code, status.details, tuple(status.trailing_metadata or ()))
