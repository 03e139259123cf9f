"""What the options in front of the subcommand say of the server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from keyfence import Tls
    from keyfence.connection import Connection

DEFAULT_TARGET: Final = "127.0.0.1:50051"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """What the options in front of the subcommand say.

    Attributes:
        timeout_seconds: for one call. None: the SDK's own deadlines.
        plaintext: whether to do without TLS over a network, too.
    """

    target: str = DEFAULT_TARGET
    token_file: Path | None = None
    timeout_seconds: float | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    plaintext: bool = False


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
    """The connection that a client with these options would use.

    Raises:
        keyfence.ConfigurationError: the options make no connection.
    """
    from keyfence.connection import Connection

    return Connection.resolve(
        options.target, tls=tls_of(options), insecure_plaintext=options.plaintext
    )
