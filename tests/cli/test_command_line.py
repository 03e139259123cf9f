"""The command without a server: its help, its exit codes, and what it never shows."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from keyfence.results import Authentication, Reason
from keyfence_server.cli import app as command
from keyfence_server.cli import option_values
from keyfence_server.cli.exits import EXIT_CODES_HELP, ExitCode
from keyfence_server.cli.output import plain, print_fields, print_table, timestamp

NO_SERVER = "127.0.0.1:1"
"""A target at which nothing listens."""

A_KEY = "demo_live_sk_7Hq2mXcV0bN4pLw9ZtR1yKfUoEaGsDjB0Zk3Tq"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own: no credential, no target, no data directory."""
    for name in list(os.environ):
        if name.startswith("KEYFENCE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KEYFENCE_TARGET", NO_SERVER)
    monkeypatch.chdir(tmp_path)


def subcommands() -> Iterator[tuple[str, Any]]:
    """Every command line that has a help, the empty one included, and its command."""

    def below(path: str, group: Any) -> Iterator[tuple[str, Any]]:
        yield path, group
        for name, child in getattr(group, "commands", {}).items():
            yield from below(f"{path} {name}", child)

    yield from below("", command.whole_command())


SUBCOMMANDS: Final = dict(subcommands())


@pytest.mark.parametrize("path", SUBCOMMANDS)
def test_every_command_explains_itself_and_each_of_its_parameters(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run([*path.split(), "--help"]) == ExitCode.OK
    assert "Usage: keyfence" in capsys.readouterr().out
    found = SUBCOMMANDS[path]
    assert found.help
    for parameter in found.params:
        assert getattr(parameter, "help", None), f"{path} does not explain {parameter.name}"


def test_help_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    command.run(["--help"])
    shown = capsys.readouterr().out
    for code in ExitCode:
        assert f"- {code.value}: " in EXIT_CODES_HELP
        assert f"{code.value}: " in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["keys"],
        ["keys", "lst"],
        ["check"],
        ["check", A_KEY, "--explain"],
        ["keys", "get", "not-an-id"],
        ["keys", "update", "key_01"],
        ["keys", "update", "key_01", "--clear", "expiry", "--expires-in", "1d"],
        ["keys", "create", "-k", "demo", "--expires-in", "1d", "--expires-at", "2030-01-01"],
        ["keys", "create", "-k", "demo", "--expires-in", "soon"],
        ["keys", "create", "-k", "demo", "--expires-at", "2030-01-01T10:00:00"],
        ["keys", "create", "-k", "demo", "--expires-in", "999999999d"],
        ["keys", "create", "-k", "demo", "--label", "novalue"],
        ["check", "\udcff"],
        ["check", "key", "--at-least-revision", str(2**63)],
        ["keys", "list", "--output", "xml"],
        ["keyspaces", "apply"],
        ["keyspaces", "apply", "-f", "missing.yaml"],
        ["keyspaces", "apply", "-f", "-", "-f", "-"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEYFENCE_TOKEN", "token")
    assert command.run(arguments) == ExitCode.WRONG_INPUT
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelt_command_is_answered_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command.run(["keys", "crate"])
    assert "Did you mean 'create'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "key", A_KEY],
        ["keys", "get", A_KEY],
        ["keys", "revoke", A_KEY],
        ["whoami", A_KEY],
        [A_KEY],
        [f"--{A_KEY}"],
        ["check", "key", "--scope", "a", "--output", A_KEY],
    ],
    ids=lambda arguments: " ".join(arguments).replace(A_KEY, "KEY"),
)
def test_a_key_in_the_wrong_place_is_not_repeated(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(arguments) == ExitCode.WRONG_INPUT
    shown = capsys.readouterr()
    assert A_KEY[13:] not in shown.out + shown.err


def test_without_a_credential_it_says_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["whoami"]) == ExitCode.NOT_PERMITTED
    assert "KEYFENCE_TOKEN" in capsys.readouterr().err


