"""The command against a real server: every subcommand, every exit code, every form of output."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keyfence_server.cli import app as command
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.targets import ConnectionOptions, tls_of
from keyfence_server.domain.formats import ALPHABETS, KeyForm
from support.served import COMMAND, Served
from support.serving import server_and_sidecar
from support.tls import Authority

EXAMPLES = Path(__file__).parents[2] / "examples" / "keyspaces"


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output, read as JSON."""
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def run(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command as an operator, against the server of this session."""
    monkeypatch.setenv("KEYFENCE_TARGET", served.target)
    monkeypatch.setenv("KEYFENCE_TOKEN", served.root_key)

    def run_command(*arguments: str, stdin: str = "", token: str | None = None) -> Ended:
        if token is not None:
            monkeypatch.setenv("KEYFENCE_TOKEN", token)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = command.run(arguments)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run_command


@pytest.fixture
def keyspace(run: Run, tmp_path: Path) -> str:
    """A keyspace of the test's own, declared as the demo is."""
    name = f"t{uuid.uuid4().hex}"
    text = (EXAMPLES / "demo.yaml").read_text().replace("keyspace: demo", f"keyspace: {name}")
    file = tmp_path / "keyspace.yaml"
    file.write_text(text)
    assert run("keyspaces", "apply", "-f", str(file)).code == ExitCode.OK
    return name


def words(line: str) -> list[str]:
    """The arguments of a line as the shell would take it apart."""
    return shlex.split(line)


def make_key(run: Run, keyspace: str, *arguments: str) -> tuple[str, str]:
    """A new key: its id and its plaintext."""
    made = run("keys", "create", "-k", keyspace, "-a", "acct_1", *arguments, "-o", "json").json()
    return made["key"]["key_id"], made["api_key"]


# --- the commands of the first start, word for word -----------------------------------


def test_the_pasted_commands_create_deny_explain_and_revoke(run: Run) -> None:
    run("keyspaces", "apply", "-f", str(EXAMPLES / "demo.yaml"))
    created = run(*words("keys create --keyspace demo --account acct_1 --scope vps:write"))
    assert created.code == ExitCode.OK
    api_key = created.out.splitlines()[0]
    assert api_key.startswith("demo_live_sk_")
    key_id = next(word for word in created.out.split() if word.startswith("key_"))

    denied = run("check", api_key, *words("--keyspace demo --scope vps:create --explain"))
    assert denied.code == ExitCode.DENIED
    assert "denied: the key lacks vps:create  (SCOPE_MISSING)" in denied.out
    assert "A grant of vps:create would be enough." in denied.out

    allowed = run("check", api_key, *words("--keyspace demo --scope vps:read --explain"))
    assert allowed.code == ExitCode.OK
    assert "allowed: the key has vps:read" in allowed.out
    assert "vps:read: granted by vps:write → vps:read" in allowed.out

    revoked = run("keys", "revoke", key_id)
    assert revoked.code == ExitCode.OK
    assert f"Revoked {key_id} at revision" in revoked.out
    after = run("check", api_key, *words("--keyspace demo --scope vps:read"))
    assert after.code == ExitCode.DENIED
    assert "KEY_REVOKED" in after.out

    whoami = run("whoami")
    assert whoami.code == ExitCode.OK
    assert "keyspaces:write" in whoami.out


# --- check ----------------------------------------------------------------------------


def test_check_reads_the_key_from_standard_input(run: Run, keyspace: str) -> None:
    _, api_key = make_key(run, keyspace, "-s", "vps:read")
    assert run("check", "-", "-k", keyspace, "-s", "vps:read", stdin=f"{api_key}\n").code == 0
    assert run("check", "-", "-k", keyspace, "-s", "vps:read", stdin="").code == ExitCode.DENIED


def test_check_without_a_scope_asks_whether_the_key_is_good(run: Run, keyspace: str) -> None:
    _, api_key = make_key(run, keyspace)
    good = run("check", api_key, "-k", keyspace)
    assert (good.code, good.out.splitlines()[0]) == (ExitCode.OK, "✓ the key is good")
    assert run("check", api_key[:-1], "-k", keyspace).code == ExitCode.DENIED


def test_quiet_check_says_it_with_the_exit_code_alone(run: Run, keyspace: str) -> None:
    _, api_key = make_key(run, keyspace, "-s", "vps:read")
    assert run("check", api_key, "-k", keyspace, "-s", "vps:read", "-q") == Ended(0, "", "")
    assert run("check", api_key, "-k", keyspace, "-s", "vps:write", "-q") == Ended(1, "", "")


def test_json_of_a_denial_has_the_whole_answer(run: Run, keyspace: str) -> None:
    key_id, api_key = make_key(run, keyspace, "-s", "vps:read")
    scopes = ["-s", "vps:read", "-s", "vps:create", "-s", "vps:write"]
    denied = run("check", api_key, "-k", keyspace, *scopes, "--explain", "-o", "json")
    assert denied.code == ExitCode.DENIED
    answer = denied.json()
    assert answer["allowed"] is False
    assert answer["reason"] == "SCOPE_MISSING"
    assert answer["missing_scopes"] == ["vps:create", "vps:write"]
    assert answer["principal"]["key_id"] == key_id
    assert answer["explanation"]["sufficient_grants"] == ["vps:create"]
    assert answer["explanation"]["held"] == [
        {"scope": "vps:read", "granted": "vps:read", "path": ["vps:read"]}
    ]


def test_a_cap_is_named_as_what_takes_the_scope_away(run: Run, keyspace: str) -> None:
    _, api_key = make_key(run, keyspace, "-t", "publishable", "-s", "vps:read")
    denied = run("check", api_key, "-k", keyspace, "-s", "vps:write", "--explain")
    assert denied.code == ExitCode.DENIED
    told = "vps:write: missing, excluded by key_type:publishable"
    assert told in denied.out
    assert "would do" not in denied.out


def test_an_unknown_scope_is_no_denial(run: Run, keyspace: str) -> None:
    _, api_key = make_key(run, keyspace, "-s", "vps:read")
    asked = run("check", api_key, "-k", keyspace, "-s", "vps:reed")
    assert asked.code == ExitCode.WRONG_INPUT
    assert "vps:read" in asked.err
    assert asked.out == ""


def test_an_unknown_keyspace_is_no_denial(run: Run) -> None:
    assert run("check", "key", "-k", "nowhere", "-s", "a").code == ExitCode.NOT_FOUND


def test_a_credential_that_may_not_ask_is_no_denial(run: Run, keyspace: str) -> None:
    _, api_key = make_key(run, keyspace, "-s", "vps:read")
    asked = run("check", api_key, "-k", keyspace, "-s", "vps:read", token=api_key)
    assert asked.code == ExitCode.NOT_PERMITTED
    bad = run("check", api_key, "-k", keyspace, "-s", "vps:read", token="nonsense")
    assert bad.code == ExitCode.NOT_PERMITTED


def test_whoami_works_for_an_accounts_key(run: Run, keyspace: str) -> None:
    key_id, api_key = make_key(run, keyspace, "-s", "vps:write", "-n", "Mine")
    shown = run("whoami", "-o", "json", token=api_key).json()["principal"]
    assert shown["key_id"] == key_id
    assert shown["display_name"] == "Mine"
    assert shown["effective_scopes"] == ["vps:read", "vps:write"]


# --- keys -----------------------------------------------------------------------------


def test_quiet_create_prints_the_plaintext_and_nothing_else(run: Run, keyspace: str) -> None:
    made = run("keys", "create", "-k", keyspace, "-a", "a", "-s", "vps:read", "-q")
    assert made.code == ExitCode.OK
    assert made.err == ""
    assert run("check", made.out.strip(), "-k", keyspace).code == ExitCode.OK


def test_create_takes_all_that_a_key_can_have(run: Run, keyspace: str) -> None:
    arguments = (
        "-n Backup -s vps:read -p backup-script -t secret -e test --expires-in 90d "
        "--allow-address 10.0.0.0/8 --label team=ops --label env=ci"
    )
    created = run("keys", "create", "-k", keyspace, "-a", "a", *arguments.split(), "-o", "json")
    key = created.json()["key"]
    assert key["display_name"] == "Backup"
    assert key["granted_scopes"] == ["backups:write", "vps:read"]
    assert key["effective_scopes"] == ["backups:read", "backups:write", "vps:read"]
    assert (key["key_type"], key["environment"], key["preset"]) == (
        "secret",
        "test",
        "backup-script",
    )
    assert key["allowed_addresses"] == ["10.0.0.0/8"]
    assert key["labels"] == {"env": "ci", "team": "ops"}
    assert key["expire_time"].endswith("Z")


def test_a_wrong_field_is_named_and_ends_with_2(run: Run, keyspace: str) -> None:
    wrong = run("keys", "create", "-k", keyspace, "-a", "a", "-t", "private")
    assert wrong.code == ExitCode.WRONG_INPUT
    assert "--type (key_type): " in wrong.err


def test_a_repeated_request_makes_no_second_key(run: Run, keyspace: str) -> None:
    arguments = ["keys", "create", "-k", keyspace, "-a", "a", "--request-id", f"r-{keyspace}"]
    assert run(*arguments).code == ExitCode.OK
    assert run(*arguments).code == ExitCode.CONFLICT
    assert len(run("keys", "list", "-k", keyspace, "-q").out.split()) == 1


def test_list_filters_limits_and_says_that_there_is_more(run: Run, keyspace: str) -> None:
    ids = [make_key(run, keyspace)[0] for _ in range(3)]
    run("keys", "create", "-k", keyspace, "-a", "other", "-q")
    run("keys", "revoke", ids[0])
    listed = run("keys", "list", "-k", keyspace, "-a", "acct_1", "-q")
    assert listed.out.split() == ids
    active = run("keys", "list", "-k", keyspace, "-a", "acct_1", "--state", "active", "-q")
    assert active.out.split() == ids[1:]
    first = run("keys", "list", "-k", keyspace, "--limit", "2", "-q")
    assert first.out.split() == ids[:2]
    assert "more than 2" in first.err
    table = run("keys", "list", "-k", keyspace)
    assert table.out.splitlines()[0].split()[0] == "KEY"
    assert len(table.out.splitlines()) == 5
    assert len(run("keys", "list", "-k", keyspace, "-o", "json").json()["keys"]) == 4


def test_list_finds_who_holds_a_scope_and_what_is_not_used(run: Run, keyspace: str) -> None:
    options = words("-s vps:write --label team=a --expires-in 20d")
    writer, _ = make_key(run, keyspace, *options)
    reader, _ = make_key(run, keyspace, "-s", "vps:read")
    prefix = run("keys", "get", writer, "-o", "json").json()["display_prefix"]

    def listed(line: str) -> list[str]:
        ended = run("keys", "list", "-k", keyspace, "-q", *words(line))
        assert ended.code == ExitCode.OK, ended.err
        return ended.out.split()

    assert listed("--scope vps:write") == [writer]
    assert listed("--scope vps:read") == [writer, reader]
    assert listed("--label team=a") == [writer]
    assert listed("--label team=a --label tier=1") == []
    assert listed(f"--prefix {prefix}") == [writer]
    assert listed(f"--prefix {prefix}…") == [writer]
    assert listed("--type secret --environment live") == [writer, reader]
    assert listed("--environment test") == []
    assert listed("--never-used") == [writer, reader]
    assert listed("--unused-since 90d") == []
    assert listed("--expiring-within 30d") == [writer]
    assert listed("--expiring-within 10d") == []
    assert listed("--expiring-within 30d --unused-since 90d") == []
    run("keys", "revoke", writer)
    assert listed("--scope vps:read") == [reader]
    assert listed("--scope vps:read --state revoked") == [writer]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--unused-since", "soon"),
        ("--unused-since", "9999-01-01"),
        ("--expiring-within", "2030-01-01"),
        ("--expiring-within", "99999999d"),
        ("--label", "team"),
        ("--prefix", "x" * 200),
    ],
)
def test_a_filter_that_is_wrong_names_its_option(
    run: Run, keyspace: str, option: str, value: str
) -> None:
    wrong = run("keys", "list", "-k", keyspace, option, value)
    assert wrong.code == ExitCode.WRONG_INPUT
    assert option in wrong.err


