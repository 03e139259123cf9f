"""Servers on PostgreSQL: several on one database, none of which accepts what another revoked."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from keyfence.v1 import keyspace_pb2
from keyfence_server.provisioning import CannotStart
from support.serving import PASSWORD, Served
from testkit.postgres import PostgresServer

pytestmark = pytest.mark.postgres

PEPPER = "1:" + "A" * 44


@pytest.fixture
async def served(serve: Any, postgres_url: str) -> Served:
    served: Served = await serve(database_url=postgres_url, pepper=PEPPER)
    await served.client.apply()
    return served


async def end_all_connections(url: str) -> None:
    """What a restart or a failover of the database does to them."""
    connection = await asyncpg.connect(url)
    ended = await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert ended
    await connection.close()


@pytest.fixture
async def other(served: Served, serve: Any, postgres_url: str, tmp_path: Path) -> Served:
    """Another server on the same database."""
    del served
    other: Served = await serve(
        database_url=postgres_url, pepper=PEPPER, data_dir=tmp_path / "other"
    )
    other.client.root = (tmp_path / "data" / "root.key").read_text().strip()
    return other


async def test_what_one_server_revokes_no_other_accepts(served: Served, other: Served) -> None:
    """Without the fence the other one, which has the key in memory, would go on accepting it."""
    for _ in range(10):
        made = await served.client.make_key(scopes=["vps:read"])
        for server in (served, other):
            answer = await server.client.call("Authenticate", api_key=made.api_key)
            assert answer.authenticated
        await served.client.call("RevokeKey", key_id=made.key.key_id)
        answer = await other.client.call("Authenticate", api_key=made.api_key)
        assert not answer.authenticated


async def test_without_a_key_to_sign_sessions_no_log_in_succeeds(
    served: Served, serve: Any, postgres_url: str, tmp_path: Path
) -> None:
    """A key that one server makes for itself is none that another one could verify by. So
    one must be given, and what needs none goes on without."""
    accounts = keyspace_pb2.Accounts(registration=keyspace_pb2.REGISTRATION_OPEN)
    await served.client.apply(accounts=accounts)
    account = await served.client.register()
    log_in = {"keyspace": "demo", "email": account.email, "password": PASSWORD}
    refusal = await served.client.refusal("LogIn", credential=None, **log_in)
    assert (refusal.reason, refusal.code) == (
        "SESSIONS_NOT_SET_UP",
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert not (served.data_dir / "session.key").exists()
    await served.server.stop()
    again = await serve(
        database_url=postgres_url,
        pepper=PEPPER,
        session_key="1:" + "B" * 43 + "=",
        data_dir=tmp_path / "data",
    )
    me = await again.client.call("WhoAmI", credential=await again.client.log_in())
    assert me.principal.account_id == account.account_id


async def test_a_key_works_everywhere_at_once(served: Served, other: Served) -> None:
    """Its digest was asked for before it existed nowhere, but its keyspace is new to the other."""
    made = await other.client.make_key(scopes=["vps:read"])
    answer = await served.client.call("Authenticate", api_key=made.api_key)
    assert answer.authenticated


async def test_a_server_that_has_stopped_is_not_waited_for(
    serve: Any, postgres_url: str, tmp_path: Path
) -> None:
    """Its lease is so long that a busy machine is not mistaken for waiting for it."""
    settings = {"database_url": postgres_url, "pepper": PEPPER, "lease_seconds": 60}
    served: Served = await serve(**settings)
    await served.client.apply()
    other: Served = await serve(**settings, data_dir=tmp_path / "other")
    made = await served.client.make_key(scopes=["vps:read"])
    await other.server.stop()
    await served.client.call("RevokeKey", key_id=made.key.key_id, deadline_seconds=30)


async def test_it_goes_on_when_its_connections_have_been_ended(
    served: Served, other: Served, postgres_url: str
) -> None:
    made = await served.client.make_key(scopes=["vps:read"])
    await end_all_connections(postgres_url)
    async with asyncio.timeout(20):
        await served.client.call("RevokeKey", key_id=made.key.key_id)
    answer = await other.client.call("Authenticate", api_key=made.api_key)
    assert not answer.authenticated


async def test_a_pepper_is_never_made_up(serve: Any, postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="KEYFENCE_PEPPER_FILE"):
        await serve(database_url=postgres_url)
    assert not (tmp_path / "data").exists()


async def test_tables_are_never_made_unasked(serve: Any, empty_postgres_url: str) -> None:
    with pytest.raises(CannotStart, match="keyfence migrate"):
        await serve(database_url=empty_postgres_url, pepper=PEPPER)


async def test_a_database_that_is_away_is_said_without_its_password(serve: Any) -> None:
    url = "postgresql://someone:hunter2@127.0.0.1:1/none"
    with pytest.raises(CannotStart) as caught:
        await serve(database_url=url, pepper=PEPPER, database_wait_seconds=0)
    assert "hunter2" not in str(caught.value)


async def test_a_server_that_starts_waits_for_its_database(
    serve: Any, postgres_server: PostgresServer, postgres_url: str, log: io.StringIO
) -> None:
    await asyncio.to_thread(postgres_server.stop)
    starting = asyncio.create_task(serve(database_url=postgres_url, pepper=PEPPER))
    while "waiting_for_store" not in log.getvalue():
        assert not starting.done()
        await asyncio.sleep(0.01)
    await asyncio.to_thread(postgres_server.start)
    served = await starting
    await served.client.apply()
    assert log.getvalue().count("Traceback") == 0


async def test_a_database_that_does_not_exist_is_not_waited_for(
    serve: Any, postgres_server: PostgresServer
) -> None:
    """Waiting for what only an operator can mend would look like a start that hangs."""
    with pytest.raises(CannotStart, match="refuses the login"):
        await serve(database_url=postgres_server.url("nowhere"), pepper=PEPPER)


async def test_an_outage_is_a_few_lines_in_the_log(
    served: Served, postgres_server: PostgresServer, log: io.StringIO
) -> None:
    """However many calls meet it. Calls that fail must not bury the cause."""
    await asyncio.to_thread(postgres_server.stop)
    for _ in range(20):
        refusal = await served.client.refusal("ListKeyspaces")
        assert refusal.code == grpc.StatusCode.UNAVAILABLE
    await asyncio.to_thread(postgres_server.start)
    while "store_available" not in log.getvalue():  # noqa: ASYNC110 - the log announces nothing
        await asyncio.sleep(0.01)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [line for line in lines if line["level"] in {"warning", "error"}]
    assert [line["event"] for line in told if line["event"].startswith("store_")] == [
        "store_unavailable",
        "store_available",
    ]
    assert len(told) <= 4
    assert not any("exception" in line for line in told)
