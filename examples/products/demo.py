"""Starts a product's application on a Keyfence of its own, and prints the page's commands.

    make demo SYSTEM=quantumsafe

Everything is in a temporary directory, which is removed at the end.
"""

import os
import secrets
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import uvicorn

from examples.embedded import running_keyfence
from keyfence import Client

ROOT = Path(__file__).parents[2]
SYSTEMS = ("quantumsafe", "quicksrv", "sitequest", "supascale", "xquik")
SCOPES = ("replication:sync", "keyspaces:read", "keys:write")


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
    keyspaces = ROOT / "examples" / "keyspaces" / f"{system}.yaml"
    with running_keyfence(keyspaces) as keyfence:
        token = keyfence.operator.create_key(
            keyspace="system", account_id=system, scopes=SCOPES, bound_keyspaces=[system]
        ).api_key
        os.environ |= {
            "KEYFENCE_TARGET": keyfence.target,
            "KEYFENCE_TOKEN": token,
            "PANEL_SESSION": secrets.token_urlsafe(),
        }
        variables = prepared(keyfence.operator, system)
        app = import_module(f"examples.products.{system}.app").app
        commands = (ROOT / "examples" / "products" / system / "commands.sh").read_text()
        port = int(os.environ.get("PORT", "8000"))
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning")
        # Ctrl-C ends it, and is no error.
        with suppress(KeyboardInterrupt):
            Application(config, commands, variables).run()


if __name__ == "__main__":
    main()
