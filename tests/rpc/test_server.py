"""The server's sockets, limits and end, met by clients that mean no good."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from keyfence_server.application.callers import Caller
from keyfence_server.application.pages import Page
from keyfence_server.application.read_keys import ListedKey, Listing, ReadKeys
from keyfence_server.provisioning import CannotStart
from keyfence_server.rpc.request_sizes import DEFAULT_BYTES
from support.serving import METHODS, ROOT, Client, Refusal, Served, path_of, until
from testkit.raw_http2 import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    RawConnection,
    frame,
    grpc_headers,
)

WHO_AM_I = path_of(METHODS["WhoAmI"]).encode()
HEALTH_CHECK = b"/grpc.health.v1.Health/Check"
HEALTH_WATCH = b"/grpc.health.v1.Health/Watch"


async def begin_calls(connection: RawConnection, count: int, path: bytes) -> None:
    """Begins calls on the first streams, whose messages are still to come."""
    for stream in range(1, 1 + 2 * count, 2):
        await connection.send(frame(HEADERS, END_HEADERS, stream, grpc_headers(path)))


async def health_of(served: Served, service: str = "") -> int:
    raw = await served.client.channel.unary_unary("/grpc.health.v1.Health/Check")(
        health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=5
    )
    return int(health_pb2.HealthCheckResponse.FromString(raw).status)


async def call_until_refused(served: Served) -> None:
    while True:
        await served.client.call("WhoAmI", deadline_seconds=5)


class DatabaseHeld:
    """Holds the database's lock for writing, so that mutations wait."""

    def __init__(self, served: Served) -> None:
        self._connection = sqlite3.connect(served.data_dir / "keyfence.db", isolation_level=None)
        self._connection.execute("BEGIN IMMEDIATE")

    def release(self) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


