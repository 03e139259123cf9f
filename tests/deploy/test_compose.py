"""deploy/compose: every name in it is one that exists, and the settings start a server."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from deploy.settings import DATABASE, SECRET, gateway_settings, server_settings
from docs.pages import ROOT

DIRECTORY = ROOT / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((DIRECTORY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("keyfence-1", "keyfence-2", "migrate", "gateway")
KNOWN_TO_COMPOSE = {
    *("cap_drop", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image"),
    *("networks", "ports", "read_only", "restart", "secrets", "security_opt"),
    *("stop_grace_period", "tmpfs", "volumes"),
}


@pytest.mark.parametrize("name", ["keyfence-1", "keyfence-2"])
def test_the_settings_of_the_servers_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"KEYFENCE_DATABASE_URL": DATABASE, "KEYFENCE_ROOT_KEY": SECRET}
    settings = server_settings({**SERVICES[name]["environment"], **given}, monkeypatch)
    assert settings.drain_seconds < float(SERVICES[name]["stop_grace_period"].rstrip("s"))
    # Callers' addresses come through the gateway, which is in this network.
    (network,) = settings.trusted_proxies
    assert COMPOSE["networks"]["inside"]["ipam"]["config"] == [{"subnet": network}]


def test_the_settings_of_the_gateway_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gateway_settings(SERVICES["gateway"]["environment"], monkeypatch)
    host, _, port = settings.target.rpartition(":")
    for name in ("keyfence-1", "keyfence-2"):
        assert host in SERVICES[name]["networks"]["inside"]["aliases"]
        assert f":{port}," in SERVICES[name]["environment"]["KEYFENCE_LISTEN"]


def test_only_the_gateway_is_published_and_only_on_this_host() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert list(published) == ["gateway"]
    assert all(port.startswith("127.0.0.1:") for port in published["gateway"])


def test_what_it_refers_to_is_there() -> None:
    for name, service in SERVICES.items():
        assert set(service) <= KNOWN_TO_COMPOSE, name
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        for other, how in service.get("depends_on", {}).items():
            is_waited_for = how["condition"] == "service_completed_successfully"
            assert is_waited_for or not SERVICES[other].get("healthcheck", {}).get("disable")


def test_our_containers_have_no_rights() -> None:
    for name in OURS:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_no_secret_is_in_the_file_and_each_one_is_made() -> None:
    text = (DIRECTORY / "compose.yaml").read_text()
    assert not re.search(r"postgresql://|kfop_", text)
    script = (DIRECTORY / "make-secrets.sh").read_text()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert f"new {name} " in script or f"secrets/{name}" in script, name
    assert (DIRECTORY / ".gitignore").read_text() == "/secrets/\n"


def test_secrets_are_made_once(tmp_path: Any) -> None:
    copy = tmp_path / "make-secrets.sh"
    shutil.copy(DIRECTORY / "make-secrets.sh", copy)
    (tmp_path / "docker").write_text("#!/bin/sh\necho kfop_made\n")
    (tmp_path / "docker").chmod(0o755)
    run = ["env", f"PATH={tmp_path}:/usr/local/bin:/usr/bin:/bin", "sh", str(copy)]
    subprocess.run(run, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(COMPOSE["secrets"])
    assert made["postgres_password"].strip() in made["database_url"]
    subprocess.run(run, check=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
