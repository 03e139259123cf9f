"""TLS: who is let in, and how certificates are renewed while the server runs."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from keyfence_server.provisioning import CannotStart
from keyfence_server.rpc.certificates import CertificateFiles, ServerCertificate
from support.clock import FrozenClock
from support.serving import Client, Served
from support.tls import Authority, Files, Pair, private_pem


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Files:
    return Files.write(tmp_path / "tls", authority.issue(), authority)


def with_tls(files: Files, *, clients: bool = False) -> dict[str, Any]:
    """Settings of a server with these files."""
    settings: dict[str, Any] = {"tls_cert_file": files.certificate, "tls_key_file": files.key}
    if clients:
        settings["tls_client_ca_file"] = files.authority
    return settings


async def is_let_in(
    served: Served, trusted: Authority, pair: Pair | None = None, address: int = 0
) -> bool:
    """Whether a new connection of a client that trusts this authority comes to a call."""
    credentials = grpc.ssl_channel_credentials(
        trusted.pem, pair.key if pair else None, pair.certificate if pair else None
    )
    target = str(served.server.addresses[address])
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
        try:
            await Client(channel, served.client.root).call("WhoAmI", deadline_seconds=5)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise
    return True


async def test_calls_are_encrypted(serve: Any, files: Files, authority: Authority) -> None:
    served = await serve(**with_tls(files))
    assert await is_let_in(served, authority)
    assert not await is_let_in(served, Authority())


async def test_plaintext_is_not_understood(serve: Any, files: Files) -> None:
    """Not on loopback either, once there is a certificate."""
    served = await serve(**with_tls(files))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.client.call("WhoAmI", deadline_seconds=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_clients_show_a_certificate_where_one_is_asked_for(
    serve: Any, files: Files, authority: Authority
) -> None:
    served = await serve(**with_tls(files, clients=True))
    assert await is_let_in(served, authority, authority.issue("client"))
    assert not await is_let_in(served, authority)
    assert not await is_let_in(served, authority, Authority().issue("client"))


async def test_a_certificate_does_not_stand_in_for_a_credential(
    serve: Any, files: Files, authority: Authority
) -> None:
    served = await serve(**with_tls(files, clients=True))
    pair = authority.issue("client")
    credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
    async with grpc.aio.secure_channel(str(served.server.addresses[0]), credentials) as channel:
        refusal = await Client(channel, "").refusal("WhoAmI", credential=None)
    assert refusal.reason == "CREDENTIAL_REQUIRED"


async def test_a_renewed_certificate_is_used_without_a_restart(
    serve: Any, files: Files, authority: Authority
) -> None:
    """On every port, and again when it is renewed again."""
    served = await serve(listen="127.0.0.1:0,127.0.0.1:0", **with_tls(files))
    for following in (Authority("second"), Authority("third")):
        files.renew(following.issue())
        assert served.server.certificate.reload()
        for address in (0, 1):
            assert await is_let_in(served, following, address=address)
            assert not await is_let_in(served, authority, address=address)


async def test_renewed_authorities_are_used_without_a_restart(
    serve: Any, files: Files, authority: Authority
) -> None:
    served = await serve(**with_tls(files, clients=True))
    following = Authority("clients")
    files.authority.write_bytes(following.pem)
    assert served.server.certificate.reload()
    assert await is_let_in(served, authority, following.issue("client"))
    assert not await is_let_in(served, authority, authority.issue("client"))


async def test_the_files_are_followed_unasked(
    serve: Any, files: Files, authority: Authority
) -> None:
    served = await serve(tls_reload_seconds=0.01, **with_tls(files))
    following = Authority("second")
    files.renew(following.issue())
    while not await is_let_in(served, following):
        pass


@pytest.mark.parametrize("spoil", ["half", "empty", "gone", "noise"])
async def test_a_bad_renewal_changes_nothing_and_is_said_once(
    serve: Any, files: Files, authority: Authority, log: io.StringIO, spoil: str
) -> None:
    served = await serve(**with_tls(files))
    following = Authority("second").issue()
    if spoil == "half":
        files.certificate.write_bytes(following.certificate)
    elif spoil == "empty":
        files.key.write_bytes(b"")
    elif spoil == "gone":
        files.key.unlink()
    else:
        files.certificate.write_bytes(b"\x00\xff noise")
    assert not served.server.certificate.reload()
    assert not served.server.certificate.reload()
    assert await is_let_in(served, authority)
    said = [line for line in log.getvalue().splitlines() if "certificate_not_replaced" in line]
    assert len(said) == 1
    files.renew(authority.issue())
    assert served.server.certificate.reload()
    assert await is_let_in(served, authority)


async def test_a_certificate_that_cannot_be_used_keeps_the_server_from_starting(
    serve: Any, files: Files, authority: Authority
) -> None:
    files.key.write_bytes(authority.issue().key)
    with pytest.raises(CannotStart, match=r"tls\.key are not a PEM certificate and its private"):
        await serve(**with_tls(files))


async def test_an_expired_certificate_keeps_the_server_from_starting(
    serve: Any, files: Files, authority: Authority
) -> None:
    """Every client would refuse it, and say less of the cause."""
    files.renew(authority.issue(expire_time=datetime.now(UTC) - timedelta(hours=1)))
    with pytest.raises(CannotStart, match=r"tls\.crt: a certificate in it expired at"):
        await serve(**with_tls(files))


async def test_an_expired_certificate_does_not_replace_a_valid_one(
    serve: Any, files: Files, authority: Authority, log: io.StringIO
) -> None:
    served = await serve(**with_tls(files))
    files.renew(authority.issue(expire_time=datetime.now(UTC) - timedelta(hours=1)))
    assert not served.server.certificate.reload()
    assert "certificate_not_replaced" in log.getvalue()
    assert await is_let_in(served, authority)


def test_a_certificate_that_expires_soon_is_logged_once_a_day(
    files: Files, authority: Authority, log: io.StringIO
) -> None:
    clock = FrozenClock(datetime.now(UTC))
    files.renew(authority.issue(expire_time=clock.now() + timedelta(days=22)))
    certificate = ServerCertificate(CertificateFiles(files.certificate, files.key), clock)

    def events() -> list[str]:
        certificate.warn_of_expiry()
        return [json.loads(line)["event"] for line in log.getvalue().splitlines()]

    assert events() == []
    clock.advance(timedelta(days=2))
    assert events() == ["certificate_expires_soon"]
    clock.advance(timedelta(hours=23))
    assert events() == ["certificate_expires_soon"]
    clock.advance(timedelta(hours=2))
    assert events() == ["certificate_expires_soon"] * 2
    clock.advance(timedelta(days=20))
    assert events()[-1] == "certificate_expired"


async def test_a_key_with_a_passphrase_is_not_asked_about(serve: Any, files: Files) -> None:
    """A server has no terminal at which a passphrase could be typed."""
    key = ec.generate_private_key(ec.SECP256R1())
    files.key.write_bytes(private_pem(key, passphrase=b"secret"))
    with pytest.raises(CannotStart, match="without a passphrase"):
        await serve(**with_tls(files))


async def test_authorities_that_are_none_keep_the_server_from_starting(
    serve: Any, files: Files
) -> None:
    files.authority.write_text("no certificate")
    with pytest.raises(CannotStart, match=r"ca\.crt holds no PEM certificate"):
        await serve(**with_tls(files, clients=True))


async def test_plaintext_that_was_asked_for_by_name_is_served_and_said_loudly(
    serve: Any, log: io.StringIO
) -> None:
    served = await serve(listen="0.0.0.0:0", insecure_plaintext=True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        await Client(channel, served.client.root).call("WhoAmI")
    assert "KEYFENCE_INSECURE_PLAINTEXT" in log.getvalue()
