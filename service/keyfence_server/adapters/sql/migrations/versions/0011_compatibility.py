"""Which programs may use the schema, so that an older one can run beside a newer one.

`migrations.upgrade` writes the row after each migration.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes the table, empty."""
    op.create_table(
        "compatibility",
        sa.Column("schema_version", TEXT, nullable=False),
        sa.Column("oldest_program", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("schema_version", name="pk_compatibility"),
        comment="The oldest program that may use this schema, by the schema that it was made for.",
    )
