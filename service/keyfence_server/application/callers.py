"""Who is asking: the credential that came with a call, and how far it reaches.

A caller is either an operator, whose credential is a key of the keyspace `system`
bound to the keyspaces it may act on, or an account, whose key acts on that account
alone. Who the caller is comes from the credential and from nothing in the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyfence_server.application.ports import Clock, Snapshot
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.domain.addresses import parse_address
from keyfence_server.domain.errors import (
    DomainError,
    ExceedsMaker,
    Forbidden,
    NotFound,
    Unauthenticated,
)
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keys import Key, KeyId, Lineage
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from keyfence_server.domain.verdicts import Reason

_REJECTED = (
    "the credential of this call is not accepted: it is mistyped, unknown, expired, disabled or "
    "revoked; the server's log says which"
)


@dataclass(slots=True, eq=False)  # frozen, making one would cost three times as much
class Caller:
    """Whoever sent a call, known by their credential.

    Attributes:
        facts: the credential's.
        request_id: of the call, for the audit log.
        peer: the address that the call came from, as the transport knows it; empty for
            none, as on a Unix socket. Behind a proxy it is the proxy's.
    """

    facts: KeyFacts
    request_id: str | None = None
    peer: str = ""

    @property
    def key_id(self) -> KeyId:
        """The credential's id."""
        return self.facts.key_id

    @property
    def is_operator(self) -> bool:
        """Whether the credential is an operator's, and not an account's."""
        return self.facts.keyspace is SYSTEM_KEYSPACE

    def reaches(self, keyspace: str) -> bool:
        """Whether the caller may know of anything in the keyspace."""
        if self.is_operator:
            return self.facts.acts_on(keyspace)
        return keyspace == self.facts.key.keyspace

    def require_reach(self, keyspace: str) -> None:
        """Raises `Forbidden` unless the caller may act on the keyspace."""
        if not self.reaches(keyspace):
            raise Forbidden(
                f'this credential is not bound to the keyspace "{keyspace}"',
                reason="KEYSPACE_NOT_BOUND",
                keyspace=keyspace,
            )

    def may_know(self, key: Key) -> bool:
        """Whether the caller may know of the key: others get to hear that there is none."""
        return self.reaches(key.keyspace) and (
            self.is_operator or key.account_id == self.facts.key.account_id
        )

    def require_key(self, key_id: str, found: Key | None) -> Key:
        """The key, if there is one and the caller may know of it. Raises `NotFound`."""
        if found is None or not self.may_know(found):
            raise NotFound(
                f"there is no key {key_id[:64]!r} that this credential may see",
                reason="KEY_NOT_FOUND",
                key_id=key_id[:64],
            )
        return found

    def is_delegated_in(self, keyspace: str) -> bool:
        """Whether the credential is a delegated key of this keyspace."""
        key = self.facts.key
        return key.parent_key_id is not None and key.keyspace == keyspace

    def require_hold(self, lineage: Lineage) -> None:
        """Makes sure that a delegated key changes itself alone and what hangs on it.

        It could otherwise take over a key that stays when it is taken back: replace the
        one that it was delegated from, for example, and keep the successor.

        Raises:
            ExceedsMaker: the key is not in the caller's line.
        """
        if not self.is_delegated_in(lineage[0].keyspace):
            return
        if all(key.key_id != self.key_id for key in lineage):
            raise ExceedsMaker(
                f"{self.key_id} was delegated, so it manages only keys that were delegated from "
                f"it, and {lineage[0].key_id} was not",
                exceeds="parent_key_id",
            )

    def require_scope(self, scope: str, *, method: str = "") -> None:
        """Makes sure that an operator holds a scope of the keyspace `system`.

        Raises:
            Forbidden: the credential lacks it, or is not an operator's.
        """
        if self.is_operator:
            wanted = SYSTEM_KEYSPACE.catalog.required_mask([scope])
            if self.facts.effective & wanted:
                return
        raise Forbidden(
            f'this call needs an operator credential with the scope "{scope}"',
            reason="SCOPE_REQUIRED",
            required_scope=scope,
            **({"method": method} if method else {}),
        )

    def require_key_management(self, scope: str, *, method: str = "") -> None:
        """Makes sure that the caller may manage keys: an operator by the scope, an
        account's key by its type and by the types of those that it was delegated from.
        Raises `Forbidden`."""
        if self.is_operator:
            self.require_scope(scope, method=method)
            return
        for key in self.facts.lineage:
            kind = self.facts.keyspace.find_key_type(key.key_type)
            if kind is None or not kind.manages_keys:
                raise Forbidden(
                    f'a key of type "{key.key_type}" may not manage keys, nor may one that was '
                    "delegated from it",
                    reason="KEY_TYPE_MAY_NOT_MANAGE",
                    key_type=key.key_type,
                )


class Callers:
    """Finds out who sent a call."""

    def __init__(self, presented: PresentedKeys, clock: Clock) -> None:
        self._presented = presented
        self._clock = clock

    def recall(self, credential: str) -> Caller | None:
        """The caller, if memory alone can tell that the credential passes: the fast way for
        calls that are neither audited nor answered with a request id. None: `identify` finds
        out, or finds out what to say."""
        facts = self._presented.recall(credential)
        if facts is None or not facts.is_plain or self._clock.timestamp() >= facts.expires_at:
            return None
        return Caller(facts)

    async def identify(
        self, credential: str, *, request_id: str | None = None, peer: str = ""
    ) -> Caller:
        """The caller who presented this credential; empty stands for none.

        Args:
            peer: the address that the call came from, for credentials with an allow-list.

        Raises:
            Unauthenticated: it is missing, or does not pass.
        """
        found = await self._presented.find(credential)
        if not isinstance(found, KeyFacts):
            raise _rejection(found)
        reason = _standing(found, self._clock, peer)
        if reason is not Reason.OK:
            raise _rejection(reason)
        return Caller(found, request_id, peer)


def _standing(facts: KeyFacts, clock: Clock, peer: str) -> Reason:
    # The peer's address is worked out only where something depends on it.
    address = None
    if facts.allow_lists and peer:
        try:
            address = parse_address(peer)
        except ValueError:
            address = None
    return facts.reason_at(clock.timestamp(), address)


def _rejection(reason: Reason) -> DomainError:
    if reason is Reason.CREDENTIAL_MISSING:
        return Unauthenticated(
            'this call needs a credential: send it as metadata "authorization: Bearer ..."',
            reason="CREDENTIAL_REQUIRED",
            cause=reason.name,
        )
    return Unauthenticated(_REJECTED, cause=reason.name)


async def reread(caller: Caller, snapshot: Snapshot, clock: Clock) -> Caller:
    """The caller as the store knows it now, for whatever must not rest on a cache.

    Raises:
        Unauthenticated: the credential does not pass any more.
    """
    lineage = await snapshot.find_lineage(caller.key_id)
    if lineage is None:
        raise _rejection(Reason.KEY_UNKNOWN)
    name = lineage[0].keyspace
    keyspace = SYSTEM_KEYSPACE if name == SYSTEM else await snapshot.find_keyspace(name)
    if keyspace is None:
        raise _rejection(Reason.KEY_UNKNOWN)
    facts = compile_facts(lineage, keyspace)
    reason = _standing(facts, clock, caller.peer)
    if reason is not Reason.OK:
        raise _rejection(reason)
    return Caller(facts, caller.request_id, caller.peer)