def test_get_shows_the_record_and_ends_with_3_where_there_is_none(run: Run, keyspace: str) -> None:
    key_id, api_key = make_key(run, keyspace, "-s", "vps:write")
    shown = run("keys", "get", key_id)
    assert key_id in shown.out
    assert "vps:read, vps:write" in shown.out
    assert api_key not in shown.out
    assert run("keys", "get", "key_00000000000000000000000000").code == ExitCode.NOT_FOUND


def test_update_changes_what_is_named_alone(run: Run, keyspace: str) -> None:
    key_id, api_key = make_key(run, keyspace, "-s", "vps:write", "-n", "Old", "--label", "a=b")
    renamed = run("keys", "update", key_id, "--name", "New", "-o", "json").json()
    assert renamed["display_name"] == "New"
    assert renamed["granted_scopes"] == ["vps:write"]
    assert renamed["labels"] == {"a": "b"}

    assert run("keys", "update", key_id, "--disable").code == ExitCode.OK
    assert "KEY_DISABLED" in run("check", api_key, "-k", keyspace).out
    assert run("keys", "update", key_id, "--enable").code == ExitCode.OK
    assert run("check", api_key, "-k", keyspace).code == ExitCode.OK

    cleared = run(
        "keys", "update", key_id, "--clear", "labels", "--scope", "vps:read", "-o", "json"
    ).json()
    assert cleared["labels"] == {}
    assert cleared["granted_scopes"] == ["vps:read"]
    stale = run("keys", "update", key_id, "--name", "Late", "--if-revision", "1")
    assert stale.code == ExitCode.CONFLICT


