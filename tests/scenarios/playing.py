"""Plays a scenario of the table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import yaml

from keyfence import Client, KeyState
from scenarios.clients import Caller

TABLE: Final = yaml.safe_load((Path(__file__).parent / "checks.yaml").read_text())
_PATIENCE_SECONDS: Final = 30


def wait_until_ready(caller: Caller, mode: str) -> None:
    """Returns when a client gets answers, and in the mode "cached" when its cache has a lease."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = caller("authenticate", api_key="kf_live_nothing", keyspace="demo")
        if "error" not in answer and (mode != "cached" or caller("status").get("live")):
            return
        time.sleep(0.02)
    raise AssertionError(f"the client is not ready: {answer}")


def play(scenario: dict[str, Any], caller: Caller, operator: Client) -> None:
    """Makes the scenario's keys, and does its steps.

    Args:
        operator: a client at the same server that may do everything.
    """
    made = {
        name: operator.create_key(keyspace="demo", account_id="acct_1", **fields)
        for name, fields in scenario.get("keys", {}).items()
    }

    def filled(check: dict[str, Any]) -> dict[str, Any]:
        check = dict(check)
        if "key" in check:
            check["api_key"] = made[check.pop("key")].api_key
        if "api_key_of_length" in check:
            check["api_key"] = "k" * check.pop("api_key_of_length")
        return {"keyspace": "demo", **check}

    for step in scenario["steps"]:
        expected = step.get("gives", {"error": step["fails"]} if "fails" in step else {})
        if "key_id" in expected:
            expected = expected | {"key_id": made[expected["key_id"]].key.key_id}
        match next(iter(step.items())):
            case "revoke", name:
                operator.revoke_key(made[name].key.key_id)
            case "disable", name:
                operator.update_key(made[name].key.key_id, state=KeyState.DISABLED)
            case "enable", name:
                operator.update_key(made[name].key.key_id, state=KeyState.ACTIVE)
            case ("batch" | "together") as do, checks:
                require(caller(do, checks=[filled(one) for one in checks]), expected)
            case "who_am_i", _:
                require(caller("who_am_i"), expected)
            case do, check:
                require(caller(str(do), **filled(check)), expected)


def require(answer: Any, expected: Any) -> None:
    """What is expected is in the answer, however much more there is."""
    if isinstance(expected, dict):
        assert isinstance(answer, dict), f"{expected} was expected, not {answer}"
        for name, value in expected.items():
            assert name in answer, f"there is no {name} in {answer}"
            require(answer[name], value)
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        assert len(answer) == len(expected), answer
        for one, value in zip(answer, expected, strict=True):
            require(one, value)
    else:
        assert answer == expected
