"""A real server in the test's own process, and calls to it over a real socket."""

from __future__ import annotations

import asyncio
import base64
import os
import pkgutil
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import grpc
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import keyfence.v1
from keyfence.v1 import keyspace_pb2
from keyfence_server.application.ports import Clock
from keyfence_server.composition.server import RunningServer, start
from keyfence_server.config import DATABASE_FILE, Settings
from keyfence_server.provisioning import PEPPER_FILE
from keyfence_server.rpc.listen_addresses import TcpAddress
from keyfence_server.rpc.requirements import Requirement, read_requirement
from keyfence_server.rpc.tracing import SpanPerCall
from support.documented_errors import is_documented
from support.sqlite import copy_migrated

ROOT: Final = object()
"""Stands for the first operator credential where a call takes a credential."""

PASSWORD: Final = "correct horse battery"
"""Of the accounts that tests register."""

METHODS: Final[Mapping[str, MethodDescriptor]] = {
    method.name: method
    for file in (
        *(
            import_module(f"{keyfence.v1.__name__}.{found.name}").DESCRIPTOR
            for found in pkgutil.iter_modules(keyfence.v1.__path__)
            if found.name.endswith("_pb2")
        ),
        external_auth_pb2.DESCRIPTOR,
    )
    for service in file.services_by_name.values()
    for method in service.methods
}
"""Every RPC of `keyfence.v1`, and Envoy's, by its name."""

_NOT_WRITTEN: Final = "Internal error from Core"
"""What grpc.aio says itself, as INTERNAL, if a stream ends before its request is written. The
server's own status is lost then; no server says this."""
_MOST_TRIES: Final = 5

_OF_ENVOY: Final = Requirement(scope="keys:check", has_side_effects=False)


def requirement_of(method: MethodDescriptor) -> Requirement:
    """What an RPC demands of its caller."""
    return _OF_ENVOY if method.name == "Check" else read_requirement(method)


async def until(condition: Callable[[], bool], *, patience_seconds: float = 10) -> None:
    """Runs the other tasks of the event loop until a condition is true."""
    async with asyncio.timeout(patience_seconds):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


def path_of(method: MethodDescriptor) -> str:
    """The RPC's full name as gRPC has it."""
    return f"/{method.containing_service.full_name}/{method.name}"


STREAMS: Final = frozenset(
    path_of(method) for method in METHODS.values() if method.client_streaming
)
"""The RPCs that stream both ways, by their full names."""


