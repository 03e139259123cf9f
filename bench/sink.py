"""A server that says its HTTP/2 settings and forgets whatever it is sent: `python -m bench.sink`.

It prints its port.
"""

from __future__ import annotations

import contextlib
from socket import create_server, socket
from threading import Thread

from testkit.raw_http2 import SETTINGS, frame


def _forget(connection: socket) -> None:
    buffer = bytearray(65_536)
    with contextlib.suppress(OSError), connection:
        connection.sendall(frame(SETTINGS, 0, 0))
        while connection.recv_into(buffer):
            pass


def _serve() -> None:
    with create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            Thread(target=_forget, args=(listening.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    _serve()
