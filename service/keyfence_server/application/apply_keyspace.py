"""Creates or changes a keyspace by its declaration, or previews the change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Final, NamedTuple

from keyfence_server.application.affected_keys import (
    AffectedKeys,
    KeyScopeChange,
    find_keys_cut_off,
)
from keyfence_server.application.audit import keyspace_event, listed
from keyfence_server.application.callers import Caller
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Clock,
    GrantedAlike,
    KeySpan,
    Snapshot,
    Store,
    Transaction,
)
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.errors import Conflict, InvalidDeclaration, Precondition
from keyfence_server.domain.formats import KeyForm
from keyfence_server.domain.keys import Key
from keyfence_server.domain.keyspaces import (
    SYSTEM,
    Keyspace,
    compile_keyspace,
    formats_to_remember,
    forms_to_drop,
    with_history,
)
from keyfence_server.domain.plurals import counted
from keyfence_server.domain.scopes import size_of, within_bytes

MAX_LIST_BYTES: Final = 128 * 1024
"""The most that each list of scopes in a diff takes."""
_ATTEMPTS: Final = 3
_SLICE: Final = 2_000
"""How many keys are examined at once. Each may have been granted something else."""
_BATCH: Final = 200
_BYTES_OF_GRANTS: Final = 64 * 1024
_DECIDES_SCOPES: Final = frozenset({"scopes", "resources", "key_types"})
"""The parts of a declaration that keys' effective scopes follow from. Where no other part
differs, no key need be read, and no other mutation has to wait for that."""


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
    is_cut: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the declaration says what is so already."""
        return not self.created and not self.changed_fields and not self.dropped_formats


@dataclass(frozen=True, slots=True)
class AppliedKeyspace:
    """The keyspace as it is now, or would be, and what that changes."""

    keyspace: Keyspace
    diff: KeyspaceDiff


