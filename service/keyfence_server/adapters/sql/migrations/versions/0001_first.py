"""The first tables.

A migration says what was made at its time, so it shares nothing with the schema of
today, which goes on changing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
TIME = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Makes everything, and the head at revision 0."""
    _create_head()
    _create_keyspaces()
    _create_keys()
    _create_changes()
    _create_audit_events()
    _create_requests()


def _create_head() -> None:
    head = op.create_table(
        "head",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_head"),
        sa.CheckConstraint("id = 1", name=op.f("ck_head_single_row")),
        sa.CheckConstraint("revision >= 0", name=op.f("ck_head_revision")),
        comment="The revision of the last mutation. Locking its row is the right to mutate.",
    )
    op.bulk_insert(head, [{"id": 1, "revision": 0}])


def _create_keyspaces() -> None:
    op.create_table(
        "keyspaces",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("declaration", sa.JSON, nullable=False),
        sa.Column("previous_formats", sa.JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("update_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_keyspaces"),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_keyspaces_revision")),
        comment="The declared keyspaces. The built-in one is not among them.",
    )


def _create_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("keyspace", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("key_type", TEXT, nullable=False),
        sa.Column("environment", TEXT, nullable=False),
        sa.Column("granted_scopes", sa.JSON, nullable=False),
        sa.Column("preset", TEXT),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("pepper_version", sa.Integer, nullable=False),
        sa.Column("display_prefix", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("update_time", TIME, nullable=False),
        sa.Column("expire_time", TIME),
        sa.Column("revoke_time", TIME),
        sa.Column("allowed_addresses", sa.JSON, nullable=False),
        sa.Column("bound_keyspaces", sa.JSON, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("parent_key_id", TEXT),
        sa.Column("rotated_from_key_id", TEXT),
        sa.Column("rotated_to_key_id", TEXT),
        sa.Column("created_by_key_id", TEXT),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_keys"),
        sa.ForeignKeyConstraint(["parent_key_id"], ["keys.key_id"], name="fk_keys_parent_key_id"),
        sa.CheckConstraint(
            "state IN ('active', 'disabled', 'revoked')", name=op.f("ck_keys_state")
        ),
        sa.CheckConstraint(
            "(state = 'revoked') = (revoke_time IS NOT NULL)", name=op.f("ck_keys_revoke_time")
        ),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_keys_digest")),
        sa.CheckConstraint("pepper_version >= 0", name=op.f("ck_keys_pepper_version")),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_keys_revision")),
        comment="The keys' records. Nothing here lets anyone pass.",
    )
    op.create_index("ix_keys_digest", "keys", ["digest"], unique=True)
    op.create_index("ix_keys_keyspace_key_id", "keys", ["keyspace", "key_id"])
    op.create_index(
        "ix_keys_keyspace_account_id_key_id", "keys", ["keyspace", "account_id", "key_id"]
    )
    op.create_index("ix_keys_parent_key_id", "keys", ["parent_key_id"])


def _create_changes() -> None:
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("keyspace", TEXT, nullable=False),
        sa.Column("created", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("revision", "position", name="pk_changes"),
        sa.CheckConstraint("kind IN ('key', 'keyspace')", name=op.f("ck_changes_kind")),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_changes_revision")),
        sa.CheckConstraint("position >= 0", name=op.f("ck_changes_position")),
        comment="What each mutation changed: what caches must forget.",
    )


def _create_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("actor_key_id", TEXT),
        sa.Column("keyspace", TEXT, nullable=False),
        sa.Column("account_id", TEXT),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("request_id", TEXT),
        sa.Column("details", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_audit_events"),
        sa.UniqueConstraint("revision", name="uq_audit_events_revision"),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_audit_events_revision")),
        comment="Who did what: one event for each mutation.",
    )


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("caller_key_id", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("caller_key_id", "request_id", name="pk_requests"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.key_id"], name="fk_requests_key_id"),
        comment="What creating requests made, for a day, so that a repetition is recognised.",
    )
    op.create_index("ix_requests_time", "requests", ["time"])
