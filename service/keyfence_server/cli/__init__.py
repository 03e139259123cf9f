"""The command `keyfence`: for people and scripts, a client like any other.

It is the outermost layer: nothing imports it but `__main__`, which runs it.
"""

from __future__ import annotations

import gc
import os
import sys

from keyfence_server.cli.loading import loading


def main() -> None:
    """The entry point. Ends the process with one of `exits.ExitCode`."""
    # gRPC's core writes to the standard error by itself, past every redaction and over the
    # command's own words. It looks at this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with loading():
        from keyfence_server.cli.app import run

    code = run()
    # The interpreter's last collections would walk all that was ever loaded: a fifth of the
    # processor time that starting and stopping a server takes.
    gc.freeze()
    sys.exit(code)
