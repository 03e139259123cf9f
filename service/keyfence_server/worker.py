"""`python -m keyfence_server.worker DESCRIPTOR NUMBER LISTEN [METRICS_LISTEN]`: one of several
processes of a server.

Started by `keyfence_server.workers` alone, with the parent's environment, which holds the settings,
and with a socket to the parent. Number, from 0 on, and addresses are the worker's own. The worker
says on the socket when it serves, or why it cannot. When the parent is gone, so is the worker.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from typing import Final

from keyfence_server.config import load_settings
from keyfence_server.process import AsWorker, run
from keyfence_server.provisioning import CannotStart

EXIT_CANNOT_START: Final = 5


class Parent:
    """The parent, as its worker sees it."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def say(self, what: str) -> None:
        """Reports the start to the parent: an empty text for success, or the reason."""
        try:
            self._socket.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            # It is gone. `watch` says so.
            return

    def watch(self, when_gone: Callable[[], None]) -> None:
        """Calls back when the parent is gone, however it ended."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            loop.remove_reader(self._socket)
            when_gone()

        self._socket.setblocking(False)
        # The parent sends nothing, so the socket becomes readable only when it ends.
        loop.add_reader(self._socket, look)


def main() -> int:
    """Serves. Returns the process's exit code."""
    descriptor, number, listen, *metrics_listen = sys.argv[1:]
    parent = Parent(int(descriptor))
    own = {"listen": listen, "metrics_listen": metrics_listen[0] if metrics_listen else None}
    try:
        run(
            load_settings().model_copy(update=own),
            AsWorker(int(number), lambda: parent.say(""), parent.watch),
        )
    except CannotStart as error:
        parent.say(str(error))
        return EXIT_CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
