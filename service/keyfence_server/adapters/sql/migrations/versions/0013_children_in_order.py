"""An index by which a page of the keys that were delegated from a key is found in order.

The index before it had the parent alone, so each page read and sorted all of them.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"

OLDEST_PROGRAM = "0012"


def upgrade() -> None:
    """Replaces the index."""
    op.create_index(
        "ix_keys_keyspace_parent_key_id_key_id", "keys", ["keyspace", "parent_key_id", "key_id"]
    )
    op.drop_index("ix_keys_parent_key_id", table_name="keys")
