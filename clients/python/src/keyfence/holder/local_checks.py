"""What a client answers from its memory, and what it leaves to the server.

A check is answered here only if the lease is live at a moment that is read after the
check came in. Everything else is left to the server, whose answer is always right.

There is no thread in here, no connection and no clock for leases: they are `background`'s,
and the simulation has others. Checks come from any thread, and take no lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from keyfence import results
from keyfence.holder.fills import Fill
from keyfence.holder.lease import HolderLease
from keyfence.holder.memory import Entry, Memory, reason_of
from keyfence.v1 import replication_service_pb2 as messages

_PAUSE_SECONDS: Final = 0.1
_PAUSE_AFTER_SILENCE_SECONDS: Final = 1.0

AskForKeyspaces = Callable[
    [messages.FetchKeyspacesRequest], Awaitable[messages.FetchKeyspacesResponse | None]
]


class LocalChecks:
    """Answers checks from memory, or not at all.

    Args:
        now: reads the clock that leases are measured by, in seconds.
        without_lease: called by each check that finds no lease.

    Attributes:
        denials: how many checks were answered with a no.
    """

    def __init__(
        self,
        memory: Memory,
        lease: HolderLease,
        now: Callable[[], float],
        without_lease: Callable[[], None],
    ) -> None:
        self._now = now
        self._without_lease = without_lease
        self.denials = 0
        self.begin(memory, lease)

    def begin(self, memory: Memory, lease: HolderLease) -> None:
        """Begins, or begins anew in another event loop or process."""
        self.memory = memory
        self.lease = lease
        self._moved: asyncio.Future[None] | None = None
        self._keyspaces_wanted = asyncio.Event()

    # --- answering -------------------------------------------------------------------

    def authenticate(
        self, api_key: str, keyspace: str | None, client_address: str | None, at_least: int
    ) -> results.Authentication | None:
        """Whose key it is; None if the server must be asked."""
        revision = self.memory.applied
        entry = self._find(api_key, keyspace)
        if entry is None or at_least > revision:
            return None
        now = time.time()
        try:
            reason = reason_of(entry, now, client_address)
        except ValueError:
            return None
        if reason is None:
            entry.uses += 1
            entry.last_use = now, client_address
            known = entry.authenticated
            if known.revision != revision:
                known = entry.authenticated = replace(known, revision=revision)
            return known
        self.denials += 1
        return results.Authentication(
            authenticated=False, reason=reason, principal=entry.principal, revision=revision
        )

    def check_scope(
        self,
        api_key: str,
        required: Sequence[str],
        keyspace: str | None,
        client_address: str | None,
        at_least: int,
    ) -> results.CheckResult | None:
        """Whether the key may do it; None if the server must be asked."""
        # Read before the entry, which is then at least as new, whatever is applied meanwhile.
        revision = self.memory.applied
        entry = self._find(api_key, keyspace)
        if entry is None or not required or at_least > revision:
            return None
        scopes = entry.scopes
        missing: list[str] = []
        if not scopes.issuperset(required):
            missing = [scope for scope in required if scope not in scopes]
        if missing and not self.memory.registers(entry.keyspace, missing):
            # Whether these scopes exist at all, the server knows.
            return None
        now = time.time()
        try:
            reason = reason_of(entry, now, client_address)
        except ValueError:
            return None
        if reason is None and not missing:
            entry.uses += 1
            entry.last_use = now, client_address
            yes = entry.yes
            if yes.revision != revision:
                yes = entry.yes = replace(yes, revision=revision)
            return yes
        self.denials += 1
        return results.CheckResult(
            allowed=False,
            reason=reason or results.Reason.SCOPE_MISSING,
            missing_scopes=() if reason else tuple(dict.fromkeys(missing)),
            principal=entry.principal,
            revision=revision,
            explanation=None,
        )

    def _find(self, api_key: str, keyspace: str | None) -> Entry | None:
        if self._now() >= self.lease.until:
            self._without_lease()
            return None
        entry = self.memory.find(self.memory.digest(api_key))
        if entry is None or entry.is_counted or (keyspace and keyspace != entry.keyspace):
            return None
        return entry

    # --- filling ---------------------------------------------------------------------

    def begin_fill(self, api_key: str) -> Fill[str] | None:
        """Called when a check could not be answered; None if asking for facts would not help."""
        if self._now() >= self.lease.until:
            return None
        if self.memory.find(self.memory.digest(api_key)) is not None:
            return None
        return self.memory.begin_fill()

    def fill_request(self, fill: Fill[str], api_key: str) -> messages.FetchFactsRequest:
        """What to ask the server."""
        return messages.FetchFactsRequest(api_key=api_key, at_least_revision=fill.started_at)

    def end_fill(
        self, fill: Fill[str], api_key: str, response: messages.FetchFactsResponse
    ) -> bool:
        """The server has answered. Says whether the check can be answered now."""
        return self.memory.end_fill(fill, self.memory.digest(api_key), response)

    def drop_fill(self, fill: Fill[str]) -> None:
        """The server has not answered."""
        self.memory.drop_fill(fill)

    # --- the session's listener ------------------------------------------------------

    def forget_everything(self, head: int, epoch: str) -> None:
        """See `Listener`."""
        self.memory.forget_everything(head, epoch)
        if self.lease.has_started:
            self._keyspaces_wanted.set()
        self._announce()

    def apply(self, revision: int, changes: messages.RevisionChanges) -> None:
        """See `Listener`."""
        if self.memory.apply(revision, changes):
            self._keyspaces_wanted.set()
        self._announce()

    def allow_for(self, drift: float) -> None:
        """See `Listener`. Nobody is granted a lease here."""

    async def lost(self) -> None:
        """See `Listener`. No lease is granted here."""

    def acknowledged(self) -> int:
        """See `Listener`."""
        return self.memory.applied

    def moved(self) -> asyncio.Future[None]:
        """See `Listener`."""
        if self._moved is None:
            self._moved = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._moved)

    def _announce(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None and not moved.done():
            moved.set_result(None)

    # --- keyspaces -------------------------------------------------------------------

    async def keep_keyspaces(self, ask: AskForKeyspaces) -> None:
        """Learns which scopes are registered, again whenever a keyspace has changed. Until it
        is known, denials for missing scopes come from the server.

        Args:
            ask: asks the server; None if it does not answer.
        """
        while True:
            await self._keyspaces_wanted.wait()
            self._keyspaces_wanted.clear()
            if not self.lease.has_started:
                # It is wanted again when there is a lease.
                continue
            fill = self.memory.begin_fill()
            response = await ask(messages.FetchKeyspacesRequest(at_least_revision=fill.started_at))
            if response is None:
                self.memory.drop_fill(fill)
                await asyncio.sleep(_PAUSE_AFTER_SILENCE_SECONDS)
                self._keyspaces_wanted.set()
            elif not self.memory.end_keyspaces_fill(fill, response):
                await asyncio.sleep(_PAUSE_SECONDS)
                self._keyspaces_wanted.set()
