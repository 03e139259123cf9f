"""Where a client of the gateway is, and what is throttled by it: through `keyfence gateway`,
as it is by default and as its page says to set it up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyfence.v1 import keyspace_pb2
from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import Answer
from support.serving import PASSWORD

CLIENT, OTHER = "203.0.113.7", "198.51.100.9"


def forwarded(address: str) -> list[tuple[str, str]]:
    """What a proxy adds to the request of a client at this address."""
    return [("X-Forwarded-For", address)]


class Door:
    """A server with accounts, behind a gateway on its own host.

    Args:
        server: settings of the server.
        gateway: settings of the gateway.
    """

    def __init__(self, directory: Path, server: dict[str, Any], gateway: dict[str, str]) -> None:
        self.authority = Authority(directory / "data", **server)
        try:
            self.gateway = Gateway(directory / "gateway", self.authority.port, gateway)
        except BaseException:
            self.authority.stop()
            raise
        self.authority.operator.apply_keyspace(
            keyspace_pb2.Keyspace(
                name="shop",
                accounts=keyspace_pb2.Accounts(registration=keyspace_pb2.REGISTRATION_OPEN),
            )
        )

    def stop(self) -> None:
        """Ends both."""
        self.gateway.stop()
        self.authority.stop()

    def register(self, email: str, headers: list[tuple[str, str]]) -> Answer:
        """Registers an account, without a credential."""
        account = {"keyspace": "shop", "email": email, "password": PASSWORD}
        return self.gateway.call("POST", "/v1/accounts:register", account, headers=headers)

    def log_in(self, password: str, headers: list[tuple[str, str]]) -> Answer:
        """Logs in to Anna's account."""
        account = {"keyspace": "shop", "email": "anna@example.com", "password": password}
        return self.gateway.call("POST", "/v1/accounts:logIn", account, headers=headers)

    def events(self, action: str) -> list[Any]:
        """What the audit log says."""
        return list(self.authority.operator.list_audit_events(action_prefix=action))


@pytest.fixture
def untold(tmp_path: Path) -> Iterator[Door]:
    """Gateway and server with default settings: the server does not trust the gateway."""
    door = Door(tmp_path, {}, {})
    yield door
    door.stop()


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[Door]:
    """Both as docs/gateway.md says, behind a proxy on the same host."""
    door = Door(
        tmp_path,
        {"trusted_proxies": "127.0.0.1"},
        {"KEYFENCE_GATEWAY_TRUSTED_PROXIES": "1"},
    )
    yield door
    door.stop()


def test_no_client_locks_an_owner_out_where_nothing_is_set_up(untold: Door) -> None:
    """The server cannot tell the owner from other clients behind the gateway."""
    assert untold.register("anna@example.com", []).status == 200
    for n in range(25):
        assert untold.log_in("wrong", forwarded(f"198.51.100.{n}")).status == 401

    assert untold.log_in(PASSWORD, forwarded(CLIENT)).status == 200


def test_registrations_are_bounded_where_nothing_is_set_up(untold: Door) -> None:
    """They tell which addresses are taken. Another address in a header makes no other one."""
    answers = [
        untold.register(f"a{n}@example.com", forwarded(f"198.51.100.{n}")).status for n in range(25)
    ]

    assert answers == [200] * 20 + [429] * 5


def test_no_client_locks_out_an_owner_behind_a_trusted_proxy(documented: Door) -> None:
    """A client that fails from another address uses up the attempts of that address."""
    assert documented.register("anna@example.com", forwarded(CLIENT)).status == 200
    for n in range(2):
        attacker = forwarded(f"198.51.100.{n}")
        answers = [documented.log_in("wrong", attacker).status for _ in range(12)]
        assert answers == [401] * 10 + [429] * 2

    assert documented.log_in(PASSWORD, forwarded(CLIENT)).status == 200
    (begun,) = documented.events("account.log_in")
    assert begun.details["address"] == CLIENT


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (f"{CLIENT}:5000", CLIENT),
        ("[2001:db8::7]:5000", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("unknown", "127.0.0.1"),
    ],
)
def test_a_proxy_may_write_the_clients_port(documented: Door, written: str, address: str) -> None:
    """Some do. What cannot be read as an address counts as the proxy's own."""
    here = [documented.register(f"a{n}@example.com", forwarded(written)).status for n in range(22)]
    assert here == [200] * 20 + [429] * 2
    assert documented.log_in(PASSWORD, forwarded(written)).status == 401
    assert documented.register("anna@example.com", forwarded(OTHER)).status == 200
    assert documented.log_in(PASSWORD, forwarded(written)).status == 200
    (begun,) = documented.events("account.log_in")
    assert begun.details["address"] == address


def test_each_address_has_registrations_of_its_own_behind_a_trusted_proxy(
    documented: Door,
) -> None:
    here = [documented.register(f"a{n}@example.com", forwarded(CLIENT)).status for n in range(22)]
    assert here == [200] * 20 + [429] * 2
    assert documented.register("b@example.com", forwarded(OTHER)).status == 200


def test_a_client_of_the_gateway_does_not_say_where_it_is(documented: Door) -> None:
    """The proxy puts the client's address behind what the client had sent."""
    answers = [
        documented.register(f"a{n}@example.com", forwarded(f"198.51.100.{n}, {CLIENT}")).status
        for n in range(22)
    ]
    assert answers == [200] * 20 + [429] * 2


def test_a_client_of_a_trusted_gateway_without_a_proxy_does_not_either(tmp_path: Path) -> None:
    """The gateway takes no address from a header, and neither does the server behind it."""
    door = Door(tmp_path, {"trusted_proxies": "127.0.0.1"}, {})
    try:
        said = [("X-Forwarded-For", OTHER), ("Forwarded", f"for={OTHER}")]
        assert door.register("anna@example.com", said).status == 200
        assert door.log_in(PASSWORD, said).status == 200
        (begun,) = door.events("account.log_in")
        assert begun.details["address"] == "127.0.0.1"
    finally:
        door.stop()