def test_rotate_hands_over_a_successor(run: Run, keyspace: str) -> None:
    key_id, old = make_key(run, keyspace, "-s", "vps:read")
    new = run("keys", "rotate", key_id, "--overlap", "1h", "-q").out.strip()
    assert run("check", old, "-k", keyspace, "-s", "vps:read").code == ExitCode.OK
    assert run("check", new, "-k", keyspace, "-s", "vps:read").code == ExitCode.OK


def test_rotate_says_when_the_old_key_ends(run: Run, keyspace: str) -> None:
    first, _ = make_key(run, keyspace)
    at_once = run("keys", "rotate", first).out
    assert re.search(rf"replaces +{first}, which is revoked", at_once)
    second, _ = make_key(run, keyspace)
    later = run("keys", "rotate", second, "--overlap", "1h").out
    assert re.search(rf"replaces +{second}, which ends \d{{4}}-\d\d-\d\d .* UTC", later)


@pytest.mark.parametrize("count", [1, 2])
def test_revoked_keys_are_a_list_under_their_name_however_many(
    run: Run, keyspace: str, count: int
) -> None:
    ids = [make_key(run, keyspace)[0] for _ in range(count)]
    revoked = run("keys", "revoke", *ids, "-o", "json").json()["revoked"]
    assert [(one["key"]["key_id"], one["key"]["state"]) for one in revoked] == [
        (key_id, "REVOKED") for key_id in ids
    ]


