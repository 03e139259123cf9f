"""One table of scenarios for every client, in each of its modes, at a server and at a sidecar."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from conformance.programs import LANGUAGES
from fence.ops.test_sidecar import sidecar_of
from keyfence import Client
from keyfence.v1 import keyspace_pb2
from scenarios.clients import Caller, Program, PythonClient
from scenarios.playing import TABLE, play, wait_until_ready
from support.served import Served

_CLIENTS: Final = (
    *("python", "python cached", "python batched"),
    *(f"{name}{mode}" for name in LANGUAGES for mode in ("", " cached", " batched")),
)

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
    wait_until_ready(made, mode)
    yield made
    made.close()


# The first test of a language compiles its client, unless that was done before.
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("scenario", TABLE, ids=lambda one: one["name"])
def test_every_client_answers_alike(
    scenario: dict[str, Any], caller: Caller, operator: Client
) -> None:
    play(scenario, caller, operator)
