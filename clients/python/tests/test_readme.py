"""The README's examples run as they stand."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from subprocess import PIPE

from clients.python.tests.authority import Authority
from keyfence import AsyncClient, Client, connection

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


async def test_the_examples_run_in_the_order_in_which_they_stand(authority: Authority) -> None:
    assert len(EXAMPLES) >= 6
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "\n".join(EXAMPLES),
        env={"KEYFENCE_TARGET": authority.target, "KEYFENCE_TOKEN": "kf_system_token"},
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), timeout=60)
    assert process.returncode == 0, errors.decode()
    assert b"kf_live_plaintext" in output
    assert b"welcome" in output
    called = {attempt.method for attempt in authority.attempts}
    assert called >= {"CreateKey", "CheckScope", "BatchCheckScope", "ListKeys", "RevokeKey"}


def test_the_defaults_are_those_of_the_code() -> None:
    assert f"`check_timeout_seconds` ({connection.CHECK_TIMEOUT_SECONDS:g})" in README
    assert f"`timeout_seconds` ({connection.CALL_TIMEOUT_SECONDS:g})" in README
    for kind in (Client, AsyncClient):
        assert kind("127.0.0.1:1")._connection.timeout_seconds == connection.CALL_TIMEOUT_SECONDS
