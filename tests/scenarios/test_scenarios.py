"""One table of scenarios for every client, in each of its modes, at a server and at a sidecar."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from conformance.programs import LANGUAGES
from fence.ops.test_sidecar import sidecar_of
from keyfence import Client, KeyState
from keyfence.v1 import keyspace_pb2
from scenarios.clients import Caller, Program, PythonClient
from support.served import Served

_TABLE: Final = yaml.safe_load((Path(__file__).parent / "checks.yaml").read_text())
_CLIENTS: Final = (
    *("python", "python cached", "python batched"),
    *(f"{name}{mode}" for name in LANGUAGES for mode in ("", " cached", " batched")),
)
_PATIENCE_SECONDS: Final = 30

Open = Callable[[str, str], Caller]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    # A socket's path must be short, and pytest's directories are not.
    with tempfile.TemporaryDirectory(prefix="kf") as directory:
        served = Served(Path(directory))
        yield served
        served.stop()


@pytest.fixture(scope="module")
def operator(server: Served) -> Iterator[Client]:
    with Client(server.target, token=server.root_key) as client:
        scopes = [
            keyspace_pb2.Scope(name="vps:read"),
            keyspace_pb2.Scope(name="vps:write", implies=["vps:read"]),
            keyspace_pb2.Scope(name="vps:create", implies=["vps:write"]),
        ]
        client.apply_keyspace(keyspace_pb2.Keyspace(name="demo", scopes=scopes))
        yield client


@pytest.fixture(scope="module")
def token(operator: Client) -> str:
    return operator.create_key(
        keyspace="system",
        account_id="operators",
        scopes=["keys:check", "replication:sync"],
        bound_keyspaces=["demo"],
    ).api_key


@pytest.fixture(scope="module")
def sidecar(server: Served, operator: Client) -> Iterator[str]:
    with sidecar_of(server) as target:
        yield target


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Builds the program of a language, once."""

    @functools.cache
    def command(language: str) -> list[str]:
        return LANGUAGES[language].build("scenario", tmp_path_factory.mktemp(language))

    return command


@pytest.fixture(scope="module", params=["server", "sidecar"])
def target(request: pytest.FixtureRequest) -> str:
    asked: Served | str = request.getfixturevalue(request.param)
    return asked if isinstance(asked, str) else asked.target


@pytest.fixture(scope="module", params=_CLIENTS)
def caller(
    request: pytest.FixtureRequest,
    target: str,
    token: str,
    commands: Callable[[str], list[str]],
) -> Iterator[Caller]:
    language, _, mode = request.param.partition(" ")
    made: Caller
    if language == "python":
        made = PythonClient(target, token, mode)
    elif tool := LANGUAGES[language].missing_tool():
        pytest.skip(f"the client in {language} needs {tool}")
    else:
        made = Program(commands(language), target, token, mode)
    _wait_until_ready(made, mode)
    yield made
    made.close()


def _wait_until_ready(caller: Caller, mode: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = caller("authenticate", api_key="kf_live_nothing", keyspace="demo")
        if "error" not in answer and (mode != "cached" or caller("status").get("live")):
            return
        time.sleep(0.02)
    raise AssertionError(f"the client is not ready: {answer}")


@pytest.mark.parametrize("scenario", _TABLE, ids=lambda one: one["name"])
def test_every_client_answers_alike(
    scenario: dict[str, Any], caller: Caller, operator: Client
) -> None:
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
                _require(caller(do, checks=[filled(one) for one in checks]), expected)
            case "who_am_i", _:
                _require(caller("who_am_i"), expected)
            case do, check:
                _require(caller(str(do), **filled(check)), expected)


def _require(answer: Any, expected: Any) -> None:
    """What is expected is in the answer, however much more there is."""
    if isinstance(expected, dict):
        assert isinstance(answer, dict), f"{expected} was expected, not {answer}"
        for name, value in expected.items():
            assert name in answer, f"there is no {name} in {answer}"
            _require(answer[name], value)
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        assert len(answer) == len(expected), answer
        for one, value in zip(answer, expected, strict=True):
            _require(one, value)
    else:
        assert answer == expected
