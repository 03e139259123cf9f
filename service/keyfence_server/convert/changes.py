"""What a revision changed, as the messages to holders say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.ports import Change, ChangeKind

_KINDS: Final[Mapping[str, ChangeKind]] = {
    "key_id": ChangeKind.KEY,
    "keyspace": ChangeKind.KEYSPACE,
    "account_id": ChangeKind.ACCOUNT,
    "session_id": ChangeKind.SESSION,
}
_FIELDS: Final[Mapping[ChangeKind, str]] = {kind: field for field, kind in _KINDS.items()}


def subject_change_of(change: Change) -> messages.SubjectChange:
    """The message for a change."""
    subject = {_FIELDS[change.kind]: change.subject}
    return messages.SubjectChange(**subject, created=change.created, in_keyspace=change.keyspace)


def changes_from(message: messages.RevisionChanges) -> list[Change] | None:
    """What these revisions changed; None if some of it is of a kind that this version does not
    know."""
    changes = []
    for one in message.changes:
        field = one.WhichOneof("subject")
        if field is None:
            return None
        subject = getattr(one, field)
        changes.append(Change(_KINDS[field], subject, one.in_keyspace, created=one.created))
    return changes
