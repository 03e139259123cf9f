"""Finds out why no connection to a server upstream can be made, and what an operator can do.

gRPC says no more than that a server is unavailable: the reason of a failed handshake is not told.
So the connection is tried once more without gRPC.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from keyfence import Tls
from keyfence.connection import Connection

_TRY_SECONDS: Final = 1.0
_ALERT_SECONDS: Final = 0.3
_GRPC_PROTOCOL: Final = "h2"

NOTHING_LISTENS: Final = (
    "no server takes connections there: see whether it runs, whether KEYFENCE_UPSTREAM names its "
    "host and port, and whether the network lets this process reach it"
)
NOT_TRUSTED: Final = (
    "the server's certificate is not accepted ({reason}): KEYFENCE_UPSTREAM_CA_FILE must name the "
    "CA that signed it, and the certificate must be for the host that KEYFENCE_UPSTREAM names"
)
NO_TLS_THERE: Final = (
    "the server does not use TLS: give it a certificate (KEYFENCE_TLS_CERT_FILE) or, in a network "
    "that you trust, set KEYFENCE_UPSTREAM_INSECURE_PLAINTEXT here"
)
TLS_THERE: Final = (
    "the server uses TLS, and this process does not: remove KEYFENCE_UPSTREAM_INSECURE_PLAINTEXT, "
    "and let KEYFENCE_UPSTREAM_CA_FILE name the CA of the server's certificate"
)
CERTIFICATE_WANTED: Final = (
    "the server wants a client certificate that it trusts: set KEYFENCE_UPSTREAM_CERT_FILE and "
    "KEYFENCE_UPSTREAM_KEY_FILE"
)
NO_GRPC_THERE: Final = (
    "something takes connections there and does not answer as a Keyfence server does: see whether "
    "KEYFENCE_UPSTREAM names the port of its gRPC API"
)


async def diagnose(connection: Connection) -> str:
    """What an operator has to do before a connection can be made."""
    address = _address_of(connection.target)
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            if connection.tls is None:
                return await _of_plaintext(address)
            return await _of_tls(address, connection.tls)
    except TimeoutError:
        return NO_GRPC_THERE if await _takes_connections(address) else NOTHING_LISTENS
    except OSError:
        return NOTHING_LISTENS


_Address = str | tuple[str, int] | None
"""A path of a socket, or a host and a port; None where gRPC has to find it out."""


def _address_of(target: str) -> _Address:
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        return rest.removeprefix("//")
    last = target.rpartition("/")[2]
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


async def _of_tls(address: _Address, tls: Tls) -> str:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (ssl.SSLError, OSError) as error:
        return f"a file for TLS upstream cannot be used: {error.strerror or error}"
    context.set_alpn_protocols([_GRPC_PROTOCOL])
    host = tls.server_name or (address[0] if isinstance(address, tuple) else "")
    try:
        is_closed = await _try(address, context, host)
    except ssl.SSLCertVerificationError as error:
        return NOT_TRUSTED.format(reason=error.verify_message)
    except ssl.SSLError as error:
        wants_certificate = "CERTIFICATE" in (error.reason or "")
        return CERTIFICATE_WANTED if wants_certificate else NO_TLS_THERE
    # In TLS 1.3 a server refuses a client's certificate after the handshake. gRPC's closes.
    return CERTIFICATE_WANTED if is_closed else NO_GRPC_THERE


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
