"""Domain values as rows, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from sys import intern
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import JSON, RowMapping, Table

from keyfence_server.adapters.sql.schema import accounts, keys, sessions
from keyfence_server.adapters.sql.types import UtcTime, time_of
from keyfence_server.application.ports import (
    AuditCut,
    AuditEvent,
    ChainEnd,
    Change,
    ChangeKind,
    RecordedEvent,
)
from keyfence_server.domain.accounts import Account, AccountState, Email, PasswordHash
from keyfence_server.domain.documents import (
    declaration_from_json,
    declaration_to_json,
    format_from_document,
    format_to_document,
)
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace, with_history
from keyfence_server.domain.limits import Rate, parse_rate
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session

_OF_ACCOUNTS: Final = {field.name for field in fields(Account)} & set(accounts.c.keys())
_OF_EVENTS: Final = [field.name for field in fields(AuditEvent) if field.name != "details"]
_OF_KEYS: Final[Mapping[str, Callable[[Key], object]]] = {
    **{column.name: attrgetter(column.name) for column in keys.c if column.name != "revision"},
    "granted_scopes": lambda key: list(key.granted_scopes),
    "allowed_addresses": lambda key: list(key.allowed_addresses),
    "bound_keyspaces": lambda key: list(key.bound_keyspaces),
    "labels": lambda key: dict(key.labels),
    "digest": attrgetter("digest.value"),
    "pepper_version": attrgetter("digest.pepper_version"),
    "state": lambda key: key.state.value,
    "rate_limit": lambda key: str(key.rate_limit) if key.rate_limit is not None else None,
}


def key_to_row(key: Key, revision: int) -> dict[str, object]:
    """The key's row, stamped with the revision."""
    return {**{name: of(key) for name, of in _OF_KEYS.items()}, "revision": revision}


def keys_to_columns(keys: Sequence[Key], revision: int) -> dict[str, list[object]]:
    """The columns of the rows of several keys, stamped with the revision."""
    columns = {name: list(map(of, keys)) for name, of in _OF_KEYS.items()}
    return {**columns, "revision": [revision] * len(keys)}


def row_to_key(row: Sequence[Any]) -> Key:
    """The key that was stored.

    Args:
        row: what `queries.whole_keys` selects, as the driver has it: one value for each column of
            the table, in its order.
    """
    (
        key_id,
        keyspace,
        account_id,
        display_name,
        key_type,
        environment,
        granted_scopes,
        preset,
        digest,
        pepper_version,
        display_prefix,
        state,
        create_time,
        update_time,
        expire_time,
        revoke_time,
        allowed_addresses,
        bound_keyspaces,
        labels,
        parent_key_id,
        rotated_from_key_id,
        rotated_to_key_id,
        created_by_key_id,
        revision,
        rate_limit,
        first_key_id,
        disabled_by_operator,
    ) = row
    # In the order of the fields of `Key`.
    return Key(
        key_id,
        keyspace,
        account_id,
        display_name,
        key_type,
        environment,
        texts_of(granted_scopes),
        Digest(digest, pepper_version),
        display_prefix,
        time_of(create_time),
        time_of(update_time),
        _STATES[state],
        preset,
        time_of(expire_time) if expire_time is not None else None,
        time_of(revoke_time) if revoke_time is not None else None,
        texts_of(allowed_addresses),
        texts_of(bound_keyspaces),
        _labels(labels),
        parent_key_id,
        rotated_from_key_id,
        rotated_to_key_id,
        created_by_key_id,
        _rate(rate_limit) if rate_limit is not None else None,
        revision,
        first_key_id,
        bool(disabled_by_operator),
    )


_GRANTS, _ADDRESSES, _BINDINGS, _LABELS = (
    index for index, column in enumerate(keys.c) if isinstance(column.type, JSON)
)


def text_in_row(row: Sequence[Any]) -> int:
    """How many characters of JSON a row has that `row_to_key` reads."""
    return len(row[_GRANTS]) + len(row[_ADDRESSES]) + len(row[_BINDINGS]) + len(row[_LABELS])


_STATES: Final = {state.value: state for state in KeyState}
_SHORT: Final = 256


def texts_of(document: str) -> tuple[str, ...]:
    """The texts of a JSON list."""
    if document == "[]":
        return ()
    return _known_texts(document) if len(document) <= _SHORT else _interned(document)


