"""Keyfence and its peers, each ready to be asked whether a subject may do one thing.

The question is the same for each: a subject has one role, to write; who may write may also read;
may the subject read? It must be told yes, and no to the question whether the subject may create.
Every server listens on loopback without TLS, knows its caller by a secret that comes with each
call, serves no metrics and logs warnings only.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

import keyfence as sdk
from bench.load import Call
from bench.peer_programs import OPENFGA, SPICEDB, Program
from bench.processes import ServerProcess, keyfence, running, until_answering
from keyfence.v1 import authorization_service_pb2 as messages
from testkit.ports import free_port

_CHECK_SCOPE: Final = "/keyfence.v1.AuthorizationService/CheckScope"
_MOST_TUPLES: Final = 100
"""In a call that writes to OpenFGA."""
_OBJECT: Final = "vps"
_SPICEDB_OBJECT: Final = {"object_type": "service", "object_id": _OBJECT}
_MODEL: Final = {
    "schema_version": "1.1",
    "type_definitions": [
        {"type": "user"},
        {
            "type": "service",
            "relations": {
                "writer": {"this": {}},
                "creator": {"this": {}},
                "can_read": {"computed_userset": {"relation": "writer"}},
                "can_create": {"computed_userset": {"relation": "creator"}},
            },
            "metadata": {
                "relations": {
                    role: {"directly_related_user_types": [{"type": "user"}]}
                    for role in ("writer", "creator")
                }
            },
        },
    ],
}
"""The roles and what they allow, for OpenFGA."""
_SCHEMA: Final = """
definition user {}
definition service {
    relation writer: user
    relation creator: user
    permission read = writer
    permission create = creator
}
"""
"""The same for SpiceDB."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server, and how it is asked.

    Attributes:
        settings: those that matter, and how old an answer may be.
        allowed: asks for each subject what is allowed.
        denied: asks for each subject what is denied.
    """

    name: str
    settings: str
    server: ServerProcess
    allowed: Call
    denied: Call


@contextmanager
def keyfence_candidate(subjects: int) -> Iterator[Candidate]:
    """Keyfence on an embedded store, with a key for each subject."""
    with keyfence(listen=f"127.0.0.1:{free_port()}") as server:
        with sdk.Client(server.target, token=server.token) as operator:
            api_keys = [
                operator.create_key(keyspace="demo", account_id="bench", scopes=["vps:write"])
                for _ in range(subjects)
            ]

        def call(scope: str, *, allowed: bool) -> Call:
            requests = [
                messages.CheckScopeRequest(
                    api_key=one.api_key, required_scopes=[scope], keyspace="demo"
                ).SerializeToString()
                for one in api_keys
            ]
            return Call(
                _CHECK_SCOPE,
                tuple(requests),
                lambda answer: messages.CheckScopeResponse.FromString(answer).allowed is allowed,
            )

        yield Candidate(
            "Keyfence",
            "SQLite store; answers from memory, never older than a revocation that was answered",
            server,
            call("vps:read", allowed=True),
            call("vps:create", allowed=False),
        )


@contextmanager
def openfga(subjects: int, *, cached: bool) -> Iterator[list[Candidate]]:
    """OpenFGA, with the cache of its checks or as it is by default."""
    name = f"{OPENFGA.name}, cached" if cached else OPENFGA.name
    settings = "caches off, as by default: no answer is old"
    flags = [
        "run",
        "--datastore-engine=memory",
        "--http-enabled=false",
        "--metrics-enabled=false",
        "--log-level=warn",
        "--authn-method=preshared",
    ]
    if cached:
        flags.append("--check-query-cache-enabled")
        settings = (
            "--check-query-cache-enabled: an answer may be 10 s old, the default of "
            "--check-query-cache-ttl"
        )
    with (
        _served(OPENFGA, flags, secret="OPENFGA_AUTHN_PRESHARED_KEYS") as server,
        _Api.of(server) as api,
    ):
        allowed, denied = _openfga_calls(api, subjects)
        yield [Candidate(name, f"memory datastore; {settings}", server, allowed, denied)]


@contextmanager
def spicedb(subjects: int, *, cached: bool) -> Iterator[list[Candidate]]:
    """SpiceDB, asked at two levels of consistency, or fully consistent without its cache.

    In the memory datastore the revision is the same until something is written, so that fully
    consistent checks find their answers in the cache, too.
    """
    flags = [
        "serve",
        "--datastore-engine=memory",
        "--metrics-enabled=false",
        "--telemetry-endpoint=",
        "--skip-release-check",
        "--log-level=warn",
    ]
    if cached:
        settings = "dispatch cache on, as by default"
        ages = {
            "fully_consistent": "no answer is old",
            "minimize_latency": "an answer may be 5 s old, the default of "
            "--datastore-revision-quantization-interval",
        }
    else:
        flags.append("--dispatch-cache-enabled=false")
        settings = "--dispatch-cache-enabled=false"
        ages = {"fully_consistent": "no answer is old"}
    with (
        _served(SPICEDB, flags, secret="SPICEDB_GRPC_PRESHARED_KEY") as server,
        _Api.of(server) as api,
    ):
        _write_to_spicedb(api, subjects)
        yield [
            Candidate(
                f"{SPICEDB.name}, {level}" if cached else f"{SPICEDB.name}, {level}, uncached",
                f"memory datastore; {settings}; {age}",
                server,
                _spicedb_call(api, subjects, level, "read", "PERMISSIONSHIP_HAS_PERMISSION"),
                _spicedb_call(api, subjects, level, "create", "PERMISSIONSHIP_NO_PERMISSION"),
            )
            for level, age in ages.items()
        ]


def _openfga_calls(api: _Api, subjects: int) -> tuple[Call, Call]:
    """Writes the model and the roles, and returns what is allowed and what is denied."""
    service = "openfga.v1.OpenFGAService"
    store = api.call(f"{service}/CreateStore", {"name": "bench"})["id"]
    written = api.call(f"{service}/WriteAuthorizationModel", {"store_id": store, **_MODEL})

    def relation(subject: int, name: str) -> dict[str, str]:
        return {"user": f"user:{subject}", "relation": name, "object": f"service:{_OBJECT}"}

    for start in range(0, subjects, _MOST_TUPLES):
        some = range(start, min(start + _MOST_TUPLES, subjects))
        writes = {"tuple_keys": [relation(subject, "writer") for subject in some]}
        api.call(f"{service}/Write", {"store_id": store, "writes": writes})

    def checks(permission: str, *, allowed: bool) -> Call:
        questions = [
            {
                "store_id": store,
                "authorization_model_id": written["authorization_model_id"],
                "tuple_key": relation(subject, permission),
            }
            for subject in range(subjects)
        ]
        # A field that is false is not in the answer.
        return api.asking(
            f"{service}/Check", questions, lambda answer: answer.get("allowed", False) is allowed
        )

    return checks("can_read", allowed=True), checks("can_create", allowed=False)


def _write_to_spicedb(api: _Api, subjects: int) -> None:
    api.call("authzed.api.v1.SchemaService/WriteSchema", {"schema": _SCHEMA})
    updates = [
        {
            "operation": "OPERATION_CREATE",
            "relationship": {
                "resource": _SPICEDB_OBJECT,
                "relation": "writer",
                "subject": _spicedb_subject(number),
            },
        }
        for number in range(subjects)
    ]
    api.call("authzed.api.v1.PermissionsService/WriteRelationships", {"updates": updates})


def _spicedb_call(
    api: _Api, subjects: int, level: str, permission: str, permissionship: str
) -> Call:
    questions = [
        {
            "consistency": {level: True},
            "resource": _SPICEDB_OBJECT,
            "permission": permission,
            "subject": _spicedb_subject(number),
        }
        for number in range(subjects)
    ]
    return api.asking(
        "authzed.api.v1.PermissionsService/CheckPermission",
        questions,
        lambda answer: answer.get("permissionship") == permissionship,
    )


def _spicedb_subject(number: int) -> dict[str, Any]:
    return {"object": {"object_type": "user", "object_id": str(number)}}


@contextmanager
def _served(program: Program, flags: Sequence[str], *, secret: str) -> Iterator[ServerProcess]:
    """The program on a port of its own.

    Args:
        secret: the variable that takes what callers must show.
    """
    address = f"127.0.0.1:{free_port()}"
    token = secrets.token_urlsafe()
    with tempfile.TemporaryDirectory(prefix="kfb-") as directory:
        # Neither files nor variables of this machine configure the program.
        variables = {"HOME": directory, "TMPDIR": directory, secret: token}
        command = [str(program.path), *flags, f"--grpc-addr={address}"]
        with running(command, variables, until_answering(address)) as process:
            yield ServerProcess(program.name, address, token, process)


class _Details(grpc.ClientCallDetails):
    def __init__(self, given: grpc.ClientCallDetails, token: str) -> None:
        self.method = given.method
        self.timeout = given.timeout
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.credentials = given.credentials
        self.wait_for_ready = given.wait_for_ready
        self.compression = given.compression


class _WithToken(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Shows the token with every call."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        return continuation(_Details(client_call_details, self._token), request)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: grpc.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return continuation(_Details(client_call_details, self._token), request_iterator)


class _Api:
    """The calls of a server, whose messages the server itself describes by gRPC reflection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    @classmethod
    @contextmanager
    def of(cls, server: ServerProcess) -> Iterator[_Api]:
        """The calls of this server."""
        with grpc.insecure_channel(server.target) as channel:
            yield cls(grpc.intercept_channel(channel, _WithToken(server.token)))

    def call(self, method: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a call, and returns the fields of its answer that are set."""
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        send = self._channel.unary_unary(f"/{method}")
        return self._decode(method, send(self._encode(method, fields)))

    def asking(
        self,
        method: str,
        questions: Iterable[Mapping[str, Any]],
        is_expected: Callable[[dict[str, Any]], bool],
    ) -> Call:
        """The questions, encoded, and what each answer must be."""
        return Call(
            f"/{method}",
            tuple(self._encode(method, fields) for fields in questions),
            lambda answer: is_expected(self._decode(method, answer)),
        )

    def _encode(self, method: str, fields: Mapping[str, Any]) -> bytes:
        request = GetMessageClass(self._method(method).input_type)()
        return json_format.ParseDict(dict(fields), request).SerializeToString()

    def _decode(self, method: str, answer: bytes) -> dict[str, Any]:
        message = GetMessageClass(self._method(method).output_type).FromString(answer)
        return json_format.MessageToDict(message, preserving_proto_field_name=True)

    def _method(self, name: str) -> MethodDescriptor:
        return self._pool.FindMethodByName(name.replace("/", "."))
