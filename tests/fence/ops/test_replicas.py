"""`keyfence replicas`: who answers from memory, as people and as programs read it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fence.ops.test_sidecar import SETTINGS, sidecar_of
from keyfence import AsyncClient, Client, HolderKind, PermissionDenied
from support.served import COMMAND, Served


@pytest.fixture
def server() -> Iterator[Served]:
    with TemporaryDirectory(prefix="kf") as name:
        served = Served(Path(name), SETTINGS)
        try:
            yield served
        finally:
            served.stop()


def said(server: Served, *arguments: str) -> str:
    return subprocess.run(
        [*COMMAND, "replicas", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=server.env({"COLUMNS": "200"}),
    ).stdout


@pytest.mark.slow
def test_a_sidecar_is_listed_with_its_lease_and_its_lag(server: Served) -> None:
    assert said(server) == ""  # the note that there is none goes to standard error
    with sidecar_of(server), Client(server.target, token=server.root_key) as client:
        listed = client.list_replicas()
        (one,) = listed.items
        assert one.kind is HolderKind.SIDECAR
        assert one.applied_revision <= listed.head_revision
        assert one.lease_age is not None
        heading, row = said(server).splitlines()
        assert heading.split()[:3] == ["HOLDER", "KIND", "NAME"]
        assert row.split()[:2] == [one.holder_id, "sidecar"]
        document = json.loads(said(server, "--output", "json"))
        assert document["head_revision"] == listed.head_revision
        assert [each["kind"] for each in document["replicas"]] == ["sidecar"]


def test_listing_the_holders_needs_the_scope_for_it(server: Served) -> None:
    with Client(server.target, token=server.root_key) as client:
        made = client.create_key(
            keyspace="system", account_id="ops", scopes=["keys:check"], bound_keyspaces=["demo"]
        )

    async def ask() -> None:
        async with AsyncClient(server.target, token=made.api_key) as client:
            await client.list_replicas()

    with pytest.raises(PermissionDenied):
        asyncio.run(ask())
