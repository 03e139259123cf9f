"""The command `keyfence`: for people and scripts, a client like any other.

It is the outermost layer: nothing imports it but `__main__`, which runs it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Has the garbage collector rest while modules are loaded, and leave alone what they make.

    Nearly all of it stays for as long as the process, and looking through it again and again takes
    a seventh of the processor time of a start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


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
