"""Starts a product's application on a Keyfence of its own, and prints the page's commands.

    make demo SYSTEM=quantumsafe

Everything is in a temporary directory, which is removed at the end.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import uvicorn

from keyfence import Client, KeyfenceError

ROOT = Path(__file__).parents[2]
SYSTEMS = ("quantumsafe", "quicksrv", "sitequest", "supascale", "xquik")
SCOPES = ("replication:sync", "keyspaces:read", "keys:write")
START_SECONDS = 60


class Application(uvicorn.Server):
    """Prints the commands when it listens."""

    def __init__(self, config: uvicorn.Config, commands: str, variables: dict[str, str]) -> None:
        super().__init__(config)
        self.commands = commands
        self.variables = variables

    async def startup(self, sockets: object = None) -> None:
        """Opens the port."""
        await super().startup()
        if not self.started:
            return
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"\nURL=http://127.0.0.1:{port}")
        for name, value in self.variables.items():
            print(f"{name}={value}")
        print(f"{self.commands}\n# Ctrl-C ends it.", flush=True)


def operator_of(server: subprocess.Popen[bytes], target: str, data_dir: Path) -> Client:
    """A client with the server's first credential, once it answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            client = Client(target, token=(data_dir / "root.key").read_text().strip())
            client.who_am_i(timeout_seconds=1)
        except (OSError, KeyfenceError):
            time.sleep(0.1)
        else:
            return client
    sys.exit("Keyfence did not start")


def prepared(operator: Client, system: str) -> dict[str, str]:
    """What the commands of the page need, and the page does not say how it came about."""
    if system == "quantumsafe":
        return {}
    if system == "xquik":
        account = (system, "dev@example.com", "securepassword123")
        operator.register_account(*account)
        return {"SESSION_TOKEN": operator.log_in(*account).session_token}
    return {"PANEL_SESSION": os.environ["PANEL_SESSION"]}


def main() -> None:
    """Runs until it is interrupted."""
    system = sys.argv[1] if len(sys.argv) > 1 else ""
    if system not in SYSTEMS:
        sys.exit(f"usage: make demo SYSTEM={'|'.join(SYSTEMS)}")
    with tempfile.TemporaryDirectory(prefix="keyfence-demo-") as name:
        directory = Path(name)
        target, data_dir = f"unix:{directory / 'keyfence.sock'}", directory / "data"
        settings = {
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_DATA_DIR": str(data_dir),
            "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples" / "keyspaces" / f"{system}.yaml"),
        }
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "keyfence_server", "serve"],
                env={**os.environ, **settings},
                stdout=log,
                stderr=log,
            )
        try:
            with operator_of(server, target, data_dir) as operator:
                token = operator.create_key(
                    keyspace="system", account_id=system, scopes=SCOPES, bound_keyspaces=[system]
                ).api_key
                os.environ |= {
                    "KEYFENCE_TARGET": target,
                    "KEYFENCE_TOKEN": token,
                    "PANEL_SESSION": secrets.token_urlsafe(),
                }
                variables = prepared(operator, system)
            app = import_module(f"examples.products.{system}.app").app
            commands = (ROOT / "examples" / "products" / system / "commands.sh").read_text()
            port = int(os.environ.get("PORT", "8000"))
            config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning")
            Application(config, commands, variables).run()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
