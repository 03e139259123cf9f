"""deploy/systemd: systemd accepts the units, rates them well, and their settings exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.settings import server_settings
from docs.pages import ROOT
from keyfence_server.config import Settings

DIRECTORY = ROOT / "deploy" / "systemd"
UNITS = ("keyfence.service", "keyfence-sidecar.service")
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze")


def variables(file: str) -> dict[str, str]:
    """Those that are set, and those that are proposed in comments."""
    lines = (DIRECTORY / file).read_text().splitlines()
    found = [re.fullmatch(r"#?(KEYFENCE_\w+)=(.*)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("file", ["keyfence.env", "sidecar.env"])
def test_every_variable_is_a_setting(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = server_settings(variables(file), monkeypatch)
    assert isinstance(settings, Settings)
    assert bool(settings.upstream) is (file == "sidecar.env")


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_waits_longer_than_the_server_drains(unit: str) -> None:
    found = re.search(r"^TimeoutStopSec=(\d+)$", (DIRECTORY / unit).read_text(), re.MULTILINE)
    assert found is not None
    assert int(found[1]) > Settings.model_fields["drain_seconds"].default


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    # It looks for the program, which is not installed there in a test.
    text = (DIRECTORY / unit).read_text().replace("/opt/keyfence/bin/keyfence", "/bin/true")
    (tmp_path / unit).write_text(text)
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(tmp_path / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_little_exposure(unit: str) -> None:
    # The threshold is in tenths: 2.0 of 10, "OK". What is left is the network and the user.
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--threshold=20", str(DIRECTORY / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:]
