"""Declaring a keyspace, anew or differently, and saying beforehand what that would do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from keyfence_server.application.audit import keyspace_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.dropped_formats import find_keys_cut_off
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Clock,
    Snapshot,
    Store,
    Transaction,
)
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.errors import Conflict, InvalidDeclaration, Precondition, Problem
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.formats import KeyForm
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import (
    SYSTEM,
    Keyspace,
    compile_keyspace,
    formats_to_remember,
    forms_to_drop,
)
from keyfence_server.domain.plurals import counted

MAX_AFFECTED_KEYS: Final = 1000
_BATCH: Final = 500
_DECIDES_SCOPES: Final = frozenset({"scopes", "resources", "key_types"})
"""The parts of a declaration that keys' effective scopes follow from. Where no other part
differs, no key need be read, and no other mutation has to wait for that."""


@dataclass(frozen=True, slots=True)
class KeyScopeChange:
    """How one key's effective scopes differ."""

    key: Key
    gained_scopes: tuple[str, ...]
    lost_scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyspaceDiff:
    """What a declaration changes. Fields as in `keyfence.v1.KeyspaceDiff`."""

    created: bool
    added_scopes: tuple[str, ...]
    removed_scopes: tuple[str, ...]
    changed_scopes: tuple[str, ...]
    changed_fields: tuple[str, ...]
    affected_keys: tuple[KeyScopeChange, ...] = ()
    affected_key_count: int = 0
    dropped_formats: tuple[str, ...] = ()
    cut_off_keys: tuple[Key, ...] = ()
    cut_off_key_count: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the declaration says what is so already."""
        return not self.created and not self.changed_fields and not self.dropped_formats


@dataclass(frozen=True, slots=True)
class AppliedKeyspace:
    """The keyspace as it is now, or would be, and what that changes."""

    keyspace: Keyspace
    diff: KeyspaceDiff


class ApplyKeyspace:
    """Makes keyspaces what their declarations say."""

    def __init__(self, store: Store, mutations: Mutations, clock: Clock) -> None:
        self._store = store
        self._mutations = mutations
        self._clock = clock

    async def apply(
        self,
        caller: Caller,
        declaration: KeyspaceDeclaration,
        *,
        if_revision: int = 0,
        drop_formats: Collection[str] = (),
    ) -> Done[AppliedKeyspace]:
        """Applies a declaration. Applying the same one again changes nothing, at whatever
        revision.

        Args:
            drop_formats: templates of earlier formats that are no longer to be recognised, or
                "*" for all.

        Raises:
            InvalidDeclaration: it contradicts itself; every problem is named. Or it says
                nothing but the name of a keyspace that declares more.
            Forbidden: the caller is not bound to the keyspace.
            Conflict: the keyspace is not at the revision that the caller expects.
            Precondition: it is built in, or keys still have what would be taken away.
        """
        wanted = compile_keyspace(declaration)

        async def work(transaction: Transaction, maker: Caller) -> Effect[AppliedKeyspace]:
            _require_may_apply(maker, declaration.name)
            return await self._apply(transaction, maker, wanted, if_revision, drop_formats)

        return await self._mutations.run(caller, work)

    async def apply_as_server(self, declaration: KeyspaceDeclaration) -> Done[AppliedKeyspace]:
        """Applies a declaration at the server's first start. Raises as `apply`."""
        wanted = require_applicable(declaration)
        return await self._mutations.run_as_server(
            lambda transaction: self._apply(transaction, None, wanted, 0, ())
        )

    async def preview(
        self,
        caller: Caller,
        declaration: KeyspaceDeclaration,
        *,
        if_revision: int = 0,
        drop_formats: Collection[str] = (),
    ) -> Done[AppliedKeyspace]:
        """What `apply` would do, without doing it. Raises as `apply`."""
        wanted = compile_keyspace(declaration)
        async with self._store.snapshot() as snapshot:
            _require_may_apply(await caller.reread(snapshot, self._clock), declaration.name)
            after, diff = await self._compare(snapshot, wanted, if_revision, drop_formats)
            return Done(AppliedKeyspace(after, diff), snapshot.revision)

    async def _apply(
        self,
        transaction: Transaction,
        caller: Caller | None,
        wanted: Keyspace,
        if_revision: int,
        drop_formats: Collection[str],
    ) -> Effect[AppliedKeyspace]:
        after, diff = await self._compare(transaction, wanted, if_revision, drop_formats)
        if diff.is_empty:
            return Effect(AppliedKeyspace(after, diff))
        await transaction.put_keyspace(after)
        stored = replace(after, revision=transaction.revision)
        return Effect(
            AppliedKeyspace(stored, diff),
            (Change(ChangeKind.KEYSPACE, after.name, after.name, created=diff.created),),
            keyspace_event(
                caller,
                after.name,
                after.update_time,
                changed_fields=list(diff.changed_fields),
                added_scopes=len(diff.added_scopes),
                removed_scopes=list(diff.removed_scopes[:MAX_AFFECTED_KEYS]),
                affected_keys=diff.affected_key_count,
                dropped_formats=list(diff.dropped_formats),
                cut_off_keys=diff.cut_off_key_count,
            ),
        )

    async def _compare(
        self,
        snapshot: Snapshot,
        wanted: Keyspace,
        if_revision: int,
        drop_formats: Collection[str],
    ) -> tuple[Keyspace, KeyspaceDiff]:
        """The keyspace as it would be, and what that changes."""
        before = await snapshot.find_keyspace(wanted.name)
        dropped: set[KeyForm] = set()
        if before is not None:
            dropped = forms_to_drop(before, wanted, drop_formats)
            diff = replace(_difference(before, wanted), dropped_formats=_templates(dropped))
            if diff.is_empty:
                # Also at another revision: a call whose answer was lost may be made again.
                return before, diff
        revision = before.revision if before else 0
        if if_revision and if_revision != revision:
            raise Conflict(
                f'keyspace "{wanted.name}" is at revision {revision}; read it again and decide '
                "again",
                revision=str(revision),
            )
        now = self._clock.now()
        if before is None:
            after = replace(wanted, create_time=now, update_time=now)
            return after, _difference(None, after)
        after = compile_keyspace(
            wanted.declaration,
            previous_formats=formats_to_remember(before, wanted, dropped),
            create_time=before.create_time,
            update_time=now,
        )
        await _require_unused(snapshot, before, after)
        _require_something_said(wanted.declaration)
        cut_off_count, cut_off = await find_keys_cut_off(snapshot, before.name, dropped, now)
        diff = replace(diff, cut_off_keys=cut_off, cut_off_key_count=cut_off_count)
        if not _DECIDES_SCOPES.intersection(diff.changed_fields):
            return after, diff
        count, affected = await self._affected_keys(snapshot, before, after)
        return after, replace(diff, affected_keys=affected, affected_key_count=count)

    async def _affected_keys(
        self, snapshot: Snapshot, before: Keyspace, after: Keyspace
    ) -> tuple[int, tuple[KeyScopeChange, ...]]:
        now = self._clock.timestamp()
        count = 0
        affected: list[KeyScopeChange] = []
        candidates = [
            key
            async for key in snapshot.iterate_keys(before.name)
            if not key.is_expired(self._clock.now())
        ]
        for batch in _batches(candidates):
            for lineage in (await snapshot.ancestors(batch)).values():
                was = compile_facts(lineage, before)
                if was.state is KeyState.REVOKED or was.expires_at <= now:
                    continue
                change = _scope_change(was, compile_facts(lineage, after))
                if change.gained_scopes or change.lost_scopes:
                    count += 1
                    if len(affected) < MAX_AFFECTED_KEYS:
                        affected.append(change)
        return count, tuple(affected)


