"""`keyfence audit`, and what the command says of limits and of use, against a real server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from keyfence_server.adapters.sql import open_store
from keyfence_server.application.retention import Kept, Retention
from keyfence_server.cli import app as command
from keyfence_server.cli.backups import verify_file
from keyfence_server.cli.exits import ExitCode
from support.clock import FrozenClock
from support.served import COMMAND, Served

DEMO = Path(__file__).parents[2] / "examples" / "keyspaces" / "demo.yaml"


class Operator:
    """Runs the command as the first operator of a server."""

    def __init__(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        self.served = served
        self._capsys = capsys

    def run(self, *arguments: str, expect: int = ExitCode.OK) -> str:
        """Runs it, and answers with what it has printed."""
        code = command.run(arguments)
        captured = self._capsys.readouterr()
        assert code == expect, captured.err + captured.out
        return captured.out

    def json(self, *arguments: str, expect: int = ExitCode.OK) -> Any:
        """Runs it, and answers with the JSON that it has printed."""
        return json.loads(self.run(*arguments, "-o", "json", expect=expect))

    def make(self, *arguments: str) -> tuple[str, str]:
        """A new key: its id and its plaintext."""
        made = self.json("keys", "create", "-k", "demo", "-a", "acct_1", *arguments)
        return made["key"]["key_id"], made["api_key"]


@pytest.fixture
def operator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Operator]:
    """The operator of a server of the test's own, which writes down at once."""
    with TemporaryDirectory(prefix="kf") as directory:
        server = Served(Path(directory), {"KEYFENCE_USAGE_FLUSH_SECONDS": "0.05"})
        monkeypatch.setenv("KEYFENCE_TARGET", server.target)
        monkeypatch.setenv("KEYFENCE_TOKEN", server.root_key)
        operator = Operator(server, capsys)
        operator.run("keyspaces", "apply", "-f", str(DEMO))
        yield operator
        server.stop()


def test_events_are_listed_filtered_and_in_order(operator: Operator) -> None:
    first, _ = operator.make()
    second, _ = operator.make()
    operator.run("keys", "revoke", first)
    shown = operator.run("audit", "list")
    assert [line.split()[4] for line in shown.splitlines()[1:]][-3:] == [
        "key.create",
        "key.create",
        "key.revoke",
    ]
    found = operator.json("audit", "list", "--subject", first)["events"]
    assert [event["action"] for event in found] == ["key.create", "key.revoke"]
    (last,) = operator.json("audit", "list", "--limit", "1")["events"]
    assert (last["action"], last["subject"]) == ("key.revoke", first)
    created = operator.json("audit", "list", "--action", "key.create", "-k", "demo")["events"]
    assert [event["subject"] for event in created] == [first, second]
    assert operator.json("audit", "list", "--until", "1h")["events"] == []
    assert len(operator.json("audit", "list", "--since", "1h", "--limit", "0")["events"]) >= 4
    operator.run("audit", "list", "--since", "soon", expect=ExitCode.WRONG_INPUT)


