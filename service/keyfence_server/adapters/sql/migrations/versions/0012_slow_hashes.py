"""Slow hashes of imported keys, by which a key is recognised until its first use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "slow_hashes",
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("keyspace", TEXT, nullable=False),
        sa.Column("prefix", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_slow_hashes"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.key_id"], name="fk_slow_hashes_key_id"),
        comment="Slow hashes of imported keys that were not used yet. docs/how-to/import-keys.md.",
    )
    op.create_index("ix_slow_hashes_keyspace_prefix", "slow_hashes", ["keyspace", "prefix"])
    op.create_table(
        "replaced_digests",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("pepper_version", sa.Integer, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_replaced_digests"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.key_id"], name="fk_replaced_digests_key_id"),
        comment="What was kept of imported keys before their first use, so that they are there "
        "already if their file is imported again.",
    )