def _templates(forms: Collection[KeyForm]) -> tuple[str, ...]:
    return tuple(sorted(form.as_declaration().template for form in forms))


def _batches(keys: list[Key]) -> list[list[Key]]:
    return [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)]


def _scope_change(was: KeyFacts, becomes: KeyFacts) -> KeyScopeChange:
    before, after = set(was.effective_scopes), set(becomes.effective_scopes)
    return KeyScopeChange(was.key, tuple(sorted(after - before)), tuple(sorted(before - after)))


def require_applicable(declaration: KeyspaceDeclaration) -> Keyspace:
    """The keyspace of a declaration that can be applied at all. Raises as `apply`."""
    _require_not_built_in(declaration.name)
    return compile_keyspace(declaration)


def _require_may_apply(caller: Caller, name: str) -> None:
    caller.require_scope("keyspaces:write")
    _require_not_built_in(name)
    caller.require_reach(name)


def _require_not_built_in(name: str) -> None:
    if name == SYSTEM:
        raise Precondition(
            f'the keyspace "{SYSTEM}" is built in and cannot be declared; choose another name',
            reason="KEYSPACE_IS_BUILT_IN",
            keyspace=SYSTEM,
        )


def _require_something_said(declaration: KeyspaceDeclaration) -> None:
    """Refuses to change a keyspace to nothing but its name: that is what is left of a
    declaration that was lost on its way."""
    if declaration == KeyspaceDeclaration(name=declaration.name):
        raise InvalidDeclaration(
            [
                Problem(
                    ("keyspace",),
                    f'the declaration says nothing but the name "{declaration.name}", and would '
                    "take away all that this keyspace declares; if it is to, say one thing more, "
                    "for example display_name",
                )
            ]
        )


async def _require_unused(snapshot: Snapshot, before: Keyspace, after: Keyspace) -> None:
    """Refuses to take away a key type or an environment that keys still have."""
    for kind in before.declaration.key_types:
        if after.find_key_type(kind.name) is None:
            count = await snapshot.count_keys(before.name, key_type=kind.name)
            if count:
                raise _still_in_use(f'key type "{kind.name}"', count, key_type=kind.name)
    for place in before.declaration.environments:
        if after.find_environment(place.name) is None:
            count = await snapshot.count_keys(before.name, environment=place.name)
            if count:
                raise _still_in_use(f'environment "{place.name}"', count, environment=place.name)


def _still_in_use(what: str, count: int, **metadata: str) -> Precondition:
    return Precondition(
        f"the {what} is still that of {counted(count, 'key')} not revoked yet; revoke what has it "
        "first, or keep it",
        reason="STILL_IN_USE",
        keys=str(count),
        **metadata,
    )


def _difference(before: Keyspace | None, after: Keyspace) -> KeyspaceDiff:
    old = _implications(before) if before else {}
    new = _implications(after)
    return KeyspaceDiff(
        created=before is None,
        added_scopes=tuple(sorted(new.keys() - old.keys())),
        removed_scopes=tuple(sorted(old.keys() - new.keys())),
        changed_scopes=tuple(
            sorted(name for name in new.keys() & old.keys() if new[name] != old[name])
        ),
        changed_fields=_changed_fields(before, after),
    )


def _implications(keyspace: Keyspace) -> Mapping[str, tuple[str, ...]]:
    return {name: keyspace.catalog.implied_directly(name) for name in keyspace.catalog.names}


def _changed_fields(before: Keyspace | None, after: Keyspace) -> tuple[str, ...]:
    if before is None:
        return ()
    return tuple(
        sorted(
            one.name
            for one in fields(KeyspaceDeclaration)
            if getattr(before.declaration, one.name) != getattr(after.declaration, one.name)
        )
    )
