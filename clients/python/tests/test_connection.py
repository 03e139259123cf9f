"""Where a client connects to, and that secrets cross no network unencrypted by default."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from clients.python.tests.authority import Authority
from clients.python.tests.conftest import Caller
from keyfence import AsyncClient, Client, ConfigurationError, Tls, Unavailable
from keyfence._tokens import token_source
from keyfence.connection import Connection
from keyfence.targets import is_local

CANARY = "kf_system_canary_1c0ffee"

LOCAL = [
    "127.0.0.1:50051",
    "127.8.9.10:1",
    "[::1]:50051",
    "localhost:50051",
    "LOCALHOST:50051",
    "unix:/run/keyfence.sock",
    "unix:///run/keyfence.sock",
    "unix:keyfence.sock",
    "unix-abstract:keyfence",
    "dns:///localhost:50051",
    "dns:127.0.0.1:50051",
    "ipv4:127.0.0.1:50051,127.0.0.2:50051",
    "ipv6:[::1]:50051",
]
REMOTE = [
    "keyfence.example:443",
    "192.0.2.1:50051",
    "0.0.0.0:50051",
    "[2001:db8::1]:443",
    "[::]:443",
    "dns:///keyfence.example:443",
    "dns://192.0.2.53/keyfence.example:443",
    "dns://127.0.0.1/keyfence.example:443",
    "ipv4:127.0.0.1:50051,192.0.2.1:50051",
    "xds:///keyfence",
    "localhost.example:443",
    "127.0.0.1.example:443",
    "[::ffff:127.0.0.1]:443",
    "passthrough:///127.0.0.1:443",
]
NONSENSE = [
    "keyfence.example",
    "dns:///keyfence.example",
    "https://keyfence.example",
    "http://127.0.0.1:50051",
    "::1",
    "::1:50051",
    ":50051",
    "unix:",
    "a b:1",
    "host:port",
    "host/path:1",
    "ipv4:127.0.0.1",
    "dns:",
]


def resolved(target: str | None, **arguments: Any) -> Connection:
    return Client(target, **arguments)._connection


@pytest.mark.parametrize("target", LOCAL)
def test_what_stays_on_this_machine_is_plaintext_by_default(target: str) -> None:
    connection = resolved(target, token=CANARY)
    assert connection.is_local
    assert connection.tls is None


@pytest.mark.parametrize("target", REMOTE)
def test_what_crosses_a_network_is_encrypted_by_default(target: str) -> None:
    assert resolved(target, token=CANARY).tls == Tls()


@pytest.mark.parametrize("target", NONSENSE)
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError):
        resolved(target)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    try:
        is_local(text)
    except ConfigurationError:
        return
    assert ":" in text


def test_plaintext_over_a_network_is_asked_for_by_name() -> None:
    assert resolved("keyfence.example:50051", insecure_plaintext=True).tls is None


def test_tls_may_be_asked_for_on_this_machine_too() -> None:
    assert resolved("127.0.0.1:50051", tls=Tls()).tls == Tls()


def test_asking_for_both_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="exclude"):
        resolved("keyfence.example:443", tls=Tls(), insecure_plaintext=True)


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ConfigurationError, match="together"):
        Tls(certificate_file="client.pem")


def test_local_connections_ignore_proxies_of_the_environment() -> None:
    """A proxy would take the plaintext elsewhere."""
    assert ("grpc.enable_http_proxy", 0) in resolved("localhost:50051").options()
    names = [name for name, _ in resolved("keyfence.example:443").options()]
    assert "grpc.enable_http_proxy" not in names


def test_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFENCE_TARGET", "127.0.0.1:1")
    monkeypatch.setenv("KEYFENCE_TOKEN", CANARY)
    connection = resolved(None)
    assert connection.target == "127.0.0.1:1"
    assert connection.token is not None
    assert connection.token() == CANARY
    explicit = resolved("127.0.0.1:2", token="another")
    assert explicit.target == "127.0.0.1:2"
    assert explicit.token is not None
    assert explicit.token() == "another"


def test_without_any_target_there_is_no_client() -> None:
    with pytest.raises(ConfigurationError, match="KEYFENCE_TARGET"):
        Client()


@pytest.mark.parametrize("token", ["", "two words", "line\n", "é", CANARY + "\r\nx: y"])
def test_what_cannot_be_a_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client("127.0.0.1:1", token=token)
    assert CANARY not in str(caught.value)


def test_no_repr_shows_the_token() -> None:
    for client in (Client, AsyncClient):
        made = client("127.0.0.1:1", token=CANARY)
        assert CANARY not in repr(made)
        assert CANARY not in repr(made._connection)
        assert "127.0.0.1:1" in repr(made)


A_TOKEN = "kfop_7Hq2mXcV0bN4pLw9ZtR1yKfUoEaGsDjB0Zk3Tq"


@pytest.mark.parametrize("target", [A_TOKEN, f"Bearer {A_TOKEN}"])
def test_a_token_in_place_of_the_target_is_not_said_back(target: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(target, token="x")
    assert A_TOKEN[5:] not in str(caught.value)


def test_a_secret_in_place_of_its_file_is_not_said_back() -> None:
    with pytest.raises(ConfigurationError) as caught:
        token_source(Path(A_TOKEN))()
    assert A_TOKEN[5:] not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        Tls(key_file=f"-----BEGIN PRIVATE KEY-----\n{A_TOKEN}").credentials()
    assert A_TOKEN[5:] not in str(caught.value)


async def test_a_token_file_is_read_again_when_it_has_changed(
    kind: Any, authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    caller = Caller(kind, authority.target, token=file)
    await caller("who_am_i")
    renewed = tmp_path / "renewed"
    renewed.write_text("other\n")
    renewed.replace(file)
    await caller("who_am_i")
    sent = [attempt.metadata["authorization"] for attempt in authority.attempts]
    assert sent == ["Bearer first", "Bearer other"]
    file.unlink()
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        await caller("who_am_i")
    await caller("close")


async def test_a_token_function_is_asked_for_every_call(kind: Any, authority: Authority) -> None:
    tokens = iter(["first", "second"])
    caller = Caller(kind, authority.target, token=lambda: next(tokens))
    await caller("who_am_i")
    await caller("who_am_i")
    sent = [attempt.metadata["authorization"] for attempt in authority.attempts]
    assert sent == ["Bearer first", "Bearer second"]
    await caller("close")


async def test_a_token_function_may_be_asynchronous(authority: Authority) -> None:
    async def fetch() -> str:
        await asyncio.sleep(0)
        return "fetched"

    async with AsyncClient(authority.target, token=fetch) as client:
        await client.who_am_i()
    assert authority.last.metadata["authorization"] == "Bearer fetched"


async def test_a_unix_socket_works(kind: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority()
        await authority.start(f"unix:{directory}/keyfence.sock")
        caller = Caller(kind, authority.target)
        assert await caller("check_scope", "k", "a:b")
        await caller("close")
        await authority.stop()


class Certificates:
    """A certificate authority in a directory, with a server and a client certificate."""

    def __init__(self, directory: Path) -> None:
        issuer = trustme.CA()
        self.server = issuer.issue_cert("localhost", "keyfence.example")
        client = issuer.issue_cert("client@example.org")
        self.ca_file = directory / "ca.pem"
        self.certificate_file = directory / "client.pem"
        self.key_file = directory / "client.key"
        issuer.cert_pem.write_to_path(os.fspath(self.ca_file))
        client.cert_chain_pems[0].write_to_path(os.fspath(self.certificate_file))
        client.private_key_pem.write_to_path(os.fspath(self.key_file))

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        pair = (
            self.server.private_key_pem.bytes(),
            b"".join(part.bytes() for part in self.server.cert_chain_pems),
        )
        roots = self.ca_file.read_bytes() if mutual else None
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=mutual)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
async def tls_authority(certificates: Certificates) -> AsyncIterator[Authority]:
    server = Authority()
    await server.start("localhost:0", certificates.server_credentials(mutual=False))
    yield server
    await server.stop()


async def test_tls_with_a_private_authority(
    kind: Any, tls_authority: Authority, certificates: Certificates
) -> None:
    caller = Caller(kind, tls_authority.target, token=CANARY, tls=Tls(ca_file=certificates.ca_file))
    assert await caller("check_scope", "k", "a:b")
    await caller("close")


async def test_tls_with_another_name_than_the_target(
    kind: Any, tls_authority: Authority, certificates: Certificates
) -> None:
    tls = Tls(ca_file=certificates.ca_file, server_name="keyfence.example")
    caller = Caller(kind, tls_authority.target, tls=tls)
    assert await caller("check_scope", "k", "a:b")
    await caller("close")


@pytest.mark.parametrize("trouble", ["authority", "name"])
async def test_a_server_without_a_valid_certificate_gets_nothing(
    kind: Any, tls_authority: Authority, certificates: Certificates, trouble: str
) -> None:
    tls = (
        Tls()
        if trouble == "authority"
        else Tls(ca_file=certificates.ca_file, server_name="another.example")
    )
    caller = Caller(kind, tls_authority.target, token=CANARY, tls=tls)
    with pytest.raises(Unavailable):
        await caller("check_scope", "k", "a:b")
    assert tls_authority.attempts == []
    await caller("close")


async def test_mutual_tls(kind: Any, certificates: Certificates) -> None:
    authority = Authority()
    await authority.start("localhost:0", certificates.server_credentials(mutual=True))
    stranger = Caller(kind, authority.target, tls=Tls(ca_file=certificates.ca_file))
    with pytest.raises(Unavailable):
        await stranger("check_scope", "k", "a:b")
    await stranger("close")
    known = Caller(
        kind,
        authority.target,
        tls=Tls(
            ca_file=certificates.ca_file,
            certificate_file=certificates.certificate_file,
            key_file=certificates.key_file,
        ),
    )
    assert await known("check_scope", "k", "a:b")
    await known("close")
    await authority.stop()


async def test_a_file_that_cannot_be_read_is_named(kind: Any, tmp_path: Path) -> None:
    caller = Caller(kind, "localhost:1", tls=Tls(ca_file=tmp_path / "gone.pem"))
    with pytest.raises(ConfigurationError, match=r"gone\.pem"):
        await caller("who_am_i")
    await caller("close")
