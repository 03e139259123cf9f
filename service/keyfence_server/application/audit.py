"""The audit events of mutations. They contain no secret, and nothing that could be used as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import AuditEvent
from keyfence_server.domain.accounts import Account
from keyfence_server.domain.identifiers import new_event_id
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.scopes import within_bytes

AUDIT_LOG: Final = "audit-log"
"""The subject of events about the audit log itself."""
MAX_LISTED_BYTES: Final = 4 * 1024
"""What the names in a detail of an event take at most: events are read by the thousand."""


def listed(detail: str, names: Sequence[str]) -> dict[str, object]:
    """A detail that lists names, and how many are left out because they would take too much."""
    within = within_bytes(names, MAX_LISTED_BYTES)
    left_out = len(names) - len(within)
    return {detail: list(within), **({f"{detail}_left_out": left_out} if left_out else {})}


def key_event(action: str, caller: Caller | None, key: Key, **details: object) -> AuditEvent:
    """The event of something that was done to a key, at the time its record says."""
    time, keyspace = key.update_time, key.keyspace
    return _event(action, caller, time, keyspace, key.key_id, details, account_id=key.account_id)


def keys_event(
    action: str, caller: Caller | None, keyspace: str, key_ids: Sequence[KeyId], time: datetime
) -> AuditEvent:
    """The event of something that was done to several keys together, all of which it names."""
    details = {"count": len(key_ids), "key_ids": list(key_ids)}
    return _event(action, caller, time, keyspace, keyspace, details)


def account_event(
    action: str,
    caller: Caller | None,
    account: Account,
    time: datetime,
    revoked_keys: int = 0,
    subject: str = "",
    /,
    **details: object,
) -> AuditEvent:
    """The event of something that was done to an account, or to a session of it, and how many keys
    were revoked with that.

    Its address is not in it: that is the account's to change, and the log's to keep.
    """
    own_id, keyspace = account.account_id, account.keyspace
    if revoked_keys:
        details["revoked_keys"] = revoked_keys
    return _event(action, caller, time, keyspace, subject or own_id, details, account_id=own_id)


def keyspace_event(
    caller: Caller | None, keyspace: str, time: datetime, **details: object
) -> AuditEvent:
    """The event of a keyspace that was applied."""
    return _event("keyspace.apply", caller, time, keyspace, keyspace, details)


def audit_log_event(
    action: str, caller: Caller | None, time: datetime, **details: object
) -> AuditEvent:
    """An event about the audit log itself."""
    return _event(action, caller, time, SYSTEM, AUDIT_LOG, details)


def _event(
    action: str,
    caller: Caller | None,
    time: datetime,
    keyspace: str,
    subject: str,
    details: Mapping[str, object],
    *,
    account_id: str | None = None,
) -> AuditEvent:
    """An event. Without a caller the server did it by itself."""
    return AuditEvent(
        event_id=new_event_id(time),
        time=time,
        action=action,
        actor_key_id=caller.credential_id if caller else None,
        keyspace=keyspace,
        account_id=account_id,
        subject=subject,
        request_id=caller.call.request_id if caller else None,
        details=details,
    )
