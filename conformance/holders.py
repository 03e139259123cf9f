"""The holders that are driven, behind one interface."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any, Final, Protocol

from google.protobuf.json_format import MessageToDict

from keyfence.holder.fills import Fill
from keyfence.holder.lease import HolderLease
from keyfence.holder.local_checks import LocalChecks
from keyfence.holder.memory import Memory
from keyfence.holder.session import HolderSession, StreamBroken
from keyfence.v1 import replication_service_pb2 as messages

_MAX_KEYS: Final = 100


class Holder(Protocol):
    """A holder that does nothing by itself. Times are in seconds, by the clock of leases."""

    def start(self) -> None:
        """Begins as a holder that knows nothing."""
        ...

    def begin(self, now: float) -> None:
        """A grantor has let the holder in, on a new stream."""
        ...

    def renew(self, now: float) -> tuple[int, int]:
        """The nonce and the applied revision of the next request for a lease."""
        ...

    def acknowledge(self, now: float) -> int | None:
        """The applied revision, if it was not told before."""
        ...

    def take(self, now: float, message: messages.SyncResponse) -> bool:
        """Hears the grantor. Says whether the stream goes on."""
        ...

    def fill(self, now: float, key: str) -> tuple[int, int] | None:
        """The number of a fill and the revision that it asks for; None: there is none to ask."""
        ...

    def facts(self, now: float, fill: int, key: str, response: messages.FetchFactsResponse) -> None:
        """The answer to a fill."""
        ...

    def check(self, now: float, key: str, scope: str) -> str | None:
        """The reason that a check is answered with; None: the server must be asked."""
        ...

    def close(self) -> None:
        """Ends what was begun."""
        ...


class Program:
    """A holder of any language, by the line protocol of conformance/README.md.

    Args:
        command: the program, with the guard that it is to leave out, if any.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _ask(self, do: str, now: float = 0.0, **more: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, "now": now, **more}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the holder has ended at {do}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def start(self) -> None:
        """See `Holder`."""
        self._ask("start")

    def begin(self, now: float) -> None:
        """See `Holder`."""
        self._ask("begin", now)

    def renew(self, now: float) -> tuple[int, int]:
        """See `Holder`."""
        reply = self._ask("renew", now)
        return reply["nonce"], reply["applied"]

    def acknowledge(self, now: float) -> int | None:
        """See `Holder`."""
        return self._ask("acknowledge", now).get("applied")

    def take(self, now: float, message: messages.SyncResponse) -> bool:
        """See `Holder`."""
        return "broken" not in self._ask("take", now, message=MessageToDict(message))

    def fill(self, now: float, key: str) -> tuple[int, int] | None:
        """See `Holder`."""
        reply = self._ask("fill", now, key=key)
        return (reply["fill"], reply.get("at_least", 0)) if "fill" in reply else None

    def facts(self, now: float, fill: int, key: str, response: messages.FetchFactsResponse) -> None:
        """See `Holder`."""
        self._ask("facts", now, fill=fill, key=key, message=MessageToDict(response))

    def check(self, now: float, key: str, scope: str) -> str | None:
        """See `Holder`."""
        return self._ask("check", now, key=key, scope=scope).get("reason")

    def close(self) -> None:
        """See `Holder`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class _Clock:
    def __init__(self) -> None:
        self.reading = 0.0

    def now(self) -> float:
        return self.reading

    async def sleep_until(self, when: float) -> None:
        raise NotImplementedError


class PythonHolder:
    """The holder of the Python client, without its event loop."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """See `Holder`."""
        self._clock = _Clock()
        self._lease = HolderLease()
        self._checks = LocalChecks(Memory(_MAX_KEYS), self._lease, self._clock.now, lambda: None)
        self._session = HolderSession(
            _no_stream, messages.Hello(), self._lease, self._checks, self._clock
        )
        self._told = 0
        self._fills: dict[int, Fill[str]] = {}

    def begin(self, now: float) -> None:
        """See `Holder`."""
        self._clock.reading = now
        self._told = 0
        self._session._forget()

    def renew(self, now: float) -> tuple[int, int]:
        """See `Holder`."""
        renew = self._session._renewal(self._lease.request(now)).renew
        return renew.nonce, renew.applied_revision

    def acknowledge(self, now: float) -> int | None:
        """See `Holder`."""
        applied = self._session._renewal(0).renew.applied_revision
        if applied <= self._told:
            return None
        self._told = applied
        return applied

    def take(self, now: float, message: messages.SyncResponse) -> bool:
        """See `Holder`."""
        self._clock.reading = now
        try:
            if message.HasField("lease"):
                self._session._take_lease(message.lease)
            elif message.HasField("changes"):
                self._session._take_changes(message.changes)
        except StreamBroken:
            return False
        return True

    def fill(self, now: float, key: str) -> tuple[int, int] | None:
        """See `Holder`."""
        self._clock.reading = now
        fill = self._checks.begin_fill(key)
        if fill is None:
            return None
        number = len(self._fills) + 1
        self._fills[number] = fill
        return number, self._checks.fill_request(fill, key).at_least_revision

    def facts(self, now: float, fill: int, key: str, response: messages.FetchFactsResponse) -> None:
        """See `Holder`."""
        self._clock.reading = now
        self._checks.end_fill(self._fills[fill], key, response)

    def check(self, now: float, key: str, scope: str) -> str | None:
        """See `Holder`."""
        self._clock.reading = now
        answer = self._checks.check_scope(key, (scope,), None, None, 0)
        return None if answer is None else answer.reason.name

    def close(self) -> None:
        """See `Holder`."""


async def _no_stream() -> Any:
    raise NotImplementedError
