"""The gRPC server: its sockets, its limits, its beginning and its end.

Every limit that keeps one client from spoiling the service for others is set here
by name, since gRPC's defaults are generous: there is none on connections' age, and
two servers may share a port without knowing of each other.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc

from keyfence_server.rpc.acceptor import Acceptor
from keyfence_server.rpc.certificates import ServerCertificate
from keyfence_server.rpc.listen_addresses import ListenAddress, TcpAddress, UnixAddress
from keyfence_server.rpc.status import METHOD_UNKNOWN

Handlers: TypeAlias = "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"

# Besides the calls that the gate admits, calls are open that have not sent their message yet,
# that stream, or whose answer is on its way. The acceptor bounds all of them together.
_OPEN_CALLS_PER_CALL: Final = 4


class CannotListen(Exception):
    """A socket could not be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may ask of the server. Seconds may be fractions.

    Most limits are settings, and docs/operations.md says what each of them means.

    Attributes:
        connection_age_seconds: with renewed certificates and several servers behind one name, this
            is what moves clients on.
        keepalive_seconds: how long a connection may be silent before the server pings it.
        keepalive_timeout_seconds: how long the answer to a ping may take before the connection is
            closed.
        shares_port: whether others may listen on the same port: only for workers of one
            server, whose parent has claimed it.
    """

    concurrent_calls: int = 1_000
    connections: int = 10_000
    streams_per_connection: int = 100
    message_bytes: int = 4 * 1024 * 1024
    metadata_bytes: int = 8 * 1024
    connection_idle_seconds: float = 900
    connection_age_seconds: float = 3_600
    connection_age_grace_seconds: float = 30
    handshake_seconds: float = 10
    ping_interval_seconds: float = 10
    keepalive_seconds: float = 60
    keepalive_timeout_seconds: float = 20
    shares_port: bool = False

    @property
    def open_calls(self) -> int:
        """The most calls that are open at once, streams and those under refusal included."""
        return self.concurrent_calls * _OPEN_CALLS_PER_CALL

    @property
    def holders(self) -> int:
        """The most holders that keep a stream open: they leave half of the calls to others."""
        return self.open_calls // 2

    @property
    def holders_per_credential(self) -> int:
        """The most of them that have the same credential."""
        return self.holders // 2

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The limits in gRPC's words."""
        return [
            # A second server on the port would get a share of the calls, silently.
            ("grpc.so_reuseport", int(self.shares_port)),
            ("grpc.max_allowed_incoming_connections", self.connections),
            ("grpc.max_concurrent_streams", self.streams_per_connection),
            # A call that its client has reset still costs work until it is tidied up. So those
            # count, too, and a client that resets calls as fast as it can is refused more where
            # that is cheap. Without room for as many again, clients that keep to the limit
            # would be refused calls while the ones before are tidied up.
            ("grpc.http.overload_protection", 1),
            ("grpc.http2.max_deallocating_streams", self.streams_per_connection),
            ("grpc.max_receive_message_length", self.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", self.metadata_bytes),
            # Otherwise gRPC refuses only some of the calls between the two.
            ("grpc.absolute_max_metadata_size", self.metadata_bytes),
            ("grpc.max_connection_idle_ms", _milliseconds(self.connection_idle_seconds)),
            ("grpc.max_connection_age_ms", _milliseconds(self.connection_age_seconds)),
            (
                "grpc.max_connection_age_grace_ms",
                _milliseconds(self.connection_age_grace_seconds),
            ),
            ("grpc.server_handshake_timeout_ms", _milliseconds(self.handshake_seconds)),
            # Until a client has confirmed them it is not held to streams and metadata.
            ("grpc.http2.settings_timeout", _milliseconds(self.handshake_seconds)),
            (
                "grpc.http2.min_ping_interval_without_data_ms",
                _milliseconds(self.ping_interval_seconds),
            ),
            ("grpc.http2.max_ping_strikes", 2),
            ("grpc.keepalive_time_ms", _milliseconds(self.keepalive_seconds)),
            # Two timeouts: of a host that confirms nothing any more, kept by the kernel, and
            # of a client that does not answer though its host does, otherwise a minute.
            ("grpc.keepalive_timeout_ms", _milliseconds(self.keepalive_timeout_seconds)),
            ("grpc.http2.ping_timeout_ms", _milliseconds(self.keepalive_timeout_seconds)),
            ("grpc.keepalive_permit_without_calls", 1),
        ]


class RpcServer(Acceptor):
    """Serves handlers on sockets."""

    def __init__(self, handlers: Handlers, limits: Limits) -> None:
        """Makes a server that does not listen yet. Needs a running event loop."""
        super().__init__(
            handlers,
            grpc.stream_stream_rpc_method_handler(_refuse_unknown),
            max_open_calls=limits.open_calls,
            options=limits.channel_arguments(),
        )

    def listen(
        self,
        address: ListenAddress,
        certificate: ServerCertificate | None,
        *,
        unix_mode: int = 0o600,
    ) -> ListenAddress:
        """Takes a socket, and says which: the port may have been the kernel's choice.

        Args:
            certificate: for TCP; None for plaintext.
            unix_mode: of the socket's file. Its path is the caller's to claim.

        Raises:
            CannotListen: with the reason.
        """
        if isinstance(address, UnixAddress):
            self._listen_unix(address, unix_mode)
            return address
        text = str(address).encode()
        if certificate is None:
            port = self.add_insecure_port(text)
        else:
            port = self.add_secure_port(text, certificate.credentials())
        if port == 0:
            raise CannotListen(f"cannot listen on {address}: {_why_not(address)}")
        return TcpAddress(address.host, port)

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        await self.wait_for_termination(None)

    def _listen_unix(self, address: UnixAddress, mode: int) -> None:
        # The socket appears with the mode that the mask leaves it, so that there is no
        # moment at which others could connect.
        mask = os.umask(0o777 & ~mode)
        try:
            taken = self.add_insecure_port(str(address).encode())
        finally:
            os.umask(mask)
        if not taken:
            raise CannotListen(f"cannot listen on {address}")
        address.path.chmod(mode)


async def _refuse_unknown(_requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort_with_status(METHOD_UNKNOWN.to_status())


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _why_not(address: TcpAddress) -> str:
    """Why a port could not be taken, which gRPC does not say: found out by trying again."""
    family = socket.AF_INET6 if address.host.version == 6 else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address.host), address.port))
            probe.listen()
        except OSError as error:
            return os.strerror(error.errno or 0)
    return "another process has just taken the port"
