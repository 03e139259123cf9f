"""A server on PostgreSQL: alone on its database, and silent when it may not be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2

from keyfence.v1 import keyspace_pb2
from keyfence_server.adapters.sql.sole_process import _LOCK
from keyfence_server.provisioning import CannotStart
from support.serving import PASSWORD, Served

pytestmark = pytest.mark.postgres

PEPPER = "1:" + "A" * 44


@pytest.fixture
async def served(serve: Any, postgres_url: str) -> Served:
    served: Served = await serve(database_url=postgres_url, pepper=PEPPER)
    await served.client.apply()
    return served


async def watch_health(served: Served) -> Any:
    """A stream of what health says, from now on."""
    watch = served.client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    assert await next_status(watch) == health_pb2.HealthCheckResponse.SERVING
    return watch


async def next_status(watch: Any) -> int:
    async with asyncio.timeout(30):
        return int(health_pb2.HealthCheckResponse.FromString(await watch.read()).status)


async def end_the_lock_s_connection(url: str) -> None:
    """What a restart or a failover of the database does to it."""
    connection = await asyncpg.connect(url)
    ended = await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_locks "
        "WHERE locktype = 'advisory' AND granted AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert len(ended) == 1
    await connection.close()


async def test_a_second_server_is_told_who_has_the_database(
    served: Served, serve: Any, postgres_url: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotStart, match=r"another server has the database: keyfence \d+ on"):
        await serve(database_url=postgres_url, pepper=PEPPER, data_dir=tmp_path / "b")
    await served.client.call("WhoAmI")


async def test_the_database_is_free_when_the_first_has_stopped(
    served: Served, serve: Any, postgres_url: str, tmp_path: Path
) -> None:
    await served.server.stop()
    again = await serve(database_url=postgres_url, pepper=PEPPER, data_dir=tmp_path / "data")
    await again.client.call("WhoAmI")


async def test_without_a_key_to_sign_sessions_nobody_logs_in(
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


class Usurper:
    """Another server, which waits for the lock and has it as soon as it is free."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._waiting = asyncio.ensure_future(
            connection.execute("SELECT pg_advisory_lock($1, hashtext(current_schema()))", _LOCK)
        )

    @classmethod
    async def wait_at(cls, url: str) -> Usurper:
        usurper = cls(await asyncpg.connect(url))
        watching = await asyncpg.connect(url)
        queued = False
        while not queued:
            queued = await watching.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
            )
        await watching.close()
        return usurper

    async def revoke(self, key_id: str) -> None:
        """Makes a mutation that the first server does not hear of."""
        await self._waiting
        done = await self._connection.execute(
            "UPDATE keys SET state = 'revoked', revoke_time = update_time WHERE key_id = $1",
            key_id,
        )
        assert done == "UPDATE 1"

    async def leave(self) -> None:
        await self._waiting
        await self._connection.close()


async def test_without_its_lock_it_answers_nothing_until_it_has_it_again(
    served: Served, postgres_url: str
) -> None:
    """Not even what is in memory: another server could have revoked it, and has."""
    made = await served.client.make_key(scopes=["vps:read"])
    answer = await served.client.call("Authenticate", api_key=made.api_key)
    assert answer.authenticated
    watch = await watch_health(served)
    usurper = await Usurper.wait_at(postgres_url)
    await end_the_lock_s_connection(postgres_url)
    assert await next_status(watch) == health_pb2.HealthCheckResponse.NOT_SERVING
    refusal = await served.client.refusal("Authenticate", api_key=made.api_key)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    await usurper.revoke(made.key.key_id)
    await usurper.leave()
    assert await next_status(watch) == health_pb2.HealthCheckResponse.SERVING
    answer = await served.client.call("Authenticate", api_key=made.api_key)
    assert not answer.authenticated
    watch.cancel()


async def test_a_server_that_is_stopped_while_it_has_no_lock_stops(
    served: Served, postgres_url: str
) -> None:
    watch = await watch_health(served)
    usurper = await Usurper.wait_at(postgres_url)
    await end_the_lock_s_connection(postgres_url)
    await next_status(watch)
    async with asyncio.timeout(10):
        await served.server.stop(5)
    await usurper.leave()


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
        await serve(database_url=url, pepper=PEPPER)
    assert "hunter2" not in str(caught.value)
