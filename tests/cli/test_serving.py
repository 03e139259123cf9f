"""`keyfence serve` and `migrate` as processes: first starts, refusals, ends."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from keyfence_server.cli.exits import ExitCode
from support.served import COMMAND, Served, environment_without_settings

EXAMPLES = Path(__file__).parents[2] / "examples" / "keyspaces"
WELCOME = "This is its first start."
DEMO = {"KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "demo.yaml")}


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory with a path that is short enough for a socket."""
    with TemporaryDirectory(prefix="kf") as name:
        yield Path(name)


def end_of(*arguments: str, directory: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    environment = {"KEYFENCE_LISTEN": f"unix:{directory}/s", "KEYFENCE_DATA_DIR": "data"}
    return subprocess.run(
        [*COMMAND, *arguments],
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


def test_the_first_start_keeps_its_credential_to_its_owner(directory: Path) -> None:
    server = Served(directory, DEMO)
    try:
        root_key_file = directory / "data" / "root.key"
        assert stat.S_IMODE(root_key_file.stat().st_mode) == 0o600
        assert server.root_key not in server.wait_for(WELCOME)
    finally:
        server.stop()


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
