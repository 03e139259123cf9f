"""What the Dockerfile says about running its image, run here: the command lines, the
variables and the health check are the file's own. Paths are moved into the test's directory,
and the port to a free one of the loopback."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from keyfence_server.cli.exits import ExitCode
from keyfence_server.config import InvalidSettings, load_settings
from support.served import COMMAND, Served, environment_without_settings
from support.tls import Authority

TEXT: Final = (Path(__file__).parents[2] / "Dockerfile").read_text()
STAGE: Final = TEXT[TEXT.rindex("\nFROM ") :].replace("\\\n", "")
"""The last stage, a line for each instruction."""
JAVA: Final = (
    Path(__file__).parents[2] / "clients/java/testcontainers/src/main/java/io/github/keyfence"
)


def instruction(name: str) -> str:
    """The one instruction of that name."""
    (found,) = re.findall(rf"^{name} (.*)$", STAGE, re.MULTILINE)
    return str(found)


def image_settings() -> dict[str, str]:
    """The settings that the image brings."""
    pairs = dict(one.split("=", 1) for one in shlex.split(instruction("ENV")))
    return {name: value for name, value in pairs.items() if name.startswith("KEYFENCE_")}


def run_arguments() -> list[str]:
    """The `docker run` of the file's header."""
    header = "\n".join(line.removeprefix("#") for line in TEXT.partition("\nARG ")[0].splitlines())
    (found,) = re.findall(r"docker run (.*) keyfence$", header.replace("\\\n", ""), re.MULTILINE)
    return shlex.split(found)


def given(option: str) -> list[str]:
    """What the `docker run` gives with this option."""
    arguments = run_arguments()
    return [arguments[at + 1] for at, one in enumerate(arguments) if one == option]


def run_settings() -> dict[str, str]:
    """The settings that the `docker run` adds."""
    return dict(one.split("=", 1) for one in given("--env"))


@pytest.fixture
def container() -> Iterator[Path]:
    """Stands for the container's root, with the two volumes of the `docker run`."""
    with TemporaryDirectory(prefix="kf") as name:
        root = Path(name)
        for volume in given("--volume"):
            target = Path(volume.split(":")[1])
            (root / target.relative_to("/")).mkdir(parents=True)
        pair = Authority().issue()
        for variable, content in (("CERT", pair.certificate), ("KEY", pair.key)):
            path = run_settings()[f"KEYFENCE_TLS_{variable}_FILE"]
            (root / path.removeprefix("/")).write_bytes(content)
        yield root


def moved(text: str, root: Path) -> str:
    """With paths of the container in the test's directory, and on the loopback."""
    text = text.replace("/var/lib/", f"{root}/var/lib/").replace("/etc/", f"{root}/etc/")
    return text.replace("0.0.0.0:50051", "127.0.0.1:0")


def health_of(root: Path) -> int:
    """How the health check ends."""
    program, *check = json.loads(instruction("HEALTHCHECK").partition(" CMD ")[2])
    assert program == "keyfence"
    return subprocess.run(
        [*COMMAND, *(moved(one, root) for one in check)],
        env=environment_without_settings(),
        capture_output=True,
        check=False,
        timeout=60,
    ).returncode


def started(root: Path, more: Mapping[str, str]) -> Served:
    """The image's server, with settings besides those of the image."""
    assert json.loads(instruction("ENTRYPOINT")) == ["keyfence"]
    assert json.loads(instruction("CMD")) == ["serve"]
    settings = {name: moved(value, root) for name, value in {**image_settings(), **more}.items()}
    return Served(root, settings, target=settings["KEYFENCE_LISTEN"].split(",")[1])


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(run_settings(), id="with TLS"),
        pytest.param({"KEYFENCE_INSECURE_PLAINTEXT": "true"}, id="in plaintext"),
        pytest.param(
            {**run_settings(), "KEYFENCE_WORKERS": "2"}, id="with workers", marks=pytest.mark.slow
        ),
    ],
)
def test_the_health_check_passes_while_the_image_serves(
    container: Path, more: Mapping[str, str]
) -> None:
    assert health_of(container) != ExitCode.OK
    server = started(container, more)
    try:
        assert health_of(container) == ExitCode.OK
    finally:
        assert server.stop() == ExitCode.OK
    assert health_of(container) != ExitCode.OK


def test_the_docker_run_of_the_header_is_complete(
    container: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image alone is refused, since it listens beyond loopback; as the header has it, it
    is not, and all that it writes is in a volume that is not read-only."""
    for name, value in image_settings().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match="KEYFENCE_TLS_CERT_FILE"):
        load_settings()
    for name, value in run_settings().items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    (writable,) = (one.split(":")[1] for one in given("--volume") if not one.endswith(":ro"))
    assert str(settings.data_dir) == writable == instruction("VOLUME")
    assert {str(one.path.parent) for one in settings.unix_addresses()} == {writable}
    (published,) = given("--publish")
    assert {int(published.split(":")[-1])} == {one.port for one in settings.tcp_addresses()}


def test_the_testcontainers_module_fits_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs where a container engine is, which tests do not have: so its port, its settings, its
    file and what it waits for are compared with the image."""
    module = (JAVA / "testcontainers/KeyfenceContainer.java").read_text()
    settings = dict(re.findall(r'withEnv\("(\w+)", "([^"]*)"\)', module))
    assert settings
    for name, value in {**image_settings(), **settings}.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    (port,) = re.findall(r"int PORT = (\d+);", module)
    assert port == instruction("EXPOSE")
    assert {int(port)} == {one.port for one in loaded.tcp_addresses()}
    (root_key,) = re.findall(r'String ROOT_KEY = "([^"]*)";', module)
    assert Path(root_key) == loaded.data_dir / "root.key"
    assert "waitingFor(Wait.forHealthcheck())" in module
    assert instruction("HEALTHCHECK")
