"""A stand-in for Keyfence on the wire: real gRPC on loopback, answers from a script.

It knows the API's messages and nothing of the real server. It notes every attempt that
arrives, so that tests can count them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from keyfence import rpcs
from keyfence.v1 import (
    account_service_pb2,
    audit_service_pb2,
    authorization_service_pb2,
    key_service_pb2,
    keyspace_pb2,
    keyspace_service_pb2,
    principal_pb2,
    reason_pb2,
    replication_service_pb2,
)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Attempt:
    """One attempt of a call, as it arrived."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]


@dataclass(frozen=True)
class Failure:
    """A status to answer with."""

    code: grpc.StatusCode
    message: str = "no"
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: Mapping[str, str] = field(default_factory=dict)
    domain: str = "keyfence"
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    def all_trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        details: list[Message] = []
        if self.reason:
            details.append(
                error_details_pb2.ErrorInfo(
                    reason=self.reason, domain=self.domain, metadata=self.metadata
                )
            )
        if self.violations:
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=name, description=text)
                        for name, text in self.violations.items()
                    ]
                )
            )
        if not details:
            return self.trailers
        packed = [any_pb2.Any() for _ in details]
        for box, detail in zip(packed, details, strict=True):
            box.Pack(detail)
        status = status_pb2.Status(
            code=self.code.value[0], message=self.message, details=packed
        ).SerializeToString()
        return (("grpc-status-details-bin", status), *self.trailers)


UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "away", "STORE_UNAVAILABLE")

Answer = Message | Failure | Callable[[Any], Message | Failure]


class Hang:
    """Never answers, until the call is over."""


@dataclass
class Hold:
    """Answers when the gate is open."""

    gate: asyncio.Event
    then: Answer


