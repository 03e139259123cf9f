"""Reading keys' records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from keyfence_server.application.callers import Caller
from keyfence_server.application.pages import (
    Page,
    read_page_size,
    read_page_token,
    write_page_token,
)
from keyfence_server.application.pauses import Pauses
from keyfence_server.application.ports import Clock, KeyFilter, KeyUse, Snapshot, Store
from keyfence_server.application.read_keyspaces import get_keyspace
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keys import Key, KeyId, KeyState
from keyfence_server.domain.scopes import size_of

MAX_USE_DAYS: Final = 400
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""What the scopes, addresses and labels of the keys on a page take at most, about."""

_DAYS_BY_DEFAULT: Final = 30
_KEYS_AT_ONCE: Final = 100
_KEYS_A_SLICE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which keys to list. Fields and defaults as in `ListKeysRequest`."""

    keyspace: str = ""
    account_id: str = ""
    page_size: int = 0
    page_token: str = ""
    state: KeyState | None = None
    parent_key_id: str = ""


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key's record, and how the key has been used as far as it is written down."""

    facts: KeyFacts
    use: KeyUse | None


class ReadKeys:
    """Answers questions about keys' records, from the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def get(self, caller: Caller, key_id: str) -> FoundKey:
        """A key's record. Raises `NotFound`, also for what the caller may not know of."""
        caller.require_key_management("keys:read")
        async with self._store.snapshot() as snapshot:
            lineage = await snapshot.find_lineage(KeyId(key_id))
            key = caller.require_key(key_id, lineage[0] if lineage else None)
            keyspace = await get_keyspace(snapshot, key.keyspace)
            uses = await snapshot.find_uses([key.key_id])
        return FoundKey(compile_facts(lineage or (key,), keyspace), uses.get(key.key_id))

    async def use_days(
        self, caller: Caller, key_id: str, *, first: str, last: str
    ) -> list[tuple[date, int]]:
        """How often a key was used on each day on which it was.

        Args:
            first: a day like "2026-01-31", in UTC; empty for 30 days before the last.
            last: the same; empty for today.

        Raises:
            InvalidInput: a day is none, or they are too far apart.
            NotFound: there is no such key for this caller.
        """
        caller.require_key_management("keys:read")
        until = _day("last_day", last) or self._clock.now().date()
        since = _day("first_day", first) or date.fromordinal(
            max(1, until.toordinal() - _DAYS_BY_DEFAULT)
        )
        if not 0 <= (until - since).days <= MAX_USE_DAYS:
            raise InvalidInput.field("last_day", f"from first_day to {MAX_USE_DAYS} days behind it")
        async with self._store.snapshot() as snapshot:
            key = caller.require_key(key_id, await snapshot.find_key(KeyId(key_id)))
            return await snapshot.list_use_days(key.key_id, first=since, last=until)

    async def list(self, caller: Caller, listing: Listing) -> Page[FoundKey]:
        """Keys' records, in the order of their ids.

        A filter by state goes by the keys' own: a key whose parent was revoked is listed
        among the active ones, and its record says that it is revoked.

        Raises:
            InvalidInput: the page's size or token is wrong, or no keyspace is named.
            Forbidden, NotFound: the keyspace is not for this caller, or there is none.
        """
        caller.require_key_management("keys:read")
        which = self._filter(caller, listing)
        caller.require_reach(which.keyspace)
        limit = read_page_size(listing.page_size)
        question = (
            "keys",
            caller.credential_id or "",
            which.keyspace,
            which.account_id or "",
            which.state.value if which.state else "",
            which.parent_key_id or "",
        )
        after = read_page_token(listing.page_token, *question)
        async with self._store.snapshot() as snapshot:
            keyspace = await get_keyspace(snapshot, which.keyspace)
            keys, is_last = await _page_of_keys(
                snapshot, which, after=KeyId(after) if after else None, limit=limit
            )
            lineages = await snapshot.ancestors(keys)
            uses = await snapshot.find_uses([key.key_id for key in keys])
        found: list[FoundKey] = []
        pauses = Pauses(_KEYS_A_SLICE)
        for key in keys:
            facts = compile_facts(lineages[key.key_id], keyspace)
            found.append(FoundKey(facts, uses.get(key.key_id)))
            await pauses.after()
        items = tuple(found)

        def token_after(found: FoundKey) -> str:
            return write_page_token(found.facts.key_id, *question)

        return Page(items, "" if is_last else token_after(items[-1]), token_after)

    @staticmethod
    def _filter(caller: Caller, listing: Listing) -> KeyFilter:
        keyspace, account_id = listing.keyspace, listing.account_id
        own = caller.own
        if own is not None:
            # Whose keys are listed comes from the credential, whatever the request says.
            keyspace, account_id = keyspace or own.keyspace, account_id or own.account_id
            if account_id != own.account_id:
                raise InvalidInput.field(
                    "account_id", "an account's credential lists the keys of its own account alone"
                )
        if not keyspace:
            raise InvalidInput.field("keyspace", "name the keyspace whose keys to list")
        return KeyFilter(
            keyspace=keyspace,
            account_id=account_id or None,
            state=listing.state,
            parent_key_id=KeyId(listing.parent_key_id) if listing.parent_key_id else None,
        )


async def _page_of_keys(
    snapshot: Snapshot, which: KeyFilter, *, after: KeyId | None, limit: int
) -> tuple[list[Key], bool]:
    """Keys of a page, and whether there are no more. A page ends early where its keys are large:
    they would not fit into an answer, and to read them costs time."""
    keys: list[Key] = []
    taken = 0
    while len(keys) < limit and taken < MAX_PAGE_BYTES:
        wanted = min(_KEYS_AT_ONCE, limit - len(keys))
        batch = await snapshot.list_keys(
            which, after=keys[-1].key_id if keys else after, limit=wanted + 1
        )
        keys += batch[:wanted]
        taken += sum(map(_size_of, batch[:wanted]))
        if len(batch) <= wanted:
            return keys, True
    return keys, False


def _size_of(key: Key) -> int:
    return size_of(key.granted_scopes) + size_of(key.allowed_addresses) + size_of(key.labels)


def _day(path: str, text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput.field(path, "is no day like 2026-01-31") from None
