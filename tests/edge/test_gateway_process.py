"""The gateway's process: it ends whole, finds Keyfence, and speaks TLS where it must."""

from __future__ import annotations

import http.client
import re
import signal
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from keyfence import Client, Tls
from keyfence_server.gateway.cluster import clusters
from keyfence_server.gateway.configuration import gateway_config
from keyfence_server.gateway.settings import GatewaySettings
from support import tls
from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import bearer


@contextmanager
def running(directory: Path, keyfence_port: int, **more: str | Path) -> Iterator[Gateway]:
    settings = {f"KEYFENCE_GATEWAY_{name.upper()}": str(value) for name, value in more.items()}
    gateway = Gateway(directory / "gateway", keyfence_port, settings)
    try:
        yield gateway
    finally:
        gateway.stop()


class TestTheEnd:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_it_ends_when_told_or_when_its_terminal_is_closed(
        self, authority: Authority, tmp_path: Path, how: signal.Signals
    ) -> None:
        # The process that runs the tests may ignore the signal.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            gateway = Gateway(tmp_path, authority.port)
        finally:
            signal.signal(signal.SIGHUP, before)
        (envoy,) = psutil.Process(gateway.pid).children()

        assert gateway.stop(how) == 0

        assert not envoy.is_running()

    def test_envoy_does_not_outlive_it_if_it_is_killed_and_no_file_does(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        """Otherwise it would never end, and the next gateway would find its port taken."""
        # A short path, since Envoy's socket goes there.
        with tempfile.TemporaryDirectory() as name:
            gateway = Gateway(tmp_path, authority.port, {"TMPDIR": name})
            (envoy,) = psutil.Process(gateway.pid).children()

            assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL

            gone, _ = psutil.wait_procs([envoy], timeout=20)
            assert gone == [envoy]
            assert list(Path(name).iterdir()) == []

    def test_what_it_was_told_to_ignore_it_ignores(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        """`nohup` starts programs like that."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            gateway = Gateway(tmp_path, authority.port)
        finally:
            signal.signal(signal.SIGHUP, before)
        try:
            status = Path(f"/proc/{gateway.pid}/status").read_text()
        finally:
            gateway.stop()

        (ignored,) = re.findall(r"SigIgn:\s+([0-9a-f]+)", status)
        assert int(ignored, 16) & 1 << signal.SIGHUP - 1


class TestTheTarget:
    @pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
    def test_localhost_is_found_on_whichever_address_it_listens(
        self, tmp_path: Path, listen: str
    ) -> None:
        authority = Authority(tmp_path / "data", listen=listen)
        try:
            with running(tmp_path, 0, target=f"localhost:{authority.port}") as gateway:
                answers = [gateway.send("GET", "/v1/whoami") for _ in range(20)]
        finally:
            authority.stop()

        assert {answer.status for answer in answers} == {401}

    @pytest.mark.parametrize(
        ("target", "uses_tls"),
        [
            ("keyfence.example.com:50051", True),
            ("192.0.2.1:50051", True),
            ("[2001:db8::1]:50051", True),
            ("localhost.example.com:50051", True),
            ("0.0.0.0:50051", True),
            ("localhost:50051", False),
            ("127.0.0.1:50051", False),
            ("127.1.2.3:50051", False),
            ("[::1]:50051", False),
            ("unix:/run/keyfence.sock", False),
        ],
    )
    def test_no_credential_crosses_a_network_in_the_clear(
        self, target: str, uses_tls: bool
    ) -> None:
        (cluster,) = gateway_config(GatewaySettings(target=target))["static_resources"]["clusters"]

        assert ("transport_socket" in cluster) is uses_tls
        if uses_tls:
            context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
            trusted = context["validation_context"]["trusted_ca"]["filename"]
            assert trusted == ssl.get_default_verify_paths().cafile

    def test_unless_that_is_asked_for_by_name(self, authority: Authority, tmp_path: Path) -> None:
        """0.0.0.0 is this machine, but nothing that one could rely on."""
        target = f"0.0.0.0:{authority.port}"
        for more, status in (({}, 503), ({"target_insecure_plaintext": "true"}, 401)):
            with running(tmp_path, 0, target=target, **more) as gateway:
                assert gateway.send("GET", "/v1/whoami").status == status, more

    def test_what_contradicts_itself_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match="exclude each other"):
            GatewaySettings(target_insecure_plaintext=True, target_ca_file=tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        with pytest.raises(ValueError, match="TARGET_CA_FILE"):
            GatewaySettings(target="keyfence.example.com:50051")

    def test_a_unix_socket_is_asked_without_tls(self, tmp_path: Path) -> None:
        for target, has_tls in (("unix:/run/keyfence.sock", False), ("127.0.0.1:1", True)):
            settings = GatewaySettings(target=target, target_ca_file=tmp_path / "ca.pem")
            (cluster,) = clusters(settings)
            assert ("transport_socket" in cluster) is has_tls


class TestTls:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tls.Files:
        certificates = tls.Authority()
        return tls.Files.write(tmp_path / "tls", certificates.issue(), certificates)

    @pytest.fixture
    def keyfence(self, files: tls.Files, tmp_path: Path) -> Iterator[Authority]:
        """A server that is spoken to with TLS alone."""
        authority = Authority(
            tmp_path / "data",
            tls_cert_file=files.certificate,
            tls_key_file=files.key,
            tls=Tls(ca_file=files.authority),
        )
        yield authority
        authority.stop()

    def test_it_is_spoken_on_both_sides(
        self, keyfence: Authority, files: tls.Files, tmp_path: Path
    ) -> None:
        token = keyfence.root_key
        sides = {
            "tls_cert_file": files.certificate,
            "tls_key_file": files.key,
            "target_ca_file": files.authority,
        }
        with running(tmp_path, keyfence.port, **sides) as gateway:
            context = ssl.create_default_context(cafile=str(files.authority))
            rest = http.client.HTTPSConnection(
                "127.0.0.1", gateway.port, context=context, timeout=15
            )
            rest.request("GET", "/v1/whoami", headers=dict([bearer(token)]))
            assert rest.getresponse().status == 200
            rest.close()
            with Client(
                f"127.0.0.1:{gateway.port}", token=token, tls=Tls(ca_file=files.authority)
            ) as client:
                assert client.who_am_i().principal.keyspace == "system"
            assert f"serving on https://127.0.0.1:{gateway.port}" in gateway.output
            in_plaintext = pytest.raises((OSError, http.client.HTTPException))
            with in_plaintext:
                gateway.send("GET", "/v1/whoami")

    def test_the_targets_certificate_must_be_from_whom_is_trusted_and_for_the_name(
        self,
        keyfence: Authority,
        files: tls.Files,
        tmp_path: Path,
    ) -> None:
        stranger = tmp_path / "stranger.pem"
        stranger.write_bytes(tls.Authority("strangers").pem)
        for more, status in (
            ({"target_ca_file": files.authority}, 401),
            ({"target_ca_file": stranger}, 503),
            ({"target_ca_file": files.authority, "target_name": "keyfence.example.com"}, 503),
            ({}, 503),
        ):
            with running(tmp_path, keyfence.port, **more) as gateway:
                assert gateway.send("GET", "/v1/whoami").status == status, more

    def test_the_systems_authorities_are_trusted_over_a_network(
        self, keyfence: Authority, files: tls.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for system, status in ((files.authority, 401), (None, 503)):
            if system is None:
                monkeypatch.delenv("SSL_CERT_FILE")
            else:
                monkeypatch.setenv("SSL_CERT_FILE", str(system))
            with running(
                tmp_path, 0, target=f"0.0.0.0:{keyfence.port}", target_name="127.0.0.1"
            ) as gateway:
                assert gateway.send("GET", "/v1/whoami").status == status
