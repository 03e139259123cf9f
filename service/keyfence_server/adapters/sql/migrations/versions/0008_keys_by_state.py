"""An index for listings by state: a page of few revoked keys must not read all the others."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the index."""
    op.create_index("ix_keys_keyspace_state_key_id", "keys", ["keyspace", "state", "key_id"])
