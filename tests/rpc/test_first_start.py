"""What a server makes at its first start, and what it refuses to start without."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from keyfence.v1 import keyspace_pb2
from keyfence_server.adapters.files.private import create_private_file
from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.first_start import new_root_credential
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.cli.exits import ExitCode
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.provisioning import CannotStart
from rpc.conftest import Serve
from support.serving import Client

KEYSPACE = """
keyspace: {name}
scopes:
  vps:read: Look
  vps:write: {{implies: vps:read}}
  vps:create: {{implies: vps:write}}
"""


@pytest.fixture
def serve(serve: Serve) -> Serve:
    """Starts servers, which make their own tables."""
    return partial(serve, prepared=False)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def keyspace_file(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    write_keyspace(path, "demo")
    return path


def write_keyspace(path: Path, name: str) -> None:
    path.write_text(KEYSPACE.format(name=name))


class TestFiles:
    async def test_no_other_user_can_read_what_it_makes(self, serve: Any, tmp_path: Path) -> None:
        previous = os.umask(0)
        try:
            await serve()
        finally:
            os.umask(previous)
        data = tmp_path / "data"
        assert mode_of(data) == 0o700
        made = {path.name: mode_of(path) for path in data.iterdir()}
        assert {"root.key", "pepper", "lock", "keyfence.db"} <= made.keys()
        assert set(made.values()) == {0o600}

    def test_a_private_file_is_never_wider_and_never_half(self, tmp_path: Path) -> None:
        """Seen from the file system: it is made under another name, with its mode."""
        previous = os.umask(0)
        try:
            create_private_file(tmp_path / "secret", "first")
        finally:
            os.umask(previous)
        assert mode_of(tmp_path / "secret") == 0o600
        with pytest.raises(FileExistsError):
            create_private_file(tmp_path / "secret", "second")
        assert (tmp_path / "secret").read_text() == "first"
        assert [path.name for path in tmp_path.iterdir()] == ["secret"]

    async def test_a_later_start_changes_nothing(
        self, serve: Any, tmp_path: Path, keyspace_file: Path
    ) -> None:
        first = await serve(bootstrap_keyspaces=(keyspace_file,))
        assert first.server.first_start is not None
        await first.server.stop()
        before = {path: path.read_bytes() for path in (tmp_path / "data").glob("[rp]*")}
        write_keyspace(keyspace_file, "other")
        again = await serve(bootstrap_keyspaces=(keyspace_file,))
        assert again.server.first_start is None
        assert {path: path.read_bytes() for path in before} == before
        keyspaces = (await again.client.call("ListKeyspaces")).keyspaces
        assert [keyspace.name for keyspace in keyspaces] == ["demo"]

    async def test_a_lost_pepper_is_not_replaced(self, serve: Any, tmp_path: Path) -> None:
        """A new one would make every key unknown, silently."""
        served = await serve()
        await served.server.stop()
        (tmp_path / "data" / "pepper").unlink()
        with pytest.raises(CannotStart, match="Restore the file from a backup"):
            await serve()

    @pytest.mark.parametrize(
        ("content", "part"),
        [
            ("", "at least one pepper is needed"),
            ("1:c2hvcnQ=", "at least 32"),
            ("canary", "line 1"),
            ("# note\n\n1:canary!", "line 3"),
            ("0:" + "A" * 44, "start at 1"),
            ("1:" + "A" * 44 + "\n1:" + "B" * 44, "line 2: version 1 is given twice"),
        ],
    )
    async def test_a_malformed_pepper_is_refused_and_not_repeated(
        self, serve: Any, content: str, part: str
    ) -> None:
        with pytest.raises(CannotStart) as caught:
            await serve(pepper=content)
        assert part in str(caught.value)
        assert "canary" not in str(caught.value)

    async def test_an_older_pepper_still_finds_its_keys(self, serve: Any) -> None:
        old, new = "1:" + "A" * 44, "2:" + "B" * 44
        first = await serve(pepper=old)
        await first.client.apply()
        made = await first.client.make_key()
        await first.server.stop()
        again = await serve(pepper=f"{new}\n{old}")
        assert (await again.client.call("Authenticate", api_key=made.api_key)).authenticated

    async def test_a_secret_that_others_can_read_is_pointed_out(
        self, serve: Any, tmp_path: Path, log: Any
    ) -> None:
        path = tmp_path / "peppers"
        path.write_text("1:" + "A" * 44)
        path.chmod(0o644)
        await serve(pepper_file=path)
        assert "secret_readable_by_others" in log.getvalue()

    @pytest.mark.parametrize(
        ("peppers", "part"),
        [
            ("1:" + "B" * 44, "KEYFENCE_PEPPER: version 1 differs from the pepper"),
            ("2:" + "B" * 44, "KEYFENCE_PEPPER: version 1 is missing, and 2 keys"),
        ],
        ids=["another under the same number", "dropped while keys need it"],
    )
    async def test_a_pepper_under_which_keys_would_be_unknown_is_refused(
        self, serve: Any, peppers: str, part: str
    ) -> None:
        """It would serve, refuse every key, and make keys that are lost with the next pepper."""
        right = "1:" + "A" * 44
        first = await serve(pepper=right)
        await first.client.apply()
        made = await first.client.make_key()
        await first.server.stop()
        with pytest.raises(CannotStart, match=part):
            await serve(pepper=peppers)
        mended = await serve(pepper=right)
        assert (await mended.client.call("Authenticate", api_key=made.api_key)).authenticated

    async def test_a_pepper_that_no_key_needs_any_more_can_be_dropped(
        self, serve: Any, log: Any
    ) -> None:
        """Passwords can be set again, so passwords under the pepper are logged and do not stop
        it."""
        old, new = "1:" + "A" * 44, "2:" + "B" * 44
        first = await serve(pepper=old)
        await first.client.apply(
            accounts=keyspace_pb2.Accounts(registration=keyspace_pb2.REGISTRATION_OPEN)
        )
        await first.client.register()
        root = first.client.root
        root_id = (await first.client.call("WhoAmI")).principal.key_id
        await first.server.stop()
        second = await serve(pepper=f"{old}\n{new}")
        operator = await second.client.make_operator("*", bound=("*", "system"))
        await second.client.call("RevokeKey", key_id=root_id, credential=operator)
        await second.server.stop()
        third = await serve(pepper=new)
        await third.client.call("WhoAmI", credential=operator)
        assert (await third.client.refusal("WhoAmI", credential=root)).reason
        assert "password_pepper_missing" in log.getvalue()


class TestRootCredential:
    async def test_it_is_in_the_file_and_works(self, serve: Any, tmp_path: Path) -> None:
        served = await serve()
        assert served.server.first_start.root_key_file == tmp_path / "data" / "root.key"
        answer = await served.client.call("WhoAmI")
        assert list(answer.principal.bound_keyspaces) == ["*", "system"]

    async def test_a_given_one_is_used_and_not_written(self, serve: Any, tmp_path: Path) -> None:
        credential = new_root_credential().reveal()
        served = await serve(root_key=credential)
        assert not (tmp_path / "data" / "root.key").exists()
        await served.client.call("WhoAmI", credential=credential)

    async def test_a_malformed_one_is_refused_and_nothing_is_made(
        self, serve: Any, tmp_path: Path
    ) -> None:
        credential = new_root_credential().reveal()
        wrong = credential[:-1] + ("0" if credential[-1] != "0" else "1")
        for malformed in ("canary", wrong, credential + "x", credential.upper()):
            with pytest.raises(CannotStart) as caught:
                await serve(root_key=malformed)
            assert malformed not in str(caught.value)
        assert not (tmp_path / "data").exists()

    async def test_a_later_one_makes_no_credential(self, serve: Any) -> None:
        """Who can set a variable and restart must not get in by that."""
        served = await serve()
        await served.server.stop()
        credential = new_root_credential().reveal()
        again = await serve(root_key=credential)
        refusal = await again.client.refusal("WhoAmI", credential=credential)
        assert refusal.reason == "CREDENTIAL_REJECTED"

    async def test_one_that_is_ignored_is_pointed_out_unless_it_passes(
        self, serve: Any, log: Any
    ) -> None:
        first, second = (new_root_credential().reveal() for _ in range(2))
        await (await serve(root_key=first)).server.stop()
        await (await serve(root_key=first)).server.stop()
        assert "root_key_ignored" not in log.getvalue()
        await serve(root_key=second)
        assert "root_key_ignored" in log.getvalue()

    async def test_a_first_start_that_was_cut_off_is_taken_up_again(
        self, serve: Any, tmp_path: Path
    ) -> None:
        """The credential was written and is not in the store yet: it is used."""
        credential = new_root_credential().reveal()
        (tmp_path / "data").mkdir()
        create_private_file(tmp_path / "data" / "root.key", f"{credential}\n")
        served = await serve()
        await served.client.call("WhoAmI", credential=credential)

    async def test_a_strange_file_in_its_place_is_not_overwritten(
        self, serve: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "root.key").write_text("precious")
        with pytest.raises(CannotStart, match="has no operator credential in it"):
            await serve()
        assert (tmp_path / "data" / "root.key").read_text() == "precious"

    async def test_a_keyspace_that_is_none_is_refused_before_anything_is_made(
        self, serve: Any, tmp_path: Path
    ) -> None:
        path = tmp_path / "bad.yaml"
        for content in ("keyspace: [", "keyspace: x\nscops: {}", "3", ""):
            path.write_text(content)
            with pytest.raises(CannotStart, match=r"bad\.yaml"):
                await serve(bootstrap_keyspaces=(path,))
        assert not (tmp_path / "data" / "root.key").exists()

    async def test_a_file_that_cannot_be_applied_is_refused_before_anything_is_made(
        self, serve: Any, tmp_path: Path, keyspace_file: Path
    ) -> None:
        """Mended, every file is applied, and the start is the first one still."""
        last = tmp_path / "last.yaml"
        write_keyspace(last, "system")
        with pytest.raises(CannotStart, match=r"last\.yaml: .* is built in"):
            await serve(bootstrap_keyspaces=(keyspace_file, last))
        assert not (tmp_path / "data" / "root.key").exists()
        write_keyspace(last, "last")
        served = await serve(bootstrap_keyspaces=(keyspace_file, last))
        applied = [one.name for one in served.server.first_start.keyspaces]
        assert applied == ["demo", "last"]

    async def test_a_first_start_that_was_cut_off_between_two_files_is_taken_up_again(
        self, serve: Any, tmp_path: Path, keyspace_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        last = tmp_path / "last.yaml"
        write_keyspace(last, "last")
        apply = ApplyKeyspace.apply_as_server

        async def cut_off(self: ApplyKeyspace, declaration: KeyspaceDeclaration) -> Any:
            if declaration.name == "last":
                raise StoreUnavailable("cut off")
            return await apply(self, declaration)

        with monkeypatch.context() as patched:
            patched.setattr(ApplyKeyspace, "apply_as_server", cut_off)
            with pytest.raises(CannotStart, match="cut off"):
                await serve(bootstrap_keyspaces=(keyspace_file, last))
        served = await serve(bootstrap_keyspaces=(keyspace_file, last))
        assert [one.name for one in served.server.first_start.keyspaces] == ["demo", "last"]
        assert {one.name for one in (await served.client.call("ListKeyspaces")).keyspaces} == {
            "demo",
            "last",
        }


class TestOneProcess:
    async def test_a_second_process_is_told_which_one_has_the_database(self, serve: Any) -> None:
        served = await serve()
        with pytest.raises(CannotStart, match=rf"is held by process {os.getpid()}\b"):
            await serve()
        await served.client.call("WhoAmI")

    async def test_also_by_another_data_directory(self, serve: Any, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
        await serve(database_url=url, data_dir=tmp_path / "a")
        with pytest.raises(CannotStart, match="is held by process"):
            await serve(database_url=url, data_dir=tmp_path / "b")

    async def test_a_lock_that_a_dead_process_left_is_no_lock(
        self, serve: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "lock").write_text("1\n")
        await serve()

    async def test_a_lock_without_a_pid_is_a_lock(self, serve: Any, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        with (tmp_path / "data" / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(CannotStart, match="is held by another process"):
                await serve()


class Process:
    """`keyfence serve` as a process, and what it writes."""

    def __init__(self, directory: Path, **variables: str) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KEYFENCE_", "OTEL_", "GRPC_"))
        }
        self.directory = directory
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keyfence_server", "serve"],
            cwd=directory,
            env={**environment, "KEYFENCE_LISTEN": "127.0.0.1:0", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_until(self, pattern: str) -> re.Match[str]:
        """Reads the log until a line matches."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the process ended without {pattern}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Waits for the end. Answers with the exit code and the rest of what was written."""
        output, errors = self._process.communicate(timeout=120)
        return self._process.returncode, output, errors

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


