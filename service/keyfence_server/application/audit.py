"""The audit events of mutations. They contain no secret, and nothing that could be used as one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import AuditEvent
from keyfence_server.domain.accounts import Account
from keyfence_server.domain.identifiers import new_event_id
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.scopes import within_bytes

MAX_LISTED_BYTES: Final = 4 * 1024
"""What the names in a detail of an event take at most: events are read by the thousand."""


def listed(detail: str, names: Sequence[str]) -> dict[str, object]:
    """A detail that lists names, and how many are left out because they would take too much."""
    within = within_bytes(names, MAX_LISTED_BYTES)
    left_out = len(names) - len(within)
    return {detail: list(within), **({f"{detail}_left_out": left_out} if left_out else {})}


def key_event(action: str, caller: Caller | None, key: Key, **details: object) -> AuditEvent:
    """The event of something that was done to a key, at the time its record says."""
    return AuditEvent(
        event_id=new_event_id(key.update_time),
        time=key.update_time,
        action=action,
        actor_key_id=caller.credential_id if caller else None,
        keyspace=key.keyspace,
        account_id=key.account_id,
        subject=key.key_id,
        request_id=caller.request_id if caller else None,
        details=details,
    )


def import_event(caller: Caller, keyspace: str, keys: Sequence[Key]) -> AuditEvent:
    """The event of keys that were imported together, all of which it names."""
    time = keys[0].update_time
    return AuditEvent(
        event_id=new_event_id(time),
        time=time,
        action="key.import",
        actor_key_id=caller.credential_id,
        keyspace=keyspace,
        account_id=None,
        subject=keyspace,
        request_id=caller.request_id,
        details={"count": len(keys), "key_ids": [key.key_id for key in keys]},
    )


def rehash_event(keyspace: str, key_ids: Sequence[KeyId], time: datetime) -> AuditEvent:
    """The event of imported keys of which this server keeps a digest of its own from now on."""
    return AuditEvent(
        event_id=new_event_id(time),
        time=time,
        action="key.rehash",
        actor_key_id=None,
        keyspace=keyspace,
        account_id=None,
        subject=keyspace,
        request_id=None,
        details={"count": len(key_ids), "key_ids": list(key_ids)},
    )


def account_event(
    action: str,
    caller: Caller | None,
    account: Account,
    time: datetime,
    subject: str = "",
    /,
    **details: object,
) -> AuditEvent:
    """The event of something that was done to an account, or to a session of it.

    Its address is not in it: that is the account's to change, and the log's to keep.
    """
    return AuditEvent(
        event_id=new_event_id(time),
        time=time,
        action=action,
        actor_key_id=caller.credential_id if caller else None,
        keyspace=account.keyspace,
        account_id=account.account_id,
        subject=subject or account.account_id,
        request_id=caller.request_id if caller else None,
        details=details,
    )


def keyspace_event(
    caller: Caller | None, keyspace: str, time: datetime, **details: object
) -> AuditEvent:
    """The event of a keyspace that was applied."""
    return AuditEvent(
        event_id=new_event_id(time),
        time=time,
        action="keyspace.apply",
        actor_key_id=caller.credential_id if caller else None,
        keyspace=keyspace,
        account_id=None,
        subject=keyspace,
        request_id=caller.request_id if caller else None,
        details=details,
    )