def _interned(document: str) -> tuple[str, ...]:
    """Many keys hold the same scopes. Their catalog has the same names in memory."""
    return tuple(map(intern, json.loads(document)))


_known_texts = lru_cache(maxsize=1024)(_interned)


def _labels(document: str) -> Mapping[str, str]:
    if document == "{}":
        return _NO_LABELS
    return _known_labels(document) if len(document) <= _SHORT else _labels_in(document)


def _labels_in(document: str) -> Mapping[str, str]:
    """Many keys have the same labels, so these must not be changed."""
    labels: dict[str, str] = json.loads(document)
    return MappingProxyType(labels)


_NO_LABELS: Final = _labels_in("{}")
_known_labels = lru_cache(maxsize=1024)(_labels_in)


@lru_cache(maxsize=1024)
def _rate(text: str) -> Rate:
    rate = parse_rate(text)
    if rate is None:
        # To read it as none would lift the limit.
        raise ValueError("a key's rate limit cannot be read")
    return rate


def keyspace_to_row(keyspace: Keyspace, revision: int) -> dict[str, object]:
    """The keyspace's row, stamped with the revision."""
    return {
        "name": keyspace.name,
        "declaration": declaration_to_json(keyspace.declaration),
        "previous_formats": [format_to_document(one) for one in keyspace.previous_formats],
        "revision": revision,
        "create_time": keyspace.create_time,
        "update_time": keyspace.update_time,
    }


def row_to_keyspace(row: RowMapping) -> Keyspace:
    """The keyspace that was stored, made ready again. Its declaration is a text."""
    return with_history(
        compile_keyspace(declaration_from_json(row["declaration"])),
        map(format_from_document, row["previous_formats"]),
        revision=row["revision"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def account_to_row(account: Account, revision: int) -> dict[str, object]:
    """The account's row, stamped with the revision."""
    return {
        **{name: getattr(account, name) for name in _OF_ACCOUNTS},
        "email": account.email.text,
        "email_identity": account.email.identity,
        "password_hash": account.password.text,
        "pepper_version": account.password.pepper_version,
        "labels": dict(account.labels),
        "state": account.state.value,
        "revision": revision,
    }


def row_to_account(row: Sequence[Any]) -> Account:
    """The account that was stored. Its row is as `queries.whole` selects it."""
    values = by_name(accounts, row)
    del values["email_identity"]
    values |= {
        "email": Email(values["email"]),
        "password": PasswordHash(values.pop("password_hash"), values.pop("pepper_version")),
        "labels": _labels(values["labels"]),
        "state": AccountState(values["state"]),
    }
    return Account(**values)


def session_to_row(session: Session, revision: int) -> dict[str, object]:
    """The session's row, stamped with the revision."""
    values = {column.name: getattr(session, column.name) for column in sessions.c}
    return {**values, "revision": revision}


def row_to_session(row: Sequence[Any]) -> Session:
    """The session that was stored. Its row is as `queries.whole` selects it."""
    return Session(**by_name(sessions, row))


def by_name(table: Table, row: Sequence[Any]) -> dict[str, Any]:
    """The values of a row that `queries.whole` selects, by the names of their columns."""
    return {
        column.name: time_of(value)
        if value is not None and isinstance(column.type, UtcTime)
        else value
        for column, value in zip(table.c, row, strict=True)
    }


def changes_to_rows(changes: Sequence[Change], revision: int) -> list[dict[str, object]]:
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


def event_to_row(recorded: RecordedEvent) -> dict[str, object]:
    """The event's row, with its place in the chain."""
    event = recorded.event
    return {
        "sequence": recorded.sequence,
        "revision": recorded.revision,
        "hash": recorded.hash,
        "details": dict(event.details),
        **{name: getattr(event, name) for name in _OF_EVENTS},
    }


def row_to_cut(row: RowMapping) -> AuditCut:
    """How far the events were exported and removed."""
    return AuditCut(
        exported=ChainEnd(row["exported_count"], row["exported_hash"]),
        removed=ChainEnd(row["removed_count"], row["removed_hash"]),
        removal_sequence=row["removal_sequence"],
    )


def row_to_event(row: RowMapping) -> RecordedEvent:
    """The event that was stored."""
    values: dict[str, Any] = {name: row[name] for name in _OF_EVENTS}
    return RecordedEvent(
        sequence=row["sequence"],
        revision=row["revision"],
        event=AuditEvent(**values, details=row["details"]),
        hash=row["hash"],
    )