class _Asked(NamedTuple):
    """What a keyspace is to become. Fields as the arguments of `apply`."""

    wanted: Keyspace
    if_revision: int = 0
    drop_formats: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What applying a declaration comes to, worked out before the transaction.

    Attributes:
        before: the keyspace that it was worked out for; None for a new one.
        after: the keyspace as it would be.
    """

    before: Keyspace | None
    after: Keyspace
    diff: KeyspaceDiff

    def is_for(self, keyspace: Keyspace | None) -> bool:
        """Whether the keyspace is still as it was."""
        if self.before is None or keyspace is None:
            return self.before is keyspace
        at = (self.before.revision, self.before.update_time)
        return at == (keyspace.revision, keyspace.update_time)


@dataclass(frozen=True, slots=True)
class ApplyKeyspace:
    """Makes keyspaces what their declarations say.

    What takes long is worked out before the transaction, from a reading of the store, on a
    thread and in slices. The transaction makes sure that the keyspace is still as it was.
    """

    _store: Store
    _mutations: Mutations
    _clock: Clock
    _heavy: HeavyWork

    async def apply(
        self,
        caller: Caller,
        declaration: KeyspaceDeclaration,
        *,
        if_revision: int = 0,
        drop_formats: Collection[str] = (),
        validate_only: bool = False,
    ) -> Done[AppliedKeyspace]:
        """Applies a declaration. Applying the same one again changes nothing, at whatever revision.

        Args:
            drop_formats: templates of earlier formats that are no longer to be recognised, or
                "*" for all.
            validate_only: works out what would change, and changes nothing.

        Raises:
            InvalidDeclaration: it contradicts itself; every problem is named. Or it says
                nothing but the name of a keyspace that declares more.
            Forbidden: the caller is not bound to the keyspace.
            Conflict: the keyspace is not at the revision that the caller expects.
            Precondition: it is built in, or keys still have what would be taken away.
        """
        wanted = await self._heavy.run(
            declaration.name, _size_of(declaration), lambda: compile_keyspace(declaration)
        )
        asked = _Asked(wanted, if_revision, drop_formats)
        for _ in range(_ATTEMPTS):
            plan, revision = await self._planned(caller, asked, will_be_written=not validate_only)
            if validate_only:
                return Done(AppliedKeyspace(plan.after, plan.diff), revision)
            done = await self._mutations.run(caller, partial(self._carry_out, plan), ungrouped=True)
            if done.value is not None:
                return Done(done.value, done.revision, is_committed=done.is_committed)
        raise Conflict(
            f'keyspace "{declaration.name}" was changed by other calls at each attempt; try again '
            "later",
            revision=str(done.revision),
        )

    async def apply_as_server(self, declaration: KeyspaceDeclaration) -> Done[AppliedKeyspace]:
        """Applies a declaration at the server's first start. Raises as `apply`."""
        asked = _Asked(require_applicable(declaration))

        async def work(transaction: Transaction) -> Effect[AppliedKeyspace]:
            plan = await self._plan(transaction, asked)
            return await _write(transaction, None, plan)

        return await self._mutations.run_as_server(work)

    async def _planned(
        self, caller: Caller, asked: _Asked, *, will_be_written: bool
    ) -> tuple[_Plan, int]:
        """The plan, and the revision of the store that it was worked out from."""
        async with self._store.snapshot() as snapshot:
            _require_may_apply(await caller.reread(snapshot, self._clock), asked.wanted.name)
            plan = await self._plan(snapshot, asked)
            if will_be_written and not plan.diff.is_empty:
                await snapshot.prepare_keyspace(plan.after)
            return plan, snapshot.revision

    async def _carry_out(
        self, plan: _Plan, transaction: Transaction, maker: Caller
    ) -> Effect[AppliedKeyspace | None]:
        """Does what was planned, or nothing if the keyspace has changed since."""
        _require_may_apply(maker, plan.after.name)
        if not plan.is_for(await transaction.find_keyspace(plan.after.name)):
            return Effect(None)
        if plan.before is not None and not plan.diff.is_empty:
            # A key may have been made meanwhile.
            await _require_unused(transaction, plan.before, plan.after)
        effect = await _write(transaction, maker, plan)
        return Effect(effect.value, effect.changes, effect.event)

    async def _plan(self, snapshot: Snapshot, asked: _Asked) -> _Plan:
        wanted = asked.wanted
        before = await snapshot.find_keyspace(wanted.name)
        dropped: set[KeyForm] = set()
        if before is not None:
            dropped = forms_to_drop(before, wanted, asked.drop_formats)
            diff = await self._difference(before, wanted)
            templates = sorted(form.as_declaration().template for form in dropped)
            diff = replace(diff, dropped_formats=tuple(templates))
            if diff.is_empty:
                # Also at another revision: a call whose answer was lost may be made again.
                return _Plan(before, before, diff)
        revision = before.revision if before else 0
        if asked.if_revision not in (0, revision):
            raise Conflict.moved_on(f'keyspace "{wanted.name}"', revision)
        now = self._clock.now()
        if before is None:
            after = replace(wanted, create_time=now, update_time=now)
            return _Plan(None, after, await self._difference(None, after))
        after = with_history(
            wanted,
            formats_to_remember(before, wanted, dropped),
            create_time=before.create_time,
            update_time=now,
        )
        await _require_unused(snapshot, before, after)
        _require_something_said(wanted.declaration)
        cut_off_count, cut_off = await find_keys_cut_off(snapshot, before.name, dropped, now)
        diff = replace(diff, cut_off_keys=cut_off, cut_off_key_count=cut_off_count)
        if not _DECIDES_SCOPES.intersection(diff.changed_fields):
            return _Plan(before, after, diff)
        affected = await self._affected_keys(snapshot, before, after)
        diff = replace(
            diff,
            affected_keys=tuple(affected.listed),
            affected_key_count=affected.count,
            is_cut=diff.is_cut or affected.is_cut,
        )
        return _Plan(before, after, diff)

    async def _difference(self, before: Keyspace | None, after: Keyspace) -> KeyspaceDiff:
        size = _size_of(after.declaration) + (_size_of(before.declaration) if before else 0)
        return await self._heavy.run(after.name, size, lambda: _difference(before, after))

    async def _affected_keys(
        self, snapshot: Snapshot, before: Keyspace, after: Keyspace
    ) -> AffectedKeys:
        """The keys that gain or lose scopes, found in slices.

        Of most keys only their grants are read, each once for all keys of a slice that have them.
        Keys that are delegated, and those that are listed, are read whole.
        """
        now = self._clock.now()
        affected = AffectedKeys(before, after, now.timestamp())
        size = _size_of(before.declaration) + _size_of(after.declaration)
        rest: KeySpan | None = KeySpan(before.name, now)
        while rest is not None:
            span = await snapshot.first_span(rest, examined=_SLICE)
            alike, delegated = await snapshot.count_grants(span)
            changed = await self._heavy.run(
                before.name, size + len(alike), partial(affected.changed, alike)
            )
            shown = await self._listed(snapshot, span, affected, changed, size)
            affected.count_unlisted(sum(one.count for one in changed) - shown)
            part = span if delegated else None
            while part is not None:
                children = await snapshot.list_granted(part, None, limit=_BATCH)
                some = tuple((await snapshot.ancestors(children)).values())
                await self._heavy.run(before.name, size + len(some), partial(affected.add, some))
                is_full = len(children) == _BATCH
                part = replace(part, after=children[-1].key_id) if is_full else None
            rest = replace(rest, after=span.end) if span.end is not None else None
        return affected

    async def _listed(
        self,
        snapshot: Snapshot,
        span: KeySpan,
        affected: AffectedKeys,
        changed: Sequence[GrantedAlike],
        size: int,
    ) -> int:
        """Lists keys of a span that change, as many as have room, and tells how many.

        Args:
            size: how many things both declarations name.
        """
        before = affected.count
        for grants in _by_bytes(dict.fromkeys(one.granted_scopes for one in changed)):
            if not affected.room:
                break
            rest = span
            while affected.room:
                # Keys of another type may have been granted the same and not change.
                found = await snapshot.list_granted(rest, grants, limit=min(_BATCH, affected.room))
                some = [(key,) for key in found]
                await self._heavy.run(span.keyspace, size + len(some), partial(affected.add, some))
                if not found:
                    break
                rest = replace(rest, after=found[-1].key_id)
        return affected.count - before


