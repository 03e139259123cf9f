"""What is known of a key, ready to be asked: the only thing that caches keep.

`KeyFacts` are compiled once, when a key is read, from its lineage and its keyspace. They are facts
and not decisions. Whether a key passes depends on the time, the address and the scopes of a check,
so each check decides it, with a few comparisons and one AND.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from keyfence_server.domain.accounts import Account, AccountState
from keyfence_server.domain.addresses import Address, Network, is_within, parse_network
from keyfence_server.domain.catalog import FEW_GRANTS
from keyfence_server.domain.compact_names import CompactNames
from keyfence_server.domain.keys import Key, KeyId, KeyState, Lineage, state_of
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.limits import Limit, Rate, Subject
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.system import ALL_KEYSPACES

NEVER: Final = math.inf
_NOWHERE: Final[frozenset[str]] = frozenset()
MAX_LISTED_SCOPES_BYTES: Final = 16 * 1024
"""What the effective scopes that an answer lists take at most. Every check has such a list in its
answer, and a key may hold ten thousand scopes with names of a hundred characters."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyFacts:
    """A key, those it was delegated from, and what follows from both.

    Attributes:
        lineage: the key first.
        keyspace: the keyspace as it was when the facts were compiled.
        kept_mask: `effective`, if it is kept; None if it is worked out again where it is needed.
        expires_at: when the first of the lineage expires, in seconds since the epoch;
            infinity for never.
        allow_lists: the address lists of the lineage; all of them must be met.
        limits: the rate limits that the key is under: its own, those of the keys that it was
            delegated from, whose allowance it spends, and its account's. Most often none.
        account_state: the state of the registered account that owns the key; None if the owner
            is not registered, or if its state was not read.
        lasting_reason: why the key is refused at any time and from any address; OK if it is not.
        is_stale: whether the facts may be out of date, which happens only where an operator
            has asked for stale answers.
        reflects: the facts are at least as new as this revision; 0 if that is not known.
        key: the key itself.
        acts_on_all: whether this operator credential is bound to every keyspace but `system`.
    """

    lineage: Lineage
    keyspace: Keyspace
    kept_mask: int | None
    expires_at: float
    lasting_reason: Reason
    allow_lists: tuple[tuple[Network, ...], ...]
    limits: tuple[Limit, ...] = ()
    account_state: AccountState | None = None
    is_stale: bool = False
    reflects: int = 0
    key: Key = field(init=False, repr=False)
    acts_on_all: bool = field(init=False, repr=False)
    _acts_on_named: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Worked out here once, since every check asks for them.
        acts_on_all, acts_on_named = False, _NOWHERE
        if bound := {name for key in self.lineage for name in key.bound_keyspaces}:
            acts_on_all = all(ALL_KEYSPACES in key.bound_keyspaces for key in self.lineage)
            acts_on_named = frozenset(
                name for name in bound if all(_is_bound(key, name) for key in self.lineage)
            )
        object.__setattr__(self, "key", self.lineage[0])
        object.__setattr__(self, "acts_on_all", acts_on_all)
        object.__setattr__(self, "_acts_on_named", acts_on_named)

    @property
    def effective(self) -> int:
        """The scopes that the key holds, as a mask of the keyspace's catalog: within its own
        type's cap and within all that it was delegated from.

        A mask of ten thousand scopes takes more than a kilobyte. Keys with many grants, which
        seldom hold the same as another key, do not keep theirs: it follows from the grants, and
        those of the keys that were used lately are remembered.
        """
        kept = self.kept_mask
        if kept is not None:
            return kept
        place = tuple((_identity(key.granted_scopes), key.key_type) for key in self.lineage)
        return self.keyspace.catalog.recent_mask(
            place, lambda: effective_mask(self.lineage, self.keyspace)
        )

    @property
    def effective_scopes(self) -> tuple[str, ...]:
        """The names of the effective scopes, sorted. Not kept: keys with equal scopes share
        them in the catalog."""
        return self.keyspace.catalog.names_in(self.effective)

    def listed_scopes(self) -> tuple[tuple[str, ...], bool]:
        """The effective scopes that answers list, sorted, and whether some are left out."""
        return listed_scopes(self.effective, self.keyspace)

    @property
    def state(self) -> KeyState:
        """The worst state in the lineage."""
        return state_of(self.lineage)

    @property
    def expire_time(self) -> datetime | None:
        """When the first of the lineage expires; None for never."""
        return min((key.expire_time for key in self.lineage if key.expire_time), default=None)

    @property
    def key_id(self) -> KeyId:
        """The key's id."""
        return self.lineage[0].key_id

    def reason_at(self, now: float, address: Address | None) -> Reason:
        """Why the key passes or does not, scopes aside, in the order of precedence.

        Args:
            now: seconds since the epoch.
            address: where the key was presented from, if that is known.
        """
        lasting = self.lasting_reason
        if now >= self.expires_at and lasting is not Reason.KEY_REVOKED:
            return Reason.KEY_EXPIRED
        if lasting is not Reason.OK:
            return lasting
        for networks in self.allow_lists:
            if address is None or not is_within(address, networks):
                return Reason.ADDRESS_NOT_ALLOWED
        return Reason.OK

    def acts_on(self, keyspace: str) -> bool:
        """Whether this operator credential is bound to the keyspace, and so is every one
        that it was delegated from. Never, for a credential bound to nothing."""
        return keyspace in self._acts_on_named or (self.acts_on_all and keyspace != SYSTEM)


