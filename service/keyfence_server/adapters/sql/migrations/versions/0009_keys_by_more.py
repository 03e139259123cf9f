"""Indexes for listings by key type, environment, display prefix and expiry."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds the indexes."""
    for column in ("key_type", "environment", "display_prefix", "expire_time"):
        op.create_index(f"ix_keys_keyspace_{column}_key_id", "keys", ["keyspace", column, "key_id"])