class TestSockets:
    async def test_a_port_that_is_taken_is_refused(self, served: Served, serve: Any) -> None:
        """Also by a server that would share it."""
        with pytest.raises(CannotStart, match="Address already in use"):
            await serve(listen=f"127.0.0.1:{served.port}", data_dir=served.data_dir.parent / "b")
        stranger = socket.socket()
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with stranger, pytest.raises(OSError, match="Address already in use"):
            stranger.bind(("127.0.0.1", served.port))
        await served.client.call("WhoAmI")

    async def test_a_port_that_another_process_offers_to_share_is_refused(self, serve: Any) -> None:
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            stranger.bind(("127.0.0.1", 0))
            stranger.listen()
            with pytest.raises(CannotStart, match="Address already in use"):
                await serve(listen=f"127.0.0.1:{stranger.getsockname()[1]}")

    async def test_a_refused_start_holds_nothing(self, serve: Any, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(CannotStart):
                await serve(listen=f"127.0.0.1:0,127.0.0.1:{taken.getsockname()[1]}")
        await (await serve()).client.call("WhoAmI")

    async def test_it_listens_on_several_addresses(self, serve: Any, tmp_path: Path) -> None:
        path = tmp_path / "s"
        served = await serve(listen=f"127.0.0.1:0, unix:{path}, [::1]:0")
        assert len(served.server.addresses) == 3
        for address in served.server.addresses:
            async with grpc.aio.insecure_channel(str(address)) as channel:
                await Client(channel, served.client.root).call("WhoAmI")

    @pytest.mark.parametrize("mode", ["0600", "0660"])
    async def test_a_socket_s_file_has_its_mode(
        self, serve: Any, tmp_path: Path, mode: str
    ) -> None:
        previous = os.umask(0)
        try:
            await serve(listen=f"unix:{tmp_path / 's'}", unix_socket_mode=mode)
        finally:
            assert os.umask(previous) == 0
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == int(mode, 8)

    async def test_a_living_socket_is_left_alone(self, serve: Any, tmp_path: Path) -> None:
        path = tmp_path / "s"
        first = await serve(listen=f"unix:{path}")
        with pytest.raises(CannotStart, match=f"another server listens on {path}"):
            await serve(listen=f"unix:{path}", data_dir=tmp_path / "b")
        await first.client.call("WhoAmI")

    async def test_a_stranger_s_living_socket_is_left_alone(
        self, serve: Any, tmp_path: Path
    ) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(str(path))
            stranger.listen()
            with pytest.raises(CannotStart, match="another server listens on"):
                await serve(listen=f"unix:{path}")
        assert path.exists()

    async def test_an_abandoned_socket_is_taken_over(self, serve: Any, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as abandoned:
            abandoned.bind(str(path))
        served = await serve(listen=f"unix:{path}")
        await served.client.call("WhoAmI")

    async def test_a_file_in_the_socket_s_place_stays(self, serve: Any, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.write_text("precious")
        with pytest.raises(CannotStart, match="is not a socket"):
            await serve(listen=f"unix:{path}")
        assert path.read_text() == "precious"


class TestLimits:
    async def test_a_path_that_is_no_text_does_not_stop_the_server(self, served: Served) -> None:
        """The loop that grpc.aio brings ends at such a path, and the server with it."""
        for path in (b"/\xff\xfe", b"\xc3", b"/keyfence.v1.KeyService/\x00", b""):
            connection = await RawConnection.open(served.port)
            await connection.call(1, grpc_headers(path))
            answer = await connection.receive_until(HEADERS)
            assert answer is not None
            # The header `grpc-status: 12`, without compression: 12 is UNIMPLEMENTED.
            assert b"grpc-status\x0212" in answer.payload
            await connection.close()
        await served.client.call("WhoAmI")

    async def test_metadata_that_is_no_text_is_no_credential(
        self, served: Served, log: Any
    ) -> None:
        for value in (b"Bearer \xff\xfe\xfd", b"Bearer \x00" + served.client.root.encode()):
            connection = await RawConnection.open(served.port)
            await connection.call(1, grpc_headers(WHO_AM_I, (b"authorization", value)))
            answer = await connection.receive_until(HEADERS)
            assert answer is not None
            assert b"grpc-status\x0216" in answer.payload
            await connection.close()
        await served.client.call("WhoAmI")
        assert "xff" not in log.getvalue()

    async def test_calls_beyond_the_limit_are_told_so_at_once(self, serve: Any) -> None:
        served = await serve(max_concurrent_calls=1)
        await served.client.apply()
        held = DatabaseHeld(served)
        waiting = asyncio.ensure_future(served.client.make_key())
        await until(lambda: served.server._gate.under_way == 1)
        refusal = await served.client.refusal("WhoAmI")
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.reason == "LIMIT_REACHED"
        assert refusal.metadata == {"limit": "concurrent_calls"}
        assert await health_of(served) == health_pb2.HealthCheckResponse.SERVING
        held.release()
        assert (await waiting).api_key
        await served.client.call("WhoAmI")
        await until(lambda: served.server._gate.under_way == 0)

    async def test_one_credential_leaves_places_for_others(self, serve: Any) -> None:
        """Its calls wait for the database, and others' checks are answered from memory."""
        served = await serve(max_concurrent_calls=6)
        await served.client.apply()
        made = await served.client.make_key()
        other = await served.client.make_operator("keys:check", "keys:read")
        held = DatabaseHeld(served)
        waiting = [asyncio.ensure_future(served.client.make_key()) for _ in range(3)]
        await until(lambda: served.server._gate.under_way == 3)
        refusal = await served.client.refusal("ListKeys", keyspace="demo")
        assert refusal.metadata == {"limit": "waiting_calls_per_credential"}
        answer = await served.client.call("Authenticate", api_key=made.api_key, credential=other)
        assert answer.authenticated
        held.release()
        await asyncio.gather(*waiting)

    async def test_long_calls_of_one_credential_run_one_after_another(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ten listings at once would hold every connection of the pool."""
        await served.client.apply()
        other = await served.client.make_operator("keys:read")
        running: list[str | None] = []
        go_on = asyncio.Event()

        async def wait(_: ReadKeys, caller: Caller, _listing: Listing) -> Page[ListedKey]:
            running.append(caller.credential_id)
            await go_on.wait()
            return Page((), "", lambda _: "")

        monkeypatch.setattr(ReadKeys, "list", wait)
        calls = [
            asyncio.ensure_future(
                served.client.call("ListKeys", keyspace="demo", credential=credential)
            )
            for credential in (ROOT, ROOT, ROOT, other)
        ]
        waiting = served.server._gate._waiting
        await until(lambda: len(running) == 2 and sum(waiting.values()) == len(calls))
        assert len(set(running)) == 2
        go_on.set()
        await asyncio.gather(*calls)
        assert len(running) == len(calls)

    async def test_a_call_that_is_given_up_frees_its_place(self, serve: Any) -> None:
        served = await serve(max_concurrent_calls=1)
        await served.client.apply()
        held = DatabaseHeld(served)
        waiting = asyncio.ensure_future(served.client.make_key(deadline_seconds=60))
        await until(lambda: served.server._gate.under_way == 1)
        waiting.cancel()
        await until(lambda: served.server._gate.under_way == 0)
        await served.client.call("WhoAmI")
        held.release()

    async def test_open_calls_are_bounded(self, serve: Any) -> None:
        """Calls that have not sent their message take a place, too."""
        served = await serve(max_concurrent_calls=2)
        open_calls = served.server._server._open_calls
        connection = await RawConnection.open(served.port)
        await begin_calls(connection, 8, WHO_AM_I)
        await until(lambda: len(open_calls) == 8)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.client.call("WhoAmI")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await connection.close()
        await until(lambda: not open_calls)
        await served.client.call("WhoAmI")

    async def test_a_call_that_ends_without_a_message_leaves_nothing(self, served: Served) -> None:
        connection = await RawConnection.open(served.port)
        headers = grpc_headers(WHO_AM_I)
        await connection.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, headers))
        await until(lambda: len(served.server._server._open_calls) == 1)
        await connection.close()
        await until(lambda: not served.server._server._open_calls)
        await served.client.call("WhoAmI")

    async def test_a_message_can_be_too_large(self, serve: Any) -> None:
        served = await serve(max_message_bytes=64 * 1024)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.client.call("Authenticate", api_key="x" * 65 * 1024)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        answer = await served.client.call("Authenticate", api_key="x" * 15 * 1024)
        assert not answer.authenticated

    async def test_each_rpc_has_a_size_of_its_own_before_it_decodes(self, served: Served) -> None:
        path = path_of(METHODS["GetKey"])
        # No field of GetKeyRequest: decoding it would be an INVALID_ARGUMENT.
        undecodable = b"\xff" * (DEFAULT_BYTES + 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.client.channel.unary_unary(path)(
                undecodable, metadata=(("authorization", f"Bearer {served.client.root}"),)
            )
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        checks = [{"api_key": "x" * 400}] * 200
        assert (await served.client.call("BatchCheckScope", checks=checks)).results

    async def test_a_caller_without_a_credential_has_a_smaller_size(self, served: Served) -> None:
        large = {"keyspace": "demo", "email": "a@example.com", "password": "x" * 5_000}
        refusal = await served.client.refusal("LogIn", credential=None, **large)
        assert (refusal.reason, refusal.metadata) == ("LIMIT_REACHED", {"limit": "request_bytes"})

    async def test_metadata_can_be_too_large(self, serve: Any) -> None:
        served = await serve(max_metadata_bytes=4 * 1024)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.client.call("WhoAmI", metadata=[("x-big", "x" * 5_000)])
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await served.client.call("WhoAmI", metadata=[("x-big", "x" * 3_000)])

    async def test_a_connection_has_a_number_of_streams(self, serve: Any) -> None:
        served = await serve(max_streams_per_connection=7)
        connection = await RawConnection.open(served.port)
        settings = await connection.receive_until(SETTINGS)
        assert settings is not None
        # SETTINGS_MAX_CONCURRENT_STREAMS is 3.
        assert b"\x00\x03" + (7).to_bytes(4, "big") in settings.payload
        await connection.close()

    async def test_clients_that_keep_to_it_are_not_refused(self, serve: Any) -> None:
        """Not even those that always have as many streams as they may, and more to come."""
        served = await serve(max_streams_per_connection=20)
        await served.client.call("WhoAmI")
        calls = [served.client.call("WhoAmI", deadline_seconds=30) for _ in range(600)]
        assert len(await asyncio.gather(*calls)) == 600

    async def test_connections_are_bounded(self, serve: Any) -> None:
        served = await serve(max_connections=3)
        connections = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(12)]
        refused = asyncio.Event()

        async def watch(reader: asyncio.StreamReader) -> None:
            try:
                data = await reader.read()
            except ConnectionError:
                data = b""
            if not data:
                refused.set()

        watches = [asyncio.ensure_future(watch(reader)) for reader, _ in connections]
        async with asyncio.timeout(5):
            await refused.wait()
        for _, writer in connections:
            writer.close()
        await asyncio.gather(*watches)

    async def test_too_many_pings_end_the_connection(self, serve: Any) -> None:
        served = await serve(min_ping_interval_seconds=3_600)
        connection = await RawConnection.open(served.port)
        # In one piece: what is sent to a closed connection would take the answer with it.
        pings = [frame(PING, 0, 0, number.to_bytes(8, "big")) for number in range(4)]
        await connection.send(b"".join(pings))
        goaway = await connection.receive_until(GOAWAY)
        assert goaway is not None
        assert int.from_bytes(goaway.payload[4:8], "big") == ENHANCE_YOUR_CALM
        await served.client.call("WhoAmI")
        await connection.close()

    async def test_a_silent_connection_is_not_waited_for(self, serve: Any) -> None:
        served = await serve(handshake_seconds=0.2)
        for said in (b"", PREFACE[:10], b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(said)
            async with asyncio.timeout(5):
                while await reader.read(1024):
                    pass
            writer.close()
        await served.client.call("WhoAmI")

    async def test_a_connection_does_not_live_forever(self, serve: Any) -> None:
        served = await serve(max_connection_age_seconds=0.2)
        connection = await RawConnection.open(served.port)
        assert await connection.receive_until(GOAWAY) is not None
        await connection.close()

    async def test_calls_that_are_reset_at_once_do_not_pile_up(self, served: Served) -> None:
        """Rapid reset, CVE-2023-44487: what was reset is forgotten."""
        connection = await RawConnection.open(served.port)
        headers = grpc_headers(WHO_AM_I, (b"authorization", b"Bearer x"))
        try:
            for stream in range(1, 4_000, 2):
                await connection.send(
                    frame(HEADERS, END_HEADERS | END_STREAM, stream, headers)
                    + frame(RST_STREAM, 0, stream, CANCEL)
                )
        except ConnectionError:
            pass  # Being cut off is an answer, too.
        await served.client.call("WhoAmI")
        await connection.close()
        await until(lambda: not served.server._server._open_calls)
        await until(lambda: served.server._gate.under_way == 0)


class TestEnd:
    async def test_calls_under_way_are_finished_and_no_others_begun(self, served: Served) -> None:
        held = DatabaseHeld(served)
        waiting = asyncio.ensure_future(served.client.make_key())
        await until(lambda: served.server._gate.under_way == 1)
        stopping = asyncio.ensure_future(served.server.stop(30))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_until_refused(served)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        held.release()
        assert (await waiting).api_key
        await stopping

    async def test_calls_that_take_too_long_are_cut_off(self, served: Served) -> None:
        held = DatabaseHeld(served)
        waiting = asyncio.ensure_future(served.client.make_key())
        await until(lambda: served.server._gate.under_way == 1)
        stopping = asyncio.ensure_future(served.server.stop(0.1))
        with pytest.raises(grpc.aio.AioRpcError):
            await waiting
        held.release()
        await stopping

    async def test_health_says_so_before_and_ends_its_watches(self, served: Served) -> None:
        """An open watch does not hold up the end."""
        watch = served.client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        said = [health_pb2.HealthCheckResponse.FromString(await watch.read()).status]
        served.server.say_not_serving()
        said.append(health_pb2.HealthCheckResponse.FromString(await watch.read()).status)
        assert said == [
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        ]
        assert await health_of(served) == health_pb2.HealthCheckResponse.NOT_SERVING
        await served.client.call("WhoAmI")
        async with asyncio.timeout(5):
            await served.server.stop(60)
        assert await watch.read() is grpc.aio.EOF

    async def test_reflection_does_not_hold_up_the_end(self, served: Served) -> None:
        call: Any = served.client.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        )()
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        await call.write(request.SerializeToString())
        await call.read()
        async with asyncio.timeout(5):
            await served.server.stop(60)

    async def test_nothing_is_left_behind(self, serve: Any, tmp_path: Path) -> None:
        path = tmp_path / "s"
        # Other tests in this process may have servers of their own.
        before = set(threading.enumerate())
        served = await serve(listen=f"unix:{path}", metrics_listen="127.0.0.1:0")
        await served.client.call("WhoAmI")
        assert any("serve" in thread.name for thread in set(threading.enumerate()) - before)
        await served.client.channel.close()
        await served.server.stop()
        assert not path.exists()
        left = set(threading.enumerate()) - before
        assert [thread.name for thread in left if "serve" in thread.name] == []
        again = await serve(listen=f"unix:{path}")
        await again.client.call("WhoAmI")


class TestHealth:
    async def test_it_needs_no_credential_and_knows_every_service(self, served: Served) -> None:
        for service in (
            "",
            "keyfence.v1.AuthorizationService",
            "keyfence.v1.KeyService",
            "keyfence.v1.KeyspaceService",
            "grpc.health.v1.Health",
        ):
            assert await health_of(served, service) == health_pb2.HealthCheckResponse.SERVING

    async def test_a_service_that_is_none_is_not_found(self, served: Served) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(served, "keyfence.v2.KeyService")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_watches_are_bounded(self, served: Served) -> None:
        served.server._health._streams = 256
        watch = served.client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert Refusal.of(caught.value).reason == "LIMIT_REACHED"


class Reflected:
    """A generic client: it knows the protocol of reflection, and nothing of Keyfence."""

    def __init__(self, channel: grpc.aio.Channel, version: str, credential: str) -> None:
        self._channel: Any = channel
        self._path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        self._credential = credential
        self._pool = descriptor_pool.DescriptorPool()
        self._known: set[str] = set()

    async def services(self) -> list[str]:
        answer = await self._ask(list_services="")
        return [service.name for service in answer.list_services_response.service]

    async def learn(self, service: str) -> None:
        answer = await self._ask(file_containing_symbol=service)
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(raw)
            for raw in answer.file_descriptor_response.file_descriptor_proto
        ]
        while waiting := [file for file in files if file.name not in self._known]:
            for file in waiting:
                if self._known.issuperset(file.dependency):
                    self._pool.AddSerializedFile(file.SerializeToString())
                    self._known.add(file.name)

    async def call(self, service: str, method: str, **fields: Any) -> Any:
        descriptor = self._pool.FindMethodByName(f"{service}.{method}")
        request = message_factory.GetMessageClass(descriptor.input_type)(**fields)
        raw = await self._channel.unary_unary(f"/{service}/{method}")(
            request.SerializeToString(),
            metadata=(("authorization", f"Bearer {self._credential}"),),
            timeout=10,
        )
        return message_factory.GetMessageClass(descriptor.output_type).FromString(raw)

    async def _ask(self, **question: Any) -> Any:
        call: Any = self._channel.stream_stream(self._path)()
        request = reflection_pb2.ServerReflectionRequest(**question)
        await call.write(request.SerializeToString())
        answer = reflection_pb2.ServerReflectionResponse.FromString(await call.read())
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        return answer


class TestReflection:
    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    async def test_a_client_that_knows_nothing_else_can_do_everything(
        self, served: Served, version: str
    ) -> None:
        keys, checks = "keyfence.v1.KeyService", "keyfence.v1.AuthorizationService"
        client = Reflected(served.client.channel, version, served.client.root)
        assert {keys, checks, "keyfence.v1.KeyspaceService"} <= set(await client.services())
        await client.learn(keys)
        await client.learn(checks)
        made = await client.call(
            keys, "CreateKey", keyspace="demo", account_id="a", scopes=["vps:write"]
        )
        api_key = made.api_key
        assert (await client.call(checks, "Authenticate", api_key=api_key)).authenticated
        check = {"api_key": api_key, "required_scopes": ["vps:read"]}
        assert (await client.call(checks, "CheckScope", **check)).allowed
        denied = {"api_key": api_key, "required_scopes": ["vps:create"]}
        batch = await client.call(checks, "BatchCheckScope", checks=[check, denied])
        assert [result.response.allowed for result in batch.results] == [True, False]
        rotated = await client.call(keys, "RotateKey", key_id=made.key.key_id)
        assert not (await client.call(checks, "Authenticate", api_key=api_key)).authenticated
        await client.call(keys, "RevokeKey", key_id=rotated.key.key_id)
        end = await client.call(checks, "Authenticate", api_key=rotated.api_key)
        assert not end.authenticated

    async def test_what_is_not_there_is_not_found(self, served: Served) -> None:
        client = Reflected(served.client.channel, "v1", served.client.root)
        answer = await client._ask(file_containing_symbol="keyfence.v9.Nothing")
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

    async def test_it_can_be_switched_off(self, serve: Any) -> None:
        served = await serve(reflection="off")
        call: Any = served.client.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        )()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert Refusal.of(caught.value).reason == "METHOD_UNKNOWN"