def _identity(granted: Sequence[str]) -> Hashable:
    """A hashable identity of the grants. `bytes` caches its hash."""
    return granted.numbers if isinstance(granted, CompactNames) else tuple(granted)


def _is_bound(key: Key, keyspace: str) -> bool:
    bound = key.bound_keyspaces
    return keyspace in bound or (ALL_KEYSPACES in bound and keyspace != SYSTEM)


def compile_facts(
    lineage: Lineage,
    keyspace: Keyspace,
    owner_state: AccountState | None = None,
    *,
    reflects: int = 0,
) -> KeyFacts:
    """Works out what follows from a key's records and its keyspace's declaration.

    Args:
        owner_state: the state of the registered account that owns the key; None if the owner is not
            registered. A caller that decides by the facts must have read it; see `state_of_owner`.
        reflects: the revision that all of these records reflect at least.
    """
    few = all(len(key.granted_scopes) <= FEW_GRANTS for key in lineage)
    mask = keyspace.catalog.shared_mask(effective_mask(lineage, keyspace)) if few else None
    return KeyFacts(
        lineage=tuple(_sharing(key, keyspace) for key in lineage),
        keyspace=keyspace,
        kept_mask=mask,
        expires_at=min(
            (key.expire_time.timestamp() for key in lineage if key.expire_time), default=NEVER
        ),
        lasting_reason=_lasting_reason(state_of(lineage), owner_state),
        allow_lists=tuple(
            tuple(map(parse_network, key.allowed_addresses))
            for key in lineage
            if key.allowed_addresses
        ),
        limits=_limits(lineage, keyspace),
        account_state=owner_state,
        reflects=reflects,
    )


def _lasting_reason(state: KeyState, owner_state: AccountState | None) -> Reason:
    """In the order of precedence."""
    if state is KeyState.REVOKED:
        return Reason.KEY_REVOKED
    if state is KeyState.DISABLED:
        return Reason.KEY_DISABLED
    if owner_state is AccountState.DISABLED:
        return Reason.ACCOUNT_DISABLED
    return Reason.OK


def _sharing(key: Key, keyspace: Keyspace) -> Key:
    """The same key, with the names of its scopes in memory once."""
    shared = keyspace.catalog.shared_grants(key.granted_scopes)
    return key if shared is key.granted_scopes else replace(key, granted_scopes=shared)


def state_of_owner(key: Key, account: Account | None) -> AccountState | None:
    """The state of the registered account that owns the key; None if the owner is not registered.

    Args:
        account: the registered account with the id of the key's owner, if there is one. An account
            of another keyspace only has the same id.
    """
    return account.state if account is not None and account.keyspace == key.keyspace else None


def effective_mask(lineage: Lineage, keyspace: Keyspace) -> int:
    """What a key holds, as a mask of the keyspace's catalog."""
    effective = -1
    for key in lineage:
        effective &= own_mask(key, keyspace)
    return effective


def listed_scopes(mask: int, keyspace: Keyspace) -> tuple[tuple[str, ...], bool]:
    """The scopes of a mask that answers list, sorted, and whether some are left out."""
    return keyspace.catalog.first_names_in(mask, MAX_LISTED_SCOPES_BYTES)


def own_mask(key: Key, keyspace: Keyspace) -> int:
    """What a key would hold by itself: its grants, closed, within its type's cap."""
    return granted_mask(key.granted_scopes, key.key_type, keyspace)


def granted_mask(granted: Sequence[str], key_type: str, keyspace: Keyspace) -> int:
    """What grants bring a key of a type, as a mask of the keyspace's catalog."""
    return keyspace.catalog.mask(granted) & keyspace.cap_mask(key_type)


def own_rate(key: Key, keyspace: Keyspace) -> Rate | None:
    """How often a key may be used by itself; None for as often as it likes."""
    return key.rate_limit or keyspace.declaration.limits.per_key


def _limits(lineage: Lineage, keyspace: Keyspace) -> tuple[Limit, ...]:
    # Counted by line: otherwise rotating a key would reset its limit.
    limits = [
        Limit(Subject.KEY, f"{key.line_id}/{rate.seconds}", rate)
        for key in lineage
        if (rate := own_rate(key, keyspace)) is not None
    ]
    rate = keyspace.declaration.limits.per_account
    if rate is not None:
        # The window is part of the name: where it changes, a count of the old one says
        # nothing any more.
        name = f"{keyspace.name}/{lineage[0].account_id}/{rate.seconds}"
        limits.append(Limit(Subject.ACCOUNT, name, rate))
    return tuple(limits)
