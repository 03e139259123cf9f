"""Domain values as rows, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import RowMapping

from keyfence_server.domain.accounts import Account, AccountState, Email, PasswordHash
from keyfence_server.application.ports import AuditEvent, Change, ChangeKind
from keyfence_server.domain.documents import (
    declaration_from_document,
    declaration_to_document,
    format_from_document,
    format_to_document,
)
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session

_PLAIN: Final = (
    "key_id",
    "keyspace",
    "account_id",
    "display_name",
    "key_type",
    "environment",
    "display_prefix",
    "preset",
    "create_time",
    "update_time",
    "expire_time",
    "revoke_time",
    "parent_key_id",
    "rotated_from_key_id",
    "rotated_to_key_id",
    "created_by_key_id",
)
_LISTS: Final = ("granted_scopes", "allowed_addresses", "bound_keyspaces")


def key_to_row(key: Key, revision: int) -> dict[str, object]:
    """The key's row, stamped with the revision."""
    return {
        **{name: getattr(key, name) for name in _PLAIN},
        **{name: list(getattr(key, name)) for name in _LISTS},
        "labels": dict(key.labels),
        "digest": key.digest.value,
        "pepper_version": key.digest.pepper_version,
        "state": key.state.value,
        "revision": revision,
    }


def row_to_key(row: RowMapping) -> Key:
    """The key that was stored."""
    fields: dict[str, Any] = {name: row[name] for name in _PLAIN}
    fields |= {name: tuple(row[name]) for name in _LISTS}
    return Key(
        **fields,
        labels=row["labels"],
        digest=Digest(row["digest"], row["pepper_version"]),
        state=KeyState(row["state"]),
        revision=row["revision"],
    )


def keyspace_to_row(keyspace: Keyspace, revision: int) -> dict[str, object]:
    """The keyspace's row, stamped with the revision."""
    return {
        "name": keyspace.name,
        "declaration": declaration_to_document(keyspace.declaration),
        "previous_formats": [format_to_document(one) for one in keyspace.previous_formats],
        "revision": revision,
        "create_time": keyspace.create_time,
        "update_time": keyspace.update_time,
    }


def row_to_keyspace(row: RowMapping) -> Keyspace:
    """The keyspace that was stored, made ready again."""
    return compile_keyspace(
        declaration_from_document(row["declaration"]),
        previous_formats=[format_from_document(one) for one in row["previous_formats"]],
        revision=row["revision"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


_OF_ACCOUNT: Final = (
    "account_id",
    "keyspace",
    "display_name",
    "plan",
    "create_time",
    "update_time",
    "disable_time",
)


def account_to_row(account: Account, revision: int) -> dict[str, object]:
    """The account's row, stamped with the revision."""
    return {
        **{name: getattr(account, name) for name in _OF_ACCOUNT},
        "email": account.email.text,
        "email_identity": account.email.identity,
        "password_hash": account.password.text,
        "pepper_version": account.password.pepper_version,
        "labels": dict(account.labels),
        "state": account.state.value,
        "revision": revision,
    }


def row_to_account(row: RowMapping) -> Account:
    """The account that was stored."""
    return Account(
        **{name: row[name] for name in _OF_ACCOUNT},
        email=Email(row["email"]),
        password=PasswordHash(row["password_hash"], row["pepper_version"]),
        labels=row["labels"],
        state=AccountState(row["state"]),
        revision=row["revision"],
    )


_OF_SESSION: Final = (
    "session_id",
    "account_id",
    "keyspace",
    "create_time",
    "expire_time",
    "end_time",
)


def session_to_row(session: Session, revision: int) -> dict[str, object]:
    """The session's row, stamped with the revision."""
    return {**{name: getattr(session, name) for name in _OF_SESSION}, "revision": revision}


def row_to_session(row: RowMapping) -> Session:
    """The session that was stored."""
    return Session(**{name: row[name] for name in _OF_SESSION}, revision=row["revision"])


def changes_to_rows(changes: list[Change], revision: int) -> list[dict[str, object]]:
    """The rows of a revision's changes, in order."""
    return [
        {
            "revision": revision,
            "position": position,
            "kind": change.kind.value,
            "subject": change.subject,
            "keyspace": change.keyspace,
            "created": change.created,
        }
        for position, change in enumerate(changes)
    ]


def row_to_change(row: RowMapping) -> tuple[int, Change]:
    """A change and its revision."""
    return row["revision"], Change(
        kind=ChangeKind(row["kind"]),
        subject=row["subject"],
        keyspace=row["keyspace"],
        created=row["created"],
    )


def event_to_row(event: AuditEvent, revision: int) -> Mapping[str, Any]:
    """The row of the event that tells of this revision."""
    return {
        "event_id": event.event_id,
        "revision": revision,
        "time": event.time,
        "action": event.action,
        "actor_key_id": event.actor_key_id,
        "keyspace": event.keyspace,
        "account_id": event.account_id,
        "subject": event.subject,
        "request_id": event.request_id,
        "details": dict(event.details),
    }
