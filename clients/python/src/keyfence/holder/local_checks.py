"""Answers checks from a client's memory, or leaves them to the server.

A check is answered here only if the lease is live by a reading of the clock that is taken after the
check arrived. All other checks are left to the server.

This module has no thread, no connection and no clock of leases: `background` has them, and the
simulation has its own. Checks come from any thread, and take no lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from keyfence import results
from keyfence.holder.facts import Answers, Entry, reason_of
from keyfence.holder.fills import Fill
from keyfence.holder.lease import HolderLease
from keyfence.holder.memory import Memory
from keyfence.v1 import replication_service_pb2 as messages

_PAUSE_SECONDS: Final = 0.1
_PAUSE_AFTER_SILENCE_SECONDS: Final = 1.0

AskForKeyspaces = Callable[
    [messages.FetchKeyspacesRequest], Awaitable[messages.FetchKeyspacesResponse | None]
]


class LocalChecks:
    """Answers checks from memory.

    Args:
        now: reads the clock that leases are measured by, in seconds.
        without_lease: called by each check that finds no lease.

    Attributes:
        denials: how many checks were denied from memory.
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
        """Starts, or starts again in another event loop or process."""
        self.memory = memory
        self.lease = lease
        self._moved: asyncio.Future[None] | None = None
        self._keyspaces_wanted = asyncio.Event()

    # --- answering -------------------------------------------------------------------

    def authenticate(
        self, api_key: str, keyspace: str | None, client_address: str | None, at_least: int
    ) -> results.Authentication | None:
        """Whose key it is; None if the server must be asked."""
        answers = self._answers(api_key, (), keyspace, client_address, at_least)
        if answers is None:
            return None
        known = answers.authentication
        return known if known is not None else answers.make_authentication()

    def check_scope(
        self,
        api_key: str,
        required: Sequence[str],
        keyspace: str | None,
        client_address: str | None,
        at_least: int,
    ) -> results.CheckResult | None:
        """Whether the key has the required scopes; None if the server must be asked."""
        if not required:
            return None
        answers = self._answers(api_key, required, keyspace, client_address, at_least)
        if answers is None:
            return None
        known = answers.check
        return known if known is not None else answers.make_check()

    def _answers(
        self,
        api_key: str,
        required: Sequence[str],
        keyspace: str | None,
        client_address: str | None,
        at_least: int,
    ) -> Answers | None:
        memory = self.memory
        # Read before the entry, which is then at least as new.
        revision = memory.applied
        if self._now() >= self.lease.until:
            self._without_lease()
            return None
        entry = memory.find(memory.digest(api_key))
        if (
            entry is None
            or entry.is_counted
            or at_least > revision
            or (keyspace and keyspace != entry.keyspace)
        ):
            return None
        now = time.time()
        reason = None
        if client_address or now >= entry.passes_until:
            try:
                reason = reason_of(entry, now, client_address)
            except ValueError:
                # The address is not one. The server says so.
                return None
        if reason is not None or not entry.scopes.issuperset(required):
            return self._denial(entry, revision, reason, required)
        entry.uses += 1
        entry.last_use = now, client_address
        answers = entry.yes
        if answers.revision != revision:
            answers = entry.yes = Answers(entry.principal, revision)
        return answers

    def _denial(
        self, entry: Entry, revision: int, reason: results.Reason | None, required: Sequence[str]
    ) -> Answers | None:
        missing = [scope for scope in required if scope not in entry.scopes]
        if missing and not self.memory.registers(entry.keyspace, missing):
            # Only the server knows whether these scopes exist.
            return None
        self.denials += 1
        if reason is not None:
            return Answers(entry.principal, revision, reason)
        return Answers(
            entry.principal, revision, results.Reason.SCOPE_MISSING, tuple(dict.fromkeys(missing))
        )

    # --- filling ---------------------------------------------------------------------

    def begin_fill(self, api_key: str) -> Fill[str] | None:
        """Called when a check could not be answered. None if facts would not help."""
        if self._now() >= self.lease.until:
            return None
        if self.memory.find(self.memory.digest(api_key)) is not None:
            return None
        return self.memory.begin_fill()

    def fill_request(self, fill: Fill[str], api_key: str) -> messages.FetchFactsRequest:
        """The request for the facts."""
        return messages.FetchFactsRequest(api_key=api_key, at_least_revision=fill.started_at)

    def end_fill(
        self, fill: Fill[str], api_key: str, response: messages.FetchFactsResponse
    ) -> bool:
        """The server has answered. Says whether the check can be answered now."""
        return self.memory.end_fill(fill, self.memory.digest(api_key), response)

    def drop_fill(self, fill: Fill[str]) -> None:
        """Ends a fill without an answer."""
        self.memory.drop_fill(fill)

    # --- the session's listener ------------------------------------------------------

    def forget_everything(self, head: int, epoch: str) -> None:
        """See `Listener`."""
        self.memory.forget_everything(head, epoch)
        if self.lease.has_started:
            self._keyspaces_wanted.set()
        self._announce()

    def apply(self, changes: messages.RevisionChanges) -> None:
        """See `Listener`."""
        if self.memory.apply(changes):
            self._keyspaces_wanted.set()
        self._announce()

    def allow_for(self, drift: float) -> None:
        """See `Listener`. A client grants no leases."""

    async def lost(self) -> None:
        """See `Listener`. A client grants no leases."""

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
        """Fetches the registered scopes, and again after each change of a keyspace. Until they are
        known, the server answers checks whose scopes are missing.

        Args:
            ask: asks the server. Returns None if it does not answer.
        """
        while True:
            await self._keyspaces_wanted.wait()
            self._keyspaces_wanted.clear()
            if not self.lease.has_started:
                # The next lease asks for the keyspaces again.
                continue
            fill = self.memory.begin_fill()
            response = await _every_page(ask, fill.started_at)
            if response is None:
                self.memory.drop_fill(fill)
                await asyncio.sleep(_PAUSE_AFTER_SILENCE_SECONDS)
                self._keyspaces_wanted.set()
            elif not self.memory.end_keyspaces_fill(fill, response):
                await asyncio.sleep(_PAUSE_SECONDS)
                self._keyspaces_wanted.set()


async def _every_page(
    ask: AskForKeyspaces, at_least: int
) -> messages.FetchKeyspacesResponse | None:
    """All pages as one answer, which is as old as the oldest of them. If the store has failed over
    between two of them, its epoch is none."""
    whole = messages.FetchKeyspacesResponse()
    token, is_first = "", True
    while token or is_first:
        page = await ask(
            messages.FetchKeyspacesRequest(at_least_revision=at_least, page_token=token)
        )
        if page is None:
            return None
        if is_first:
            whole.revision, whole.epoch = page.revision, page.epoch
        token, is_first = page.next_page_token, False
        whole.keyspaces.extend(page.keyspaces)
        whole.revision = min(whole.revision, page.revision)
        if page.epoch != whole.epoch:
            whole.epoch = ""
    return whole