def test_what_was_revoked_before_a_failure_is_told(run: Run, keyspace: str) -> None:
    key_id, _ = make_key(run, keyspace)
    ended = run("keys", "revoke", key_id, "key_unknown", "-o", "json")
    assert ended.code == ExitCode.NOT_FOUND
    assert [one["key"]["key_id"] for one in ended.json()["revoked"]] == [key_id]


def test_revoke_takes_several_and_is_final(run: Run, keyspace: str) -> None:
    made = [make_key(run, keyspace) for _ in range(2)]
    assert run("keys", "revoke", *(key_id for key_id, _ in made)).out.count("Revoked") == 2
    for key_id, api_key in made:
        assert run("check", api_key, "-k", keyspace).code == ExitCode.DENIED
        assert run("keys", "update", key_id, "--enable").code == ExitCode.CONFLICT
        assert run("keys", "revoke", key_id).code == ExitCode.OK


def test_a_key_that_cannot_be_printed_is_named_for_revocation(served: Served, run: Run) -> None:
    run("keyspaces", "apply", "-f", str(EXAMPLES / "demo.yaml"))
    program = [*COMMAND, *words("keys create -k demo -a a")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            program, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=served.env()
        )
    assert done.returncode == ExitCode.OUTPUT_LOST
    key_id = next(word for word in done.stderr.split() if word.startswith("key_"))
    assert f"keyfence keys revoke {key_id}" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("keys", "get", key_id).code == ExitCode.OK


def test_an_allow_that_could_not_be_printed_is_not_0(
    served: Served, run: Run, keyspace: str
) -> None:
    _, api_key = make_key(run, keyspace, "-s", "vps:read")
    program = [*COMMAND, "check", api_key, "-k", keyspace]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            program, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=served.env()
        )
    assert done.returncode == ExitCode.OUTPUT_LOST
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_gets_no_complaint(served: Served, keyspace: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "keyspaces", "get", keyspace, "-o", "json"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=served.env(),
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.OUTPUT_LOST, "")


def test_nothing_is_made_where_nothing_can_be_printed(served: Served, run: Run) -> None:
    run("keyspaces", "apply", "-f", str(EXAMPLES / "demo.yaml"))
    before = run("keys", "list", "-k", "demo", "--limit", "0", "-q").out
    line = shlex.join([*COMMAND, *words("keys create -k demo -a a")])
    done = subprocess.run(
        ["sh", "-c", f"{line} >&-"], capture_output=True, text=True, check=False, env=served.env()
    )
    assert done.returncode == ExitCode.OUTPUT_LOST
    assert run("keys", "list", "-k", "demo", "--limit", "0", "-q").out == before


# --- keyspaces and scopes ---------------------------------------------------------------


def test_apply_says_what_is_new_what_is_unchanged_and_what_changes(
    run: Run, keyspace: str, tmp_path: Path
) -> None:
    file = tmp_path / "keyspace.yaml"
    key_id, api_key = make_key(run, keyspace, "-s", "vps:*", "-n", "Deployer")
    assert f"{keyspace}: unchanged" in run("keyspaces", "apply", "-f", str(file)).out

    changed = file.read_text().replace("  billing:read: See invoices\n", "  vps:resize: Resize\n")
    file.write_text(changed.replace('["vps:*", billing:read]', '["vps:*"]'))
    dry = run("keyspaces", "apply", "-f", str(file), "--dry-run")
    assert dry.code == ExitCode.OK
    lines = [line.strip() for line in dry.out.splitlines()]
    assert lines[0] == f"{keyspace}: would change"
    assert {"+ vps:resize", "- billing:read", "~ support"} <= set(lines)
    assert "1 key would hold other scopes:" in dry.out
    (row,) = [line for line in lines if line.startswith(key_id)]
    assert "Deployer" in row
    assert row.endswith("vps:resize")
    assert "dry run" in dry.err
    assert run("check", api_key, "-k", keyspace, "-s", "vps:resize").code == ExitCode.WRONG_INPUT

    applied = run("keyspaces", "apply", "-f", str(file), "-o", "json").json()["applied"]
    assert applied[0]["changed"] is True
    assert applied[0]["diff"]["added_scopes"] == ["vps:resize"]
    assert applied[0]["diff"]["affected_keys"][0]["gained_scopes"] == ["vps:resize"]
    assert run("check", api_key, "-k", keyspace, "-s", "vps:resize").code == ExitCode.OK


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_what_get_writes_applies_cleanly_and_changes_nothing(run: Run, file: Path) -> None:
    assert run("keyspaces", "apply", "-f", str(file)).code == ExitCode.OK
    written = run("keyspaces", "get", file.stem, "--output", "yaml")
    assert written.code == ExitCode.OK
    again = run("keyspaces", "apply", "-f", "-", stdin=written.out)
    assert again.code == ExitCode.OK
    assert f"{file.stem}: unchanged" in again.out


