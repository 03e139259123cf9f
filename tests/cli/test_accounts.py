"""`keyfence accounts` against a real server: passwords come in by standard input alone, and
tokens go out by standard output alone."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from cli.test_against_a_server import Run, run
from keyfence_server.cli.exits import ExitCode

__all__ = ["run"]

PASSWORD = "canary correct horse"

DECLARATION = """
keyspace: {name}
scopes: [vps:read]
accounts:
  registration: open
  default_plan: free
"""


@pytest.fixture
def keyspace(run: Run, tmp_path: Path) -> str:
    """A keyspace of the test's own, in which registration is open."""
    name = f"k{uuid.uuid4().hex[:12]}"
    file = tmp_path / "keyspace.yaml"
    file.write_text(DECLARATION.format(name=name))
    assert run("keyspaces", "apply", "-f", str(file)).code == 0
    return name


def registered(run: Run, keyspace: str, email: str = "anna@example.com") -> str:
    """The id of a new account."""
    ended = run("accounts", "register", email, "-k", keyspace, "-o", "json", stdin=f"{PASSWORD}\n")
    assert ended.code == 0, ended.err
    account_id: str = ended.json()["account_id"]
    return account_id


def logged_in(run: Run, keyspace: str, password: str = PASSWORD) -> str:
    """The token of a new session."""
    ended = run("accounts", "login", "anna@example.com", "-k", keyspace, stdin=f"{password}\n")
    assert ended.code == 0, ended.err
    return ended.out.strip()


def test_from_a_registration_to_a_log_out(run: Run, keyspace: str) -> None:
    account_id = registered(run, keyspace)
    token = logged_in(run, keyspace)
    assert run("whoami", "-o", "json", token=token).json()["principal"]["account_id"] == account_id
    assert "session" in run("whoami", token=token).out
    shown = run("accounts", "get", token=token)
    assert "anna@example.com" in shown.out
    assert "free" in shown.out
    made = run("keys", "create", "-s", "vps:read", "-o", "json", token=token)
    assert made.json()["key"]["account_id"] == account_id
    assert run("accounts", "logout", token=token).code == 0
    assert run("whoami", token=token).code == ExitCode.NOT_PERMITTED


def test_no_credential_is_needed_to_register_and_to_log_in(
    run: Run, keyspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYFENCE_TOKEN")
    registered(run, keyspace)
    assert logged_in(run, keyspace).startswith("eyJ")


def test_a_password_changes_by_the_current_one(run: Run, keyspace: str) -> None:
    registered(run, keyspace)
    token = logged_in(run, keyspace)
    wrong = run("accounts", "update", "--password", token=token, stdin="wrong\nanother one 12\n")
    assert wrong.code == ExitCode.NOT_PERMITTED
    done = run(
        "accounts",
        "update",
        "--password",
        "--name",
        "Anna",
        token=token,
        stdin=f"{PASSWORD}\nanother one 12\n",
    )
    assert done.code == 0, done.err
    assert "Anna" in done.out
    logged_in(run, keyspace, "another one 12")


def test_operators_list_change_and_stop_accounts(run: Run, keyspace: str) -> None:
    account_id = registered(run, keyspace)
    other = registered(run, keyspace, "bert@example.com")
    listed = run("accounts", "list", "-k", keyspace, "--quiet")
    assert listed.out.split() == [account_id, other]
    found = run("accounts", "list", "-k", keyspace, "--email", "BERT@example.com", "-o", "json")
    assert [one["account_id"] for one in found.json()["accounts"]] == [other]
    changed = run("accounts", "update", account_id, "--plan", "pro", "--label", "tier=1")
    assert "pro" in changed.out
    assert "tier=1" in changed.out
    assert run("accounts", "disable", account_id, "--comment", "spam").code == 0
    assert account_id in run("accounts", "list", "-k", keyspace, "--disabled").out
    refused = run("accounts", "login", "anna@example.com", "-k", keyspace, stdin=f"{PASSWORD}\n")
    assert refused.code == ExitCode.CONFLICT
    assert run("accounts", "enable", account_id).code == 0
    assert run("accounts", "logout", account_id, "--all").code == 0
    logged_in(run, keyspace)
    assert run("accounts", "list", "-k", keyspace, "--disabled").err == "No accounts.\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (("register", "x@example.com"), "", ExitCode.WRONG_INPUT),
        (("register", "x@example.com"), "short\n", ExitCode.WRONG_INPUT),
        (("register", "not-an-address"), f"{PASSWORD}\n", ExitCode.WRONG_INPUT),
        (("login", "x@example.com"), f"{PASSWORD}\n", ExitCode.NOT_PERMITTED),
    ],
)
def test_what_cannot_be_says_so_and_shows_no_password(
    run: Run, keyspace: str, arguments: tuple[str, ...], stdin: str, code: ExitCode
) -> None:
    ended = run("accounts", *arguments, "-k", keyspace, stdin=stdin)
    assert ended.code == code
    assert ended.out == ""
    assert PASSWORD not in ended.err


def test_a_password_is_no_argument(run: Run, keyspace: str) -> None:
    """Not even by an option that does not exist."""
    for option in ("--password", f"--password={PASSWORD}"):
        ended = run("accounts", "register", "x@example.com", "-k", keyspace, option)
        assert ended.code == ExitCode.WRONG_INPUT
        assert PASSWORD not in ended.err


def test_an_update_says_what_to_change(run: Run) -> None:
    assert run("accounts", "update").code == ExitCode.WRONG_INPUT
