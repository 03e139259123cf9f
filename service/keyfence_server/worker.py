"""`python -m keyfence_server.worker DESCRIPTOR`: one of several processes of a server.

Started by `keyfence_server.workers` alone, with the parent's environment, which holds the
settings, and with a socket to the parent. The parent says on it which worker this is; the
worker says when it serves, or why it cannot. When the parent is gone, so is the worker.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from keyfence_server.config import Settings, load_settings
from keyfence_server.process import AsWorker, run
from keyfence_server.provisioning import CannotStart

EXIT_CANNOT_START: Final = 5


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the parent assigns to a worker.

    Attributes:
        number: of the worker, from 0.
        listen: the addresses, with the ports that the parent has claimed.
        metrics_listen: where this worker serves its metrics.
    """

    number: int
    listen: str
    metrics_listen: str | None

    def encoded(self) -> bytes:
        """As it is sent: a line."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields).encode() + b"\n"

    def applied_to(self, settings: Settings) -> Settings:
        """The settings of this worker."""
        return settings.model_copy(
            update={"listen": self.listen, "metrics_listen": self.metrics_listen}
        )


class Parent:
    """The parent, as its worker sees it."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def read_assignment(self) -> Assignment:
        """Reads the parent's first message."""
        with self._socket.makefile("rb") as lines:
            return Assignment(**json.loads(lines.readline()))

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
        # The parent sends nothing more, so the socket becomes readable only when it ends.
        loop.add_reader(self._socket, look)


def main() -> int:
    """Serves. Returns the process's exit code."""
    parent = Parent(int(sys.argv[1]))
    assignment = parent.read_assignment()
    try:
        run(
            assignment.applied_to(load_settings()),
            AsWorker(assignment.number, lambda: parent.say(""), parent.watch),
        )
    except CannotStart as error:
        parent.say(str(error))
        return EXIT_CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