def test_a_dropped_format_names_the_keys_that_stop_working(
    run: Run, keyspace: str, tmp_path: Path
) -> None:
    file = tmp_path / "keyspace.yaml"
    key_id, api_key = make_key(run, keyspace, "-s", "vps:*")
    file.write_text(file.read_text().replace('"demo_{environment}', '"demo2_{environment}'))
    run("keyspaces", "apply", "-f", str(file))
    assert run("check", api_key, "-k", keyspace, "-s", "vps:read").code == ExitCode.OK
    drop = ("keyspaces", "apply", "-f", str(file), "--drop-format", "*")
    dry = run(*drop, "--dry-run")
    assert "would no longer be recognised" in dry.out
    assert key_id in dry.out
    done = run(*drop, "-o", "json").json()["applied"][0]
    assert [key["key_id"] for key in done["diff"]["cut_off_keys"]] == [key_id]
    assert run("check", api_key, "-k", keyspace, "-s", "vps:read").code != ExitCode.OK
    assert "unchanged" in run(*drop).out


def test_get_and_list_show_keyspaces(run: Run, keyspace: str) -> None:
    table = run("keyspaces", "get", keyspace).out
    assert "vps:create" in table
    assert "demo_{environment}_{type}_{body}{checksum}" in table
    document = run("keyspaces", "get", keyspace, "-o", "json").json()
    assert document["declaration"]["keyspace"] == keyspace
    assert document["revision"] > 0
    names = [one["name"] for one in run("keyspaces", "list", "-o", "json").json()["keyspaces"]]
    assert keyspace in names
    assert keyspace in run("keyspaces", "list").out
    assert run("keyspaces", "get", "nowhere").code == ExitCode.NOT_FOUND


def test_what_the_server_refuses_is_said(run: Run, keyspace: str, tmp_path: Path) -> None:
    make_key(run, keyspace, "-t", "publishable")
    file = tmp_path / "keyspace.yaml"
    file.write_text(f"keyspace: {keyspace}\nkey_types:\n  secret: {{}}\n")
    refused = run("keyspaces", "apply", "-f", str(file))
    assert refused.code == ExitCode.CONFLICT
    assert "publishable" in refused.err
    built_in = tmp_path / "system.yaml"
    built_in.write_text("keyspace: system\n")
    assert run("keyspaces", "apply", "-f", str(built_in)).code == ExitCode.CONFLICT


