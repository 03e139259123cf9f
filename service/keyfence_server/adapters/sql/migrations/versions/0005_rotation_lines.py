"""Which key a line of rotations began with: what the uses of all of them count under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Adds the column, and follows the lines that there are."""
    op.add_column("keys", sa.Column("first_key_id", TEXT))
    op.execute(
        """
        WITH RECURSIVE lines (key_id, first_key_id) AS (
            SELECT key_id, key_id FROM keys WHERE rotated_from_key_id IS NULL
            UNION ALL
            SELECT keys.key_id, lines.first_key_id
            FROM keys JOIN lines ON keys.rotated_from_key_id = lines.key_id
        )
        UPDATE keys
        SET first_key_id = (SELECT first_key_id FROM lines WHERE lines.key_id = keys.key_id)
        WHERE rotated_from_key_id IS NOT NULL
        """
    )