def test_following_shows_what_happens(operator: Operator) -> None:
    followed = subprocess.Popen(
        [*COMMAND, "audit", "list", "--follow", "--interval", "0.1", "-o", "json"],
        env=operator.served.env(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert followed.stdout is not None
        lines = iter(followed.stdout.readline, "")
        before = [json.loads(next(lines)) for _ in range(2)]
        assert [event["sequence"] for event in before] == [1, 2]
        key_id, _ = operator.make()
        event = json.loads(next(lines))
        assert (event["action"], event["subject"], event["sequence"]) == ("key.create", key_id, 3)
    finally:
        followed.kill()
        followed.communicate()


def test_a_whole_log_is_verified_with_anchors_and_a_changed_one_is_not(operator: Operator) -> None:
    operator.make()
    anchor = operator.run("audit", "verify", "--quiet").strip()
    operator.make()
    assert "the audit log is intact: 4 events" in operator.run(
        "audit", "verify", "--anchor", anchor
    )
    later = operator.run("audit", "verify", "-q").strip()
    operator.run("audit", "verify", "--anchor", later, "--anchor", anchor)

    wrong = f"3:{'0' * 64}"
    answer = operator.json("audit", "verify", "--anchor", wrong, expect=ExitCode.DENIED)
    assert answer["problem"] == "event 3 differs from the anchor"
    gone = f"9:{'0' * 64}"
    answer = operator.json("audit", "verify", "--anchor", gone, expect=ExitCode.DENIED)
    assert answer["problem"] == "event 9 of the anchor does not exist any more"
    operator.run("audit", "verify", "--anchor", "nonsense", expect=ExitCode.WRONG_INPUT)

    database = sqlite3.connect(operator.served.directory / "data" / "keyfence.db")
    with database:
        database.execute("UPDATE audit_events SET subject = 'other' WHERE sequence = 2")
    database.close()
    shown = operator.run("audit", "verify", expect=ExitCode.DENIED)
    assert "the audit log was changed: event 2 was changed or moved" in shown


def test_the_log_is_exported_continued_and_verified(operator: Operator, tmp_path: Path) -> None:
    archive, later = tmp_path / "audit.jsonl", tmp_path / "later.jsonl"
    operator.make()
    anchor = operator.run("audit", "export", str(archive), "--record").strip()
    assert archive.stat().st_mode & 0o077 == 0
    assert operator.run("audit", "verify", "--quiet", str(archive)).strip() == anchor
    operator.run("audit", "verify", "--anchor", anchor)

    # The run before was killed while it wrote, and is continued.
    with archive.open("a") as file:
        file.write('{"hash":"00')
    key_id, _ = operator.make()
    ended = operator.run("audit", "export", str(archive)).strip()
    assert ended != anchor
    operator.run("audit", "verify", str(archive), "--anchor", anchor)
    events = [json.loads(line)["event"] for line in archive.read_text().splitlines()]
    assert [one["sequence"] for one in events] == list(range(1, len(events) + 1))
    assert [one["action"] for one in events[-2:]] == ["audit.export", "key.create"]
    assert operator.run("audit", "export", str(archive)).strip() == ended

    operator.run("keys", "revoke", key_id)
    exported = operator.run("audit", "export", "-", "--after", ended)
    assert json.loads(exported)["event"]["subject"] == key_id
    # The last part of the archive was not recorded, so what continues it is not either.
    operator.run(
        "audit", "export", str(later), "--after", ended, "--record", expect=ExitCode.WRONG_INPUT
    )
    verified = operator.json("audit", "verify", str(archive), str(later))
    assert verified["complete"]
    swapped = operator.json("audit", "verify", str(later), str(archive), expect=ExitCode.DENIED)
    assert "was expected" in swapped["problem"]
    other = operator.json("audit", "verify", str(later), "--anchor", anchor, expect=ExitCode.DENIED)
    assert "is not in these files" in other["problem"]
    operator.run("audit", "export", "-", "--record", expect=ExitCode.WRONG_INPUT)
    operator.run("audit", "verify", str(tmp_path / "none"), expect=ExitCode.WRONG_INPUT)

    text = archive.read_text().replace("key.create", "key.update", 1)
    archive.write_text(text)
    changed = operator.json("audit", "verify", str(archive), expect=ExitCode.DENIED)
    assert "is not as it was written" in changed["problem"]
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    operator.run("audit", "verify", str(empty), expect=ExitCode.WRONG_INPUT)
    empty.write_text("nonsense\n")
    operator.run("audit", "export", str(empty), expect=ExitCode.CONFLICT)


def test_what_was_removed_is_verified_with_its_archive(operator: Operator, tmp_path: Path) -> None:
    archive = tmp_path / "audit.jsonl"
    operator.make()
    early = operator.run("audit", "verify", "-q").strip()
    operator.make()
    cut = operator.run("audit", "export", str(archive), "--record").strip()

    async def remove() -> None:
        store = await open_store(f"sqlite:///{operator.served.directory / 'data' / 'keyfence.db'}")
        kept = Kept(
            use_days=1,
            audit_days=1,
            unexported_events=False,
            changes=1_000,
            changes_need_acknowledgement=False,
        )
        clock = FrozenClock(datetime.now(UTC) + timedelta(days=3))
        swept = await Retention(store.retention(), clock, kept, no_pause).sweep()
        assert swept["audit_events"] == int(cut.partition(":")[0])
        await store.close()

    asyncio.run(remove())
    database = operator.served.directory / "data" / "keyfence.db"
    assert "Verified" in asyncio.run(verify_file(database))
    shown = operator.run("audit", "verify", "--anchor", cut)
    assert "the audit log is intact: events" in shown
    gone = operator.json("audit", "verify", "--anchor", early, expect=ExitCode.DENIED)
    assert "was removed from the database; verify the exported file" in gone["problem"]
    operator.run("audit", "verify", str(archive), "--anchor", early)
    operator.run("audit", "export", str(archive), "--record")
    operator.run("audit", "verify", str(archive))
    listed = operator.json("audit", "list", "--limit", "0")["events"]
    assert [one["action"] for one in listed][:2] == ["audit.export", "audit.remove"]


async def no_pause() -> None:
    """Continues with the next slice at once."""


def test_a_keys_limit_is_made_shown_changed_and_cleared(operator: Operator) -> None:
    key_id, api_key = operator.make("--rate-limit", "2/minute", "-s", "vps:read")
    assert "rate limit        2/minute" in operator.run("keys", "get", key_id)
    allowed = operator.run("check", api_key, "-s", "vps:read")
    assert "1 of 2/minute left" in allowed
    assert "0 of 2/minute left" in operator.run("check", api_key, "--cost", "1")
    denied = operator.run("check", api_key, expect=ExitCode.DENIED)
    assert "RATE_LIMITED" in denied
    assert "try again in" in denied
    operator.run("check", api_key, "--cost", "0")
    operator.run("keys", "update", key_id, "--rate-limit", "100/10s")
    assert operator.json("keys", "get", key_id)["rate_limit"] == {"requests": 100, "window": 10}
    operator.run("keys", "update", key_id, "--clear", "rate-limit")
    assert operator.json("keys", "get", key_id)["rate_limit"] is None
    operator.run("keys", "update", key_id, "--rate-limit", "often", expect=ExitCode.WRONG_INPUT)


def test_a_keys_use_is_shown(operator: Operator) -> None:
    key_id, api_key = operator.make()
    assert operator.json("keys", "usage", key_id) == {"days": []}
    operator.run("check", api_key, "--address", "192.0.2.1")
    for _ in range(100):
        if operator.json("keys", "get", key_id)["use_count"]:
            break
    shown = operator.run("keys", "get", key_id)
    assert "from 192.0.2.1, once" in shown
    (day,) = operator.json("keys", "usage", key_id)["days"]
    assert day["use_count"] == 1
    assert day["day"] in operator.run("keys", "usage", key_id)
