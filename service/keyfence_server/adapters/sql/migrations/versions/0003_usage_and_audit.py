"""Keys' own rate limits, how keys are used, and the chain of audit events.

Existing events are put into the chain in the order of their revisions. The chain shows changes that
are made to them after this migration.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
TIME = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
BATCH = 500


def upgrade() -> None:
    """Adds the column and the tables, and chains the events."""
    op.add_column("keys", sa.Column("rate_limit", TEXT))
    _create_uses()
    op.execute("CREATE TABLE audit_events_before AS SELECT * FROM audit_events")
    op.drop_table("audit_events")
    events = _create_audit_events()
    count, digest = _copy_events(events)
    op.drop_table("audit_events_before")
    _create_audit_head(count, digest)


def _create_uses() -> None:
    op.create_table(
        "key_uses",
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("last_used_time", TIME, nullable=False),
        sa.Column("last_used_address", TEXT, nullable=False),
        sa.Column("use_count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_uses"),
        sa.CheckConstraint("use_count >= 1", name=op.f("ck_key_uses_use_count")),
        comment="How keys are used. Written behind, apart from the keys' records.",
    )
    op.create_table(
        "key_use_days",
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("day", TEXT, nullable=False),
        sa.Column("use_count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "day", name="pk_key_use_days"),
        sa.CheckConstraint("use_count >= 1", name=op.f("ck_key_use_days_use_count")),
        comment="How often keys were used, by day (UTC).",
    )
    op.create_index("ix_key_use_days_day", "key_use_days", ["day"])


def _create_audit_events() -> sa.Table:
    events = op.create_table(
        "audit_events",
        sa.Column("sequence", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger),
        sa.Column("time", TIME, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("actor_key_id", TEXT),
        sa.Column("keyspace", TEXT, nullable=False),
        sa.Column("account_id", TEXT),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("request_id", TEXT),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_events"),
        sa.UniqueConstraint("event_id", name="uq_audit_events_event_id"),
        sa.UniqueConstraint("revision", name="uq_audit_events_revision"),
        sa.CheckConstraint("sequence >= 1", name=op.f("ck_audit_events_sequence")),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_audit_events_revision")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_audit_events_hash")),
        comment="Who did what, each event with a hash of itself and of the one before.",
    )
    for column in ("keyspace", "subject", "actor_key_id"):
        op.create_index(f"ix_audit_events_{column}_sequence", "audit_events", [column, "sequence"])
    return events


def _copy_events(events: sa.Table) -> tuple[int, bytes]:
    # As they are in the tables, without the types of today's code.
    before = sa.table(
        "audit_events_before",
        *(
            sa.column(name, kind)
            for name, kind in (
                ("event_id", sa.Text),
                ("revision", sa.BigInteger),
                ("time", TIME),
                ("action", sa.Text),
                ("actor_key_id", sa.Text),
                ("keyspace", sa.Text),
                ("account_id", sa.Text),
                ("subject", sa.Text),
                ("request_id", sa.Text),
                ("details", sa.JSON),
            )
        ),
    )
    connection = op.get_bind()
    sequence, digest, after = 0, bytes(32), 0
    while True:
        query = sa.select(before).where(before.c.revision > after).order_by(before.c.revision)
        rows = [dict(row) for row in connection.execute(query.limit(BATCH)).mappings()]
        if not rows:
            return sequence, digest
        for row in rows:
            sequence += 1
            digest = _hash(digest, sequence, row)
            row |= {"sequence": sequence, "hash": digest}
        after = rows[-1]["revision"]
        connection.execute(sa.insert(events), rows)


def _hash(previous: bytes, sequence: int, row: dict[str, Any]) -> bytes:
    time = row["time"]
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    fields = {
        **row,
        "sequence": sequence,
        "time": moment.astimezone(UTC).isoformat(timespec="microseconds"),
    }
    present = {name: value for name, value in fields.items() if value not in (None, "", {})}
    text = json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(previous + text.encode("ascii")).digest()


def _create_audit_head(count: int, digest: bytes) -> None:
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("event_count", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_single_row")),
        sa.CheckConstraint("event_count >= 0", name=op.f("ck_audit_head_event_count")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_audit_head_hash")),
        comment="How many audit events there are, and the last one's hash: a cut shows by it.",
    )
    op.bulk_insert(head, [{"id": 1, "event_count": count, "hash": digest}])