def _by_bytes(grants: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """The grants in lists that take little: each list goes to the store as one text."""
    some: list[tuple[str, ...]] = []
    size = 0
    for one in grants:
        size += size_of(one)
        if some and size > _BYTES_OF_GRANTS:
            yield some
            some, size = [], size_of(one)
        some.append(one)
    if some:
        yield some


async def _write(
    transaction: Transaction, caller: Caller | None, plan: _Plan
) -> Effect[AppliedKeyspace]:
    after, diff = plan.after, plan.diff
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
            **listed("removed_scopes", diff.removed_scopes),
            affected_keys=diff.affected_key_count,
            dropped_formats=list(diff.dropped_formats),
            cut_off_keys=diff.cut_off_key_count,
        ),
    )


def _size_of(declaration: KeyspaceDeclaration) -> int:
    """How many things the declaration names, and forms of keys that it asks for."""
    return (
        sum(1 + len(scope.implies) for scope in declaration.scopes)
        + sum(len(resource.levels) for resource in declaration.resources)
        + sum(len(preset.scopes) for preset in declaration.presets)
        + sum(len(kind.scope_cap) for kind in declaration.key_types)
        + len(declaration.key_types) * len(declaration.environments)
    )


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
        raise InvalidDeclaration.field(
            "keyspace",
            f'the declaration has only the name "{declaration.name}", so it would remove '
            "everything that this keyspace declares; to do that, set one more field, for "
            "example display_name",
        )


async def _require_unused(snapshot: Snapshot, before: Keyspace, after: Keyspace) -> None:
    """Refuses to take away a key type or an environment that keys still have."""
    was, becomes = before.declaration, after.declaration
    for field, what, declared, kept in (
        ("key_type", "key type", was.key_types, becomes.key_types),
        ("environment", "environment", was.environments, becomes.environments),
    ):
        names = {one.name for one in kept}
        for name in (one.name for one in declared if one.name not in names):
            count = await snapshot.count_keys(
                before.name,
                key_type=name if field == "key_type" else None,
                environment=name if field == "environment" else None,
            )
            if count:
                raise Precondition(
                    f'{counted(count, "key")} with the {what} "{name}" can still be used; revoke '
                    f'the keys first, or keep the {what} "{name}"',
                    reason="STILL_IN_USE",
                    keys=str(count),
                    **{field: name},
                )


def _difference(before: Keyspace | None, after: Keyspace) -> KeyspaceDiff:
    old, new = _implications(before) if before else {}, _implications(after)
    lists = (
        sorted(new.keys() - old.keys()),
        sorted(old.keys() - new.keys()),
        sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
    )
    added, removed, changed = within = [within_bytes(one, MAX_LIST_BYTES) for one in lists]
    return KeyspaceDiff(
        created=before is None,
        added_scopes=added,
        removed_scopes=removed,
        changed_scopes=changed,
        changed_fields=_changed_fields(before, after),
        is_cut=sum(map(len, within)) < sum(map(len, lists)),
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
