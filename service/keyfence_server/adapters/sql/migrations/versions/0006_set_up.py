"""How the store was set up: whether the first start is over, and which peppers it knows.

A first start used to be over with the second revision. The peppers that keys and passwords
are under already cannot be known here, so their fingerprints are written down by the first
server that is given them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Makes the tables, and fills in what is known."""
    op.create_table(
        "first_start",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_first_start"),
        sa.CheckConstraint("id = 1", name=op.f("ck_first_start_single_row")),
        comment="Has its row when the first start is over.",
    )
    op.execute("INSERT INTO first_start SELECT 1 FROM head WHERE revision > 1")
    op.create_table(
        "peppers",
        sa.Column("version", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary),
        sa.PrimaryKeyConstraint("version", name="pk_peppers"),
        sa.CheckConstraint("version >= 1", name=op.f("ck_peppers_version")),
        sa.CheckConstraint("length(fingerprint) = 32", name=op.f("ck_peppers_fingerprint")),
        comment="What tells each pepper from another that is given in its place.",
    )
    op.execute(
        "INSERT INTO peppers (version) "
        "SELECT pepper_version FROM keys WHERE pepper_version > 0 "
        "UNION SELECT pepper_version FROM accounts WHERE pepper_version > 0"
    )
