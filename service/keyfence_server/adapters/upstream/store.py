"""The port `FactStore`, answered by another Keyfence.

A key is asked for by its plaintext, as it was presented: this process knows no pepper, and keeps a
key under a digest of its own, made with a secret that it draws when it starts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from keyfence import rpcs
from keyfence.holder.lease import HolderLease
from keyfence.v1 import keyspace_pb2
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.ports import FactSnapshot, FoundKey, LoadedKeys, StoreUnavailable
from keyfence_server.convert.keys import key_from
from keyfence_server.convert.keyspaces import declaration_from, format_from
from keyfence_server.convert.times import time_from
from keyfence_server.domain.accounts import Account, AccountId, AccountState
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace, with_history
from keyfence_server.domain.secrets import Digest, KeyedHash, Plaintext
from keyfence_server.domain.sessions import Session, SessionId

_OWN_SECRET = 1
# What the size of an answer is counted in, where it is about time: a thing takes so many bytes.
_BYTES_A_THING: Final = 100


@dataclass(frozen=True, slots=True, repr=False)
class PresentedDigest(Digest):
    """A digest that still has the plaintext with it, to ask upstream with."""

    plaintext: Plaintext = field(compare=False)


class PresentedDigests:
    """Makes digests under a secret of this process alone."""

    def __init__(self) -> None:
        self._keyed = KeyedHash(secrets.token_bytes(32))

    def memory_digest(self, text: str) -> bytes:
        """The digest by which memory knows a plaintext."""
        return self._keyed.of(text)

    def candidates(self, text: str, _keyspaces: Collection[str]) -> tuple[Digest, ...]:
        """What to ask for a key by."""
        return (PresentedDigest(self.memory_digest(text), _OWN_SECRET, Plaintext(text)),)


class UpstreamStore:
    """Implements the `FactStore` port.

    Args:
        lease: knows up to which revision this process has applied every change, and of
            which epoch: nothing older is taken, and nothing of another one.
        heavy: compiles keyspaces, which takes long for large ones.
    """

    def __init__(self, upstream: Upstream, lease: HolderLease, heavy: HeavyWork) -> None:
        self._upstream = upstream
        self._lease = lease
        self._heavy = heavy

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[FactSnapshot]:
        yield UpstreamSnapshot(self._upstream, self._lease.applied, self._lease.epoch, self._heavy)

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        """See the port. Upstream there is a call for each question, all at once."""
        applied, epoch = self._lease.applied, self._lease.epoch
        loaded = await asyncio.gather(
            *(self._load_key(question[0], applied, epoch) for question in questions),
            return_exceptions=True,
        )
        answers: list[FoundKey | Exception | None] = []
        shown: list[int] = []
        for one in loaded:
            if isinstance(one, Exception):
                answers.append(one)
            elif isinstance(one, BaseException):
                raise one
            else:
                shown.append(one[0])
                answers.append(one[1])
        return LoadedKeys(min(shown, default=applied), answers)

    async def _load_key(
        self, presented: Digest, revision: int, epoch: str | None
    ) -> tuple[int, FoundKey | None]:
        """The revision that the answer shows at least, and the key."""
        if not isinstance(presented, PresentedDigest):
            raise TypeError("a sidecar finds keys by plaintext, and was asked by digest")
        request = messages.FetchFactsRequest(
            api_key=presented.plaintext.reveal(), at_least_revision=revision
        )
        response = await self._upstream.ask(rpcs.FETCH_FACTS, request)
        _require_new(response, revision, epoch)
        if not response.lineage:
            return response.revision, None
        own = Digest(presented.value, presented.pepper_version)
        owner_state = AccountState.DISABLED if response.account_disabled else None
        lineage = tuple(key_from(message, own) for message in response.lineage)
        return response.revision, FoundKey(lineage, owner_state)


@dataclass(eq=False, slots=True)
class UpstreamSnapshot:
    """Implements the `FactSnapshot` port: each answer is at least as new as the revision."""

    _upstream: Upstream
    _revision: int
    _epoch: str | None
    _heavy: HeavyWork
    _shown: int | None = field(init=False, default=None)
    _has_last_page: bool = field(init=False, default=False)

    @property
    def revision(self) -> int:
        """See the port. Once something was read, the revision that the answers reflect."""
        return self._revision if self._shown is None else self._shown

    async def find_session(self, session_id: SessionId) -> Session | None:
        """See the port. Sessions are for management, which a sidecar does not do."""
        return None

    async def find_account(self, account_id: AccountId) -> Account | None:
        """See the port. Likewise."""
        return None

    async def find_keyspace(self, name: str) -> Keyspace | None:
        found, _ = await self._fetch(keyspace=name)
        return found[0] if found else None

    async def list_keyspaces(self, *, after: str | None, limit: int) -> list[Keyspace]:
        """See the port. A page has as many as the server upstream sends at once."""
        if after is not None and self._has_last_page:
            return []
        found, next_page_token = await self._fetch(page_token=after or "")
        self._has_last_page = not next_page_token
        return found

    async def _fetch(
        self, *, keyspace: str = "", page_token: str = ""
    ) -> tuple[list[Keyspace], str]:
        """Keyspaces, made ready, and the token for those that follow."""
        request = messages.FetchKeyspacesRequest(
            at_least_revision=self._revision, keyspace=keyspace, page_token=page_token
        )
        response = await self._upstream.ask(rpcs.FETCH_KEYSPACES, request)
        _require_new(response, self._revision, self._epoch)
        shown = response.revision
        self._shown = shown if self._shown is None else min(self._shown, shown)
        found = await self._heavy.run(
            response.keyspaces[0].name if response.keyspaces else "",
            response.ByteSize() // _BYTES_A_THING,
            lambda: keyspaces_from(response.keyspaces),
        )
        return found, response.next_page_token


def keyspaces_from(found: Iterable[keyspace_pb2.Keyspace]) -> list[Keyspace]:
    """Keyspaces, made ready. Raises `InvalidDeclaration` for one of a later version."""
    return [
        with_history(
            compile_keyspace(declaration_from(message)),
            map(format_from, message.previous_formats),
            revision=message.revision,
            create_time=time_from(message.create_time, "create_time"),
            update_time=time_from(message.update_time, "update_time"),
        )
        for message in found
    ]


def _require_new(
    response: messages.FetchFactsResponse | messages.FetchKeyspacesResponse,
    revision: int,
    epoch: str | None,
) -> None:
    if epoch is not None and response.epoch != epoch:
        raise StoreUnavailable("the server upstream answered from before or after a failover")
    if response.revision < revision:
        raise StoreUnavailable(
            f"the server upstream answered from revision {response.revision}, which is older than "
            f"{revision}"
        )
