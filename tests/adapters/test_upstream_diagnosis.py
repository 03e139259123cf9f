"""Why a sidecar reaches no server upstream: each cause has its own advice."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from keyfence import Tls
from keyfence.holder.session import StreamBroken
from keyfence_server.adapters.upstream import diagnosis
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.telemetry.upstream import UpstreamStats
from support.tls import Authority


@asynccontextmanager
async def grpc_server(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[str]:
    server = grpc.aio.server()
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def advice_on(
    target: str,
    *,
    tls: Tls | None = None,
    monkeypatch: pytest.MonkeyPatch,
    patience_seconds: float = 20.0,
) -> str:
    """What the operator of a sidecar for this target is told."""
    monkeypatch.setattr("keyfence.holder.dial._CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(diagnosis, "_TRY_SECONDS", patience_seconds)
    monkeypatch.setattr(diagnosis, "_ALERT_SECONDS", patience_seconds / 5)
    upstream = Upstream(
        [target],
        token="kfop_any",
        tls=tls,
        insecure_plaintext=False,
        on_call=UpstreamStats().add,
    )
    with pytest.raises(StreamBroken, match="cannot be reached"):
        await upstream.open_stream()
    await upstream.close()
    return upstream.advice


def filled(advice: str) -> str:
    return diagnosis.SIDECAR.fill(advice)


def tls_of(authority: Authority, directory: Path) -> Tls:
    (directory / "trusted.pem").write_bytes(authority.pem)
    return Tls(ca_file=directory / "trusted.pem")


def credentials_of(authority: Authority, *, asks: bool = False) -> grpc.ServerCredentials:
    pair = authority.issue()
    return grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)],
        root_certificates=authority.pem if asks else None,
        require_client_auth=asks,
    )


async def test_nothing_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with grpc_server() as target:
        pass
    assert await advice_on(target, monkeypatch=monkeypatch) == filled(diagnosis.NOTHING_LISTENS)
    nowhere = f"unix:{tmp_path}/nowhere"
    assert await advice_on(nowhere, monkeypatch=monkeypatch) == filled(diagnosis.NOTHING_LISTENS)


async def test_the_ca_is_missing_or_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority()
    async with grpc_server(credentials_of(authority)) as target:
        for tls in (Tls(), tls_of(Authority("other"), tmp_path)):
            advice = await advice_on(target, tls=tls, monkeypatch=monkeypatch)
            assert "KEYFENCE_UPSTREAM_CA_FILE must name the CA" in advice
            assert "certificate is not accepted (" in advice


async def test_the_certificate_has_expired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another CA would not help."""
    authority = Authority()
    pair = authority.issue(expire_time=datetime.now(UTC) - timedelta(days=1))
    expired = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
    async with grpc_server(expired) as target:
        tls = tls_of(authority, tmp_path)
        assert await advice_on(target, tls=tls, monkeypatch=monkeypatch) == diagnosis.EXPIRED


async def test_the_name_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("asyncio.open_connection", unknown)
    async with grpc_server() as target:
        pass
    advice = await advice_on(target, monkeypatch=monkeypatch)
    assert advice == diagnosis.SIDECAR.fill(
        diagnosis.NOT_RESOLVED, reason="Name or service not known"
    )


async def test_the_certificate_is_for_another_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority()
    pair = authority.issue(domains=["elsewhere.example"])
    other = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
    async with grpc_server(other) as target:
        tls = tls_of(authority, tmp_path)
        advice = await advice_on(target, tls=tls, monkeypatch=monkeypatch)
        assert "mismatch" in advice


async def test_the_server_has_no_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with grpc_server() as target:
        tls = tls_of(Authority(), tmp_path)
        advice = await advice_on(target, tls=tls, monkeypatch=monkeypatch)
        assert advice == filled(diagnosis.NO_TLS_THERE)


async def test_the_server_alone_has_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with grpc_server(credentials_of(Authority())) as target:
        assert await advice_on(target, monkeypatch=monkeypatch) == filled(diagnosis.TLS_THERE)


async def test_the_server_wants_a_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority()
    async with grpc_server(credentials_of(authority, asks=True)) as target:
        tls = tls_of(authority, tmp_path)
        advice = await advice_on(target, tls=tls, monkeypatch=monkeypatch)
        assert advice == filled(diagnosis.CERTIFICATE_WANTED)


async def test_what_listens_is_no_grpc_server(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing ever takes its connections.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = "127.0.0.1:{1}".format(*silent.getsockname())
        advice = await advice_on(target, monkeypatch=monkeypatch, patience_seconds=0.5)
        assert advice == filled(diagnosis.NO_GRPC_THERE)
