"""The register of the server processes that may answer from memory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
TIME = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Makes the register, empty."""
    op.create_table(
        "processes",
        sa.Column("process_id", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("renewals", sa.BigInteger, nullable=False),
        sa.Column("acknowledged", sa.BigInteger, nullable=False),
        sa.Column("lease_seconds", sa.Double, nullable=False),
        sa.Column("clock_drift", sa.Double, nullable=False),
        sa.Column("join_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("process_id", name="pk_processes"),
        sa.CheckConstraint("renewals >= 0", name=op.f("ck_processes_renewals")),
        sa.CheckConstraint("acknowledged >= 0", name=op.f("ck_processes_acknowledged")),
        comment="The server processes that may answer from memory. docs/fence.md explains it.",
    )
    op.create_table(
        "settled_epochs",
        sa.Column("epoch", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("epoch", name="pk_settled_epochs"),
        comment="Timelines before which no lease is alive any more. docs/fence.md explains it.",
    )
    if op.get_bind().dialect.name == "postgresql":
        # No process had a lease before the register existed, so this timeline is settled.
        op.execute(
            "INSERT INTO settled_epochs SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        )
