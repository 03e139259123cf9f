"""Says why the command reaches no server, in the names of its own options."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyfence_server.cli.targets import ConnectionOptions


def why_unreachable(options: ConnectionOptions) -> str:
    """What is wrong with the connection and what to do. It takes at most about two seconds.

    Raises:
        keyfence.ConfigurationError: the options make no connection.
    """
    from keyfence_server.adapters.upstream.diagnosis import Names, diagnose
    from keyfence_server.cli.targets import connection_to

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
