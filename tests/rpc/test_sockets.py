"""What the kernel is asked to do with sockets: each on real ones."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from keyfence_server.domain.addresses import parse_address
from keyfence_server.rpc import sockets
from keyfence_server.rpc.origins import Peer
from keyfence_server.rpc.sockets import MAX_SLOWED, Measures, source_of

pytestmark = pytest.mark.skipif(not sockets.HAS_FILTERS, reason="needs Linux's socket filters")

ATTEMPTS = 100
ONE_IN, FEW = 16, 40
"""If one in sixteen gets through, that more than these do is as good as impossible."""

PORTS: set[int] = set()
"""Those of the server under test."""

Connect = Callable[..., tuple[socket.socket, socket.socket]]


@pytest.fixture(params=["127.0.0.1", "::ffff:127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    """What is listened on: IPv4, IPv4 as gRPC does it, IPv6."""
    name: str = request.param
    return name


@pytest.fixture
def listening(host: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen(2 * ATTEMPTS)
        PORTS.add(listener.getsockname()[1])
        yield listener
        PORTS.clear()


@pytest.fixture
def connect(listening: socket.socket) -> Iterator[Connect]:
    """Makes connections: the client's end and the server's."""
    with ExitStack() as opened:

        def made() -> tuple[socket.socket, socket.socket]:
            host, port = listening.getsockname()[:2]
            client = opened.enter_context(
                socket.create_connection((host.removeprefix("::ffff:"), port), timeout=10)
            )
            server = opened.enter_context(listening.accept()[0])
            server.setblocking(False)
            return client, server

        yield made


def peer_of(client: socket.socket) -> Peer:
    host, port = client.getsockname()[:2]
    return Peer(parse_address(host), port)


def connected(listening: socket.socket, source: str) -> int:
    """How many of the attempts from an address get through at once."""
    host, port = listening.getsockname()[:2]
    with ExitStack() as opened:
        clients = []
        for _ in range(ATTEMPTS):
            client = opened.enter_context(
                socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
            )
            client.setblocking(False)
            client.bind((source, 0))
            client.connect_ex((host.removeprefix("::ffff:"), port))
            clients.append(client)
        # On a loopback interface this has come to its end by now.
        count = sum(
            client.connect_ex((host.removeprefix("::ffff:"), port)) == 0 for client in clients
        )
    listening.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
    listening.setblocking(True)
    return count


def carry_out(**measures: Any) -> None:
    asyncio.run(sockets.carry_out(Measures(**measures), PORTS))


def silence(peer: Peer) -> None:
    carry_out(silence={peer})


def close(peer: Peer) -> None:
    carry_out(close={peer})


def slow(*addresses: str) -> None:
    carry_out(slow={source_of(parse_address(one)): ONE_IN for one in addresses})


@pytest.mark.parametrize("measure", [silence, close])
def test_other_connections_are_left_alone(
    connect: Connect, measure: Callable[[Peer], None]
) -> None:
    ended, _ = connect()
    client, server = connect()
    measure(peer_of(ended))
    client.sendall(b"said")
    assert server.recv(100) == b"said"
    server.sendall(b"answered")
    assert client.recv(100) == b"answered"


class TestSilence:
    def test_nothing_arrives_any_more(self, connect: Connect) -> None:
        client, server = connect()
        client.sendall(b"before")
        silence(peer_of(client))
        client.sendall(b"after")
        with pytest.raises(BlockingIOError):
            server.recv(100)

    def test_the_client_is_not_told(self, connect: Connect) -> None:
        client, _ = connect()
        silence(peer_of(client))
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(100)

    def test_its_end_is_told_when_it_is_closed(self, connect: Connect) -> None:
        client, server = connect()
        silence(peer_of(client))
        close(peer_of(client))
        assert client.recv(100) == b""
        assert server.recv(100) == b""


class TestClose:
    def test_both_ends_are_told(self, connect: Connect) -> None:
        client, server = connect()
        client.sendall(b"before")
        close(peer_of(client))
        assert client.recv(100) == b""
        assert server.recv(100) == b"", "what had arrived is forgotten"

    def test_the_process_s_own_connections_are_left_alone(self, connect: Connect) -> None:
        """Also one to whom the peer's address and port belong."""
        client, server = connect()
        close(Peer(parse_address(server.getsockname()[0]), server.getsockname()[1]))
        client.sendall(b"said")
        assert server.recv(100) == b"said"

    def test_other_ports_are_left_alone(self, connect: Connect) -> None:
        client, server = connect()
        PORTS.clear()
        close(peer_of(client))
        client.sendall(b"said")
        assert server.recv(100) == b"said"

    def test_without_files_left_nothing_is_done_and_nothing_raised(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, server = connect()
        monkeypatch.setattr(sockets, "_FDS", Path("/dev/fd/none"))
        close(peer_of(client))
        client.sendall(b"said")
        assert server.recv(100) == b"said"

    def test_one_that_is_gone_is_no_error(self, connect: Connect) -> None:
        client, server = connect()
        peer = peer_of(client)
        client.close()
        server.close()
        silence(peer)
        close(peer)


@pytest.mark.parametrize("host", ["127.0.0.1", "::ffff:127.0.0.1"], indirect=True)
class TestSlow:
    def test_few_new_connections_get_through(self, listening: socket.socket) -> None:
        slow("127.0.0.2")
        assert connected(listening, "127.0.0.2") < FEW

    def test_all_of_others_do(self, listening: socket.socket) -> None:
        slow("127.0.0.2", "::1", "127.1.0.1")
        assert connected(listening, "127.0.0.1") == ATTEMPTS

    def test_all_of_several_are_slowed_down(self, listening: socket.socket) -> None:
        sources = [f"127.0.0.{last}" for last in (2, 3, 4)]
        slow(*sources, "2001:db8::1")
        assert max(connected(listening, one) for one in sources) < FEW

    def test_each_as_much_as_is_said(self, listening: socket.socket) -> None:
        sources = {"127.0.0.2": 1 << 20, "127.0.0.3": 1, "127.0.0.4": 2}
        carry_out(slow={source_of(parse_address(one)): n for one, n in sources.items()})
        none, all_of_them, half = (connected(listening, one) for one in sources)
        assert (none, all_of_them) == (0, ATTEMPTS)
        assert ATTEMPTS / 5 < half < ATTEMPTS * 4 / 5

    def test_it_ends(self, listening: socket.socket) -> None:
        slow("127.0.0.2")
        slow()
        assert connected(listening, "127.0.0.2") == ATTEMPTS

    def test_what_is_open_stays(self, listening: socket.socket, connect: Connect) -> None:
        before = connect()
        slow("127.0.0.9")
        after = connect()
        slow("127.0.0.1")
        for client, server in (before, after):
            client.sendall(b"said")
            assert server.recv(100) == b"said"

    def test_there_is_room_for_many(self, listening: socket.socket) -> None:
        others = [f"127.1.0.{number}" for number in range(MAX_SLOWED)]
        slow(*others)
        assert max(connected(listening, one) for one in (others[0], others[-1])) < FEW
        assert connected(listening, "127.0.0.2") == ATTEMPTS

    def test_there_is_room_for_as_many_of_ipv6(self, listening: socket.socket) -> None:
        networks = [f"2001:db8:0:{number:x}::1" for number in range(MAX_SLOWED - 1)]
        slow("127.0.0.2", *networks)
        assert connected(listening, "127.0.0.2") < FEW


@pytest.mark.parametrize("host", ["::1"], indirect=True)
class TestSlowIPv6:
    def test_few_new_connections_get_through(self, listening: socket.socket) -> None:
        sources = ("127.0.0.1", "2001:db8::1", "::2", "2001:db8:0:1::1")
        slow(*sources)
        assert connected(listening, "::1") < FEW

    @pytest.mark.parametrize("other", ["2001:db8::1", "0:0:0:1::1", "0:0:1::1", "127.0.0.1"])
    def test_all_of_others_do(self, listening: socket.socket, other: str) -> None:
        """The whole of 64 bits is compared."""
        slow(other)
        assert connected(listening, "::1") == ATTEMPTS


def test_locks_on_files_are_kept(tmp_path: Path, listening: socket.socket) -> None:
    """SQLite's are lost once any descriptor of the file is closed, a duplicate, too."""
    path = tmp_path / "database"
    write = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    )

    def is_locked() -> bool:
        other = subprocess.run(
            [sys.executable, "-c", write, path], check=False, capture_output=True, text=True
        )
        return "database is locked" in other.stderr

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (n)")
        assert not is_locked()
        connection.execute("BEGIN IMMEDIATE")
        assert is_locked()
        slow("127.0.0.2")
        assert is_locked()


def test_nothing_is_left_open(listening: socket.socket, connect: Connect) -> None:
    client, _ = connect()
    open_before = len(list(sockets._FDS.iterdir()))
    for _ in range(10):
        slow()
        silence(peer_of(client))
        close(peer_of(client))
    assert len(list(sockets._FDS.iterdir())) == open_before
