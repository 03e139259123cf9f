"""Starts a server from installed wheels, makes, checks and revokes a key, and runs the first
examples of the Python client's README, word for word, with the installed client.

Run as `python tools/try_wheels.py KEYFENCE`, where KEYFENCE is the installed command. It needs
nothing of the clone: everything happens in an empty directory, with an empty environment.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_PATIENCE_SECONDS: Final = 120
_KEYSPACE: Final = """keyspace: demo
scopes:
  vps:read: Look
  vps:write: {description: Change, implies: [vps:read]}
"""
_README: Final = Path(__file__).parents[1] / "clients" / "python" / "README.md"


def main(command: Path) -> int:
    """Returns the exit code: 0 if every step did what it must."""
    with TemporaryDirectory(prefix="kf") as name:
        directory = Path(name)
        environment = {
            "PATH": "/usr/bin:/bin",
            "KEYFENCE_LISTEN": f"unix:{directory}/s",
            "KEYFENCE_TARGET": f"unix:{directory}/s",
        }

        def run(*arguments: str, stdin: str = "", expect: int = 0) -> str:
            done = subprocess.run(
                [command, *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                cwd=directory,
                env=environment,
            )
            if done.returncode != expect:
                raise SystemExit(f"keyfence {' '.join(arguments)}: {done.stdout}{done.stderr}")
            return done.stdout

        began = time.monotonic()
        run("serve", "--check")
        with subprocess.Popen(
            [command, "serve"], cwd=directory, env=environment, stdout=subprocess.DEVNULL
        ) as server:
            try:
                while subprocess.run(
                    [command, "health", "-q"], env=environment, check=False
                ).returncode:
                    if time.monotonic() - began > _PATIENCE_SECONDS or server.poll() is not None:
                        raise SystemExit("the server did not start")
                started = time.monotonic()
                root_key = directory / ".keyfence" / "root.key"
                environment["KEYFENCE_TOKEN"] = root_key.read_text().strip()
                (directory / "demo.yaml").write_text(_KEYSPACE)
                run("keyspaces", "apply", "-f", "demo.yaml")
                key = run("keys", "create", "-k", "demo", "-a", "acme", "-s", "vps:read", "-q")
                run("check", "-", "-k", "demo", "-s", "vps:read", stdin=key)
                run("keys", "revoke", "-", stdin=key)
                run("check", "-", "-k", "demo", "-s", "vps:read", stdin=key, expect=1)
                _run_quick_start(command.parent / "python", directory, environment)
            finally:
                server.send_signal(signal.SIGTERM)
        ended = time.monotonic()
    print(
        f"The wheels work: serving after {started - began:.1f} s, a key made, checked and "
        f"revoked after {ended - started:.1f} s more."
    )
    return 0


def _run_quick_start(python: Path, directory: Path, environment: dict[str, str]) -> None:
    """Runs the synchronous example, which makes and revokes a key, and the asynchronous one."""
    examples = re.findall(r"^```python\n(.*?)^```$", _README.read_text(), re.DOTALL | re.MULTILINE)
    for example in examples[:2]:
        done = subprocess.run(
            [python, "-I", "-c", example],
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            env=environment,
        )
        if done.returncode:
            raise SystemExit(f"an example of the README failed: {done.stderr}\n{example}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
