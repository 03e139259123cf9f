"""Which connections are ended, and which addresses slowed down, for the calls they make."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Network, ip_address

import pytest

from keyfence_server.domain.addresses import Address
from keyfence_server.rpc.floods import (
    KNOWN_SECONDS,
    MOST_ENDED,
    MOST_FRUITLESS,
    MOST_OF_KNOWN,
    MOST_OF_SLOWED,
    MOST_OF_STRANGER,
    ONE_IN,
    ONE_IN_OF_KNOWN,
    SILENT_SECONDS,
    SLOW_SECONDS,
    WINDOW_SECONDS,
    FloodGuard,
)
from keyfence_server.rpc.origins import Peer
from keyfence_server.rpc.sockets import MAX_SLOWED, Measures, Source

PEER = "ipv4:192.0.2.1:50000"
PROXY = "ipv4:198.51.100.1:50000"


def peer(name: str) -> Peer:
    """What gRPC calls so."""
    found = Peer.named(name)
    assert found is not None
    return found


class Connections:
    """A guard, its clock, and what it has had the kernel do."""

    def __init__(self) -> None:
        self.silenced: list[Peer] = []
        self.closed: list[Peer] = []
        self.slowed: dict[Source, int] = {}
        self.counts: Counter[str] = Counter()
        self._now = 1_000.0
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.guard = FloodGuard(
            self._spares,
            self.counts,
            self._later,
            asyncio.run,
            self._carry_out,
            clock=lambda: self._now,
        )

    def fruitless(self, count: int, name: str = PEER) -> None:
        for _ in range(count):
            self.guard.ended(object(), name)

    def rejected(self, count: int, name: str = PEER) -> None:
        for _ in range(count):
            call = object()
            self.guard.reject(call)
            self.guard.ended(call, name)

    def vouched(self, count: int, name: str = PEER) -> None:
        for _ in range(count):
            call = object()
            self.guard.vouch(call, name)
            self.guard.ended(call, name)

    def passes(self, seconds: float) -> None:
        self._now += seconds
        due = [callback for at, callback in self._due if at <= self._now]
        self._due = [one for one in self._due if one[0] > self._now]
        for callback in due:
            callback()

    async def _carry_out(self, measures: Measures, ports: Collection[int]) -> None:
        assert [*ports] == []
        self.silenced += measures.silence
        self.closed += measures.close
        if measures.slow is not None:
            self.slowed = dict(measures.slow)

    def _spares(self, address: Address) -> bool:
        return address == peer(PROXY).address

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._due.append((self._now + seconds, callback))


@pytest.fixture
def connections() -> Connections:
    return Connections()


def many(count: int, address: str = "192.0.2.1") -> list[str]:
    """The names of so many connections of an address."""
    return [f"ipv4:{address}:{port}" for port in range(40_000, 40_000 + count)]


class TestConnections:
    def test_a_stranger_is_silenced_and_closed_later(self, connections: Connections) -> None:
        connections.fruitless(MOST_OF_STRANGER - 1)
        assert not connections.silenced
        connections.fruitless(1)
        assert connections.silenced == [peer(PEER)]
        connections.passes(SILENT_SECONDS - 0.1)
        assert not connections.closed
        connections.passes(0.1)
        assert connections.closed == [peer(PEER)]

    def test_it_is_silenced_once(self, connections: Connections) -> None:
        """A hundred calls may still be under way on it."""
        connections.fruitless(MOST_OF_STRANGER + 100)
        assert connections.silenced == [peer(PEER)]
        assert connections.counts == {"silenced": 1}

    def test_its_calls_are_of_no_interest_until_it_is_closed(
        self, connections: Connections
    ) -> None:
        connections.fruitless(MOST_OF_STRANGER - 1)
        assert not connections.guard.has_dismissed(PEER)
        connections.fruitless(1)
        connections.passes(SILENT_SECONDS)
        connections.fruitless(MOST_OF_STRANGER)
        assert connections.counts == {"silenced": 1}, "those end with the connection"
        connections.passes(WINDOW_SECONDS)
        assert not connections.guard.has_dismissed(PEER), "the port may come back"

    def test_calls_long_ago_do_not_count(self, connections: Connections) -> None:
        for _ in range(10):
            connections.fruitless(MOST_OF_STRANGER - 1)
            connections.passes(WINDOW_SECONDS)
        assert not connections.silenced

    def test_connections_are_counted_apart(self, connections: Connections) -> None:
        for name in many(2):
            connections.fruitless(MOST_OF_STRANGER - 1, name)
        assert not connections.silenced

    def test_a_good_client_may_lose_interest_in_all_it_has_open(
        self, connections: Connections
    ) -> None:
        connections.vouched(1)
        connections.fruitless(MOST_FRUITLESS - 1)
        assert not connections.silenced
        assert not connections.closed

    def test_beyond_that_it_is_closed(self, connections: Connections) -> None:
        connections.vouched(1)
        connections.fruitless(MOST_FRUITLESS)
        assert not connections.silenced
        assert connections.guard.has_dismissed(PEER)
        connections.passes(WINDOW_SECONDS)
        assert not connections.guard.has_dismissed(PEER)
        connections.passes(SILENT_SECONDS)
        assert connections.closed == [peer(PEER)], "once, since its port may be another's by now"
        assert connections.counts == {"closed": 1}

    def test_not_one_that_makes_as_many_others(self, connections: Connections) -> None:
        connections.vouched(MOST_FRUITLESS)
        connections.fruitless(MOST_FRUITLESS)
        assert not connections.closed
        connections.fruitless(1)
        assert connections.closed

    def test_who_was_vouched_for_a_moment_ago_is_no_stranger(
        self, connections: Connections
    ) -> None:
        connections.vouched(1)
        connections.passes(WINDOW_SECONDS)
        connections.fruitless(MOST_FRUITLESS - 1)
        assert not connections.silenced
        connections.fruitless(1)
        assert connections.closed

    def test_who_was_vouched_for_before_that_is_one(self, connections: Connections) -> None:
        connections.vouched(1)
        for _ in range(2):
            connections.passes(WINDOW_SECONDS)
            connections.fruitless(1)
        connections.fruitless(MOST_OF_STRANGER - 1)
        assert connections.silenced

    def test_nor_is_one_with_a_good_call_under_way(self, connections: Connections) -> None:
        """As a sidecar has that answers from memory: one stream, for hours."""
        stream = object()
        connections.guard.vouch(stream, PEER)
        connections.passes(KNOWN_SECONDS)
        connections.fruitless(MOST_FRUITLESS - 1)
        assert not connections.silenced
        connections.guard.ended(stream, PEER)
        connections.passes(WINDOW_SECONDS)
        connections.fruitless(1)
        connections.passes(WINDOW_SECONDS)
        connections.fruitless(MOST_OF_STRANGER)
        assert connections.silenced

    def test_who_takes_the_answers_is_told(self, connections: Connections) -> None:
        """Its credential may have been revoked a moment ago."""
        connections.fruitless(MOST_OF_STRANGER // 2 - 1)
        connections.rejected(MOST_OF_STRANGER // 2)
        assert not connections.closed
        connections.rejected(1)
        assert connections.closed == [peer(PEER)]
        assert not connections.silenced

    def test_nothing_is_as_of_a_moment_ago_after_a_pause(self, connections: Connections) -> None:
        connections.vouched(1)
        connections.passes(KNOWN_SECONDS)
        connections.fruitless(MOST_OF_STRANGER)
        assert connections.silenced
        for name in many(MOST_FRUITLESS):
            connections.fruitless(1, name)
        assert connections.slowed == {IPv4Address("192.0.2.1"): ONE_IN}

    def test_excused_calls_do_not_count(self, connections: Connections) -> None:
        for _ in range(2 * MOST_FRUITLESS):
            call = object()
            connections.guard.excuse(call)
            connections.guard.ended(call, PEER)
        assert not connections.silenced
        assert not connections.slowed
        connections.fruitless(MOST_OF_STRANGER)
        assert connections.silenced, "an excuse is not a credential"

    def test_a_credential_counts_whatever_came_of_the_call(self, connections: Connections) -> None:
        call = object()
        connections.guard.excuse(call)
        connections.guard.vouch(call, PEER)
        connections.guard.excuse(call)
        connections.guard.ended(call, PEER)
        connections.fruitless(MOST_OF_STRANGER)
        assert not connections.silenced

    @pytest.mark.parametrize("name", [PROXY, "unix:", "unix:/run/keyfence.sock", "unknown"])
    def test_some_are_spared(self, connections: Connections, name: str) -> None:
        connections.fruitless(10 * MOST_FRUITLESS, name)
        assert not connections.counts


class TestAddresses:
    def test_one_without_a_good_client_is_slowed_down(self, connections: Connections) -> None:
        """However many connections it makes the calls on."""
        for name in many(MOST_FRUITLESS - 1):
            connections.fruitless(1, name)
        connections.fruitless(MOST_FRUITLESS - 1, "ipv4:192.0.2.2:1")
        assert not connections.slowed
        connections.fruitless(1)
        assert connections.slowed == {IPv4Address("192.0.2.1"): ONE_IN}
        assert connections.counts["slowed"] == 1

    def test_for_a_while(self, connections: Connections) -> None:
        for address in ("192.0.2.1", "192.0.2.2"):
            for name in many(MOST_FRUITLESS, address):
                connections.fruitless(1, name)
            connections.passes(SLOW_SECONDS / 2)
        assert connections.slowed == {IPv4Address("192.0.2.2"): ONE_IN}
        connections.passes(SLOW_SECONDS / 2)
        assert connections.slowed == {}

    def test_and_again(self, connections: Connections) -> None:
        for _ in range(2):
            for name in many(MOST_FRUITLESS):
                connections.fruitless(1, name)
            assert connections.slowed
            connections.passes(SLOW_SECONDS)
        assert connections.counts["slowed"] == 2

    def test_one_is_slowed_down_once_at_a_time(self, connections: Connections) -> None:
        for name in many(3 * MOST_FRUITLESS):
            connections.fruitless(1, name)
        assert connections.counts["slowed"] == 1

    @pytest.mark.parametrize("seconds", [0, WINDOW_SECONDS, KNOWN_SECONDS - 10])
    def test_not_one_with_a_good_client(self, connections: Connections, seconds: float) -> None:
        connections.vouched(1, "ipv4:192.0.2.1:1")
        connections.passes(seconds)
        for name in many(2 * MOST_FRUITLESS):
            connections.fruitless(1, name)
        assert not connections.slowed

    def test_good_clients_are_forgotten(self, connections: Connections) -> None:
        connections.vouched(1, "ipv4:192.0.2.1:1")
        connections.passes(WINDOW_SECONDS)
        connections.vouched(1, "ipv4:192.0.2.9:1")
        connections.passes(KNOWN_SECONDS)
        connections.vouched(1, "ipv4:192.0.2.9:1")
        for name in many(MOST_FRUITLESS):
            connections.fruitless(1, name)
        assert connections.slowed == {IPv4Address("192.0.2.1"): ONE_IN}

    def test_a_good_client_is_remembered_from_its_last_call_on(
        self, connections: Connections
    ) -> None:
        for _ in range(3):
            connections.vouched(1, "ipv4:192.0.2.1:1")
            connections.passes(KNOWN_SECONDS / 2)
        for name in many(MOST_FRUITLESS):
            connections.fruitless(1, name)
        assert not connections.slowed

    def test_strangers_slow_down_any(self, connections: Connections) -> None:
        connections.vouched(1, "ipv4:192.0.2.1:1")
        names = many(MOST_ENDED)
        for name in names[1:]:
            connections.fruitless(MOST_OF_STRANGER, name)
        assert not connections.slowed
        connections.fruitless(MOST_OF_STRANGER, names[0])
        assert connections.slowed == {IPv4Address("192.0.2.1"): ONE_IN_OF_KNOWN}

    def test_strangers_long_ago_do_not_count(self, connections: Connections) -> None:
        connections.vouched(1, "ipv4:192.0.2.1:1")
        for name in many(2 * MOST_ENDED):
            connections.fruitless(MOST_OF_STRANGER, name)
            connections.passes(WINDOW_SECONDS / 2)
        assert not connections.slowed

    @pytest.mark.parametrize("per_connection", [1, MOST_OF_STRANGER - 1])
    def test_strangers_together_slow_down_any(
        self, connections: Connections, per_connection: int
    ) -> None:
        connections.vouched(1, "ipv4:192.0.2.1:1")
        for name in many(MOST_OF_KNOWN // per_connection):
            connections.fruitless(per_connection, name)
        connections.fruitless(MOST_OF_KNOWN % per_connection)
        assert connections.slowed == {IPv4Address("192.0.2.1"): ONE_IN_OF_KNOWN}

    def test_calls_that_are_open_make_a_good_client(self, connections: Connections) -> None:
        """A stream that says its credential again and again, as renewals of a lease do."""
        stream = object()
        for _ in range(3):
            connections.guard.vouch(stream, "ipv4:192.0.2.1:1")
            connections.passes(KNOWN_SECONDS / 2)
        for name in many(MOST_FRUITLESS):
            connections.fruitless(1, name)
        assert not connections.slowed

    def test_those_open_before_do_not_go_on(self, connections: Connections) -> None:
        """With few calls on each of many connections."""
        names = many(MOST_FRUITLESS)
        for name in names:
            connections.fruitless(1, name)
        assert not connections.silenced
        for name in names:
            connections.fruitless(1, name)
        assert len(connections.silenced) == MOST_FRUITLESS

    def test_its_strangers_are_silenced_sooner(self, connections: Connections) -> None:
        for name in many(MOST_FRUITLESS):
            connections.fruitless(1, name)
        connections.passes(WINDOW_SECONDS)
        connections.fruitless(MOST_OF_SLOWED - 1)
        assert not connections.silenced
        connections.fruitless(1)
        assert connections.silenced == [peer(PEER)]

    def test_no_more_than_there_is_room_for(self, connections: Connections) -> None:
        for host in range(MAX_SLOWED + 1):
            connections.fruitless(MOST_FRUITLESS, f"ipv6:%5B2001:db8:0:{host:x}::1%5D:1")
            for name in range(2, MOST_FRUITLESS):
                connections.fruitless(1, f"ipv6:%5B2001:db8:0:{host:x}::1%5D:{name}")
        assert len(connections.slowed) == connections.counts["slowed"] == MAX_SLOWED

    def test_a_network_of_ipv6_counts_as_one(self, connections: Connections) -> None:
        """Whoever has one address of it has all."""
        for host in range(1, MOST_FRUITLESS + 1):
            connections.fruitless(1, f"ipv6:%5B2001:db8::{host:x}%5D:1")
        assert connections.slowed == {IPv6Network("2001:db8::/64"): ONE_IN}


@pytest.mark.parametrize(
    ("name", "address", "port"),
    [
        ("ipv4:192.0.2.1:50123", "192.0.2.1", 50123),
        ("ipv6:%5B2001:db8::1%5D:1", "2001:db8::1", 1),
        ("ipv6:[fe80::1%25eth0]:1", "fe80::1", 1),
        ("ipv6:%5B::ffff:192.0.2.1%5D:1", "192.0.2.1", 1),
    ],
)
def test_peers_are_read_as_grpc_writes_them(name: str, address: str, port: int) -> None:
    assert Peer.named(name) == Peer(ip_address(address), port)


def test_a_measure_that_fails_does_not_keep_others_from_being_taken(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_measures: object, _ports: object) -> None:
        raise ValueError

    with monkeypatch.context() as failing:
        failing.setattr(connections.guard, "_carry_out", fail)
        connections.fruitless(MOST_OF_STRANGER)
    connections.fruitless(MOST_OF_STRANGER, "ipv4:192.0.2.2:1")
    assert connections.silenced == [peer("ipv4:192.0.2.2:1")]


def test_nothing_is_kept_of_calls_that_have_ended(connections: Connections) -> None:
    connections.vouched(1_000)
    connections.fruitless(1_000)
    connections.rejected(1_000)
    assert not connections.guard._standing
    assert not connections.guard._good_calls
