"""Keyspaces, their declarations and what a change of them does.

A declaration's classes have the field names of the API's messages, so one pair of functions
converts them all: a new field of the language needs no line here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

from keyfence.v1 import keyspace_pb2, keyspace_service_pb2
from keyfence_server.application.apply_keyspace import KeyspaceDiff
from keyfence_server.application.pauses import Pauses
from keyfence_server.application.read_keyspaces import ScopeReport
from keyfence_server.convert.fields import fields_of, fill, fill_in_steps
from keyfence_server.convert.times import timestamp_of
from keyfence_server.domain.declarations import FormatDeclaration, KeyspaceDeclaration
from keyfence_server.domain.documents import declaration_from_fields, format_from_fields
from keyfence_server.domain.keyspaces import BEFORE_STORED, Keyspace

_DECLARED: Final = frozenset(field.name for field in dataclasses.fields(KeyspaceDeclaration))

_ITEMS_A_SLICE: Final = 200


def declaration_from(message: keyspace_pb2.Keyspace) -> KeyspaceDeclaration:
    """What is declared. Output-only fields are ignored.

    Raises:
        InvalidInput: a value that no declaration can hold.
    """
    return declaration_from_fields(fields_of(message, (), _DECLARED))


def format_from(message: keyspace_pb2.KeyFormat) -> FormatDeclaration:
    """How keys look."""
    return format_from_fields(fields_of(message, ()))


def keyspace_of(keyspace: Keyspace) -> keyspace_pb2.Keyspace:
    """A keyspace as it is."""
    message = keyspace_pb2.Keyspace()
    for _ in _filled(message, keyspace):
        pass
    return message


async def fill_in_slices(message: keyspace_pb2.Keyspace, keyspace: Keyspace) -> None:
    """Fills an empty message with a keyspace as it is. Other calls have their turn while the
    message of a large one is made."""
    pauses = Pauses(_ITEMS_A_SLICE)
    for items in _filled(message, keyspace):
        await pauses.after(items)


def _filled(message: keyspace_pb2.Keyspace, keyspace: Keyspace) -> Iterator[int]:
    """Fills the message in steps, and yields after each how many items it took."""
    message.revision = keyspace.revision
    for name in ("create_time", "update_time"):
        time = getattr(keyspace, name)
        if time != BEFORE_STORED:
            getattr(message, name).CopyFrom(timestamp_of(time))
    for declared in keyspace.previous_formats:
        yield from fill_in_steps(message.previous_formats.add(), declared)
    yield from fill_in_steps(message, keyspace.declaration)


def diff_of(diff: KeyspaceDiff) -> keyspace_service_pb2.KeyspaceDiff:
    """What a declaration changes."""
    return keyspace_service_pb2.KeyspaceDiff(
        created=diff.created,
        added_scopes=diff.added_scopes,
        removed_scopes=diff.removed_scopes,
        changed_scopes=diff.changed_scopes,
        changed_fields=diff.changed_fields,
        affected_keys=(
            keyspace_service_pb2.KeyScopeChange(
                key_id=change.key.key_id,
                account_id=change.key.account_id,
                display_name=change.key.display_name,
                gained_scopes=change.gained_scopes,
                lost_scopes=change.lost_scopes,
            )
            for change in diff.affected_keys
        ),
        affected_key_count=diff.affected_key_count,
        truncated=diff.is_cut,
        dropped_formats=diff.dropped_formats,
        cut_off_keys=(
            keyspace_service_pb2.CutOffKey(
                key_id=key.key_id,
                account_id=key.account_id,
                display_name=key.display_name,
                display_prefix=key.display_prefix,
            )
            for key in diff.cut_off_keys
        ),
        cut_off_key_count=diff.cut_off_key_count,
    )


def scope_report_of(report: ScopeReport) -> keyspace_service_pb2.ExplainScopeResponse:
    """How a scope hangs together with the others."""
    message = keyspace_service_pb2.ExplainScopeResponse()
    fill(message, report)
    return message
