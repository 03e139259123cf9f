"""Reading keyspaces, and explaining how their scopes are connected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from keyfence_server.application.callers import Caller
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.pages import Page, PageRequest, Paging
from keyfence_server.application.pauses import Pauses
from keyfence_server.application.ports import Clock, Snapshot, Store
from keyfence_server.domain.accounts import AccountId, AccountState
from keyfence_server.domain.catalog import ScopePath
from keyfence_server.domain.errors import NotFound
from keyfence_server.domain.facts import own_mask
from keyfence_server.domain.keys import Key, KeyState, Lineage, state_of
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.system import SYSTEM_KEYSPACE

_BATCH: Final = 100
_KEYS_A_SLICE: Final = 2_000  # and grants of keys
MAX_EXPLAINED: Final = 200
"""The most scopes whose paths are given, in either direction: it bounds the answer's size."""


async def get_keyspace(snapshot: Snapshot, name: str) -> Keyspace:
    """The keyspace of this name, the built-in one too. Raises `NotFound`."""
    keyspace = SYSTEM_KEYSPACE if name == SYSTEM else await snapshot.find_keyspace(name)
    if keyspace is None:
        raise NotFound.keyspace(name)
    return keyspace


@dataclass(frozen=True, slots=True)
class ScopeReport:
    """How a scope is connected with the rest of its keyspace.

    Attributes:
        implies: the scopes that it implies, with the paths; at most `MAX_EXPLAINED`.
        implied_by: the other scopes that imply it, with the paths; at most `MAX_EXPLAINED`.
        implies_count: how many scopes it implies.
        implied_by_count: how many scopes imply it.
        presets: the presets that include or imply it.
        capped_key_types: the key types whose caps exclude it.
        active_key_count: how many active keys have it.
    """

    scope: str
    description: str
    implies: tuple[ScopePath, ...]
    implied_by: tuple[ScopePath, ...]
    presets: tuple[str, ...]
    capped_key_types: tuple[str, ...]
    active_key_count: int
    implies_count: int
    implied_by_count: int


@dataclass(frozen=True, slots=True)
class ReadKeyspaces:
    """Answers questions about keyspaces, from the store."""

    _store: Store
    _clock: Clock
    _heavy: HeavyWork

    async def get(self, caller: Caller, name: str) -> Keyspace:
        """The keyspace of this name. Raises `Forbidden`, `NotFound`."""
        caller.require_reach(name)
        async with self._store.snapshot() as snapshot:
            return await get_keyspace(snapshot, name)

    async def list(self, caller: Caller, asked: PageRequest) -> Page[Keyspace]:
        """The keyspaces that the caller reaches, by name, the built-in one left out.

        Raises:
            InvalidInput: the page's size or token is wrong.
        """
        paging = Paging.read(caller, asked)
        limit, after = paging.limit, paging.after
        found: list[Keyspace] = []
        async with self._store.snapshot() as snapshot:
            # A page is filled from as many reads as it takes: what the caller does not
            # reach must not show, not even as a short page.
            while len(found) <= limit:
                batch = await snapshot.list_keyspaces(after=after, limit=limit + 1)
                found += [keyspace for keyspace in batch if caller.reaches(keyspace.name)]
                if len(batch) <= limit:
                    break
                after = batch[-1].name
        return paging.page(found, lambda one: one.name)

    async def explain_scope(self, caller: Caller, name: str, scope: str) -> ScopeReport:
        """How a registered scope hangs together. Raises `Forbidden`, `NotFound`, `UnknownScope`."""
        caller.require_reach(name)
        async with self._store.snapshot() as snapshot:
            keyspace = await get_keyspace(snapshot, name)
            catalog = keyspace.catalog
            if scope not in catalog:
                raise keyspace.unknown_scope("scope", scope)
            # It walks the whole graph, forwards and backwards.
            report = await self._heavy.run(name, len(catalog), lambda: _report(keyspace, scope))
            count = await self._count_holders(snapshot, keyspace, catalog.required_mask([scope]))
            return replace(report, active_key_count=count)

    async def _count_holders(self, snapshot: Snapshot, keyspace: Keyspace, wanted: int) -> int:
        now = self._clock.timestamp()
        holders = 0
        disabled = await _disabled_accounts(snapshot, keyspace.name)
        candidates: list[Key] = []
        pauses = Pauses(_KEYS_A_SLICE)
        async for key in snapshot.iterate_keys(keyspace.name):
            granted = keyspace.catalog.mask(key.granted_scopes)
            if key.account_id not in disabled and granted & wanted:
                candidates.append(key)
            await pauses.after(1 + len(key.granted_scopes))
        # In slices, so that checks go on.
        for start in range(0, len(candidates), _BATCH):
            lineages = await snapshot.ancestors(candidates[start : start + _BATCH])
            for line in lineages.values():
                holders += _holds(line, keyspace, wanted, now)
                await pauses.after(1 + sum(len(key.granted_scopes) for key in line))
        return holders


def _report(keyspace: Keyspace, scope: str) -> ScopeReport:
    """How a registered scope hangs together, without the keys that hold it."""
    catalog, declaration = keyspace.catalog, keyspace.declaration
    wanted = catalog.required_mask([scope])
    presets = (one.name for one in declaration.presets if catalog.mask(one.scopes) & wanted)
    types = (one.name for one in declaration.key_types)
    capped = (name for name in types if not keyspace.cap_mask(name) & wanted)
    return ScopeReport(
        scope=scope,
        description=describe_scope(keyspace, scope),
        implies=tuple(islice(catalog.implied_by(scope), MAX_EXPLAINED)),
        implied_by=tuple(islice(catalog.implying(scope), MAX_EXPLAINED)),
        implies_count=catalog.count_implied_by(scope),
        implied_by_count=catalog.count_implying(scope),
        presets=tuple(sorted(presets)),
        capped_key_types=tuple(sorted(capped)),
        active_key_count=0,
    )


def _holds(lineage: Lineage, keyspace: Keyspace, wanted: int, now: float) -> bool:
    """Whether a key works and holds a scope. To compile facts would take longer."""
    return state_of(lineage) is KeyState.ACTIVE and all(
        own_mask(key, keyspace) & wanted
        and (key.expire_time is None or key.expire_time.timestamp() > now)
        for key in lineage
    )


async def _disabled_accounts(snapshot: Snapshot, keyspace: str) -> frozenset[str]:
    state = AccountState.DISABLED
    found: set[str] = set()
    after: AccountId | None = None
    while page := await snapshot.list_accounts(keyspace, state, after=after, limit=_BATCH):
        found |= {account.account_id for account in page}
        after = page[-1].account_id
    return frozenset(found)


def describe_scope(keyspace: Keyspace, scope: str) -> str:
    """What the declaration says that a scope allows."""
    for declared in keyspace.declaration.scopes:
        if declared.name == scope:
            return declared.description
    for resource in keyspace.declaration.resources:
        for level in resource.levels:
            if f"{resource.name}:{level.name}" == scope:
                return level.description
    return ""
