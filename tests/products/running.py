"""The applications of examples/products as a process, and requests to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from products.pages import Command
from support.edge.authority import Authority
from support.edge.http import Answer, Headers, bearer, send
from support.systems import SYSTEMS

_ROOT: Final = Path(__file__).parents[2]
_SCOPES: Final = ("replication:sync", "keyspaces:read", "keys:write")

PANEL_SESSION: Final = "panel-session-of-the-tests"


class Applications:
    """The applications in a process of their own.

    Args:
        target: a sidecar to ask instead of the server.
    """

    def __init__(
        self, authority: Authority, names: Sequence[str] = SYSTEMS, target: str | None = None
    ) -> None:
        token = authority.operator.create_key(
            keyspace="system", account_id="products", scopes=_SCOPES, bound_keyspaces=names
        ).api_key
        self._authority = authority
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 -- as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.products.serve", *names],
            cwd=_ROOT,
            env={
                **os.environ,
                "KEYFENCE_TARGET": target or f"127.0.0.1:{authority.port}",
                "KEYFENCE_TOKEN": token,
                "PANEL_SESSION": PANEL_SESSION,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.output()
        self.ports: dict[str, int] = json.loads(line)

    def product(self, name: str) -> Product:
        """One of them."""
        return Product(name, self.ports[name], self._authority)

    def output(self) -> str:
        """What the process has written."""
        self._output.seek(0)
        return self._output.read().decode()

    def stop(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=30)
        self._output.close()


@dataclass(frozen=True)
class Product:
    """A running application."""

    name: str
    port: int
    authority: Authority

    def call(
        self, method: str, path: str, body: object = None, headers: Headers = (), key: str = ""
    ) -> Answer:
        """Sends a request, with a body of JSON if there is one, and a key as a bearer token."""
        sent = [*headers, *([bearer(key)] if key else [])]
        content = b""
        if body is not None:
            sent.append(("Content-Type", "application/json"))
            content = json.dumps(body).encode()
        return send(self.port, method, path, sent, content)

    def run(self, command: Command, placeholders: Mapping[str, str]) -> Answer:
        """Runs a command of the page, with something real in each placeholder."""
        asked = command.filled(placeholders)
        return send(self.port, asked.method, asked.path, asked.headers, asked.body.encode())

    def panel(self, method: str, path: str, body: object = None) -> Answer:
        """Sends what the product's own panel sends, signed in as its user."""
        cookie = ("Cookie", f"panel_session={PANEL_SESSION}")
        return self.call(method, path, body, headers=[cookie])