def test_a_refused_file_keeps_the_others_from_being_applied(run: Run, tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("keyspace: never-applied\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text("keyspace: system\n")
    refused = run("keyspaces", "apply", "-f", str(good), "-f", str(bad))
    assert refused.code == ExitCode.CONFLICT
    assert run("keyspaces", "get", "never-applied").code == ExitCode.NOT_FOUND


def test_scopes_explain_shows_both_directions(run: Run, keyspace: str) -> None:
    make_key(run, keyspace, "-s", "vps:create")
    shown = run("scopes", "explain", "vps:write", "-k", keyspace)
    assert shown.code == ExitCode.OK
    assert "vps:write → vps:read" in shown.out
    assert "vps:create → vps:write" in shown.out
    assert "publishable" in shown.out
    document = run("scopes", "explain", "vps:write", "-k", keyspace, "-o", "json").json()
    assert document["active_key_count"] == 1
    assert document["presets"] == ["full-access"]
    assert run("scopes", "explain", "vps:wrte", "-k", keyspace).code == ExitCode.WRONG_INPUT


# --- the rest ---------------------------------------------------------------------------


def test_health_of_a_server_is_0_and_needs_no_credential(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYFENCE_TOKEN")
    assert run("health").code == ExitCode.OK
    assert run("health", "--service", "no.such.Service").code == ExitCode.DENIED


def test_what_others_wrote_is_not_taken_for_markup(run: Run, keyspace: str) -> None:
    key_id, _ = make_key(run, keyspace, "-n", "[red]mine[/red]")
    assert "[red]mine[/red]" in run("keys", "get", key_id).out
    assert "[red]mine[/red]" in run("keys", "list", "-k", keyspace).out


def test_completion_offers_what_the_server_has(served: Served, run: Run, keyspace: str) -> None:
    def complete(words: str) -> list[str]:
        completion = {
            "_KEYFENCE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        done = subprocess.run(
            COMMAND,
            capture_output=True,
            text=True,
            check=False,
            env=served.env(completion),
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert complete(f"keyfence keys list --keyspace {keyspace[:20]}") == [keyspace]
    scopes = complete(f"keyfence keys create --keyspace {keyspace} --scope vps:c")
    assert scopes == ["vps:create"]


def test_a_terminal_without_unicode_loses_no_answer(
    served: Served, run: Run, keyspace: str
) -> None:
    _, api_key = make_key(run, keyspace, "-s", "vps:write", "-n", "Größe")
    done = subprocess.run(
        [*COMMAND, "check", api_key, "-k", keyspace, "-s", "vps:read", "--explain"],
        capture_output=True,
        text=True,
        check=False,
        env=served.env({"PYTHONIOENCODING": "ascii"}),
    )
    assert done.returncode == ExitCode.OK
    assert "vps:write -> vps:read" in done.stdout
    assert r"Gr\xf6\xdfe" in done.stdout


def test_a_quiet_list_is_never_cut_off(run: Run, keyspace: str) -> None:
    """What is piped into another command must be all of it: `list -q | xargs revoke` would
    leave keys alive otherwise."""
    ids = [make_key(run, keyspace)[0] for _ in range(103)]
    assert run("keys", "list", "-k", keyspace, "-q").out.split() == ids
    assert len(run("keys", "list", "-k", keyspace, "-o", "json").json()["keys"]) == len(ids)
    table = run("keys", "list", "-k", keyspace)
    assert table.out.count("key_") == 100
    assert "more than 100 keys" in table.err


def test_all_keys_of_an_account_are_revoked_at_once(run: Run, keyspace: str) -> None:
    ids = {make_key(run, keyspace)[0] for _ in range(3)}
    other = run("keys", "create", "-k", keyspace, "-a", "other", "-o", "json").json()
    account = ("-k", keyspace, "-a", "acct_1")
    unconfirmed = run("keys", "revoke", *account)
    assert unconfirmed.code == ExitCode.WRONG_INPUT
    assert "Revoke 3 keys" in unconfirmed.err
    assert "--yes" in unconfirmed.err
    assert set(run("keys", "list", *account, "--state", "active", "-q").out.split()) == ids
    done = run("keys", "revoke", *account, "--yes", "-o", "json").json()
    assert {one["key"]["key_id"] for one in done["revoked"]} == ids
    left = run("keys", "list", "-k", keyspace, "--state", "active", "-q").out.split()
    assert left == [other["key"]["key_id"]]
    assert "No key in" in run("keys", "revoke", *account, "--yes").err


def test_keys_are_revoked_by_filters_after_their_number_was_shown(run: Run, keyspace: str) -> None:
    """A leaked key may be known by its display prefix only, from a log line."""
    made = [make_key(run, keyspace, "-s", "vps:read") for _ in range(3)]
    shown = run("keys", "get", made[0][0], "-o", "json").json()["display_prefix"]
    by_prefix = ("keys", "revoke", "-k", keyspace, "--prefix", f"{shown}…")
    unconfirmed = run(*by_prefix)
    assert unconfirmed.code == ExitCode.WRONG_INPUT
    assert f'Revoke 1 key of 1 account in "{keyspace}": {made[0][0]} ({shown}' in unconfirmed.err
    assert f"Revoked {made[0][0]} " in run(*by_prefix, "--yes").out
    by_scope = ("keys", "revoke", "-k", keyspace, "--scope", "vps:read", "--never-used")
    assert "Revoke 2 keys of 1 account" in run(*by_scope).err
    run(*by_scope, "--yes")
    assert run("keys", "list", "-k", keyspace, "--state", "active", "-q").out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-k", "demo"],
        ["-a", "acct_1"],
        ["key_1", "-k", "demo", "-a", "a"],
        ["-", "key_1"],
        ["--prefix", "kf"],
    ],
    ids=" ".join,
)
def test_what_to_revoke_is_never_guessed(run: Run, arguments: list[str]) -> None:
    assert run("keys", "revoke", *arguments, "--yes").code == ExitCode.WRONG_INPUT


def test_keys_are_revoked_by_ids_and_plaintexts_on_standard_input(run: Run, keyspace: str) -> None:
    """A leak is a list of plaintexts. One that is no key does not keep the others alive."""
    (id_1, _), (id_2, key_2), (id_3, key_3) = (make_key(run, keyspace) for _ in range(3))
    lines = f"{id_1}\n\n{key_2}\nkf_live_nothing\nkey_0000\n{key_3}\n"
    ended = run("keys", "revoke", "-", stdin=lines)
    assert ended.code == ExitCode.NOT_FOUND
    assert [line.split()[1] for line in ended.out.splitlines()] == [id_1, id_2, id_3]
    assert "line 4: " in ended.err
    assert "line 5: " in ended.err
    assert "kf_live_nothing" not in ended.err
    assert run("keys", "list", "-k", keyspace, "--state", "active", "-q").out == ""


def test_a_plaintext_as_an_argument_is_told_the_way_by_standard_input(
    run: Run, keyspace: str
) -> None:
    _, key = make_key(run, keyspace)
    ended = run("keys", "revoke", key)
    assert ended.code == ExitCode.WRONG_INPUT
    assert "keyfence keys revoke -" in ended.err
    assert key not in ended.err


@pytest.mark.parametrize("given", ["", "\n \n"])
def test_an_empty_list_of_leaked_keys_is_no_success(run: Run, given: str) -> None:
    ended = run("keys", "revoke", "-", stdin=given)
    assert ended.code == ExitCode.WRONG_INPUT
    assert "nothing was revoked" in ended.err


def test_a_key_is_found_by_its_plaintext_without_counting_a_use(run: Run, keyspace: str) -> None:
    key_id, key = make_key(run, keyspace)
    found = run("keys", "find", "-", "-o", "json", stdin=f"{key}\n").json()
    assert found["key_id"] == key_id
    usage = run("keys", "usage", key_id, "-o", "json").json()
    assert usage == {"days": []}
    assert run("keys", "find", "-", stdin="kf_live_nothing\n").code == ExitCode.NOT_FOUND
    assert run("keys", "find", "-", stdin="").code == ExitCode.WRONG_INPUT
    as_argument = run("keys", "find", key)
    assert as_argument.code == ExitCode.WRONG_INPUT
    assert key not in as_argument.err


def test_a_key_without_scopes_is_warned_of(run: Run, keyspace: str) -> None:
    made = run("keys", "create", "-k", keyspace, "-a", "a", "-q")
    assert made.code == ExitCode.OK
    assert "has no scopes" in made.err


def test_a_label_that_is_given_twice_is_refused(run: Run, keyspace: str) -> None:
    labels = ("--label", "team=a", "--label", "team=b")
    twice = run("keys", "create", "-k", keyspace, "-a", "a", *labels)
    assert twice.code == ExitCode.WRONG_INPUT
    assert "--label" in twice.err
    assert "given twice" in twice.err


def test_errors_are_json_where_answers_are(run: Run, keyspace: str) -> None:
    missing = json.loads(run("keys", "get", "key_0000", "-o", "json").err)["error"]
    assert (missing["exit_code"], missing["reason"]) == (ExitCode.NOT_FOUND, "KEY_NOT_FOUND")
    usage = json.loads(run("keys", "get", "--nothing", "--output", "json").err)["error"]
    assert usage["exit_code"] == ExitCode.WRONG_INPUT
    wrong = run("keys", "create", "-k", keyspace, "-a", "a", "-t", "private", "-ojson")
    error = json.loads(wrong.err)["error"]
    assert error["violations"][0]["field"] == "key_type"


def test_a_file_of_authorities_leaves_unix_sockets_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is set for a server elsewhere must not stop the one here."""
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(Authority().pem)
    monkeypatch.setenv("KEYFENCE_CA_FILE", str(authorities))
    assert os.environ["KEYFENCE_TARGET"].startswith("unix:")
    assert run("whoami", "-o", "json").code == ExitCode.OK
    elsewhere = ConnectionOptions(target="127.0.0.1:1", ca_file=authorities)
    assert tls_of(elsewhere) is not None


def test_keyspace_files_are_validated_without_a_server(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYFENCE_TARGET", "127.0.0.1:1")
    good = run("keyspaces", "validate", str(EXAMPLES / "demo.yaml"))
    assert (good.code, '"demo"' in good.out) == (ExitCode.OK, True)
    bad = tmp_path / "bad.yaml"
    bad.write_text((EXAMPLES / "demo.yaml").read_text() + "\nnothing: 1\n")
    wrong = run("keyspaces", "validate", str(bad))
    assert wrong.code == ExitCode.WRONG_INPUT
    assert "nothing" in wrong.err
    listed = run("keyspaces", "validate", str(EXAMPLES / "demo.yaml"), "-o", "json").json()
    assert listed == {"valid": [{"file": str(EXAMPLES / "demo.yaml"), "keyspace": "demo"}]}
    error = json.loads(run("keyspaces", "validate", str(bad), "-o", "json").err)["error"]
    assert error["exit_code"] == ExitCode.WRONG_INPUT
    assert f"{bad}:" in error["problems"][0]


def test_a_server_without_holders_says_so_instead_of_an_empty_table(run: Run) -> None:
    ended = run("replicas")
    assert (ended.code, ended.out) == (ExitCode.OK, "")
    assert "No holders" in ended.err


async def test_a_sidecar_says_that_keys_are_listed_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with server_and_sidecar() as (_, sidecar):
        target = f"127.0.0.1:{sidecar.port}"
        monkeypatch.setenv("KEYFENCE_TARGET", target)
        monkeypatch.setenv("KEYFENCE_TOKEN", sidecar.client.root)
        code = await asyncio.to_thread(command.run, ("keys", "list", "-k", "demo"))
    assert code == ExitCode.WRONG_INPUT
    error = capsys.readouterr().err
    assert target in error
    assert "A sidecar answers checks alone" in error


def sha256_of(api_key: str) -> str:
    return hashlib.sha256(api_key.encode()).hexdigest()


def foreign_key() -> str:
    """A key of another program, in the form of the test's keyspace."""
    form = KeyForm("demo_live_sk_", ALPHABETS["base62"], 32, 6, has_checksum=True)
    return form.mint().reveal()


def test_imported_keys_are_accepted_by_their_plaintext(run: Run, keyspace: str) -> None:
    by_hash, by_text, by_sha512 = (foreign_key() for _ in range(3))
    lines = [
        {"account_id": "a1", "sha256": sha256_of(by_hash), "scopes": ["vps:read"]},
        {"account_id": "a2", "api_key": by_text, "display_name": "Moved", "scopes": ["vps:read"]},
        {
            "account_id": "a3",
            "hashed_key": f"sha512$${hashlib.sha512(by_sha512.encode()).hexdigest()}",
            "scopes": ["vps:read"],
            "expire_time": (datetime.now(UTC) + timedelta(days=30)).isoformat(),
            "labels": {"from": "elsewhere"},
        },
    ]
    file = "\n".join(map(json.dumps, lines))
    ended = run("keys", "import", "-", "--keyspace", keyspace, "-o", "json", stdin=file)
    assert (ended.code, ended.json()) == (0, {"imported": 3, "present": 0, "refused": 0})
    for api_key in (by_hash, by_text, by_sha512):
        assert run("check", api_key, "-k", keyspace, "--scope", "vps:read").code == 0
    again = run("keys", "import", "-", "--keyspace", keyspace, "-o", "json", stdin=file)
    assert again.json() == {"imported": 0, "present": 3, "refused": 0}
    exported = run("keys", "export", "-k", keyspace)
    records = [json.loads(line) for line in exported.out.splitlines()]
    assert sorted(one["account_id"] for one in records) == ["a1", "a2", "a3"]
    assert "Moved" in {one["display_name"] for one in records}
    assert by_text not in exported.out
    assert sha256_of(by_hash) not in exported.out


def test_a_hash_is_no_key(run: Run, keyspace: str) -> None:
    api_key = foreign_key()
    line = json.dumps({"account_id": "a1", "sha256": sha256_of(api_key)})
    assert run("keys", "import", "-", "-k", keyspace, stdin=line).code == 0
    assert run("check", sha256_of(api_key), "-k", keyspace).code != 0


def test_refused_lines_are_named_and_the_others_imported(run: Run, keyspace: str) -> None:
    api_key = foreign_key()
    file = "\n".join(
        [
            "{",
            json.dumps({"account_id": "a1", "sha256": "ab"}),
            json.dumps({"account_id": "a1", "api_key": "canary-of-another-form"}),
            json.dumps({"account_id": "a1", "sha256": sha256_of("x"), "scopes": ["vps:reed"]}),
            json.dumps({"account_id": "a1", "sha256": sha256_of("x"), "colour": "red"}),
            "",
            json.dumps({"account_id": "a1", "api_key": api_key}),
        ]
    )
    ended = run("keys", "import", "-", "-k", keyspace, stdin=file)
    assert ended.code == ExitCode.WRONG_INPUT
    assert "1 key imported, 0 there already, 5 refused." in ended.out
    for said in (
        "line 1: the line is not JSON",
        "line 2: sha256: 32 bytes in hexadecimal digits or base64 are needed",
        "line 3: INVALID_FIELD: api_key: the key has none of the formats",
        "line 4: UNKNOWN_SCOPE",
        'line 5: there is no field "colour"',
    ):
        assert said in ended.err
    assert "canary" not in ended.out + ended.err
    assert run("check", api_key, "-k", keyspace).code == 0


def test_a_dry_run_imports_nothing(run: Run, keyspace: str, tmp_path: Path) -> None:
    api_key = foreign_key()
    file = tmp_path / "keys.csv"
    file.write_text(
        f"account_id,sha256,scopes\na1,{sha256_of(api_key)},vps:read vps:write\na1,zz,\n"
    )
    tried = run("keys", "import", str(file), "-k", keyspace, "--dry-run")
    assert tried.code == ExitCode.WRONG_INPUT
    assert "1 key would be imported, 0 there already, 1 refused." in tried.out
    assert "line 3: sha256: 32 bytes in hexadecimal digits or base64" in tried.err
    assert run("keys", "export", "-k", keyspace).out == ""
    run("keys", "import", str(file), "-k", keyspace)
    assert run("check", api_key, "-k", keyspace, "--scope", "vps:write").code == 0


def test_an_accounts_key_imports_nothing(run: Run, keyspace: str) -> None:
    _, api_key = make_key(run, keyspace, "--scope", "vps:read")
    line = json.dumps({"account_id": "a1", "sha256": sha256_of("x")})
    ended = run("keys", "import", "-", "-k", keyspace, stdin=line, token=api_key)
    assert ended.code != 0
    assert "operator credential" in ended.err
