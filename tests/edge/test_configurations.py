"""Every configuration that we write or hand out is one that Envoy itself accepts."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme

from keyfence import Tls
from keyfence_server.gateway.binary import CannotStartEnvoy, envoy_binary
from keyfence_server.gateway.configuration import gateway_config
from keyfence_server.gateway.settings import GatewaySettings
from support import tls
from support.edge.authority import Authority
from support.edge.configuration import edge_config, example_config
from support.edge.envoy import StartEnvoy
from support.edge.http import bearer, send
from support.edge.upstream import Upstream
from tools.generate_rest import GRPC_LISTENER, grpc_listener_example

EXAMPLE = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"


def validated(path: Path) -> str:
    """What Envoy says of a configuration. Fails if it refuses it."""
    ended = subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "--config-path", str(path)],
        env={**os.environ, "KEYFENCE_EDGE_TOKEN": "kfop_example"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3_000:]
    return ended.stderr


def test_the_example_is_accepted_as_it_stands_and_uses_nothing_that_will_go() -> None:
    assert "deprecated" not in validated(EXAMPLE).lower()


def test_the_example_is_accepted_with_tls_to_keyfence(tmp_path: Path) -> None:
    config = example_config(with_tls=True)
    (cluster,) = (
        one for one in config["static_resources"]["clusters"] if one["name"] == "keyfence"
    )
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
    trusted = context["validation_context"]["trusted_ca"]
    trusted["filename"] = ssl.get_default_verify_paths().cafile
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(config))

    assert "deprecated" not in validated(path).lower()


@pytest.mark.parametrize("trusts", [True, False])
def test_the_example_speaks_tls_to_a_keyfence_that_it_trusts(
    trusts: bool, upstream: Upstream, start_envoy: StartEnvoy, tmp_path: Path
) -> None:
    issuer = tls.Authority()
    files = tls.Files.write(
        tmp_path / "tls", issuer.issue(), issuer if trusts else tls.Authority("strangers")
    )
    own = tmp_path / "own.pem"
    own.write_bytes(issuer.pem)
    authority = Authority(
        tmp_path / "data",
        tls_cert_file=files.certificate,
        tls_key_file=files.key,
        tls=Tls(ca_file=own),
    )
    try:
        authority.apply("quicksrv")
        config = edge_config(
            keyfence_port=authority.port, upstream_port=upstream.port, authorities=files.authority
        )
        envoy = start_envoy(config, authority.edge_token("quicksrv"))
        headers = [bearer(authority.make_key("quicksrv", "vps:read"))]
        answer = send(envoy.ports["edge"], "GET", "/api/v1/instances", headers)
    finally:
        authority.stop()

    assert answer.status == (200 if trusts else 503)
    assert len(upstream.take()) == (1 if trusts else 0)


def test_the_example_shares_its_port_with_no_second_envoy(start_envoy: StartEnvoy) -> None:
    """The second would get a share of the requests, silently."""
    config = edge_config(keyfence_port=1, upstream_port=1)
    port = start_envoy(config).ports["edge"]
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port

    with pytest.raises(CannotStartEnvoy):
        start_envoy(config)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(directory / "cert.pem", append=True)
    return {
        "tls_cert_file": str(directory / "cert.pem"),
        "tls_key_file": str(directory / "key.pem"),
        "target_ca_file": str(directory / "ca.pem"),
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"listen": "[::1]:0", "target": "keyfence.example.com:443"},
        {"listen": "[::1]:0", "cookie": "a", "target": "localhost:443"},
        {"target": "unix:/run/keyfence/keyfence.sock"},
        {"target": "[::1]:50051", "trusted_proxies": 2},
        {"cookie": "session.token-1"},
        {"cors_origins": "https://a.example.com,http://localhost:3000"},
        {"cors_origins": "*"},
        {"max_request_bytes": 1_024},
        {"grpc_listen": "127.0.0.1:0"},
        {"grpc_listen": "[::1]:0", "target": "localhost:443", "trusted_proxies": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("served_with_tls", [False, True], ids=["plaintext", "tls"])
def test_the_gateways_configuration_is_accepted_for_all_settings(
    fields: dict[str, Any], served_with_tls: bool, certificates: dict[str, str], tmp_path: Path
) -> None:
    settings = GatewaySettings(**{**fields, **(certificates if served_with_tls else {})})
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(gateway_config(settings)))

    assert "deprecated" not in validated(path).lower()


def test_the_example_of_the_listener_for_grpc_is_what_is_made_and_accepted(
    certificates: dict[str, str], tmp_path: Path
) -> None:
    text = GRPC_LISTENER.read_text()
    assert text == grpc_listener_example()
    for setting in ("tls_cert_file", "tls_key_file"):
        name = f"/etc/keyfence/tls.{'crt' if 'cert' in setting else 'key'}"
        assert name in text
        text = text.replace(name, certificates[setting])
    path = tmp_path / "grpc.yaml"
    path.write_text(text)

    assert "deprecated" not in validated(path).lower()


def test_the_gateway_cannot_be_told_a_secret() -> None:
    """The configuration contains no secret."""
    for name in GatewaySettings.model_fields:
        assert not any(word in name for word in ("token", "password", "secret", "root_key"))
