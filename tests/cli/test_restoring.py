"""The drill: a backup is restored, and the restrictive changes made since are made again.

With the commands of docs/operations.md, on real processes. Without the list, or with a
kind of restrictive change left out, a key would work although its revocation was confirmed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from keyfence import Client, Unauthenticated
from keyfence_server.cli import app as command
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.old_log import OldEvent
from keyfence_server.cli.restrictive_changes import steps
from support.builders import make_key
from support.clock import START
from support.served import COMMAND, Served, environment_without_settings

KEYSPACE: Final = """\
keyspace: demo
scopes:
  vps:read: Look
  vps:write:
    description: Change
    implies: [vps:read]
accounts: {registration: open}
"""
PASSWORD: Final = "correct horse battery"
FAST: Final = {"KEYFENCE_PASSWORD_MEMORY_MIB": "8", "KEYFENCE_PASSWORD_PASSES": "1"}


class Drill:
    """A server in a directory, and an operator who restores its backup."""

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.server = self._start()

    def _start(self) -> Served:
        server = Served(self.directory, FAST)
        self._monkeypatch.setenv("KEYFENCE_TARGET", server.target)
        self._monkeypatch.setenv("KEYFENCE_TOKEN", server.root_key)
        return server

    def run(self, *arguments: str, expect: int = ExitCode.OK) -> str:
        """Runs the command, and answers with what it has printed."""
        code = command.run(arguments)
        captured = self._capsys.readouterr()
        assert code == expect, captured.err + captured.out
        return captured.out

    def make(self, *arguments: str) -> tuple[str, str]:
        """A new key: its id and its plaintext."""
        made = json.loads(
            self.run("keys", "create", "-k", "demo", "-s", "vps:write", *arguments, "-o", "json")
        )
        return made["key"]["key_id"], made["api_key"]

    def complaint(self, *arguments: str, expect: int) -> str:
        """Runs the command, which must fail, and answers with what it complains of."""
        code = command.run(arguments)
        complaint = self._capsys.readouterr().err
        assert code == expect, complaint
        return complaint

    def passes(self, api_key: str, *arguments: str) -> bool:
        """Whether a key may write."""
        code = command.run(["check", api_key, "-k", "demo", "-s", "vps:write", *arguments])
        self._capsys.readouterr()
        assert code in (ExitCode.OK, ExitCode.DENIED)
        return code == ExitCode.OK

    def log_in(self, email: str) -> str:
        """A session's token."""
        with Client(self.server.target) as anybody:
            return anybody.log_in("demo", email, PASSWORD).session_token

    def is_inside(self, session_token: str) -> bool:
        """Whether a session is good."""
        with Client(self.server.target, token=session_token) as client:
            try:
                client.who_am_i()
            except Unauthenticated:
                return False
        return True

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def back_up(self) -> None:
        """As the page says, while the server runs."""
        connection = sqlite3.connect(self.data / "keyfence.db")
        connection.execute("VACUUM INTO ?", (str(self.directory / "backup.db"),))
        connection.close()

    def restore(self) -> Path:
        """As the page says. Answers with the old database, which is kept."""
        self.server.stop()
        old = self.directory / "old"
        old.mkdir()
        for file in self.data.glob("keyfence.db*"):
            shutil.move(file, old / file.name)
        shutil.copy(self.directory / "backup.db", self.data / "keyfence.db")
        (self.data / "high-water").unlink()
        self.server = self._start()
        return old / "keyfence.db"

    def do_over(self, script: str) -> None:
        """Runs what was printed, with a shell."""
        binaries = self.directory / "bin"
        binaries.mkdir(exist_ok=True)
        (binaries / "keyfence").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        (binaries / "keyfence").chmod(0o755)
        variables = {
            "KEYFENCE_TARGET": self.server.target,
            "KEYFENCE_TOKEN": self.server.root_key,
            "PATH": f"{binaries}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["sh", "-e"],
            input=script,
            text=True,
            capture_output=True,
            check=False,
            env=environment_without_settings(variables),
        )
        assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture
def drill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Drill]:
    with TemporaryDirectory(prefix="kf") as name:
        directory = Path(name)
        drill = Drill(directory, monkeypatch, capsys)
        (directory / "demo.yaml").write_text(KEYSPACE)
        drill.run("keyspaces", "apply", "-f", str(directory / "demo.yaml"))
        yield drill
        drill.server.stop()


RESTRICTIVE_CHANGES: Final = {
    "revoked": ("keys", "revoke"),
    "rotated": ("keys", "rotate"),
    "disabled": ("keys", "update", "--disable"),
    "narrowed": ("keys", "update", "--scope", "vps:read"),
    "emptied": ("keys", "update", "--clear", "scopes"),
    "of one address": ("keys", "update", "--allow-address", "10.0.0.1"),
}


def registered(drill: Drill, email: str) -> tuple[str, str, str]:
    """A registered account: its id, its key's id and its key."""
    with Client(drill.server.target) as anybody:
        found = anybody.register_account("demo", email, PASSWORD)
    key_id, api_key = drill.make("-a", found.account.account_id)
    return found.account.account_id, key_id, api_key


