"""Finds out why no connection to a server can be made, and what an operator can do.

gRPC says no more than that a server is unavailable: the reason of a failed handshake is not told.
So the connection is tried once more without gRPC.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import asdict, dataclass
from typing import Final

from keyfence import Tls
from keyfence.connection import Connection

_TRY_SECONDS: Final = 1.0
_ALERT_SECONDS: Final = 0.3
_GRPC_PROTOCOL: Final = "h2"
_HAS_EXPIRED: Final = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the settings of a connection are called, and what to do with them.

    Attributes:
        target: names the server.
        ca_file: names the trusted authorities.
        certificate, key: name the client's own certificate.
        with_tls, without_tls: what to do to connect with TLS, and without.
    """

    target: str
    ca_file: str
    certificate: str
    key: str
    with_tls: str
    without_tls: str

    def fill(self, advice: str, **more: str) -> str:
        """One of the texts below with these names in it."""
        return advice.format(**asdict(self), **more)


SIDECAR: Final = Names(
    target="KEYFENCE_UPSTREAM",
    ca_file="KEYFENCE_UPSTREAM_CA_FILE",
    certificate="KEYFENCE_UPSTREAM_CERT_FILE",
    key="KEYFENCE_UPSTREAM_KEY_FILE",
    with_tls="remove KEYFENCE_UPSTREAM_INSECURE_PLAINTEXT",
    without_tls="in a network that you trust, set KEYFENCE_UPSTREAM_INSECURE_PLAINTEXT here",
)

NOTHING_LISTENS: Final = (
    "no server accepts connections there: check that it runs, that {target} names "
    "its host and port, and that the network lets this process reach it"
)
NOT_RESOLVED: Final = (
    "the host's name cannot be resolved ({reason}): check its spelling in {target}"
)
NOT_TRUSTED: Final = (
    "the server's certificate is not accepted ({reason}): {ca_file} must name the "
    "CA that signed it, and the certificate must be for the host that {target} names"
)
EXPIRED: Final = (
    "the server's certificate, or its issuer's, has expired: replace the files at "
    "the server; if the certificate is new, check the clock of this machine"
)
NO_TLS_THERE: Final = (
    "the server does not use TLS: give it a certificate (KEYFENCE_TLS_CERT_FILE) or, {without_tls}"
)
TLS_THERE: Final = (
    "the server uses TLS, and this process does not: {with_tls}, "
    "and let {ca_file} name the CA of the server's certificate"
)
CERTIFICATE_WANTED: Final = (
    "the server wants a client certificate that it trusts: set {certificate} and {key}"
)
NO_GRPC_THERE: Final = (
    "a program accepts connections there and does not answer as a Keyfence server "
    "does: check that {target} names the port of its gRPC API"
)


async def diagnose(connection: Connection, names: Names) -> str:
    """What an operator has to do before a connection can be made."""
    address = _address_of(connection.target)
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            if connection.tls is None:
                return names.fill(await _of_plaintext(address))
            return await _of_tls(address, connection.tls, names)
    except TimeoutError:
        listens = await _takes_connections(address)
        return names.fill(NO_GRPC_THERE if listens else NOTHING_LISTENS)
    except socket.gaierror as error:
        return names.fill(NOT_RESOLVED, reason=error.strerror or "unknown")
    except OSError:
        return names.fill(NOTHING_LISTENS)


_Address = str | tuple[str, int] | None
"""A path of a socket, or a host and a port; None where gRPC has to find it out."""


def _address_of(target: str) -> _Address:
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        return rest.removeprefix("//")
    # Of several addresses the first one is tried.
    last = target.rpartition("/")[2].partition(",")[0]
    host, _, port = last.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdecimal() else None


async def _of_plaintext(address: _Address) -> str:
    if isinstance(address, tuple):
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        try:
            await _try(address, unverified, address[0])
        except (ssl.SSLError, ConnectionError):
            pass
        else:
            return TLS_THERE
    await _try(address)
    return NO_GRPC_THERE


async def _of_tls(address: _Address, tls: Tls, names: Names) -> str:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (ssl.SSLError, OSError) as error:
        return f"a file for TLS cannot be used: {error.strerror or error}"
    context.set_alpn_protocols([_GRPC_PROTOCOL])
    host = tls.server_name or (address[0] if isinstance(address, tuple) else "")
    try:
        is_closed = await _try(address, context, host)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _HAS_EXPIRED:
            return EXPIRED
        return names.fill(NOT_TRUSTED, reason=error.verify_message)
    except ssl.SSLError as error:
        wants_certificate = "CERTIFICATE" in (error.reason or "")
        return names.fill(CERTIFICATE_WANTED if wants_certificate else NO_TLS_THERE)
    # In TLS 1.3 a server refuses a client's certificate after the handshake. gRPC's closes.
    return names.fill(CERTIFICATE_WANTED if is_closed else NO_GRPC_THERE)


async def _try(
    address: _Address, context: ssl.SSLContext | None = None, host: str | None = None
) -> bool:
    """Connects, waits a moment, and says whether the server has closed the connection then.
    Raises `OSError`, of which `ssl.SSLError` is one kind."""
    if address is None:
        raise OSError
    name = host if context is not None else None
    if isinstance(address, str):
        reader, writer = await asyncio.open_unix_connection(
            address, ssl=context, server_hostname=name
        )
    else:
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name)
    try:
        async with asyncio.timeout(_ALERT_SECONDS):
            return not await reader.read(1)
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    finally:
        writer.transport.abort()


async def _takes_connections(address: _Address) -> bool:
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            await _try(address)
    except OSError:
        return False
    return True