def test_it_says_what_to_paste_where_a_server_left_its_first_credential(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".keyfence").mkdir()
    (tmp_path / ".keyfence" / "root.key").write_text("kfop_secret")
    assert command.run(["whoami"]) == ExitCode.NOT_PERMITTED
    shown = capsys.readouterr().err
    assert 'export KEYFENCE_TOKEN="$(cat .keyfence/root.key)"' in shown
    assert "kfop_secret" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", A_KEY, "-k", "demo", "-s", "vps:read"],
        ["check", A_KEY],
        ["whoami"],
        ["keys", "list", "-k", "demo"],
        ["keyspaces", "get", "demo"],
        ["scopes", "explain", "vps:read", "-k", "demo"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]).replace(A_KEY, "KEY"),
)
def test_no_server_is_told_from_a_denial(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEYFENCE_TOKEN", "token")
    assert command.run(["--timeout", "20", *arguments]) == ExitCode.UNAVAILABLE
    shown = capsys.readouterr()
    assert f"No Keyfence answers at {NO_SERVER}" in shown.err
    assert "no server accepts connections there" in shown.err
    assert shown.out == ""
    assert A_KEY not in shown.err


def test_health_without_a_server_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["--timeout", "20", "health"]) == ExitCode.DENIED
    assert "unreachable: no server accepts connections there" in capsys.readouterr().err


def test_a_target_that_is_none_is_a_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["--target", "https://example.com", "health"]) == ExitCode.WRONG_INPUT
    assert "is a URL" in capsys.readouterr().err


def test_a_token_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["--token-file", "gone.key", "whoami"]) == ExitCode.WRONG_INPUT
    shown = capsys.readouterr().err
    assert "the token file 'gone.key' cannot be read: No such file or directory" in shown


def test_a_ca_file_that_is_not_there_is_called_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEYFENCE_TOKEN", "kfop_any")
    assert command.run(["--ca-file", "gone.pem", "whoami"]) == ExitCode.WRONG_INPUT
    shown = capsys.readouterr().err
    assert "the CA file 'gone.pem' cannot be read: No such file or directory" in shown


def test_a_value_that_is_none_of_the_choices_is_answered_in_plain_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.run(["keys", "list", "--state", "dead"]) == ExitCode.WRONG_INPUT
    assert "'--state': 'dead' is not one of 'active'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["backup", "copy.db"], ExitCode.CONFLICT),
        (["operator", "recover"], ExitCode.NOT_FOUND),
    ],
    ids=["backup", "recover"],
)
def test_where_no_database_is_the_settings_that_name_it_are_named(
    arguments: list[str], code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(arguments) == code
    shown = capsys.readouterr().err
    assert "there is no database; name the server's data directory" in shown
    assert "KEYFENCE_DATA_DIR" in shown


def test_a_backup_that_is_not_there_is_a_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["restore", "gone.db"]) == ExitCode.WRONG_INPUT
    assert "gone.db: there is no such file" in capsys.readouterr().err


def test_every_file_is_read_before_the_server_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEYFENCE_TOKEN", "token")
    (tmp_path / "good.yaml").write_text("keyspace: good\n")
    (tmp_path / "bad.yaml").write_text("keyspace: Bad\n")
    (tmp_path / "worse.yaml").write_text("keyspace: [\n")
    files = ["-f", "good.yaml", "-f", "bad.yaml", "-f", "worse.yaml"]
    assert command.run(["keyspaces", "apply", *files]) == ExitCode.WRONG_INPUT
    shown = capsys.readouterr().err
    assert "bad.yaml:1:11: " in shown
    assert "worse.yaml:" in shown
    assert "2 problems; nothing was applied" in shown


def test_two_files_for_one_keyspace_contradict_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEYFENCE_TOKEN", "token")
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("keyspace: acme\n")
    files = ["-f", "one.yaml", "-f", "two.yaml"]
    assert command.run(["keyspaces", "apply", *files]) == ExitCode.WRONG_INPUT
    assert "one.yaml and two.yaml declare the same keyspace" in capsys.readouterr().err


def test_a_fault_of_ours_shows_its_kind_and_never_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"no use for {A_KEY}")

    monkeypatch.setattr("keyfence_server.cli.connection._credential", broken)
    assert command.run(["check", A_KEY]) == ExitCode.FAULT
    shown = capsys.readouterr().err
    assert "RuntimeError" in shown
    assert A_KEY not in shown
    assert "Traceback" not in shown


def test_an_interruption_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("keyfence_server.cli.connection._credential", interrupted)
    assert command.run(["check", A_KEY]) == ExitCode.INTERRUPTED