@dataclass(frozen=True)
class Refusal:
    """An error status, taken apart."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str]
    violations: Sequence[tuple[str, str]]
    request_id: str

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Refusal:
        """Takes an error apart, and makes sure that it has one ErrorInfo of Keyfence."""
        trailing = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        assert status.code == error.code().value[0]
        info = error_details_pb2.ErrorInfo()
        request = error_details_pb2.BadRequest()
        infos = [detail for detail in status.details if detail.Unpack(info)]
        assert len(infos) == 1
        assert info.domain == "keyfence"
        for detail in status.details:
            detail.Unpack(request)
        return cls(
            code=error.code(),
            reason=info.reason,
            message=status.message,
            metadata=dict(info.metadata),
            violations=[(one.field, one.description) for one in request.field_violations],
            request_id=str(trailing.get("x-request-id", "")),
        )


class Client:
    """Calls RPCs by their names."""

    def __init__(self, channel: grpc.aio.Channel, root: str) -> None:
        # Without a serializer a channel's calls take bytes, which its types do not know.
        self.channel: Any = channel
        self.root = root

    async def call(
        self,
        rpc: str,
        request: Message | None = None,
        /,
        *,
        credential: object = ROOT,
        metadata: Sequence[tuple[str, str]] = (),
        deadline_seconds: float = 60,
        **fields: Any,
    ) -> Any:
        """Calls an RPC with a message, or with the message that has these fields."""
        method = METHODS[rpc]
        if request is None:
            request = message_factory.GetMessageClass(method.input_type)(**fields)
        raw = await self.call_raw(
            path_of(method),
            request.SerializeToString(),
            credential=credential,
            metadata=metadata,
            deadline_seconds=deadline_seconds,
        )
        return message_factory.GetMessageClass(method.output_type).FromString(raw)

    async def call_raw(
        self,
        path: str,
        request: bytes,
        *,
        credential: object = ROOT,
        metadata: Sequence[tuple[str, str]] = (),
        deadline_seconds: float = 60,
    ) -> bytes:
        """Calls an RPC with these bytes. One that streams gets no more than them, and gives its
        first answer; nothing, if there is none."""
        sent = list(metadata)
        if credential is not None:
            token = self.root if credential is ROOT else credential
            sent.append(("authorization", f"Bearer {token}"))
        if path in STREAMS:
            return await self._first_answer(path, request, tuple(sent), deadline_seconds)
        answer: bytes = await self.channel.unary_unary(path)(
            request, metadata=tuple(sent), timeout=deadline_seconds
        )
        return answer

    async def _first_answer(
        self, path: str, request: bytes, metadata: tuple[tuple[str, str], ...], seconds: float
    ) -> bytes:
        for _ in range(_MOST_TRIES):
            stream = self.channel.stream_stream(path)(
                iter([request]), metadata=metadata, timeout=seconds
            )
            try:
                first = await stream.read()
            except grpc.aio.AioRpcError as error:
                if error.details() != _NOT_WRITTEN:
                    raise
            else:
                return b"" if first is grpc.aio.EOF else bytes(first)
        raise AssertionError(f"{path} ended {_MOST_TRIES} calls before the request was written")

    async def refusal(
        self, rpc: str, request: Message | None = None, /, **arguments: Any
    ) -> Refusal:
        """Calls an RPC that must fail, and tells how it did."""
        try:
            answer = await self.call(rpc, request, **arguments)
        except grpc.aio.AioRpcError as error:
            refusal = Refusal.of(error)
            assert is_documented(rpc, refusal.reason), (
                f"{rpc} was refused with {refusal.reason}, which its proto does not list"
            )
            return refusal
        raise AssertionError(f"{rpc} answered {answer}")

    async def make_key(self, keyspace: str = "demo", account: str = "acct_1", **fields: Any) -> Any:
        """Makes a key, and answers with the whole response."""
        return await self.call("CreateKey", keyspace=keyspace, account_id=account, **fields)

    async def make_operator(self, *scopes: str, bound: Sequence[str] = ("*",)) -> str:
        """Makes an operator credential."""
        made = await self.call(
            "CreateKey",
            keyspace="system",
            account_id="operators",
            scopes=scopes,
            bound_keyspaces=bound,
        )
        plaintext: str = made.api_key
        return plaintext

    async def register(self, email: str = "anna@example.com", **fields: Any) -> Any:
        """Registers an account without a credential, with the password `PASSWORD`. Returns its
        record."""
        wanted = {"keyspace": "demo", "email": email, "password": PASSWORD, **fields}
        answer = await self.call("RegisterAccount", credential=None, **wanted)
        return answer.account

    async def log_in(self, email: str = "anna@example.com", **fields: Any) -> str:
        """Logs in to an account that `register` made, and answers with the token."""
        wanted = {"keyspace": "demo", "email": email, "password": PASSWORD, **fields}
        token: str = (await self.call("LogIn", credential=None, **wanted)).session_token
        return token

    async def apply(self, name: str = "demo", **fields: Any) -> Any:
        """Applies a keyspace: by default one with vps:create → vps:write → vps:read."""
        scopes = [
            keyspace_pb2.Scope(name="vps:read"),
            keyspace_pb2.Scope(name="vps:write", implies=["vps:read"]),
            keyspace_pb2.Scope(name="vps:create", implies=["vps:write"]),
        ]
        keyspace = keyspace_pb2.Keyspace(name=name, **{"scopes": scopes, **fields})
        return await self.call("ApplyKeyspace", keyspace=keyspace)


@dataclass(frozen=True)
class Served:
    """A server and a client of it."""

    server: RunningServer
    client: Client
    data_dir: Path

    @property
    def port(self) -> int:
        """The port of the first address."""
        address = self.server.addresses[0]
        assert isinstance(address, TcpAddress)
        return address.port


def read_metrics(served: Served) -> str:
    """The metrics, as Prometheus reads them."""
    url = f"http://127.0.0.1:{served.server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        text: str = response.read().decode()
    return text


def settings_for(data_dir: Path, **fields: Any) -> Settings:
    """Settings of a server for tests: on loopback, at a port that the kernel chooses, with
    passwords that are hashed in no time."""
    defaults = {"listen": "127.0.0.1:0", "password_memory_mib": 8, "password_passes": 1}
    return Settings(**{**defaults, "data_dir": data_dir, **fields})


async def start_for_test(
    data_dir: Path,
    *,
    clock: Clock | None = None,
    tracing: SpanPerCall | None = None,
    channel_options: Sequence[tuple[str, Any]] = (),
    prepared: bool = True,
    **fields: Any,
) -> Served:
    """Starts a server, and connects to the first of its addresses without TLS.

    Args:
        prepared: whether a server with a new SQLite file finds its tables there, which take four
            times as long to make as the rest of its first start.
    """
    settings = settings_for(data_dir, **fields)
    if prepared:
        _prepare_for(data_dir, fields)
    server = await start(settings, clock=clock, tracing=tracing)
    channel = grpc.aio.insecure_channel(
        str(server.addresses[0]), options=[("grpc.enable_retries", 0), *channel_options]
    )
    root_key = data_dir / "root.key"
    root = root_key.read_text().strip() if root_key.exists() else ""
    return Served(server, Client(channel, root), data_dir)


def _prepare_for(data_dir: Path, fields: Mapping[str, Any]) -> None:
    """Prepares the directory of a server that has none yet, and keeps its database in it."""
    if not data_dir.exists() and fields.keys().isdisjoint({"database_url", "upstream"}):
        prepare_data_dir(data_dir, with_pepper=fields.keys().isdisjoint({"pepper", "pepper_file"}))


def prepare_data_dir(data_dir: Path, *, with_pepper: bool = True) -> None:
    """Makes the directory of a server whose first start was interrupted: its SQLite file has
    tables and no rows. Without a pepper the database would be refused, unless one is given."""
    data_dir.mkdir(mode=0o700, parents=True)
    copy_migrated(data_dir / DATABASE_FILE)
    if not with_pepper:
        return
    pepper = data_dir / PEPPER_FILE
    pepper.touch(0o600)
    pepper.write_text(f"1:{base64.b64encode(os.urandom(32)).decode()}\n")


@asynccontextmanager
async def server_and_sidecar(**arguments: Any) -> AsyncIterator[tuple[Served, Served]]:
    """A server with the keyspace `demo`, and a sidecar whose credential is bound to it. The
    clients of both are the first operator.

    Args:
        arguments: for `start_for_test`, of both.
    """
    async with AsyncExitStack() as running:

        async def start(name: str, **more: Any) -> Served:
            served = await start_for_test(directory / name, **arguments, **more)
            running.push_async_callback(served.server.stop)
            running.push_async_callback(served.client.channel.close)
            return served

        # A socket's path must be short, and pytest's directories are not.
        directory = Path(running.enter_context(TemporaryDirectory(prefix="kf")))
        socket = f"unix:{directory}/server.sock"
        server = await start("server", listen=socket)
        await server.client.apply()
        token = await server.client.make_operator("keys:check", "replication:sync", bound=["demo"])
        sidecar = await start("sidecar", upstream=socket, upstream_token=token)
        sidecar.client.root = server.client.root
        async with asyncio.timeout(30):
            while not await _answers(sidecar.client):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.02)
        yield server, sidecar


async def _answers(client: Client) -> bool:
    try:
        await client.call("WhoAmI")
    except grpc.aio.AioRpcError:
        return False
    return True
