"""The gateway's listener for gRPC: what strangers can make Keyfence do is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

import keyfence
from support.edge.gateway import Gateway
from support.edge.http2 import call, exchange, request
from support.served import Served
from testkit.attacks import ATTACKS, CALL, PATH, Attack, attacked, paced_reset, rapid_reset
from testkit.raw_http2 import END_HEADERS, HEADERS, PING, RawConnection, frame

ATTACKER = "127.0.0.2"
MOST_GROWTH_BYTES = 200 * 1024 * 1024

CREDENTIAL = "authorization"
STATUS_BY_NUMBER: dict[int | None, grpc.StatusCode] = {one.value[0]: one for one in grpc.StatusCode}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that only the gateway reaches."""
    settings = {"KEYFENCE_TRUSTED_PROXIES": "unix", "KEYFENCE_LOG_LEVEL": "error"}
    running = Served(tmp_path_factory.mktemp("s"), settings)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def listener(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway as by default, with a listener for gRPC."""
    running = start(served, tmp_path_factory.mktemp("gateway"))
    yield running
    running.stop()


def start(served: Served, directory: Path, **more: str) -> Gateway:
    settings = {
        "KEYFENCE_GATEWAY_TARGET": served.target,
        "KEYFENCE_GATEWAY_GRPC_LISTEN": "127.0.0.1:0",
        **{f"KEYFENCE_GATEWAY_{name.upper()}": value for name, value in more.items()},
    }
    return Gateway(directory, 0, settings)


def who_am_i(port: int, *metadata: tuple[str, str], source: str = "127.0.0.1") -> grpc.StatusCode:
    """The status of one call from an address."""
    return STATUS_BY_NUMBER[call(port, PATH.decode(), *metadata, source=source)]


def test_the_sdk_and_its_cache_work_through_it(served: Served, listener: Gateway) -> None:
    target = f"127.0.0.1:{listener.grpc_port}"
    operator = keyfence.Client(target, token=served.root_key)
    cached = keyfence.Client(target, token=served.root_key, cache=keyfence.Cache())
    with operator, cached:
        made = operator.create_key(
            keyspace="system", account_id="a", scopes=["keys:read"], bound_keyspaces=["*"]
        )
        for _ in range(3):
            assert cached.authenticate(made.api_key, keyspace="system")
        operator.revoke_key(made.key.key_id)
        assert not cached.authenticate(made.api_key, keyspace="system")


def test_health_is_answered_and_not_watched(listener: Gateway) -> None:
    assert call(listener.grpc_port, "/grpc.health.v1.Health/Check") == 0
    assert call(listener.grpc_port, "/grpc.health.v1.Health/Watch") == 12


def test_what_is_not_a_call_of_grpc_is_refused(listener: Gateway) -> None:
    path = PATH.decode()
    grpc_type = ("content-type", "application/grpc")
    assert exchange(listener.grpc_port, request("GET", path)) == 404
    assert exchange(listener.grpc_port, request("HEAD", path, grpc_type)) in {200, 404}
    assert (
        exchange(listener.grpc_port, request("POST", path, ("content-type", "text/plain"))) == 404
    )
    # Envoy answers it itself: a status of gRPC is in a response with the status 200.
    assert exchange(listener.grpc_port, request("PUT", path, grpc_type)) == 200


def test_a_malformed_header_reaches_no_other_caller(served: Served, listener: Gateway) -> None:
    bearer = (CREDENTIAL, f"Bearer {served.root_key}")
    grpc_type = ("content-type", "application/grpc")
    for malformed in (("grpc-timeout", "x"), ("x-bin", "!"), ("grpc-encoding", "bogus")):
        for _ in range(2):
            exchange(listener.grpc_port, request("POST", PATH.decode(), grpc_type, malformed), b"")
        assert who_am_i(listener.grpc_port, bearer) is grpc.StatusCode.OK


def test_a_client_does_not_say_where_it_is(served: Served, listener: Gateway) -> None:
    with keyfence.Client(served.target, token=served.root_key) as operator:
        made = operator.create_key(
            keyspace="system",
            account_id="a",
            scopes=["keys:read"],
            bound_keyspaces=["*"],
            allowed_addresses=[ATTACKER],
        )
    bearer = (CREDENTIAL, f"Bearer {made.api_key}")
    elsewhere = ("x-forwarded-for", ATTACKER)

    assert who_am_i(listener.grpc_port, bearer, elsewhere) is grpc.StatusCode.UNAUTHENTICATED
    assert who_am_i(listener.grpc_port, bearer, source=ATTACKER) is grpc.StatusCode.OK


def test_calls_of_one_address_are_bounded_and_other_addresses_do_not_notice(
    served: Served, tmp_path: Path
) -> None:
    limits = {
        "max_calls_per_second_per_address": "10",
        "max_anonymous_calls_per_second_per_address": "1",
    }
    bearer = (CREDENTIAL, f"Bearer {served.root_key}")
    gateway = start(served, tmp_path, **limits)
    try:
        port = gateway.grpc_port
        anonymous = [who_am_i(port, source="127.0.0.3") for _ in range(6)]
        known = [who_am_i(port, bearer, source="127.0.0.4") for _ in range(6)]
        flood = [who_am_i(port, bearer, source="127.0.0.5") for _ in range(100)]
        other = who_am_i(port, bearer, source="127.0.0.6")
    finally:
        gateway.stop()

    assert anonymous[0] is grpc.StatusCode.UNAUTHENTICATED
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in anonymous
    assert set(known) == {grpc.StatusCode.OK}
    assert set(flood) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert other is grpc.StatusCode.OK


async def test_connections_of_all_together_are_bounded(served: Served, tmp_path: Path) -> None:
    gateway = start(served, tmp_path, max_connections="3")
    try:
        held = [await RawConnection.open(gateway.grpc_port) for _ in range(3)]
        for one in held:
            assert await one.receive() is not None
        refused = await RawConnection.open(gateway.grpc_port)
        assert await refused.receive() is None
        # REST has places of its own.
        assert gateway.send("GET", "/v1/whoami").status == 401
        for one in (*held, refused):
            one.abort()
    finally:
        gateway.stop()


async def test_a_connection_of_calls_that_are_reset_is_closed(listener: Gateway) -> None:
    async with attacked(listener.grpc_port, rapid_reset, source=ATTACKER) as connection:
        while await connection.receive(10) is not None:
            pass


async def test_calls_whose_message_never_comes_take_no_places(
    served: Served, tmp_path: Path
) -> None:
    gateway = start(served, tmp_path, max_concurrent_calls="5")
    bearer = (CREDENTIAL, f"Bearer {served.root_key}")
    try:
        held = await RawConnection.open(gateway.grpc_port)
        for stream in range(1, 101, 2):
            await held.send(frame(HEADERS, END_HEADERS, stream, CALL))
        await held.send(frame(PING, 0, 0, bytes(8)))
        assert await held.receive_until(PING)
        answered = await asyncio.to_thread(who_am_i, gateway.grpc_port, bearer)
        held.abort()
    finally:
        gateway.stop()

    assert answered is grpc.StatusCode.OK


async def paced(connection: RawConnection) -> None:
    await paced_reset(connection, per_second=5_000)


async def attack_again_and_again(port: int, attack: Attack) -> None:
    """Over one connection after the other."""
    for _ in range(2):
        with contextlib.suppress(OSError, TimeoutError):
            async with attacked(port, attack, source=ATTACKER):
                pass


@pytest.mark.parametrize("attack", [*ATTACKS, paced])
async def test_under_attack_others_are_answered_and_memory_is_bounded(
    served: Served, listener: Gateway, attack: Attack
) -> None:
    (envoy,) = psutil.Process(listener.pid).children()
    processes = [psutil.Process(served.pid), envoy]
    async with keyfence.AsyncClient(
        f"127.0.0.1:{listener.grpc_port}", token=served.root_key
    ) as client:
        await client.who_am_i()
        before = [one.memory_info().rss for one in processes]
        attacking = asyncio.gather(
            *(attack_again_and_again(listener.grpc_port, attack) for _ in range(5))
        )
        answered = 0
        while not attacking.done():
            await client.who_am_i()
            answered += 1
            for process, size in zip(processes, before, strict=True):
                assert process.memory_info().rss - size < MOST_GROWTH_BYTES
        await attacking
    assert answered
