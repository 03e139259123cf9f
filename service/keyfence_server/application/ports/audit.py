"""The audit log: its events, the chain that they form, and how they are filtered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from keyfence_server.domain.keys import KeyId
from keyfence_server.domain.sessions import SessionId

CredentialId: TypeAlias = KeyId | SessionId
"""What a caller is known by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """An action and its actor. Written in the transaction that carried it out.

    Attributes:
        action: "key.create", "key.update", "key.rotate", "key.revoke", "keyspace.apply",
            "account.register", "account.update", "account.disable", "account.enable",
            "account.log_in", "account.log_out", "audit.export", "audit.remove".
        actor_key_id: the credential that asked for it, a key or a session; None where none
            was needed: when the server makes the first credential itself, and where
            registration and log-in are open.
        subject: the key's, account's or session's id, or the keyspace's name.
        request_id: of the RPC, as in the log.
        details: what a reader would ask next, never a secret.
    """

    event_id: str
    time: datetime
    action: str
    actor_key_id: CredentialId | None
    keyspace: str
    account_id: str | None
    subject: str
    request_id: str | None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """An event and its place in the chain of all of them.

    Attributes:
        sequence: 1 for the first event, and so on without gaps.
        revision: of the mutation that it tells of; None if it tells of none.
        hash: of the event and of the hash of the one before, as `audit_chain` says.
    """

    sequence: int
    revision: int | None
    event: AuditEvent
    hash: bytes


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """How many events there are, and the hash of the last one."""

    count: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCut:
    """How far the events were exported, and how far they were removed from the store.

    Attributes:
        exported: the last event that is recorded as exported.
        removed: the last event that was removed; the chain that is left begins behind it.
        removal_sequence: the event that says so; 0 if none was removed.
    """

    exported: ChainEnd
    removed: ChainEnd
    removal_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list. None means any.

    Attributes:
        action_prefix: what the action begins with, such as "key." or "key.revoke".
        start_time: not before this.
        end_time: before this.
        after_sequence: behind this place in the chain.
        but_keyspace: none of this keyspace.
    """

    keyspaces: frozenset[str] | None = None
    but_keyspace: str | None = None
    account_id: str | None = None
    subject: str | None = None
    actor_key_id: str | None = None
    action_prefix: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    after_sequence: int | None = None