class TestProcess:
    def test_a_process_that_waits_for_its_database_can_be_stopped(
        self, tmp_path: Path, processes: list[Process]
    ) -> None:
        process = Process(
            tmp_path,
            KEYFENCE_DATABASE_URL="postgresql://127.0.0.1:1/keyfence",
            KEYFENCE_PEPPER="1:" + "A" * 44,
        )
        processes.append(process)
        process.read_until("waiting_for_store")
        process.signal(signal.SIGTERM)
        code, _, errors = process.end()
        assert code == 0
        assert "stopped" in errors

    def test_the_first_start_prints_commands_and_no_secret(
        self, tmp_path: Path, keyspace_file: Path, processes: list[Process]
    ) -> None:
        process = Process(tmp_path, KEYFENCE_BOOTSTRAP_KEYSPACES=str(keyspace_file))
        processes.append(process)
        process.read_until("serving")
        process.signal(signal.SIGTERM)
        code, output, errors = process.end()
        assert code == 0
        assert "stopped" in errors
        root_key = (tmp_path / ".keyfence" / "root.key").read_text().strip()
        assert root_key not in output + errors
        assert "export KEYFENCE_TOKEN=$(cat .keyfence/root.key)" in output
        assert "keys create --keyspace demo --account acct_1 --scope vps:write --quiet" in output
        assert "--scope vps:read --explain" in output
        assert "--scope vps:create --explain" in output

    def test_a_second_process_refuses_and_names_the_first(
        self, tmp_path: Path, processes: list[Process]
    ) -> None:
        first = Process(tmp_path)
        processes.append(first)
        first.read_until("serving")
        second = Process(tmp_path)
        processes.append(second)
        code, output, errors = second.end()
        assert code == ExitCode.CONFLICT
        assert f"process {first._process.pid}" in errors
        assert "Traceback" not in errors
        assert output == ""

    def test_wrong_settings_are_all_said_at_once(
        self, tmp_path: Path, processes: list[Process]
    ) -> None:
        process = Process(tmp_path, KEYFENCE_LISTN="x", KEYFENCE_DRAIN_SECONDS="x")
        processes.append(process)
        code, output, errors = process.end()
        assert (code, output) == (2, "")
        assert len(errors.splitlines()) == 2
        assert not (tmp_path / ".keyfence").exists()

    @pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
    async def test_the_second_signal_stops_at_once(
        self, tmp_path: Path, processes: list[Process], again: int
    ) -> None:
        """A client that holds a call open keeps the first one waiting."""
        process = Process(tmp_path, KEYFENCE_DRAIN_SECONDS="3600")
        processes.append(process)
        found = await asyncio.to_thread(process.read_until, r'"(127\.0\.0\.1:\d+)"')
        async with grpc.aio.insecure_channel(found.group(1)) as channel:
            # A call that has begun, and whose message never comes.
            call: Any = channel.stream_unary("/keyfence.v1.AuthorizationService/WhoAmI")()
            await Client(channel, "").refusal("WhoAmI", credential=None)
            process.signal(signal.SIGTERM)
            await asyncio.to_thread(process.read_until, "draining")
            process.signal(again)
            code, _, errors = await asyncio.to_thread(process.end)
            call.cancel()
        assert code == 0
        assert "stopping_at_once" in errors

    async def test_the_drain_has_an_end(self, tmp_path: Path, processes: list[Process]) -> None:
        process = Process(tmp_path, KEYFENCE_DRAIN_SECONDS="0.2")
        processes.append(process)
        found = await asyncio.to_thread(process.read_until, r'"(127\.0\.0\.1:\d+)"')
        async with grpc.aio.insecure_channel(found.group(1)) as channel:
            call: Any = channel.stream_unary("/keyfence.v1.AuthorizationService/WhoAmI")()
            await Client(channel, "").refusal("WhoAmI", credential=None)
            process.signal(signal.SIGTERM)
            code, _, errors = await asyncio.to_thread(process.end)
            call.cancel()
        assert code == 0
        assert "Traceback" not in errors
