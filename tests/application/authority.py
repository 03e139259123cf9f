"""The use cases of one process over a real store, wired as the server wires them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from keyfence.holder.clock import SystemBootClock
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.slow_hashes import SlowHashesHere
from keyfence_server.adapters.sql import open_store
from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.callers import AccountKey, Caller, Operator
from keyfence_server.application.calls import Call
from keyfence_server.application.checks import Checks, CountedHere
from keyfence_server.application.create_key import CreateKey, MadeKey, NewKey
from keyfence_server.application.first_start import FirstStart, new_root_credential
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.import_keys import ImportKeys
from keyfence_server.application.imported_keys import ImportedKeys
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import Fence, Store
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.quotas import ChangeQuotas
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.application.read_audit import ReadAudit
from keyfence_server.application.read_keys import ReadKeys
from keyfence_server.application.read_keyspaces import ReadKeyspaces
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.rotate_key import RotatedKey, RotateKey, Rotation
from keyfence_server.application.update_key import KeyUpdate, UpdateKey
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.grantor import Grantor
from keyfence_server.coherence.sole_fence import SoleFence
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.decisions import Question, Verdict
from keyfence_server.domain.declarations import (
    BodyDeclaration,
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.secrets import Peppers, Plaintext
from support.clock import FrozenClock

ROOT: Final = new_root_credential()
PEPPERS: Final = {1: b"a pepper for tests, of 32 bytes or more"}
IMPORT_SECRETS: Final = {"acme": (b"retired by the other program", b"of the other program")}

ACME: Final = KeyspaceDeclaration(
    name="acme",
    format=FormatDeclaration(
        template="ac_{type}_{environment}_{body}{checksum}", body=BodyDeclaration(length=24)
    ),
    scopes=(
        ScopeDeclaration(name="vps:read"),
        ScopeDeclaration(name="vps:write", implies=("vps:read",)),
        ScopeDeclaration(name="vps:create", implies=("vps:write",)),
        ScopeDeclaration(name="dns:read"),
    ),
    resources=(
        ResourceDeclaration(
            name="projects",
            levels=(LevelDeclaration(name="read"), LevelDeclaration(name="write")),
        ),
    ),
    presets=(
        PresetDeclaration(name="full", scopes=("*",)),
        PresetDeclaration(name="read-only", scopes=("dns:read", "vps:read")),
    ),
    key_types=(
        KeyTypeDeclaration(name="secret", marker="sec", manages_keys=True),
        KeyTypeDeclaration(name="publishable", marker="pub", scope_cap=("vps:read",)),
    ),
    environments=(EnvironmentDeclaration(name="live"), EnvironmentDeclaration(name="test")),
)
OTHER: Final = KeyspaceDeclaration(
    name="other",
    scopes=(ScopeDeclaration(name="vps:read"), ScopeDeclaration(name="keys:write")),
)


class CountedHashes(SlowHashesHere):
    """Slow hashes that count how often one is computed, and take as long as a test says."""

    def __init__(self, clock: FrozenClock) -> None:
        self.computed = 0
        self.takes = timedelta(0)
        self._clock = clock

    def matches(self, text: str, key: str) -> bool:
        """See the port."""
        self.computed += 1
        self._clock.advance(self.takes)
        return super().matches(text, key)


async def no_process_before() -> bool:
    """No process was on the store before this one."""
    return False


class Authority:
    """One process: a store, a cache, a fence and every use case.

    Attributes:
        root: the first operator, after `start`.
    """

    root: Operator

    def __init__(
        self, store: Store, clock: FrozenClock, *, fence: Fence | None = None, **cache: int
    ) -> None:
        self.store = store
        self.clock = clock
        self.cache = FactCache(store, **cache)
        self.hub = DownstreamHub(Grantor(LeaseTerms()), SystemBootClock(), lambda: float("inf"))
        self.revisions = AppliedRevisions(self.cache, self.hub)
        self.fence = fence or SoleFence(self.revisions, self.hub, no_process_before)
        peppers = Peppers(PEPPERS, IMPORT_SECRETS)
        self.rate_limits = RateLimits(clock, MemoryCounter(clock), is_alone=True)
        self.mutations = Mutations(store, self.fence, clock, ChangeQuotas(self.rate_limits))
        self.hashes = CountedHashes(clock)
        self.imported = ImportedKeys(
            store,
            self.mutations,
            peppers,
            self.hashes,
            clock,
            lambda: self.cache.creations,
            now=clock.timestamp,
        )
        presented = PresentedKeys(self.cache, peppers, self.imported)
        self.notes = WriteBehind(store, clock)
        self.callers = IdentifyCaller(presented, clock, self.notes)
        self.checks = Checks(
            self.cache, presented, clock, CountedHere(self.rate_limits), self.notes
        )
        self.first_start = FirstStart(self.mutations, peppers, clock)
        self.create_key = CreateKey(self.mutations, peppers, clock)
        self.import_keys = ImportKeys(store, self.mutations, peppers, self.hashes, clock)
        self.update_key = UpdateKey(self.mutations, clock)
        self.rotate_key = RotateKey(self.mutations, peppers, clock)
        self.revoke_key = RevokeKey(self.mutations, clock)
        self.apply_keyspace = ApplyKeyspace(store, self.mutations, clock, HeavyWork())
        self.read_keys = ReadKeys(store, clock)
        self.read_audit = ReadAudit(store)
        self.read_keyspaces = ReadKeyspaces(store, clock, HeavyWork())

    def rotate_pepper(self) -> None:
        """Imports under a new pepper, as a server does that was given one and started again."""
        peppers = Peppers({**PEPPERS, 2: b"a newer pepper for tests, of 32 bytes or more"})
        self.import_keys = ImportKeys(self.store, self.mutations, peppers, self.hashes, self.clock)

    async def start(self) -> None:
        """Reads where the store is, as a server does at its start, and identifies the root."""
        async with self.store.snapshot() as snapshot:
            self.revisions.restart(snapshot.revision, epoch="")
        root = await self.callers.identify(ROOT.reveal())
        assert isinstance(root, Operator)
        self.root = root

    async def make(self, by: Caller | None = None, **wanted: Any) -> MadeKey:
        """Makes a key: by root, of account "anna" in "acme", unless something else is said."""
        if by is None or by.is_operator:
            wanted = {"keyspace": "acme", "account_id": "anna", **wanted}
        return (await self.create_key.create(by or self.root, NewKey(**wanted))).value

    async def operator(self, *bound: str, peer: str = "", **wanted: Any) -> Operator:
        """An operator with every scope of `system`, bound to these keyspaces alone, who calls
        from `peer`."""
        made = await self.make(
            **{
                "keyspace": "system",
                "account_id": "operators",
                "preset": "" if "scopes" in wanted else "admin",
                "bound_keyspaces": bound,
                **wanted,
            }
        )
        caller = await self.acting(made, peer)
        assert isinstance(caller, Operator)
        return caller

    async def acting(self, made: MadeKey, peer: str = "") -> Operator | AccountKey:
        """The caller who presents this key, from `peer`."""
        caller = await self.callers.identify(made.plaintext.reveal(), Call(address=peer))
        assert isinstance(caller, Operator | AccountKey)
        return caller

    async def update(self, by: Caller | None, key_id: str, **fields: Any) -> KeyFacts:
        """Changes the fields of a key."""
        update = KeyUpdate(key_id=key_id, fields=set(fields) - {"if_revision"}, **fields)
        return (await self.update_key.update(by or self.root, update)).value

    async def rotate(self, by: Caller | None, key_id: str, **how: Any) -> RotatedKey:
        """Rotates a key."""
        return (await self.rotate_key.rotate(by or self.root, Rotation(key_id=key_id, **how))).value

    async def revoke(self, by: Caller | None, key_id: str) -> KeyFacts:
        """Revokes a key."""
        return (await self.revoke_key.revoke(by or self.root, key_id)).value

    async def declare(self, declaration: KeyspaceDeclaration, **fields: Any) -> None:
        """Applies a declaration, with some fields changed."""
        await self.apply_keyspace.apply(self.root, replace(declaration, **fields))

    async def check(
        self,
        key: MadeKey | Plaintext | str,
        *scopes: str,
        by: Caller | None = None,
        **question: Any,
    ) -> Verdict:
        """Checks scopes, or authenticates where none is named."""
        text = key.plaintext if isinstance(key, MadeKey) else key
        asked = Question(
            text.reveal() if isinstance(text, Plaintext) else text,
            required_scopes=scopes or None,
            **question,
        )
        recalled = self.checks.answer_from_memory(by or self.root, asked)
        return recalled or await self.checks.answer(by or self.root, asked)

    async def stored(self, key_id: str) -> Key:
        """A key's record, straight from the store."""
        async with self.store.snapshot() as snapshot:
            key = await snapshot.find_key(KeyId(key_id))
        assert key is not None
        return key

    async def revision(self) -> int:
        """The store's revision."""
        async with self.store.snapshot() as snapshot:
            return snapshot.revision


async def found(path: Path) -> None:
    """Makes a store with the root credential and both keyspaces, to make copies of."""
    store = await open_store(f"sqlite:///{path}")
    authority = Authority(store, FrozenClock())
    await authority.first_start.make_root(ROOT)
    await authority.start()
    await authority.declare(ACME)
    await authority.declare(OTHER)
    await store.close()


@contextmanager
def refused(reason: str, field: str | None = None, **metadata: str) -> Iterator[None]:
    """Expects a refusal: its reason, the field that is wrong, and what programs are told."""
    with pytest.raises(DomainError) as caught:
        yield
    error = caught.value
    assert error.reason == reason, error
    assert metadata.items() <= error.metadata.items(), error.metadata
    if field is not None:
        assert [problem.where for problem in getattr(error, "problems", ())] == [field], error
