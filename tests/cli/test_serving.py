"""`keyfence serve` and `migrate` as processes: first starts, refusals, ends."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from keyfence_server.cli.exits import ExitCode
from keyfence_server.rpc.certificates import CertificateFiles
from keyfence_server.rpc.listen_addresses import parse_listen_address
from keyfence_server.welcome import welcome
from support.served import COMMAND, Served, environment_without_settings
from support.tls import Authority, Files

EXAMPLES = Path(__file__).parents[2] / "examples" / "keyspaces"
WELCOME = "This is its first start."
DEMO = {"KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "demo.yaml")}


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory with a path that is short enough for a socket."""
    with TemporaryDirectory(prefix="kf") as name:
        yield Path(name)


def end_of(
    *arguments: str, directory: Path, command: Sequence[str] = COMMAND, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command, or another program with its settings, to its end."""
    environment = {"KEYFENCE_LISTEN": f"unix:{directory}/s", "KEYFENCE_DATA_DIR": "data"}
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        timeout=60,
        env=environment_without_settings({**environment, **settings}),
    )


def pasted(server: Served) -> list[str]:
    """The commands that the first start printed."""
    return [line.strip() for line in server.wait_for(WELCOME).splitlines() if line.startswith("  ")]


def test_the_commands_of_the_first_start_work_word_for_word(directory: Path) -> None:
    """Pasted into a shell in the same directory: an allow, a denial, a revocation."""
    server = Served(directory, DEMO)
    try:
        commands = pasted(server)
        script = "\n".join(f"{command}\necho ENDED $?" for command in commands)
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        shell = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            env=environment_without_settings({"PATH": path}),
            timeout=60,
        )
    finally:
        assert server.stop() == ExitCode.OK
    ended = [int(line.split()[1]) for line in shell.stdout.splitlines() if "ENDED" in line]
    checks = [
        code for command, code in zip(commands, ended, strict=True) if "keyfence check" in command
    ]
    others = [
        code
        for command, code in zip(commands, ended, strict=True)
        if "keyfence check" not in command
    ]
    assert checks == [ExitCode.OK, ExitCode.DENIED, ExitCode.DENIED], shell.stdout + shell.stderr
    assert set(others) == {ExitCode.OK}
    assert "SCOPE_MISSING" in shell.stdout
    assert "KEY_REVOKED" in shell.stdout


@pytest.mark.parametrize("name", ["", "keyfence.example", "*.example"])
def test_the_commands_of_a_first_start_with_tls_know_the_certificate(
    directory: Path, name: str
) -> None:
    """As they are pasted: the machine does not know the certificate's issuer, and the name may lead
    to another host."""
    files = Files.write(directory / "tls", Authority().issue(domains=[name] if name else None))
    server = Served(
        directory,
        {
            "KEYFENCE_LISTEN": f"127.0.0.1:0,unix:{directory}/s",
            "KEYFENCE_TLS_CERT_FILE": "tls/tls.crt",
            "KEYFENCE_TLS_KEY_FILE": "tls/tls.key",
        },
        target=f"unix:{directory}/s",
    )
    try:
        told = pasted(server)
        address = re.search(r"listens on (\S+)\.", server.output)
        assert address is not None
        assert f"export KEYFENCE_TARGET=unix:{directory}/s" in told
        without_socket = welcome(
            [parse_listen_address(address[1])],
            directory / "data" / "root.key",
            None,
            CertificateFiles(files.certificate, files.key),
        )
        for commands in (told, [line for line in without_socket.splitlines() if line[:2] == "  "]):
            asked = subprocess.run(
                ["bash", "-c", "\n".join(commands)],
                capture_output=True,
                text=True,
                check=False,
                cwd=directory,
                env=environment_without_settings(
                    {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
                ),
                timeout=60,
            )
            assert asked.returncode == ExitCode.OK, asked.stderr
            assert "keyspaces:write" in asked.stdout
    finally:
        server.stop()


def test_a_client_that_does_not_speak_tls_is_told_of_it_and_of_nothing_else(
    directory: Path,
) -> None:
    """gRPC's core would write lines of its own."""
    Files.write(directory / "tls", Authority().issue())
    server = Served(
        directory,
        {
            "KEYFENCE_LISTEN": f"127.0.0.1:0,unix:{directory}/s",
            "KEYFENCE_TLS_CERT_FILE": "tls/tls.crt",
            "KEYFENCE_TLS_KEY_FILE": "tls/tls.key",
        },
        target=f"unix:{directory}/s",
    )
    try:
        address = re.search(r"listens on (\S+)\.", server.wait_for(WELCOME))
        assert address is not None
        (directory / "other.crt").write_bytes(Authority("other").pem)
        for options, code, said in (
            ([], ExitCode.UNAVAILABLE, "the server uses TLS, and this process does not"),
            (["--ca-file", "other.crt"], ExitCode.UNAVAILABLE, "certificate is not accepted"),
            (["--ca-file", "tls/tls.crt"], ExitCode.OK, ""),
        ):
            asked = subprocess.run(
                [*COMMAND, *options, "whoami"],
                capture_output=True,
                text=True,
                check=False,
                cwd=directory,
                env=server.env({"KEYFENCE_TARGET": address[1]}),
                timeout=60,
            )
            assert asked.returncode == code
            assert said in asked.stderr
            assert ("--ca-file" in asked.stderr) == bool(code)
            assert len(asked.stderr.splitlines()) == (2 if code else 0)
        health = end_of("--target", address[1], "health", directory=directory)
        assert health.returncode == ExitCode.DENIED
        assert "--ca-file" in health.stderr
    finally:
        server.stop()


def test_the_first_start_keeps_its_credential_to_its_owner(directory: Path) -> None:
    server = Served(directory, DEMO)
    try:
        root_key_file = directory / "data" / "root.key"
        assert stat.S_IMODE(root_key_file.stat().st_mode) == 0o600
        assert server.root_key not in server.wait_for(WELCOME)
    finally:
        server.stop()


PRINTS_WHAT_IS_FROZEN = """
import gc, os, signal
from keyfence_server.config import load_settings
from keyfence_server.process import AsWorker, run

def ready():
    print(gc.get_freeze_count() > len(gc.get_objects()), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

run(load_settings(), AsWorker(0, ready, lambda _: None))
"""


def test_what_the_start_has_loaded_is_out_of_the_garbage_collectors_sight(
    directory: Path,
) -> None:
    (directory / "data").mkdir(mode=0o700)
    ended = end_of(PRINTS_WHAT_IS_FROZEN, directory=directory, command=(sys.executable, "-c"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "True"


def test_a_second_start_makes_no_second_credential_and_prints_no_welcome(directory: Path) -> None:
    first = Served(directory, DEMO)
    root_key = first.root_key
    assert first.stop() == ExitCode.OK
    second = Served(directory, DEMO)
    try:
        assert second.root_key == root_key
        listed = subprocess.run(
            [*COMMAND, "keys", "list", "--keyspace", "system", "--quiet"],
            capture_output=True,
            text=True,
            check=True,
            env=second.env(),
        )
        assert len(listed.stdout.split()) == 1
    finally:
        second.stop()
    assert WELCOME not in second.output


def test_a_credential_from_elsewhere_is_taken_at_the_first_start(directory: Path) -> None:
    root_key = end_of("root-key", directory=directory).stdout.strip()
    server = Served(directory, {"KEYFENCE_ROOT_KEY": root_key})
    try:
        assert not (directory / "data" / "root.key").exists()
        asked = subprocess.run(
            [*COMMAND, "whoami"],
            capture_output=True,
            text=True,
            check=True,
            env=environment_without_settings(
                {"KEYFENCE_TARGET": server.target, "KEYFENCE_TOKEN": root_key}
            ),
        )
        assert "keyspaces:write" in asked.stdout
        assert root_key not in server.output
    finally:
        server.stop()


def test_a_faulty_first_keyspace_is_shown_at_its_line_and_leaves_nothing(directory: Path) -> None:
    file = directory / "first.yaml"
    file.write_text("keyspace: first\nscopes:\n  read: {implies: reed}\n  write: x\n")
    refused = end_of("serve", "--bootstrap-keyspaces", "first.yaml", directory=directory)
    assert refused.returncode == ExitCode.CONFLICT
    assert "first.yaml:3:19: " in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (directory / "data" / "root.key").exists()

    file.write_text("keyspace: first\n")
    mended = Served(directory, {"KEYFENCE_BOOTSTRAP_KEYSPACES": "first.yaml"})
    try:
        mended.wait_for(WELCOME)
    finally:
        mended.stop()


def test_a_second_server_on_the_same_data_is_refused(directory: Path) -> None:
    server = Served(directory)
    try:
        second = end_of("serve", directory=directory)
        assert second.returncode == ExitCode.CONFLICT
        assert "another server" in second.stderr
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"KEYFENCE_LISTEN": "0.0.0.0:0"}, "KEYFENCE_LISTEN"),
        ({"KEYFENCE_LISTNE": "x"}, "KEYFENCE_LISTEN"),
        ({"KEYFENCE_LOG_LEVEL": "loud"}, "KEYFENCE_LOG_LEVEL"),
    ],
    ids=str,
)
def test_wrong_settings_are_named_and_end_with_2(
    directory: Path, settings: dict[str, str], named: str
) -> None:
    refused = end_of("serve", directory=directory, **settings)
    assert refused.returncode == ExitCode.WRONG_INPUT
    assert named in refused.stderr
    assert not (directory / "data").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"KEYFENCE_PEPPER_FILE": "/nope"}, "KEYFENCE_PEPPER_FILE: /nope: No such file"),
        ({"KEYFENCE_DATA_DIR": "/etc/passwd"}, "KEYFENCE_DATA_DIR: /etc/passwd: File exists"),
        (
            {"KEYFENCE_DATABASE_URL": "sqlite:////nope/x.db"},
            "KEYFENCE_DATABASE_URL: /nope: No such file",
        ),
        ({"KEYFENCE_LISTEN": "unix:/nope/s"}, "KEYFENCE_LISTEN: cannot listen on /nope/s: No such"),
        ({"KEYFENCE_LISTEN": "192.0.2.1:1"}, "KEYFENCE_LISTEN: cannot listen on 192.0.2.1:1: "),
        (
            {"KEYFENCE_TLS_CERT_FILE": "/nope", "KEYFENCE_TLS_KEY_FILE": "/nope"},
            "KEYFENCE_TLS_CERT_FILE, KEYFENCE_TLS_KEY_FILE: /nope: No such file",
        ),
        (
            {
                "KEYFENCE_DATABASE_URL": "postgresql://u:hunter22@127.0.0.1:1/d",
                "KEYFENCE_PEPPER": "1:" + "A" * 44,
                "KEYFENCE_DATABASE_WAIT_SECONDS": "0",
            },
            "KEYFENCE_DATABASE_URL, PostgreSQL at 127.0.0.1:1: the store does not answer",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_what_keeps_it_from_starting_is_said_with_the_setting_to_change(
    directory: Path, settings: dict[str, str], said: str
) -> None:
    plaintext = {"KEYFENCE_INSECURE_PLAINTEXT": "true"}
    refused = end_of("serve", directory=directory, **plaintext, **settings)
    assert refused.returncode == ExitCode.CONFLICT
    assert said in refused.stderr
    assert "hunter22" not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_that_is_no_database_is_said_to_be_damaged(directory: Path) -> None:
    (directory / "data").mkdir()
    (directory / "data" / "pepper").write_text("1:" + "A" * 44)
    (directory / "data" / "keyfence.db").write_text("not a database, and long enough " * 40)
    refused = end_of("serve", directory=directory)
    assert refused.returncode == ExitCode.CONFLICT
    assert "keyfence.db: the store is damaged: " in refused.stderr


def test_an_option_wins_over_the_environment(directory: Path) -> None:
    refused = end_of("serve", "--listen", "nonsense", directory=directory)
    assert refused.returncode == ExitCode.WRONG_INPUT
    assert "nonsense" in refused.stderr


def test_a_malformed_first_credential_is_refused_unrepeated(directory: Path) -> None:
    refused = end_of("serve", directory=directory, KEYFENCE_ROOT_KEY="kfop_tooshort")
    assert refused.returncode == ExitCode.CONFLICT
    assert "KEYFENCE_ROOT_KEY" in refused.stderr
    assert "tooshort" not in refused.stderr


def test_migrate_makes_the_tables_once(directory: Path) -> None:
    (directory / "data").mkdir()
    database = {"KEYFENCE_DATABASE_URL": f"sqlite:///{directory}/data/own.db"}
    needed = end_of("migrate", "--check", directory=directory, **database)
    assert needed.returncode == ExitCode.CONFLICT
    assert "keyfence migrate" in needed.stderr
    assert "from nothing to schema" in end_of("migrate", directory=directory, **database).stdout
    assert "up to date" in end_of("migrate", directory=directory, **database).stdout
    assert end_of("migrate", "--check", directory=directory, **database).returncode == ExitCode.OK


@pytest.mark.postgres
def test_postgresql_is_served_after_migrate_and_not_before(
    directory: Path, empty_postgres_url: str
) -> None:
    pepper = directory / "pepper"
    pepper.write_text("1:" + "QUJD" * 12)
    pepper.chmod(0o600)
    settings = {
        "KEYFENCE_DATABASE_URL": empty_postgres_url,
        "KEYFENCE_PEPPER_FILE": str(pepper),
    }
    refused = end_of("serve", directory=directory, **settings)
    assert refused.returncode == ExitCode.CONFLICT
    assert "keyfence migrate" in refused.stderr
    assert end_of("migrate", directory=directory, **settings).returncode == ExitCode.OK
    server = Served(directory, {**settings, **DEMO})
    server.wait_for(WELCOME)
    assert server.stop() == ExitCode.OK


def test_a_database_that_is_not_there_is_no_fault_and_shows_no_password(directory: Path) -> None:
    url = "postgresql://keyfence:hunter22-secret@127.0.0.1:1/keyfence"
    ended = end_of("migrate", directory=directory, KEYFENCE_DATABASE_URL=url)
    assert ended.returncode == ExitCode.UNAVAILABLE
    assert "hunter22" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_url_that_is_none_is_a_wrong_input(directory: Path) -> None:
    ended = end_of("migrate", directory=directory, KEYFENCE_DATABASE_URL="mysql://u:hunter22@h/d")
    assert ended.returncode == ExitCode.WRONG_INPUT
    assert "hunter22" not in ended.stdout + ended.stderr
