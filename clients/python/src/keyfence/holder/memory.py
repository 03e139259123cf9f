"""The memory of an SDK's cache: which facts are remembered, and when they are forgotten.

A key is found by a keyed digest with a secret of this process, so that no plaintext stays in memory
longer than its call.

Reading takes no lock, with or without the GIL: a digest is looked up by one operation of a
dictionary, and the facts of an entry never change. Writing takes a lock, because changes come from
the thread of the session and facts from the thread that asked for them.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from keyfence.holder.facts import Entry, address_of, entry_of
from keyfence.holder.fills import Fill, Fills
from keyfence.holder.uses import Use, Uses
from keyfence.v1 import keyspace_pb2, replication_service_pb2

_BLOCK_SIZE: Final = 64
# The prefix in `depends_on` for each field of a change.
_KINDS: Final[Mapping[str, str]] = {
    "key_id": "key",
    "keyspace": "keyspace",
    "account_id": "account",
    "session_id": "session",
}


class Memory:
    """Remembers at most `capacity` keys. A new key displaces one that was not asked for lately: a
    queue with a second chance, because it needs no lock when a key is asked for.

    Attributes:
        applied: the revision up to which every change has been applied.
        discarded_fills: how many loads were discarded because of a change meanwhile.
        resets: how often the memory was emptied after it had been in use.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # A copy for each digest costs less than hashing the secret each time. The secret fills a
        # block of SHA-256, and no digest leaves this process, so this is as good as an HMAC.
        self._new_keyed = hashlib.sha256(secrets.token_bytes(_BLOCK_SIZE)).copy
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._digests_by_subject: dict[str, set[bytes]] = {}
        self._scopes_by_keyspace: dict[str, frozenset[str]] = {}
        self._fills: Fills[str] = Fills()
        self.applied = 0
        self._epoch = ""
        self._uses = Uses()
        self._lock = threading.Lock()
        self.discarded_fills = 0
        self.resets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def digest(self, api_key: str) -> bytes:
        """The digest under which a key is remembered."""
        keyed = self._new_keyed()
        keyed.update(api_key.encode("utf-8", "replace"))
        return keyed.digest()

    def find(self, digest: bytes) -> Entry | None:
        """The key's entry; None if the key is not in memory."""
        entry = self._entries.get(digest)
        if entry is not None:
            entry.is_asked_for = True
        return entry

    def registers(self, keyspace: str, scopes: Iterable[str]) -> bool:
        """Whether the keyspace is known to register all of the scopes."""
        registered = self._scopes_by_keyspace.get(keyspace)
        return registered is not None and registered.issuperset(scopes)

    # --- filling ---------------------------------------------------------------------

    def begin_fill(self) -> Fill[str]:
        """Called before facts are asked for. Every fill must be ended or dropped."""
        with self._lock:
            return self._fills.begin(self.applied, self._epoch)

    def drop_fill(self, fill: Fill[str]) -> None:
        """Ends a fill without facts."""
        with self._lock:
            self._fills.end(fill)

    def end_fill(
        self, fill: Fill[str], digest: bytes, response: replication_service_pb2.FetchFactsResponse
    ) -> bool:
        """Remembers facts, unless the fill was overtaken by a change. Returns whether checks
        of the key can now be answered from memory."""
        entry = entry_of(response) if response.HasField("facts") else None
        with self._lock:
            # A fill that began in the parent process, before a fork, does not count here.
            is_ours = self._fills.end(fill)
            if entry is None or not is_ours:
                return False
            if fill.is_overtaken(
                response.revision, entry.depends_on.__contains__, epoch=response.epoch
            ):
                self.discarded_fills += 1
                return False
            if (replaced := self._entries.get(digest)) is not None:
                self._collect(replaced)
            self._entries[digest] = entry
            for subject in entry.depends_on:
                self._digests_by_subject.setdefault(subject, set()).add(digest)
            while len(self._entries) > self._capacity:
                self._drop_one()
            return not entry.is_counted

    def end_keyspaces_fill(
        self, fill: Fill[str], response: replication_service_pb2.FetchKeyspacesResponse
    ) -> bool:
        """Remembers which scopes are registered, unless the fill was overtaken by a change of a
        keyspace. Returns whether they are remembered."""
        found = {keyspace.name: registered_scopes(keyspace) for keyspace in response.keyspaces}
        with self._lock:
            is_ours = self._fills.end(fill)
            if not is_ours or fill.is_overtaken(
                response.revision, _is_keyspace, epoch=response.epoch
            ):
                return False
            self._scopes_by_keyspace = found
            return True

    # --- uses ------------------------------------------------------------------------

    @property
    def uses(self) -> int:
        """How many checks have passed since the start."""
        with self._lock:
            return self._uses.total + sum(
                entry.uses - entry.collected for entry in self._entries.values()
            )

    def take_uses(self) -> list[Use]:
        """Removes and returns the uses that are to be reported."""
        with self._lock:
            for entry in self._entries.values():
                self._collect(entry)
            return self._uses.take()

    def put_back_uses(self, uses: Sequence[Use]) -> None:
        """Adds uses again that could not be reported."""
        with self._lock:
            self._uses.put_back(uses)

    def _collect(self, entry: Entry) -> None:
        if count := entry.uses - entry.collected:
            entry.collected += count
            last_used, client_address = entry.last_use
            address = str(address_of(client_address)) if client_address else ""
            self._uses.note(Use(entry.principal.key_id, last_used, address, count))

    # --- forgetting ------------------------------------------------------------------

    def apply(self, changes: replication_service_pb2.RevisionChanges) -> bool:
        """Forgets what these revisions changed. Returns whether a keyspace was changed."""
        any_keyspace = False
        with self._lock:
            for change in changes.changes:
                kind = change.WhichOneof("subject")
                if kind is None:
                    # This version does not know the kind of change, so nothing is kept.
                    self._forget()
                    any_keyspace = True
                    break
                subject = f"{_KINDS[kind]}:{getattr(change, kind)}"
                self._fills.note(changes.revision, subject)
                if change.keyspace:
                    any_keyspace = True
                    self._scopes_by_keyspace.pop(change.keyspace, None)
                for digest in tuple(self._digests_by_subject.get(subject, ())):
                    self._drop(digest)
            self.applied = changes.revision
        return any_keyspace

    def forget_everything(self, head: int, epoch: str) -> None:
        """Empties the memory. Changes follow from this revision of this epoch on."""
        with self._lock:
            self.resets += bool(self._epoch)
            self._forget()
            self.applied = head
            self._epoch = epoch

    def _forget(self) -> None:
        for entry in self._entries.values():
            self._collect(entry)
        self._entries.clear()
        self._digests_by_subject.clear()
        self._scopes_by_keyspace.clear()
        self._fills.void()

    def _drop_one(self) -> None:
        # An entry with a second chance moves to the end of the queue, and has lost it there.
        while (entry := self._entries[digest := next(iter(self._entries))]).is_asked_for:
            entry.is_asked_for = False
            self._entries.move_to_end(digest)
        self._drop(digest)

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest)
        self._collect(entry)
        for subject in entry.depends_on:
            left = self._digests_by_subject[subject]
            left.discard(digest)
            if not left:
                del self._digests_by_subject[subject]


def _is_keyspace(subject: str) -> bool:
    return subject.startswith("keyspace:")


def registered_scopes(keyspace: keyspace_pb2.Keyspace) -> frozenset[str]:
    """The names of a keyspace's scopes, those of the levels of its resources among them."""
    levels = (
        f"{resource.name}:{level.name}"
        for resource in keyspace.resources
        for level in resource.levels
    )
    return frozenset({*(scope.name for scope in keyspace.scopes), *levels})
