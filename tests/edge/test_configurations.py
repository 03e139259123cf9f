"""Every configuration that we write or hand out is one that Envoy itself accepts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme

from keyfence_server.gateway.binary import envoy_binary
from keyfence_server.gateway.configuration import gateway_config
from keyfence_server.gateway.settings import GatewaySettings

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
        {"target": "unix:/run/keyfence/keyfence.sock"},
        {"target": "[::1]:50051", "trusted_proxies": 2},
        {"cookie": "session.token-1"},
        {"cors_origins": "https://a.example.com,http://localhost:3000"},
        {"cors_origins": "*"},
        {"max_request_bytes": 1_024},
    ],
    ids=str,
)
@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
def test_the_gateways_configuration_is_accepted_for_all_settings(
    fields: dict[str, Any], tls: bool, certificates: dict[str, str], tmp_path: Path
) -> None:
    settings = GatewaySettings(**{**fields, **(certificates if tls else {})})
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(gateway_config(settings)))

    assert "deprecated" not in validated(path).lower()


def test_the_gateway_cannot_be_told_a_secret() -> None:
    """Its configuration can be shown to anybody."""
    for name in GatewaySettings.model_fields:
        assert not any(word in name for word in ("token", "password", "secret", "root_key"))