class Authority:
    """The server. Answers come from `script`, and when that is used up from `usual`."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.target = ""
        self.has_hung = asyncio.Event()
        self._script: defaultdict[str, deque[Answer | Hang | Hold]] = defaultdict(deque)
        self._server: grpc.aio.Server | None = None

    def answer(self, method: str, *answers: Answer | Hang | Hold) -> None:
        """Adds answers to the method's script, one for each attempt."""
        self._script[method].extend(answers)

    def attempts_of(self, method: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.method == method]

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    async def start(
        self,
        address: str = "127.0.0.1:0",
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for service, handlers in self._handlers().items():
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        await server.start()
        self._server = server
        is_socket = address.startswith("unix:")
        self.target = address if is_socket else f"{address.rpartition(':')[0]}:{port}"

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def _handlers(self) -> dict[str, dict[str, Any]]:
        services: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for rpc in rpcs.ALL:
            services[rpc.service][rpc.name] = grpc.unary_unary_rpc_method_handler(
                self._behaviour(rpc.name),
                request_deserializer=REQUESTS[rpc.name].FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        return services

    def _behaviour(self, method: str) -> Any:
        async def behave(request: Any, context: Any) -> Any:
            self.attempts.append(Attempt(method, request, dict(context.invocation_metadata())))
            script = self._script[method]
            answer = script.popleft() if script else usual(method, request)
            if isinstance(answer, Hang):
                self.has_hung.set()
                await asyncio.Event().wait()
            if isinstance(answer, Hold):
                await answer.gate.wait()
                answer = answer.then
            if callable(answer):
                answer = answer(request)
            if isinstance(answer, Failure):
                await context.abort(answer.code, answer.message, answer.all_trailers())
            return answer

        return behave


def _request_types() -> dict[str, Any]:
    modules = (
        account_service_pb2,
        audit_service_pb2,
        authorization_service_pb2,
        key_service_pb2,
        keyspace_service_pb2,
        replication_service_pb2,
    )
    return {
        rpc.name: getattr(module, f"{rpc.name}Request")
        for rpc in rpcs.ALL
        for module in modules
        if hasattr(module, f"{rpc.name}Request")
    }


REQUESTS = _request_types()


def timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


def a_principal(**fields: Any) -> principal_pb2.Principal:
    return principal_pb2.Principal(
        **{"key_id": "key_1", "account_id": "acct_1", "keyspace": "demo", **fields}
    )


def a_key(**fields: Any) -> key_service_pb2.Key:
    return key_service_pb2.Key(
        **{
            "key_id": "key_1",
            "keyspace": "demo",
            "state": key_service_pb2.KEY_STATE_ACTIVE,
            "create_time": timestamp(NOON),
            "revision": 7,
            **fields,
        }
    )


def an_account(**fields: Any) -> account_service_pb2.Account:
    return account_service_pb2.Account(
        **{
            "account_id": "usr_1",
            "keyspace": "demo",
            "email": "anna@example.com",
            "state": account_service_pb2.ACCOUNT_STATE_ACTIVE,
            "create_time": timestamp(NOON),
            "revision": 7,
            **fields,
        }
    )


def an_event(**fields: Any) -> audit_service_pb2.AuditEvent:
    return audit_service_pb2.AuditEvent(
        **{
            "event_id": "evt_1",
            "time": timestamp(NOON),
            "action": "key.create",
            "keyspace": "demo",
            "subject": "key_1",
            "sequence": 9,
            "hash": bytes(32),
            **fields,
        }
    )


def allowed(**fields: Any) -> authorization_service_pb2.CheckScopeResponse:
    return authorization_service_pb2.CheckScopeResponse(
        **{
            "allowed": True,
            "reason": reason_pb2.REASON_OK,
            "principal": a_principal(),
            "revision": 7,
            **fields,
        }
    )


def denied(
    reason: reason_pb2.Reason.ValueType, missing_scopes: Iterable[str] = ()
) -> authorization_service_pb2.CheckScopeResponse:
    return authorization_service_pb2.CheckScopeResponse(
        reason=reason, missing_scopes=list(missing_scopes), principal=a_principal(), revision=7
    )


def usual(method: str, request: Any) -> Message:
    """What a healthy server with one key in it might say."""
    match method:
        case "Authenticate":
            return authorization_service_pb2.AuthenticateResponse(
                authenticated=True,
                reason=reason_pb2.REASON_OK,
                principal=a_principal(),
                revision=7,
            )
        case "CheckScope":
            return allowed()
        case "BatchCheckScope":
            return authorization_service_pb2.BatchCheckScopeResponse(
                results=[
                    authorization_service_pb2.BatchCheckScopeResult(response=allowed())
                    for _ in request.checks
                ]
            )
        case "WhoAmI":
            return authorization_service_pb2.WhoAmIResponse(principal=a_principal(), revision=7)
        case "CreateKey":
            return key_service_pb2.CreateKeyResponse(
                key=a_key(), api_key="kf_live_plaintext", revision=8
            )
        case "GetKey":
            return key_service_pb2.GetKeyResponse(key=a_key(key_id=request.key_id))
        case "GetKeyUsage":
            return key_service_pb2.GetKeyUsageResponse(
                days=[key_service_pb2.KeyUsageDay(day="2030-01-01", use_count=3)]
            )
        case "ListAuditEvents":
            return audit_service_pb2.ListAuditEventsResponse(events=[an_event()])
        case "VerifyAuditEvents":
            return audit_service_pb2.VerifyAuditEventsResponse(
                sequence=9, hash=bytes(32), complete=True
            )
        case "ExportAuditEvents":
            return audit_service_pb2.ExportAuditEventsResponse(
                events=[audit_service_pb2.ExportedAuditEvent(text="{}", hash=b"5" * 32)],
                previous_sequence=4,
                previous_hash=b"4" * 32,
            )
        case "RecordAuditExport":
            return audit_service_pb2.RecordAuditExportResponse(sequence=request.sequence)
        case "ListKeys":
            return key_service_pb2.ListKeysResponse(keys=[a_key()])
        case "UpdateKey":
            return key_service_pb2.UpdateKeyResponse(key=a_key(), revision=8)
        case "RotateKey":
            return key_service_pb2.RotateKeyResponse(
                key=a_key(key_id="key_2"),
                api_key="kf_live_plaintext",
                previous_key=a_key(state=key_service_pb2.KEY_STATE_REVOKED),
                revision=8,
            )
        case "RevokeKey":
            return key_service_pb2.RevokeKeyResponse(
                key=a_key(state=key_service_pb2.KEY_STATE_REVOKED), revision=8
            )
        case "GetAccount":
            return account_service_pb2.GetAccountResponse(account=an_account())
        case "DisableAccount":
            return account_service_pb2.DisableAccountResponse(account=an_account(), revision=8)
        case "EnableAccount":
            return account_service_pb2.EnableAccountResponse(account=an_account(), revision=8)
        case "ApplyKeyspace":
            return keyspace_service_pb2.ApplyKeyspaceResponse(
                keyspace=request.keyspace,
                diff=keyspace_service_pb2.KeyspaceDiff(created=True),
                revision=8,
            )
        case "GetKeyspace":
            return keyspace_service_pb2.GetKeyspaceResponse(
                keyspace=keyspace_pb2.Keyspace(name=request.name)
            )
        case "ListKeyspaces":
            return keyspace_service_pb2.ListKeyspacesResponse(
                keyspaces=[keyspace_pb2.Keyspace(name="demo")]
            )
        case _:
            return keyspace_service_pb2.ExplainScopeResponse(scope=request.scope)
