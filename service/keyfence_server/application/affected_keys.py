"""Which keys a change of a keyspace affects: those that gain or lose scopes, and those that stop
working because it no longer recognises an earlier format."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from keyfence_server.application.ports import GrantedAlike, Snapshot
from keyfence_server.domain.facts import granted_mask
from keyfence_server.domain.formats import KeyForm
from keyfence_server.domain.keys import Key, KeyState, Lineage, state_of
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.scopes import size_of

MAX_AFFECTED_KEYS: Final = 1000
"""The most keys that are listed. All of them are counted."""
MAX_CUT_OFF_KEYS: Final = 1000
MAX_BYTES: Final = 512 * 1024
"""The most that the scopes of the listed keys take together."""


@dataclass(frozen=True, slots=True)
class KeyScopeChange:
    """How one key's effective scopes differ."""

    key: Key
    gained_scopes: tuple[str, ...]
    lost_scopes: tuple[str, ...]


class AffectedKeys:
    """Collects the keys whose effective scopes differ between two states of a keyspace.

    Keys that hold the same scopes change alike, so what a change comes to is worked out once
    for all of them.

    Attributes:
        count: how many keys differ.
        listed: the first of them, within bounds.
        is_cut: whether some are left out because of the bounds.
    """

    def __init__(self, before: Keyspace, after: Keyspace, now: float) -> None:
        self._before = before
        self._after = after
        self._now = now
        self._masks_of = lru_cache(MAX_AFFECTED_KEYS)(self._find_masks)
        self._change_of_masks = lru_cache(MAX_AFFECTED_KEYS)(self._find_change)
        self._bytes = 0
        self.count = 0
        self.listed: list[KeyScopeChange] = []
        self.is_cut = False

    @property
    def room(self) -> int:
        """How many more keys may be listed."""
        return 0 if self.is_cut else MAX_AFFECTED_KEYS - len(self.listed)

    def changed(self, alike: Sequence[GrantedAlike]) -> list[GrantedAlike]:
        """Those of the grants with which keys differ that are not delegated."""
        masks = [self._masks_of(one.granted_scopes, one.key_type) for one in alike]
        was, becomes = self._before.catalog.names_in, self._after.catalog.names_in
        pairs = zip(alike, masks, strict=True)
        return [one for one, (old, new) in pairs if was(old) != becomes(new)]

    def count_unlisted(self, count: int) -> None:
        """Counts so many keys that differ and that are not listed."""
        if count:
            self.count += count
            self.is_cut = True

    def add(self, lineages: Iterable[Lineage]) -> None:
        """Adds keys with those that they were delegated from. Revoked and expired ones do not
        count."""
        for lineage in lineages:
            ends = [key.expire_time.timestamp() for key in lineage if key.expire_time]
            if (
                state_of(lineage) is KeyState.REVOKED
                or min(ends, default=self._now + 1) <= self._now
            ):
                continue
            gained, lost = self._change_of(lineage)
            if gained or lost:
                self.count += 1
                self._list(KeyScopeChange(lineage[0], gained, lost))

    def _list(self, change: KeyScopeChange) -> None:
        size = size_of(change.gained_scopes) + size_of(change.lost_scopes)
        fits = len(self.listed) < MAX_AFFECTED_KEYS and self._bytes + size <= MAX_BYTES
        if fits and not self.is_cut:
            self._bytes += size
            self.listed.append(change)
        else:
            self.is_cut = True

    def _change_of(self, lineage: Lineage) -> tuple[tuple[str, ...], tuple[str, ...]]:
        was, becomes = -1, -1
        for key in lineage:
            of_before, of_after = self._masks_of(tuple(key.granted_scopes), key.key_type)
            was &= of_before
            becomes &= of_after
        return self._change_of_masks(was, becomes)

    def _find_change(self, was: int, becomes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        old = set(self._before.catalog.names_in(was))
        new = set(self._after.catalog.names_in(becomes))
        return tuple(sorted(new - old)), tuple(sorted(old - new))

    def _find_masks(self, granted: tuple[str, ...], key_type: str) -> tuple[int, int]:
        return (
            granted_mask(granted, key_type, self._before),
            granted_mask(granted, key_type, self._after),
        )


async def find_keys_cut_off(
    snapshot: Snapshot, keyspace: str, dropped: Collection[KeyForm], now: datetime
) -> tuple[int, tuple[Key, ...]]:
    """The keys that would no longer be recognised: how many, and the first of them.

    A key's record has its display prefix, not its form. Where that fits a dropped form and one that
    stays, the key is counted: it may stop working. Revoked and expired keys do not count.
    """
    count = 0
    first: list[Key] = []
    if dropped:
        async for key in snapshot.iterate_keys(keyspace):
            if key.is_expired(now) or not any(form.shows(key.display_prefix) for form in dropped):
                continue
            count += 1
            if len(first) < MAX_CUT_OFF_KEYS:
                first.append(key)
    return count, tuple(first)
