"""The fake on a socket: a gRPC server whose handlers run in threads."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from keyfence import results
from keyfence._async.client import AsyncClient
from keyfence._failures import error_trailer
from keyfence._sync.client import Client
from keyfence.holder.dial import LET_IN
from keyfence.testing._failure import Failure
from keyfence.testing._fake import TOKEN, Fake, Planned
from keyfence.v1 import (
    authorization_service_pb2,
    key_service_pb2,
    keyspace_pb2,
    keyspace_service_pb2,
    replication_service_pb2,
)

_THREADS: Final = 64
"""Each open stream of a cache takes one, and each mutation that waits for caches."""

_SERVICES: Final[tuple[ServiceDescriptor, ...]] = (
    authorization_service_pb2.DESCRIPTOR.services_by_name["AuthorizationService"],
    key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
    keyspace_service_pb2.DESCRIPTOR.services_by_name["KeyspaceService"],
    replication_service_pb2.DESCRIPTOR.services_by_name["ReplicationService"],
)


def keyspace(name: str, *scopes: str) -> keyspace_pb2.Keyspace:
    """Declares a keyspace whose scopes imply nothing."""
    return keyspace_pb2.Keyspace(
        name=name, scopes=[keyspace_pb2.Scope(name=scope) for scope in scopes]
    )


class FakeServer:
    """A fake Keyfence in this process. Close it, or use it as a context manager.

    It has keyspaces, scopes that imply each other, keys and their lifecycle. It grants leases to
    caches, so that a revoked key is refused as with a real server. It has no key formats, presets,
    explanations, rate limits, accounts, sessions or audit log, and does not record in a key when
    the key was used.

    Args:
        keyspaces: what `keyspace` makes, or other declarations.

    Attributes:
        target: the server's address, for a client.
    """

    def __init__(self, *keyspaces: keyspace_pb2.Keyspace) -> None:
        self._fake = Fake(keyspaces)
        self._clients: list[Client] = []
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="keyfence-fake"),
            options=[("grpc.so_reuseport", 0)],
        )
        for service in _SERVICES:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.full_name, handlers),)
            )
        self.target: Final = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        self._operator = self.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the clients that `client` made, and stops the server. Closing twice is fine."""
        for client in self._clients:
            client.close()
        self._server.stop(None).wait()

    def client(self, **options: Any) -> Client:
        """A client of the fake, which is closed with it.

        Args:
            options: those of `Client`, besides the target. The token is the fake's, unless given.
        """
        client = Client(self.target, **{"token": TOKEN, **options})
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> AsyncClient:
        """A client of the fake. It is yours to close.

        Args:
            options: as for `client`.
        """
        return AsyncClient(self.target, **{"token": TOKEN, **options})

    def create_key(self, keyspace: str, *scopes: str) -> results.CreatedKey:
        """Makes a key of the account "acct_1"."""
        return self._operator.create_key(keyspace=keyspace, account_id="acct_1", scopes=scopes)

    def revoke_key(self, key_id: str) -> None:
        """Revokes a key. When this returns, no cache accepts the key."""
        self._operator.revoke_key(key_id)

    def set_clock(self, now: Callable[[], datetime]) -> None:
        """Has keys expire by another clock, which gives aware times. A client with a cache goes by
        its own."""
        self._fake.now = now

    def fail_next(self, method: str, failure: Failure, times: int = 1) -> None:
        """Has the next calls of a method fail, for example of "CheckScope"."""
        self._fake.planned.append(Planned(method, failure, times, after=False))

    def lose_next_answer(self, method: str) -> None:
        """Carries out the next call of a method, and has its answer lost on the way."""
        lost = Failure(grpc.StatusCode.UNAVAILABLE, "the connection was lost")
        self._fake.planned.append(Planned(method, lost, 1, after=True))

    def calls(self, method: str) -> int:
        """How often a method was called, for example "CheckScope"."""
        return self._fake.calls[method]

    def uses(self, key_id: str) -> int:
        """How many uses of a key caches have reported."""
        return self._fake.uses[key_id]

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        coders: dict[str, Any] = {
            "request_deserializer": message_factory.GetMessageClass(method.input_type).FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if method.name == "Sync":
            return grpc.stream_stream_rpc_method_handler(self._sync, **coders)
        name = re.sub("(?<!^)(?=[A-Z])", "_", method.name).lower()
        answer = getattr(self._fake, name, None)

        def behave(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                with self._fake.lock:
                    self._admit(method.name, context)
                    if answer is None:
                        raise Failure(
                            grpc.StatusCode.UNIMPLEMENTED, f"the fake has no {method.name}"
                        )
                    response = answer(request)
                    self._fake.fail_as_planned(method.name, after=True)
            except Failure as failure:
                _abort(context, failure)
            return response

        return grpc.unary_unary_rpc_method_handler(behave, **coders)

    def _admit(self, method: str, context: grpc.ServicerContext) -> None:
        self._fake.calls[method] += 1
        self._fake.fail_as_planned(method, after=False)
        presented = [
            value for name, value in context.invocation_metadata() or () if name == "authorization"
        ]
        if not presented:
            raise Failure(
                grpc.StatusCode.UNAUTHENTICATED,
                "the call carries no credential",
                "CREDENTIAL_REQUIRED",
            )
        if presented != [f"Bearer {TOKEN}"]:
            raise Failure(
                grpc.StatusCode.UNAUTHENTICATED,
                "the credential is not good; use keyfence.testing.TOKEN",
                "CREDENTIAL_REJECTED",
            )

    def _sync(
        self, messages: Iterator[replication_service_pb2.SyncRequest], context: grpc.ServicerContext
    ) -> Iterator[replication_service_pb2.SyncResponse]:
        """Grants leases to a cache, and tells it of changes."""
        try:
            with self._fake.lock:
                self._admit("Sync", context)
        except Failure as failure:
            _abort(context, failure)
        context.send_initial_metadata(((LET_IN, "1"),))
        holder = self._fake.holders.join()

        def listen() -> None:
            try:
                for message in messages:
                    self._fake.holders.hear(holder, message)
            except grpc.RpcError:
                pass  # the cache has left
            finally:
                self._fake.holders.leave(holder)

        threading.Thread(target=listen, name="keyfence-fake-holder", daemon=True).start()
        yield from iter(holder.outgoing.get, None)


def _abort(context: grpc.ServicerContext, failure: Failure) -> None:
    trailers: list[tuple[str, str | bytes]] = [("x-request-id", f"fake_{secrets.token_hex(8)}")]
    if failure.reason:
        trailers.append(
            error_trailer(
                failure.status.value[0],
                failure.message,
                failure.reason,
                failure.metadata,
                failure.violations,
            )
        )
    context.set_trailing_metadata(tuple(trailers))
    context.abort(failure.status, failure.message)
