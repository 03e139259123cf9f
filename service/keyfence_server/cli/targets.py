"""What the options in front of the subcommand say of the server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from keyfence import Tls
    from keyfence.connection import Connection

DEFAULT_TARGET: Final = "127.0.0.1:50051"


def _option(text: str, *names: str, **more: Any) -> Any:
    panel = "Connection (give these before the subcommand)"
    return typer.Option(*names, rich_help_panel=panel, help=text, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """What the options in front of the subcommand say.

    Attributes:
        timeout_seconds: None: the SDK's own deadlines.
        plaintext: whether to do without TLS over a network, too.
    """

    target: Annotated[
        str,
        _option(
            "The server, as gRPC names it: host:port, unix:/path, dns:///name:port.",
            envvar="KEYFENCE_TARGET",
            metavar="HOST:PORT",
        ),
    ] = DEFAULT_TARGET
    token_file: Annotated[
        Path | None,
        _option(
            "The file that holds your credential. Without it: the variable KEYFENCE_TOKEN.",
            envvar="KEYFENCE_TOKEN_FILE",
        ),
    ] = None
    timeout_seconds: Annotated[
        float | None,
        _option("For a call; 15 by default.", "--timeout", min=0.001, metavar="SECONDS"),
    ] = None
    ca_file: Annotated[
        Path | None,
        _option("PEM certificates to trust in place of the usual ones.", envvar="KEYFENCE_CA_FILE"),
    ] = None
    certificate_file: Annotated[Path | None, _option("Your PEM certificate, for mutual TLS.")] = (
        None
    )
    key_file: Annotated[Path | None, _option("The certificate's private key.")] = None
    server_name: Annotated[str | None, _option("The name in the server's certificate.")] = None
    plaintext: Annotated[
        bool,
        _option(
            "Connect without TLS. The network can then read the credential and all keys.",
            "--insecure-plaintext",
        ),
    ] = False


def tls_of(options: ConnectionOptions) -> Tls | None:
    """How to do TLS, where the options say something about it. A Unix socket never does."""
    from keyfence import Tls

    if options.target.startswith("unix:"):
        return None
    files = (options.ca_file, options.certificate_file, options.key_file, options.server_name)
    if not any(files):
        return None
    return Tls(
        ca_file=options.ca_file,
        certificate_file=options.certificate_file,
        key_file=options.key_file,
        server_name=options.server_name,
    )


def connection_to(options: ConnectionOptions) -> Connection:
    """The connection that a client with these options would use. Raises
    `keyfence.ConfigurationError` if the options make no connection."""
    from keyfence.connection import Connection

    return Connection.resolve(
        options.target, tls=tls_of(options), insecure_plaintext=options.plaintext
    )


def why_unreachable(options: ConnectionOptions) -> str:
    """What is wrong with the connection and what to do. It takes at most about two seconds. Raises
    `keyfence.ConfigurationError` if the options make no connection."""
    from keyfence_server.adapters.upstream.diagnosis import Names, diagnose

    names = Names(
        target="--target or KEYFENCE_TARGET",
        ca_file="--ca-file or KEYFENCE_CA_FILE",
        certificate="--certificate-file",
        key="--key-file",
        with_tls="leave out --insecure-plaintext",
        without_tls="to connect without TLS, leave out --ca-file and unset KEYFENCE_CA_FILE; over "
        "a network that you trust, give --insecure-plaintext too",
    )
    return asyncio.run(diagnose(connection_to(options), names))
