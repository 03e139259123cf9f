"""How far the audit events were exported, and how far they were removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds the table. Nothing was exported or removed yet."""
    cut = op.create_table(
        "audit_cut",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("exported_count", sa.BigInteger, nullable=False),
        sa.Column("exported_hash", sa.LargeBinary, nullable=False),
        sa.Column("removed_count", sa.BigInteger, nullable=False),
        sa.Column("removed_hash", sa.LargeBinary, nullable=False),
        sa.Column("removal_sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_cut"),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_cut_single_row")),
        sa.CheckConstraint("exported_count >= 0", name=op.f("ck_audit_cut_exported_count")),
        sa.CheckConstraint("length(exported_hash) = 32", name=op.f("ck_audit_cut_exported_hash")),
        sa.CheckConstraint("removed_count >= 0", name=op.f("ck_audit_cut_removed_count")),
        sa.CheckConstraint("length(removed_hash) = 32", name=op.f("ck_audit_cut_removed_hash")),
        sa.CheckConstraint("removal_sequence >= 0", name=op.f("ck_audit_cut_removal_sequence")),
        comment="How far the audit events were exported, and how far they were removed.",
    )
    nothing = bytes(32)
    op.bulk_insert(
        cut,
        [
            {
                "id": 1,
                "exported_count": 0,
                "exported_hash": nothing,
                "removed_count": 0,
                "removed_hash": nothing,
                "removal_sequence": 0,
            }
        ],
    )
