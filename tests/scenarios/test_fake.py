"""The fake server of the Python client gives the answers of a real server, by the same table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from keyfence.testing import TOKEN, FakeServer
from keyfence.v1 import keyspace_pb2
from scenarios.clients import PythonClient
from scenarios.playing import TABLE, play, wait_until_ready

_NOT_OF_A_FAKE: Final = {
    "a denial is explained": "the fake explains nothing",
    "a keyspace that the token is not bound to": "the only token is bound to every keyspace",
}
_SCENARIOS: Final = [one for one in TABLE if one["name"] not in _NOT_OF_A_FAKE]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    scopes = [
        keyspace_pb2.Scope(name="vps:read"),
        keyspace_pb2.Scope(name="vps:write", implies=["vps:read"]),
        keyspace_pb2.Scope(name="vps:create", implies=["vps:write"]),
    ]
    with FakeServer(keyspace_pb2.Keyspace(name="demo", scopes=scopes)) as server:
        yield server


@pytest.fixture(scope="module", params=["plain", "cached", "batched"])
def caller(request: pytest.FixtureRequest, fake: FakeServer) -> Iterator[PythonClient]:
    made = PythonClient(fake.target, TOKEN, request.param)
    wait_until_ready(made, request.param)
    yield made
    made.close()


def test_the_exceptions_are_in_the_table() -> None:
    assert _NOT_OF_A_FAKE.keys() <= {one["name"] for one in TABLE}


@pytest.mark.parametrize("scenario", _SCENARIOS, ids=lambda one: one["name"])
def test_a_fake_answers_as_a_server_does(
    scenario: dict[str, Any], caller: PythonClient, fake: FakeServer
) -> None:
    play(scenario, caller, fake.client())
