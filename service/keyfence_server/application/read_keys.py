"""Reading keys' records."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

from keyfence_server.application.callers import Caller
from keyfence_server.application.key_inputs import read_labels
from keyfence_server.application.pages import Page, PageRequest, Paging
from keyfence_server.application.pauses import Pauses, pause
from keyfence_server.application.ports import Clock, KeyCriteria, KeyFilter, KeyUse, Store
from keyfence_server.application.read_keyspaces import get_keyspace
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.facts import effective_mask, listed_scopes
from keyfence_server.domain.frozen import frozen
from keyfence_server.domain.keys import Key, KeyId, KeyState, Lineage, state_of
from keyfence_server.domain.keyspaces import Keyspace

MAX_USE_DAYS: Final = 400
MAX_PAGE_TEXT: Final = 2 * 1024 * 1024
"""The characters of the scopes, addresses and labels of the keys on a page at most, about. Larger
keys would not fit into an answer, and to read them costs time."""

MAX_EXAMINED: Final = 6_000
"""The most keys that a page examines, so that a page takes a bounded time however few keys pass."""
MAX_LABELS_ASKED_FOR: Final = 8

_DAYS_BY_DEFAULT: Final = 30
_MAX_NAME: Final = 128
# To work out the scopes of so many grants takes about a millisecond.
_GRANTS_A_SLICE: Final = 256
_GRANTS_A_KEY: Final = 1
"""What a key costs whose scopes are known, in grants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(PageRequest):
    """Which keys to list. Fields and defaults as in `ListKeysRequest`."""

    keyspace: str = ""
    account_id: str = ""
    state: KeyState | None = None
    parent_key_id: str = ""
    key_type: str = ""
    environment: str = ""
    display_prefix: str = ""
    labels: Sequence[str] = ()
    scope: str = ""
    unused_since_time: datetime | None = None
    never_used: bool = False
    expiring_before_time: datetime | None = None

    @property
    def leaves_out_revoked(self) -> bool:
        """Whether it asks for something that only a key which is not revoked can be or do, and for
        no state."""
        of_working = self.scope or self.never_used or self.unused_since_time
        return self.state is None and bool(of_working or self.expiring_before_time)


@frozen()
class ListedKey:
    """A key's record, and how the key has been used as far as it is written down.

    Attributes:
        state: what has become of the key, given the keys that it was delegated from.
        scopes: the effective scopes, sorted, as many as answers list.
        is_cut: whether some scopes are left out.
    """

    key: Key
    state: KeyState
    scopes: tuple[str, ...]
    is_cut: bool
    use: KeyUse | None


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """Answers questions about keys' records, from the store."""

    _store: Store
    _clock: Clock

    async def get(self, caller: Caller, key_id: str) -> ListedKey:
        """A key's record. Raises `NotFound`, also for what the caller may not know of."""
        caller.require_key_management("keys:read")
        async with self._store.snapshot() as snapshot:
            key = caller.require_key(key_id, await snapshot.find_key(KeyId(key_id)))
            keyspace = await get_keyspace(snapshot, key.keyspace)
            lineages = await snapshot.ancestors([key])
            uses = await snapshot.find_uses([key.key_id])
        (record,) = await _records([key], keyspace, lineages, uses)
        return record

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
            raise InvalidInput.field(
                "last_day", f"must be 0 to {MAX_USE_DAYS} days after first_day"
            )
        async with self._store.snapshot() as snapshot:
            key = caller.require_key(key_id, await snapshot.find_key(KeyId(key_id)))
            return await snapshot.list_use_days(key.key_id, first=since, last=until)

    async def list(self, caller: Caller, listing: Listing) -> Page[ListedKey]:
        """Keys' records, in the order of their ids.

        A filter by state goes by the keys' own: a key whose parent was revoked is listed
        among the active ones, and its record says that it is revoked.

        The store knows grants alone. It leaves out the keys without a grant that could bring the
        scope; of the others, those that do not hold it are left out here, because their type or
        their parent restricts them.

        Raises:
            InvalidInput: the page's size or token or a filter is wrong, or no keyspace is named.
            Forbidden, NotFound: the keyspace is not for this caller, or there is none.
        """
        caller.require_key_management("keys:read")
        which = self._filter(caller, listing)
        caller.require_reach(which.keyspace)
        # The same question, whichever order its labels have, and whether or not it names defaults.
        asked = replace(
            listing,
            keyspace=which.keyspace,
            account_id=which.account_id or "",
            labels=sorted(listing.labels),
        )
        paging = Paging.read(caller, asked)
        labels = _labels(listing.labels)
        async with self._store.snapshot() as snapshot:
            keyspace = await get_keyspace(snapshot, which.keyspace)
            required = _required_mask(listing.scope, keyspace)
            keys, position = await snapshot.search_keys(
                which,
                self._criteria(listing, labels, keyspace),
                after=KeyId(paging.after) if paging.after else None,
                limit=paging.limit,
                examined=MAX_EXAMINED,
                most_text=MAX_PAGE_TEXT,
            )
            lineages = await snapshot.ancestors(keys)
            uses = await snapshot.find_uses([key.key_id for key in keys])
        found = await _records(
            keys, keyspace, lineages, uses, required, but_revoked=listing.leaves_out_revoked
        )
        next_page_token = paging.token(position) if position else ""
        return Page(tuple(found), next_page_token, lambda one: paging.token(one.key.key_id))

    def _criteria(
        self, listing: Listing, labels: Mapping[str, str], keyspace: Keyspace
    ) -> KeyCriteria:
        now = self._clock.now()
        unused_since, expiring_before = listing.unused_since_time, listing.expiring_before_time
        if unused_since is not None and unused_since > now:
            raise InvalidInput.field(
                "unused_since_time", "is in the future; give a time in the past"
            )
        if expiring_before is not None and expiring_before <= now:
            raise InvalidInput.field(
                "expiring_before_time", "is in the past; give a time in the future"
            )
        return KeyCriteria(
            labels=labels,
            granted_any=keyspace.catalog.grants_of(listing.scope) if listing.scope else None,
            unused_since=unused_since,
            never_used=listing.never_used,
            expiring=(now, expiring_before) if expiring_before is not None else None,
            not_revoked=listing.leaves_out_revoked,
        )

    @staticmethod
    def _filter(caller: Caller, listing: Listing) -> KeyFilter:
        keyspace, account_id = listing.keyspace, listing.account_id
        own = caller.own_account
        if own is not None:
            # Whose keys are listed comes from the credential, whatever the request says.
            keyspace, account_id = keyspace or own.keyspace, account_id or own.account_id
            if account_id != own.account_id:
                raise InvalidInput.field(
                    "account_id",
                    "an account's credential can list only the keys of its own account",
                )
        if not keyspace:
            raise InvalidInput.field("keyspace", "name the keyspace whose keys to list")
        return KeyFilter(
            keyspace=keyspace,
            account_id=account_id or None,
            state=listing.state,
            parent_key_id=KeyId(listing.parent_key_id) if listing.parent_key_id else None,
            key_type=_name("key_type", listing.key_type),
            environment=_name("environment", listing.environment),
            display_prefix=_name("display_prefix", listing.display_prefix),
        )