@pytest.mark.slow
@pytest.mark.parametrize("source", ["the old file", "an exported log"])
def test_what_was_taken_back_since_the_backup_is_so_again(drill: Drill, source: str) -> None:
    keys = {name: drill.make("-a", "acme") for name in RESTRICTIVE_CHANGES}
    untouched, again = drill.make("-a", "acme"), drill.make("-a", "acme")
    drill.run("keys", "update", again[0], "--disable")
    account, _, of_account = registered(drill, "anna@example.com")
    changed_her_mind, _, of_other = registered(drill, "berta@example.com")
    logged_out, _, _ = registered(drill, "clara@example.com")
    session = drill.log_in("clara@example.com")
    drill.back_up()
    for name, (group, verb, *options) in RESTRICTIVE_CHANGES.items():
        drill.run(group, verb, keys[name][0], *options)
    drill.run("keys", "update", again[0], "--enable")
    lost = drill.make("-a", "acme")
    drill.run("keys", "revoke", lost[0])
    drill.run("accounts", "disable", account)
    drill.run("accounts", "disable", changed_her_mind)
    drill.run("accounts", "enable", changed_her_mind)
    drill.run("accounts", "logout", "--all", logged_out)
    exported = drill.directory / "events.json"
    exported.write_text(drill.run("audit", "list", "--limit", "0", "-o", "json"))
    old = drill.restore()
    assert all(drill.passes(api_key) for _, api_key in keys.values())
    assert drill.passes(of_account)
    assert drill.is_inside(session)
    what = old if source == "the old file" else exported
    script = drill.run("audit", "restrictive-changes", str(what))
    drill.do_over(script)
    assert not any(drill.passes(api_key) for _, api_key in keys.values())
    assert not drill.passes(of_account)
    assert not drill.is_inside(session)
    assert drill.passes(untouched[1])
    assert drill.passes(of_other)
    assert 'the key is unknown; give "acme" in "demo" a new one' in script
    if source == "the old file":
        # The record says to what they were changed, and a log alone does not.
        assert drill.passes(again[1])
        assert drill.passes(keys["of one address"][1], "--address", "10.0.0.1")
    # Running the script a second time is harmless.
    again_script = drill.run("audit", "restrictive-changes", str(what))
    assert again_script == script
    drill.do_over(script)


@pytest.mark.slow
def test_a_log_that_is_not_the_continuation_of_the_backup_is_refused(drill: Drill) -> None:
    """A list from the log of another server, or from a log with a gap, would be incomplete."""
    drill.back_up()
    key_id, _ = drill.make("-a", "acme")
    drill.run("keys", "revoke", key_id)
    listed = json.loads(drill.run("audit", "list", "--limit", "0", "-o", "json"))["events"]
    drill.restore()
    log = drill.directory / "events.json"
    for events, why in (
        (listed[:-2] + listed[-1:], "is missing in the old log"),
        ([{**event, "hash": "00" * 32} for event in listed], "are of different stores"),
        ([], "are of different stores"),
    ):
        log.write_text(json.dumps({"events": events}))
        assert why in drill.complaint(
            "audit", "restrictive-changes", str(log), expect=ExitCode.CONFLICT
        )
    log.write_text("no log")
    assert "neither" in drill.complaint(
        "audit", "restrictive-changes", str(log), expect=ExitCode.WRONG_INPUT
    )
    log.write_text("\n".join(json.dumps(event) for event in listed))
    assert "key.create" in drill.run("audit", "restrictive-changes", str(log))


@pytest.mark.slow
def test_a_credential_that_does_not_see_every_event_makes_no_list(
    drill: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs would seem to differ too early, and old keys would be listed as new ones."""
    made = json.loads(
        drill.run(
            *("keys", "create", "-k", "system", "-a", "anna", "-p", "auditor", "--bind", "demo"),
            *("-o", "json"),
        )
    )
    log = drill.directory / "events.json"
    log.write_text(drill.run("audit", "list", "--limit", "0", "-o", "json"))
    monkeypatch.setenv("KEYFENCE_TOKEN", made["api_key"])
    drill.complaint("audit", "restrictive-changes", str(log), expect=ExitCode.NOT_PERMITTED)


def event(action: str, subject: str, **details: object) -> OldEvent:
    return OldEvent(
        sequence=1,
        hash=b"",
        time=START,
        action=action,
        keyspace="demo",
        account_id="acme",
        subject=subject,
        actor_id="",
        details=details,
    )


def test_a_key_that_has_expired_meanwhile_is_disabled() -> None:
    """No time in the past can be set, and the key must not live on with its later one."""
    key = make_key(expire_time=START)
    done = event("key.update", key.key_id, fields=["expire_time"])
    (step,) = steps([done], {key.key_id: key}, START)
    assert step.commands == (("keys", "update", key.key_id, "--disable"),)


def test_keys_that_were_revoked_with_sessions_are_revoked_again() -> None:
    """The sessions of the backup are there again, and so are the keys that were made in them."""
    again = ("accounts", "logout", "--all", "--revoke-keys", "acme")
    for done in (
        event("account.log_out", "ses_1", revoked_keys=2),
        event("account.update", "acme", fields=["password"], revoked_keys=1),
        event("account.disable", "acme", revoked_keys=1),
    ):
        (step,) = steps([done], {}, START)
        assert again in step.commands
    (step,) = steps([event("account.log_out", "ses_1")], {}, START)
    assert step.commands == (("accounts", "logout", "--all", "acme"),)


def test_a_change_that_restricts_nothing_is_not_listed() -> None:
    """In a long list, the reader would overlook the one line that matters."""
    events = [
        event("key.update", "key_1", fields=["display_name"]),
        event("account.log_in", "ses_1"),
        event("call.denied", "key_1"),
    ]
    assert list(steps(events, {}, START)) == []


def test_an_action_that_is_not_known_is_shown_all_the_same() -> None:
    (step,) = steps([event("key.melt", "key_1")], {}, START)
    assert step.by_hand
