"""A real Keyfence in a thread of this process, for tests that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from keyfence import Client, Tls
from keyfence.results import AuditEvent, Key
from keyfence_server.composition.server import RunningServer, start
from keyfence_server.rpc.listen_addresses import TcpAddress
from support.serving import settings_for
from support.systems import declared_message


class ShiftedClock:
    """The real time, moved on by as much as the test says. Keeps the `Clock` port."""

    def __init__(self) -> None:
        self._shift = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift

    def timestamp(self) -> float:
        return self.now().timestamp()

    def advance(self, by: timedelta) -> None:
        self._shift += by


class Authority:
    """A running server, and an operator to ask it.

    Args:
        tls: how to speak to it, if it is set up for that.
        settings: as for the server.
    """

    def __init__(self, data_dir: Path, *, tls: Tls | None = None, **settings: Any) -> None:
        self._tls = tls
        self.clock = ShiftedClock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.server: RunningServer = self._run(
                start(
                    settings_for(data_dir, usage_flush_seconds=0.05, **settings), clock=self.clock
                )
            )
        except BaseException:
            self._end_loop()
            raise
        address = self.server.addresses[0]
        assert isinstance(address, TcpAddress)
        self.port = address.port
        self._host = f"[{address.host}]" if ":" in str(address.host) else str(address.host)
        self.root_key = (data_dir / "root.key").read_text().strip()
        self.operator = self.client(self.root_key)

    def client(self, token: str) -> Client:
        """A client that presents this credential."""
        return Client(f"{self._host}:{self.port}", token=token, tls=self._tls)

    def apply(self, name: str) -> None:
        """Applies a system's own file."""
        self.operator.apply_keyspace(declared_message(name))

    def edge_token(self, *keyspaces: str) -> str:
        """The credential of an Envoy: it may ask of these keyspaces, and nothing else."""
        made = self.operator.create_key(
            keyspace="system", account_id="edge", scopes=["keys:check"], bound_keyspaces=keyspaces
        )
        return made.api_key

    def make_key(self, keyspace: str, *scopes: str, **fields: Any) -> str:
        """A key of account "acct_1"."""
        return self.operator.create_key(
            keyspace=keyspace, account_id="acct_1", scopes=scopes, **fields
        ).api_key

    def key_id_of(self, api_key: str, keyspace: str) -> str:
        """The id of a key, known by its plaintext."""
        principal = self.operator.authenticate(api_key, keyspace=keyspace).principal
        assert principal is not None
        return principal.key_id

    def key_once_used(self, key_id: str, count: int) -> Key:
        """A key's record, once so many uses are written down, which is a moment behind."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = self.operator.get_key(key_id)
            if found.use_count >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{key_id}: fewer than {count} uses are written down")

    def denials_of(self, key_id: str, count: int) -> list[AuditEvent]:
        """The denied attempts with a key, once so many are written down, which is when their
        minute is over."""
        self.clock.advance(timedelta(minutes=1))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = list(self.operator.list_audit_events(action_prefix="check.", subject=key_id))
            if len(found) >= count:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{key_id}: fewer than {count} denials in the audit log")

    def stop(self) -> None:
        """Ends the server as if its machine were gone. May be called twice."""
        if self._thread.is_alive():
            self.operator.close()
            self._run(self.server.stop())
            self._end_loop()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
