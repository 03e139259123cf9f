"""The command `keyfence`: for people and scripts, a client like any other.

It is the outermost layer: nothing imports it but `__main__`, which runs it.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point. Ends the process with one of `exits.ExitCode`."""
    from keyfence_server.cli.app import run

    sys.exit(run())
