"""The proxy as a process, and orders to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from testkit.proxy import Mode

_STOP_SECONDS: Final = 15


class Links:
    """Links between sockets, which can be broken.

    Args:
        ends: where each link listens and connects to, by its name.
    """

    def __init__(self, ends: Mapping[str, tuple[str, str]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "links.json"
            path.write_text(json.dumps(ends))
            self._proxy = subprocess.Popen(
                [sys.executable, "-m", "testkit.proxy", str(path)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert self._proxy.stdout is not None
            if self._proxy.stdout.readline() != b"ready\n":
                raise RuntimeError("the proxy did not start")

    def set(self, name: str, mode: Mode, seconds: float = 0.0) -> None:
        """Breaks a link, or heals it."""
        assert self._proxy.stdin is not None
        self._proxy.stdin.write(f"{name} {mode} {seconds}\n".encode())
        self._proxy.stdin.flush()

    def redirect(self, name: str, connect: Path) -> None:
        """Has new connections on a link lead elsewhere."""
        assert self._proxy.stdin is not None
        self._proxy.stdin.write(f"{name} to {connect}\n".encode())
        self._proxy.stdin.flush()

    def close(self) -> None:
        """Ends every link."""
        for pipe in (self._proxy.stdin, self._proxy.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._proxy.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._proxy.kill()
            self._proxy.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
