"""The facts about keys that an SDK's cache remembers.

Facts and never decisions: each check decides by the time, the address and the required scopes. A
key is found by a keyed digest with a secret of this process, so that no plaintext stays in memory
longer than its call.

Reading takes no lock. Writing takes one, because changes come from the thread of the session and
facts from the thread that asked for them.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

from keyfence import _convert, results
from keyfence.holder.fills import Fill, Fills
from keyfence.holder.uses import Use, Uses
from keyfence.v1 import keyspace_pb2, reason_pb2, replication_service_pb2

_BLOCK_SIZE: Final = 64
_NEVER: Final = float("inf")

Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(slots=True, eq=False)
class Entry:
    """The facts about a key.

    Attributes:
        depends_on: the subjects of these facts, such as "key:ID". A change of one of them drops
            the entry.
        expires_at: seconds since the epoch.
        standing: why the key does not pass, whatever the time and address; None if it may pass.
        allow_lists: the caller's address must be in each of them.
        is_counted: whether checks count against a rate limit. Only the server counts, so such
            checks are never answered from memory.
        is_asked_for: whether the key was asked for since it last moved in the queue.
        uses: how many checks have passed. Counted without a lock: CPython does not switch threads
            within `+= 1`.
        collected: how many of these uses were collected to be reported.
        last_use: the time of the last use, in seconds since the epoch, and the address.
    """

    depends_on: frozenset[str]
    keyspace: str
    expires_at: float
    standing: results.Reason | None
    allow_lists: tuple[tuple[object, ...], ...]
    scopes: frozenset[str]
    principal: results.Principal
    yes: results.CheckResult
    authenticated: results.Authentication
    is_counted: bool
    is_asked_for: bool = True
    uses: int = 0
    collected: int = 0
    last_use: tuple[float, str | None] = (0.0, None)


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
        self._keyed = hashlib.sha256(secrets.token_bytes(_BLOCK_SIZE))
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
        keyed = self._keyed.copy()
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
        entry = _entry(response) if response.HasField("facts") else None
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
            address = str(_address(client_address)) if client_address else ""
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


def reason_of(entry: Entry, now: float, client_address: str | None) -> results.Reason | None:
    """Why the key does not pass, scopes aside; None if it passes.

    Args:
        now: seconds since the epoch.

    Raises:
        ValueError: the address is not an address.
    """
    if not client_address and entry.standing is None and not entry.allow_lists:
        # Nearly every check, and half the time that the rest takes.
        return results.Reason.KEY_EXPIRED if now >= entry.expires_at else None
    address = _address(client_address) if client_address else None
    if entry.standing is results.Reason.KEY_REVOKED:
        return entry.standing
    if now >= entry.expires_at:
        return results.Reason.KEY_EXPIRED
    if entry.standing is not None:
        return entry.standing
    if entry.allow_lists and not _is_allowed(entry, address):
        return results.Reason.ADDRESS_NOT_ALLOWED
    return None


def _is_allowed(entry: Entry, address: Address | None) -> bool:
    return address is not None and all(
        any(address in network for network in networks)  # type: ignore[operator]
        for networks in entry.allow_lists
    )


@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    if "%" in text:
        # A zone has a meaning on one host only, so the server refuses it.
        raise ValueError(text)
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


# The prefix in `depends_on` for each field of a change.
_KINDS: Final[Mapping[str, str]] = {
    "key_id": "key",
    "keyspace": "keyspace",
    "account_id": "account",
    "session_id": "session",
}
_STANDINGS: Final[Mapping[int, results.Reason | None]] = {
    reason_pb2.REASON_OK: None,
    reason_pb2.REASON_KEY_REVOKED: results.Reason.KEY_REVOKED,
    reason_pb2.REASON_KEY_DISABLED: results.Reason.KEY_DISABLED,
    reason_pb2.REASON_ACCOUNT_DISABLED: results.Reason.ACCOUNT_DISABLED,
}


def _is_keyspace(subject: str) -> bool:
    return subject.startswith("keyspace:")


def _entry(response: replication_service_pb2.FetchFactsResponse) -> Entry | None:
    facts = response.facts
    if facts.standing not in _STANDINGS:
        # A later version has sent this. The server answers checks of the key.
        return None
    principal = _convert.result(results.Principal, facts.principal)
    has_end = facts.HasField("expire_time")
    return Entry(
        depends_on=frozenset(facts.depends_on),
        keyspace=facts.principal.keyspace,
        expires_at=_convert.seconds_of(facts.expire_time) if has_end else _NEVER,
        standing=_STANDINGS[facts.standing],
        allow_lists=tuple(tuple(map(ip_network, one.networks)) for one in facts.address_lists),
        scopes=frozenset(facts.principal.effective_scopes),
        principal=principal,
        yes=results.CheckResult(
            allowed=True,
            reason=results.Reason.OK,
            missing_scopes=(),
            principal=principal,
            revision=response.revision,
            explanation=None,
        ),
        authenticated=results.Authentication(
            authenticated=True,
            reason=results.Reason.OK,
            principal=principal,
            revision=response.revision,
        ),
        is_counted=facts.is_counted,
    )


def registered_scopes(keyspace: keyspace_pb2.Keyspace) -> frozenset[str]:
    """The names of a keyspace's scopes, those of the levels of its resources among them."""
    levels = (
        f"{resource.name}:{level.name}"
        for resource in keyspace.resources
        for level in resource.levels
    )
    return frozenset({*(scope.name for scope in keyspace.scopes), *levels})