def test_the_command_line_loads_neither_grpc_nor_the_server() -> None:
    """Help and completion answer at once: what is heavy is loaded when it is needed."""
    program = (
        "import sys; import keyfence_server.cli.app; "
        "print([name for name in ('google.protobuf', 'grpc', 'pydantic', 'rich.console'"
        ", 'sqlalchemy', 'yaml', 'keyfence_server.composition.server') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_completion_knows_the_subcommands_and_is_silent_without_a_server() -> None:
    def complete(words: str) -> list[str]:
        environment = {
            **os.environ,
            "_KEYFENCE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
            "KEYFENCE_TOKEN": "token",
        }
        program = [sys.executable, "-c", "from keyfence_server.cli import main; main()"]
        done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
        assert done.stderr == ""
        return done.stdout.split()

    assert complete("keyfence keys re") == ["revoke"]
    assert complete("keyfence keys ro") == ["rotate"]
    assert complete("keyfence keys list --keyspace d") == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2030-01-31", "2030-01-31T00:00:00+00:00"),
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00+00:00"),
        ("2030-01-31T12:00:00+02:00", "2030-01-31T10:00:00+00:00"),
    ],
)
def test_times_are_read_with_their_offset(text: str, meant: str) -> None:
    assert option_values.point_in_time(text).isoformat() == meant


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("keyfence ")


def test_results_become_json_types_with_the_names_of_the_api() -> None:
    answer = Authentication(
        authenticated=False, reason=Reason.KEY_UNKNOWN, principal=None, revision=7
    )
    assert json.loads(json.dumps(plain(answer))) == {
        "authenticated": False,
        "reason": "KEY_UNKNOWN",
        "principal": None,
        "revision": 7,
        "rate_limit": None,
        "stale": False,
    }
    assert timestamp(datetime(2030, 1, 2, 3, 4, 5, 600, UTC)) == "2030-01-02T03:04:05.000600Z"


def test_what_others_wrote_does_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "a\x1b[2Jb\x9b31mc\nd\u202ee"
    print_fields({"name": hostile})
    print_table(["NAME"], [[hostile]])
    shown = capsys.readouterr().out
    assert shown.count(r"a\x1b[2Jb\x9b31mc\nd\u202ee") == 2
    assert not any(character in shown for character in "\x1b\x9b\u202e")


def test_colours_are_for_terminals_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    print_table(["NAME"], [["a"]])
    print_fields({"name": "a"})
    command.run(["--help"])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "-"],
        ["keys", "find", "-"],
        ["keys", "import", "-", "-k", "demo"],
        ["keys", "revoke", "-"],
        ["keyspaces", "apply", "-f", "-"],
        ["accounts", "login", "anna@example.com", "-k", "demo"],
        ["audit", "restrictive-changes", "-"],
    ],
    ids=" ".join,
)
def test_a_closed_standard_input_is_no_bug(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`keyfence … 0<&-`: Python has no standard input then."""
    monkeypatch.setattr("sys.stdin", None)
    assert command.run(arguments) == ExitCode.WRONG_INPUT
    assert "standard input is closed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["check", "-"], ["keys", "find", "-"]], ids=" ".join)
@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"k" * 5000, "is longer than 4096 bytes"), (b"kf_\xff\n", "is not UTF-8")],
)
def test_a_line_that_cannot_be_a_secret_is_refused_and_not_shown(
    arguments: list[str],
    content: bytes,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert command.run(arguments) == ExitCode.WRONG_INPUT
    error = capsys.readouterr().err
    assert problem in error
    assert "kkk" not in error


@pytest.mark.parametrize(
    "options",
    [
        ["--map", "owner=account_id", "--map", "owner=display_name"],
        ["--set", "preset=basic", "--set", "preset=admin"],
        ["--set", "preset="],
        ["--map", "owner"],
    ],
    ids=" ".join,
)
def test_an_import_takes_no_repeated_and_no_empty_names(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text("")
    assert command.run(["keys", "import", str(file), "-k", "demo", *options]) == (
        ExitCode.WRONG_INPUT
    )
    error = capsys.readouterr().err
    assert options[0] in error
    assert "is given twice" in error or "write NAME=VALUE" in error
