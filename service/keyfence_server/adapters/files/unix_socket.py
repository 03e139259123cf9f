"""Claims a Unix socket's path, so that a server cannot take it from a running server.

gRPC removes an existing socket at the path when it binds. Before that, the server claims the path
with a lock that it holds while it runs. A socket on which another process listens is not removed.
"""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from keyfence_server.adapters.files.lock import AlreadyLocked, FileLock


class SocketTaken(Exception):
    """The path belongs to another process, or is no socket."""


def claim_unix_socket(path: Path) -> FileLock:
    """Claims the path, and removes a socket there that no process listens on any more.

    Returns:
        The claim. It holds until it is released.

    Raises:
        SocketTaken: a process listens there, or what is there is no socket.
    """
    try:
        claim = FileLock(path.with_name(path.name + ".lock"))
    except AlreadyLocked as error:
        raise SocketTaken(f"another server listens on {path}: {error}") from None
    except OSError as error:
        raise SocketTaken(f"cannot listen on {path}: {error.strerror}") from None
    try:
        _remove_abandoned(path)
    except SocketTaken:
        claim.release()
        raise
    return claim


def _remove_abandoned(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(f"{path} is there and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise SocketTaken(f"{path}: {error.strerror}") from None
        else:
            raise SocketTaken(f"another server listens on {path}")