async def _records(
    keys: Sequence[Key],
    keyspace: Keyspace,
    lineages: Mapping[KeyId, Lineage],
    uses: Mapping[KeyId, KeyUse],
    required: int = 0,
    *,
    but_revoked: bool = False,
) -> list[ListedKey]:
    """The records of the keys that hold these scopes, a mask. What keys hold is worked out once for
    all with the same grants. Other calls have their turn now and then.

    Args:
        but_revoked: leaves out the keys that are revoked, or whose parents are.
    """
    found: list[ListedKey] = []
    held: dict[Hashable, tuple[int, tuple[str, ...], bool]] = {}
    pauses = Pauses(_GRANTS_A_SLICE)
    for key in keys:
        lineage = lineages[key.key_id]
        place: Hashable = key.granted_scopes, key.key_type
        for parent in lineage[1:]:
            place = place, parent.granted_scopes, parent.key_type
        if place not in held:
            await pauses.after(sum(len(key.granted_scopes) for key in lineage))
            mask = effective_mask(lineage, keyspace)
            held[place] = (mask, *listed_scopes(mask, keyspace))
        mask, scopes, is_cut = held[place]
        state = state_of(lineage)
        if mask & required == required and not (but_revoked and state is KeyState.REVOKED):
            found.append(ListedKey(key, state, scopes, is_cut, uses.get(key.key_id)))
        if pauses.is_due(_GRANTS_A_KEY):
            await pause()
    return found


def _name(path: str, text: str) -> str | None:
    if len(text) > _MAX_NAME:
        raise InvalidInput.field(path, f"at most {_MAX_NAME} characters")
    return text or None


def _labels(texts: Sequence[str]) -> dict[str, str]:
    if len(texts) > MAX_LABELS_ASKED_FOR:
        raise InvalidInput.field("labels", f"at most {MAX_LABELS_ASKED_FOR} labels")
    labels: dict[str, str] = {}
    for index, text in enumerate(texts):
        name, equals, value = text.partition("=")
        if not equals or name in labels:
            raise InvalidInput.field(
                f"labels[{index}]", "write a label as NAME=VALUE, and each name once"
            )
        labels[name] = value
    return read_labels(labels)


def _required_mask(scope: str, keyspace: Keyspace) -> int:
    """The scope that keys are to hold, as a mask; 0 where none is asked for."""
    if not scope:
        return 0
    if scope not in keyspace.catalog:
        raise keyspace.unknown_scope("scope", scope)
    return keyspace.catalog.required_mask([scope])


def _day(path: str, text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput.field(path, "is not a day like 2026-01-31") from None
